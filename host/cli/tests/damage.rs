//! Cut and flipped bytes in log tails and checkpoints: mended or named, never a wrong number.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::sinks::balanced_ledger;
use common::{Bench, DAY, event, eventually};

const ROWS: u64 = 60_000;

/// A data directory that is processed, without sinks: the log and the checkpoints are what is hurt.
fn processed() -> (Bench, String) {
    let bench = Bench::new();
    let config =
        "sinks:\n  postgres:\n    enabled: false\n  redis:\n    enabled: false\n  parquet:\n    enabled: false\n";
    fs::write(bench.file("clickmill.yaml"), config).unwrap();
    let rows = bench.generate(ROWS, 3, 6);
    bench.run(&["produce", rows.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let windows = bench.windows("1m");
    (bench, windows)
}

fn newest(folder: PathBuf, suffix: &str) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|f| f.unwrap().path())
        .filter(|f| f.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files.pop().unwrap()
}

fn flip(file: &PathBuf, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x40;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_the_counts_stay() {
    let (bench, windows) = processed();
    for at in [0, 8, 60, usize::MAX] {
        let checkpoint = newest(bench.data().join("checkpoints/ad_events_raw/1"), ".ckpt");
        flip(&checkpoint, at);
        let name = checkpoint.file_name().unwrap().to_str().unwrap().to_owned();
        let verified = bench.try_run(&["checkpoint", "verify"]);
        let shown = String::from_utf8([verified.stdout, verified.stderr].concat()).unwrap();
        assert_eq!(verified.status.code(), Some(1), "{shown}");
        assert!(shown.contains(&name), "{shown}");
        let talk = String::from_utf8(bench.try_run(&["run", "--until-end"]).stderr).unwrap();
        assert!(talk.contains(&name), "{talk}");
        assert_eq!(balanced_ledger(&bench.status())[..2], [ROWS, ROWS]);
        assert!(bench.windows("1m") == windows, "flipped at {at}");
        fs::remove_file(checkpoint).unwrap();
    }
}

#[test]
fn a_cut_checkpoint_is_passed_over_too() {
    let (bench, windows) = processed();
    let checkpoint = newest(bench.data().join("checkpoints/ad_events_raw/0"), ".ckpt");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    bench.run(&["run", "--until-end"]);
    assert!(bench.windows("1m") == windows);
}

#[test]
fn bytes_after_the_log_s_end_are_a_torn_tail_and_are_cut() {
    let (bench, windows) = processed();
    let segment = newest(bench.data().join("log/ad_events_raw/2"), ".log");
    let sound = fs::read(&segment).unwrap();
    let mut torn = sound.clone();
    torn.extend_from_slice(&sound[..sound.len().min(1_000) / 2]);
    fs::write(&segment, torn).unwrap();
    bench.run(&["run", "--until-end"]);
    assert!(bench.windows("1m") == windows);
    assert_eq!(fs::metadata(&segment).unwrap().len(), sound.len() as u64);
}

#[test]
fn a_flipped_byte_in_the_middle_of_the_log_is_named_with_its_place() {
    let (bench, _) = processed();
    let segment = newest(bench.data().join("log/ad_events_raw/2"), ".log");
    let middle = fs::metadata(&segment).unwrap().len() as usize / 2;
    flip(&segment, middle);
    let error = bench.fails(&["run", "--until-end"], 1);
    assert!(error.contains("ad_events_raw/2") && error.contains("offset"), "{error}");
    assert!(error.contains(segment.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn a_log_restored_from_an_old_copy_ends_before_its_checkpoint_which_is_an_error_that_names_both() {
    let (bench, _) = processed();
    let (folder, copy) = (bench.data().join("log/ad_events_raw/0"), bench.file("copy"));
    copy_files(&folder, &copy);
    let more = bench.generate(ROWS, 4, 6);
    bench.run(&["produce", more.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    fs::remove_dir_all(&folder).unwrap();
    copy_files(&copy, &folder);
    let error = bench.fails(&["run", "--until-end"], 1);
    assert!(error.contains(".ckpt") && error.contains("ad_events_raw/0") && error.contains("ahead"), "{error}");
}

fn copy_files(from: &PathBuf, to: &PathBuf) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|f| f.unwrap().path()) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_checkpoint_of_a_newer_version_stops_the_start() {
    let (bench, _) = processed();
    let checkpoint = newest(bench.data().join("checkpoints/ad_events_raw/0"), ".ckpt");
    let mut bytes = fs::read(&checkpoint).unwrap();
    bytes[5] = 99;
    fs::write(&checkpoint, bytes).unwrap();
    let error = bench.fails(&["run", "--until-end"], 2);
    assert!(error.contains("format 99"), "{error}");
}

#[test]
fn outputs_that_are_shorter_than_their_newest_commit_are_refused() {
    let bench = Bench::new();
    let off = "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\npipeline: {commit_interval_ms: 100}\n";
    fs::write(bench.file("clickmill.yaml"), off).unwrap();
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let (topic, copy) = (bench.data().join("log/ctr_windows"), bench.file("copy"));
    for round in 0..2 {
        let events: Vec<_> = (0..60).map(|i| event(&format!("e{round}-{i}"), DAY + i).to_string()).collect();
        bench.post(&events.join("\n"));
        eventually("they are committed", Duration::from_secs(10), || bench.status()["ledger"]["waiting"] == 0);
        if round == 0 {
            let done = std::process::Command::new("cp").arg("-a").args([&topic, &copy]).status().unwrap();
            assert!(done.success());
        }
    }
    host.kill();
    // A backup that is older than the checkpoints.
    fs::remove_dir_all(&topic).unwrap();
    fs::rename(&copy, &topic).unwrap();
    let said = bench.fails(&["run", "--until-end"], 1);
    assert!(said.contains("ahead of that log's end") && said.contains("ctr_windows/0"), "{said}");
    assert_eq!(bench.try_run(&["checkpoint", "verify"]).status.code(), Some(1));
}
