//! Retention takes nothing that no worker has seen, however little it may keep.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use common::sinks::balanced_ledger;
use common::{Bench, Value};

const ROWS: u64 = 60_000;

fn starts(bench: &Bench) -> u64 {
    let topics: Value = bench.json(&["topic", "list", "--output", "json"]);
    let raw = topics.as_array().unwrap().iter().find(|t| t["topic"] == "ad_events_raw").unwrap();
    raw["partitions"].as_array().unwrap().iter().map(|p| p["log_start_offset"].as_u64().unwrap()).sum()
}

#[test]
fn what_is_produced_before_the_first_run_is_there_for_it() {
    let bench = Bench::new();
    let config = "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n\
        broker: {segment_bytes: 1048576, maintenance_interval_ms: 100, topics: {ad_events_raw: {retention_max_bytes: 1048576}}}\n";
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    let rows = bench.generate(ROWS, 11, 4);
    // At a rate, so that upkeep comes by several times.
    bench.run(&["produce", "--rate", "30000", rows.to_str().unwrap()]);
    assert_eq!(starts(&bench), 0);
    bench.run(&["run", "--until-end"]);
    assert_eq!(balanced_ledger(&bench.status()), [ROWS, ROWS, 0, 0, 0]);
}
