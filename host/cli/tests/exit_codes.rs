//! The same mistake has the same exit code in every verb: 2 what the user has to mend, 1 what failed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{Bench, eventually};

const READERS: [&[&str]; 7] = [
    &["status"],
    &["windows"],
    &["topic", "list"],
    &["topic", "read", "ad_events_raw"],
    &["checkpoint", "list"],
    &["checkpoint", "show"],
    &["checkpoint", "verify"],
];
/// Of these, the ones that look into topics.
const TOPIC_READERS: [&[&str]; 5] = [READERS[0], READERS[1], READERS[2], READERS[3], READERS[6]];

/// A data directory with processed rows.
fn processed() -> (Bench, PathBuf) {
    let bench = Bench::new();
    let rows = bench.generate(1_000, 1, 1);
    std::fs::write(
        bench.file("clickmill.yaml"),
        "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n",
    )
    .unwrap();
    bench.run(&["produce", rows.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    (bench, rows)
}

fn newest_checkpoint(bench: &Bench) -> PathBuf {
    let folder = bench.data().join("checkpoints/ad_events_raw/0");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ckpt"));
    files.sort();
    files.pop().unwrap()
}

#[test]
fn what_a_newer_clickmill_wrote() {
    let (bench, rows) = processed();
    let checkpoint = newest_checkpoint(&bench);
    let whole = std::fs::read(&checkpoint).unwrap();
    let mut newer = whole.clone();
    newer[4..6].copy_from_slice(&2u16.to_be_bytes());
    std::fs::write(&checkpoint, newer).unwrap();
    for verb in [&["run"][..], &["checkpoint", "show", "--partition", "0"], &["checkpoint", "verify"]] {
        let said = bench.fails(verb, 2);
        assert!(said.contains(checkpoint.to_str().unwrap()) && said.contains("newer"), "{said}");
        assert!(!said.contains("starts from"), "{said}");
    }
    std::fs::write(&checkpoint, whole).unwrap();

    let topic = bench.data().join("log/ad_events_raw/topic.json");
    let text = std::fs::read_to_string(&topic).unwrap();
    std::fs::write(&topic, text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    for verb in TOPIC_READERS.into_iter().chain([&["run"][..], &["produce", rows.to_str().unwrap(), "--again"]]) {
        let said = bench.fails(verb, 2);
        assert!(said.contains("topic.json") && said.contains("newer"), "{said}");
    }
}

#[test]
fn a_missing_token_and_a_wrong_one() {
    let bench = Bench::new().with_env("CLICKMILL_TOKEN", "0123456789abcdef");
    let rows = bench.generate(100, 1, 1);
    std::fs::write(
        bench.file("clickmill.yaml"),
        "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n",
    )
    .unwrap();
    let _host = bench.start("host", &["run"]);
    eventually("the host runs", Duration::from_secs(60), || bench.log("host").contains("clickmill runs"));
    let produce = ["produce", rows.to_str().unwrap()];
    for verb in TOPIC_READERS.into_iter().chain([&produce[..]]) {
        for token in [None, Some("fedcba9876543210")] {
            let mut command = bench.command(verb);
            match token {
                Some(token) => command.env("CLICKMILL_TOKEN", token),
                None => command.env_remove("CLICKMILL_TOKEN"),
            };
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{verb:?} {token:?}: {said}");
            assert!(said.contains("CLICKMILL_TOKEN"), "{said}");
        }
    }
}

#[test]
fn a_data_directory_that_is_missing_or_cannot_be_made() {
    let bench = Bench::new();
    let rows = bench.generate(100, 1, 1);
    for verb in READERS {
        let said = bench.fails(verb, 2);
        assert!(said.contains("there is nothing of clickmill in"), "{verb:?}: {said}");
    }
    std::fs::write(bench.file("file"), "").unwrap();
    let produce = ["produce", rows.to_str().unwrap()];
    let writers: [&[&str]; 5] = [&["run"], &produce, &["demo"], &["demo", "--exit"], &["bench", "--only", "chain"]];
    // Through a file, and where not even root may make a folder.
    for dir in [bench.file("file/data"), "/sys/clickmill".into()] {
        for verb in READERS.into_iter().chain(writers) {
            let code = bench.command(verb).env("CLICKMILL_DATA_DIR", &dir).output().unwrap().status.code();
            assert_eq!(code, Some(2), "{verb:?} in {}", dir.display());
        }
    }
    let odd = Path::new(OsStr::from_bytes(b"odd-\xff"));
    for verb in writers {
        for by_flag in [true, false] {
            let mut command = bench.command(verb);
            match by_flag {
                true => command.arg("--data-dir").arg(odd),
                false => command.env("CLICKMILL_DATA_DIR", odd),
            };
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{verb:?}: {said}");
            assert!(said.contains("not UTF-8"), "{said}");
        }
    }
}

#[test]
fn a_port_and_a_data_directory_in_use() {
    let (bench, _) = processed();
    let taken = std::net::TcpListener::bind(("127.0.0.1", bench.port)).unwrap();
    for verb in [&["run"][..], &["demo"]] {
        let said = bench.fails(verb, 2);
        assert!(said.contains("in use") && said.contains("CLICKMILL_LISTEN"), "{said}");
    }
    drop(taken);
    let _host = bench.start("host", &["run"]);
    eventually("the host runs", Duration::from_secs(60), || bench.log("host").contains("clickmill runs"));
    let said = bench.fails(&["run"], 2);
    assert!(said.contains("in use by process"), "{said}");
}

#[test]
fn standard_output_that_is_full_or_closed() {
    let (bench, rows) = processed();
    let profile = ["profile", rows.to_str().unwrap()];
    let produce = ["produce", rows.to_str().unwrap(), "--again", "--output", "json"];
    let verbs: [&[&str]; 6] = [
        &["config"],
        &["completions", "bash"],
        &["generate", "--rows", "100000", "--out", "-"],
        &profile,
        &produce,
        &["windows", "--output", "csv"],
    ];
    // `verify` would print nothing that is not in `list` too.
    for verb in verbs.into_iter().chain(READERS.into_iter().take(6)) {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bench.command(verb).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("standard output cannot be written: No space left"), "{verb:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = bench.command(verb).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {said}");
        assert!(!said.contains("error"), "{verb:?}: {said}");
    }
}

#[test]
fn a_folder_that_is_no_topic_is_passed_over_and_a_topic_without_its_file_is_not() {
    let (bench, _) = processed();
    std::fs::create_dir_all(bench.data().join("log/junk/more")).unwrap();
    let output = bench.try_run(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("not a topic").count(), 1, "{said}");
    bench.run(&["run", "--until-end"]);
    std::fs::remove_file(bench.data().join("log/ctr_windows/topic.json")).unwrap();
    let said = bench.fails(&["status"], 1);
    assert!(said.contains("ctr_windows/topic.json"), "{said}");
}

/// The greatest numbers there are, asked of a host and of a folder: said, with no panic in either.
#[test]
fn offsets_and_times_that_nothing_reaches() {
    let (bench, _) = processed();
    let last = format!("ad_events_raw/0@{}", u64::MAX);
    let ask = || {
        for (verb, wrong) in [
            ("blame", last.as_str()),
            ("why-late", &last),
            ("why-open", "1m@9223372036854775807"),
            ("why-open", "5m@-9223372036854775808"),
        ] {
            let said = bench.fails(&[verb, wrong], 2);
            assert!(said.contains(&u64::MAX.to_string()) || said.contains("no time"), "{verb} {wrong}: {said}");
        }
        let many = ["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=many", "--yes"];
        assert!(bench.fails(&many, 2).contains("max_string_bytes"));
    };
    ask();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    ask();
    bench.fails(&["reprocess", "--from=-1"], 2);
    assert!(!bench.log("host").contains("panicked"), "{}", bench.log("host"));
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_file_that_exists_is_said_once() {
    let bench = Bench::new();
    let rows = bench.generate(1, 1, 1);
    let said = bench.fails(&["generate", "--rows", "1", "--out", rows.to_str().unwrap()], 2);
    assert_eq!(said.matches("exists").count(), 1, "{said}");
    let output =
        bench.try_run(&["generate", "--rows", "1", "--hours", "1", "--out", rows.to_str().unwrap(), "--force"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("generated 1 row of 1 hour in"), "{said}");
}
