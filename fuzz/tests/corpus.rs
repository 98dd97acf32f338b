//! Every input in `corpus/` goes through its target, without libFuzzer: what fuzzing once found stays found.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clickmill_fuzz::TARGETS;

/// Names of what a folder of this crate holds, without the extensions of sources.
fn names(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
    entries.map(|entry| name(entry.expect("a folder lists"))).collect()
}

#[test]
fn every_input_of_the_corpora_passes_its_target() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let inputs = names(&format!("corpus/{name}"));
        assert!(!inputs.is_empty(), "{name} has no input");
        target(b"");
        for input in inputs {
            // Where it fails, this line is shown with the panic.
            println!("{name}/{input}");
            target(&fs::read(folder.join(input)).unwrap());
        }
    }
}

#[test]
fn every_target_has_its_corpus_and_its_binary() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), listed);
    assert_eq!(names("fuzz_targets"), listed);
}
