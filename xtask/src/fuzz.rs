//! `cargo xtask fuzz`: each target of fuzz/ in turn, for as long as one likes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, target};
use crate::steps::Steps;
use crate::tools;

/// Longest input that is tried.
const MAX_LEN: u32 = 8192;

/// Runs the targets named, or all; what fuzzing finds on the way stays under target/fuzz/.
pub fn run(root: &Path, steps: &mut Steps, minutes: u32, only: &[String]) -> Result<()> {
    if !tools::succeeds(Command::new("cargo").args(["fuzz", "--version"])) {
        bail!(
            "cargo-fuzz is not here: `cargo install cargo-fuzz` (it needs a C++ compiler too). Without it, \
             `cargo xtask test` runs what is in fuzz/corpus/."
        );
    }
    let targets = targets(root)?;
    if let Some(unknown) = only.iter().find(|name| !targets.contains(name)) {
        bail!("there is no target {unknown}; there are {}", targets.join(", "));
    }
    for name in targets.iter().filter(|name| only.is_empty() || only.contains(name)) {
        steps.run(&format!("fuzz {name} for {minutes} min"), || one(root, name, minutes))?;
    }
    Ok(())
}

fn one(root: &Path, name: &str, minutes: u32) -> Result<()> {
    let found = target(root).join("fuzz").join(name);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    let mut command = cargo(root);
    command
        .args(["fuzz", "run", "--sanitizer", "none", "--features", "libfuzzer", name])
        .arg(&found)
        .arg(root.join("fuzz/corpus").join(name))
        .args(["--", &format!("-max_total_time={}", minutes * 60), &format!("-max_len={MAX_LEN}")])
        // libFuzzer's flags are nightly's; the compiler stays the one of all else.
        .env("RUSTC_BOOTSTRAP", "1");
    if Path::new("/dev/shm").is_dir() {
        command.env("TMPDIR", "/dev/shm");
    }
    tools::run(&mut command).with_context(|| {
        format!("an input that broke {name} is in fuzz/artifacts/{name}/; fuzz/README.md says what to do with it")
    })
}

/// Names of the targets, from their sources.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned())).collect();
    names.sort();
    Ok(names)
}
