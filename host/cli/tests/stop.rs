//! How `run` and `demo` end: in time whatever hangs, on every signal that asks for it, and with nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::sinks::{Sinks, balanced_ledger};
use common::{Bench, eventually};

const ROWS: u64 = 20_000;

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Processes whose working directory is in a folder: the private servers, which run in theirs.
fn processes_in(folder: &Path) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .collect()
}

fn servers(bench: &Bench) -> Vec<u32> {
    processes_in(&bench.data().join("servers/home"))
}

/// A host whose sinks have confirmed everything.
fn running(bench: &Bench) -> common::Running {
    let host = bench.start("host", &["run"]);
    eventually("the sinks are up to date", Duration::from_secs(60), || {
        let status = bench.try_run(&["status", "--output", "json"]);
        let status: common::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        !sinks.is_empty() && sinks.iter().all(|sink| sink["state"] == "running" && sink["lag"] == 0)
    });
    host
}

#[test]
fn a_host_whose_servers_hang_stops_in_five_seconds_and_goes_on_with_the_right_counts() {
    let bench = Bench::new();
    let rows = bench.generate(ROWS, 3, 2);
    bench.run(&["produce", rows.to_str().unwrap()]);
    let host = running(&bench);
    let frozen = servers(&bench);
    assert!(frozen.len() > 4, "{frozen:?}");
    for pid in &frozen {
        signal("-STOP", *pid);
    }
    // Something that the sinks cannot get rid of any more.
    let more = bench.generate(ROWS, 4, 2);
    bench.run(&["produce", more.to_str().unwrap()]);
    let begun = Instant::now();
    let code = host.terminate();
    assert!(begun.elapsed() < Duration::from_secs(5), "the stop took {:?}", begun.elapsed());
    assert_eq!(code, Some(0), "{}", bench.log("host"));
    assert_eq!(servers(&bench), [] as [u32; 0]);

    bench.run(&["run", "--until-end"]);
    let ledger = balanced_ledger(&bench.status());
    assert_eq!(ledger[0], 2 * ROWS);
    let counted = Sinks::of(&bench.data()).sql("SELECT sum(impressions) FROM realtime.metrics_1min");
    assert_eq!(counted.trim(), ledger[1].to_string());
}
