//! Going back and judging again: in every reader it is as if it had been so from the start.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../common/mod.rs"]
mod common;

mod reprocess;
mod savepoints;

use std::path::PathBuf;
use std::time::Duration;

use common::sinks::{Sinks, balanced_ledger};
use common::{Bench, DAY, event, eventually};

/// Nothing of these days passes.
const STRICT: [&str; 7] = ["smartmodule", "deploy", "--stage", "validate", "--param", "date_to=2014-10-20", "--yes"];

fn bench(sinks: bool) -> Bench {
    let bench = Bench::new();
    let off = if sinks {
        ""
    } else {
        "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n"
    };
    std::fs::write(bench.file("clickmill.yaml"), format!("{off}pipeline: {{commit_interval_ms: 100}}\n")).unwrap();
    bench
}

/// Events of some minutes, with late ones, lines that are none, and what a module of the tests traps on among them.
fn lines(bench: &Bench, n: i64) -> PathBuf {
    let mut text = String::new();
    for i in n * 12_000..(n + 1) * 12_000 {
        match i % 100 {
            _ if i % 997 == 500 => text.push_str(&format!("{{\"poison\":\"TRAP {i}\"}}\n")),
            7 => text.push_str("not json\n"),
            50 => text.push_str(&format!("{}\n", event(&format!("late-{i}"), DAY))),
            _ => text.push_str(&format!("{}\n", event(&format!("event-{i}"), DAY + i * 75))),
        }
    }
    let path = bench.file(&format!("lines-{n}.jsonl"));
    std::fs::write(&path, text).unwrap();
    path
}

fn produce(bench: &Bench, n: i64) {
    bench.run(&["produce", lines(bench, n).to_str().unwrap()]);
}

fn committed(bench: &Bench) {
    eventually("everything is committed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
}

fn same(a: &Bench, b: &Bench, when: &str) {
    assert_eq!(balanced_ledger(&a.status()), balanced_ledger(&b.status()), "{when}");
    for size in ["1m", "5m"] {
        assert!(a.windows(size) == b.windows(size), "{when}: windows of {size} differ");
    }
}

fn same_sinks(a: &Bench, b: &Bench, when: &str) {
    let (a, b) = (Sinks::of(&a.data()).snapshot(), Sinks::of(&b.data()).snapshot());
    assert!(a.one_minute == b.one_minute, "{when}: realtime.metrics_1min differs");
    assert!(a.five_minutes == b.five_minutes, "{when}: realtime.metrics_5min differs");
    assert!(a.all == b.all, "{when}: realtime.ctr_metrics differs");
    // Hashes expire 300 s after their last write.
    let both: Vec<_> = a.hashes.keys().filter(|key| b.hashes.contains_key(*key)).collect();
    assert!(!both.is_empty());
    for key in both {
        assert_eq!(a.hashes[key], b.hashes[key], "{when}: {key}");
    }
}
