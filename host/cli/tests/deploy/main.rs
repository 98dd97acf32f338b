//! A rule is changed while events flow: each record is judged by the version that is written down for its offset, by
//! one and by one only, and no crash and no number of changes makes a count wrong.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../common/mod.rs"]
mod common;

mod change;
mod module;
mod state;
mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::sinks::balanced_ledger;
use common::{Bench, DAY, Value, event};

/// Never ends, whatever it is given.
const ENDLESS: &str = r#"(module (memory (export "memory") 16) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "array_map") (param i32 i32 i32) (result i32) (loop $ever (br $ever)) (i32.const 0)))"#;
/// Fails on whatever it is given.
const TRAP: &str = r#"(module (memory (export "memory") 16) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "array_map") (param i32 i32 i32) (result i32) unreachable))"#;

fn bench(settings: &str) -> Bench {
    let bench = Bench::new();
    let config = format!(
        "sinks: {{postgres: {{enabled: false}}, redis: {{enabled: false}}, parquet: {{enabled: false}}}}\n{settings}\n"
    );
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

/// Events whose `site_domain` is long in every other one.
fn events(n: usize) -> String {
    let mut lines = String::new();
    for i in 0..n {
        let mut event = event(&format!("e{i}"), DAY + i as i64 * 20);
        event["site_domain"] = if i % 2 == 0 { "short".into() } else { "much-longer-than-the-others".into() };
        lines.push_str(&format!("{event}\n"));
    }
    lines
}

fn produce(bench: &Bench, n: usize) -> PathBuf {
    let file = bench.file("events.jsonl");
    std::fs::write(&file, events(n)).unwrap();
    file
}

/// The ledger, which must balance.
fn ledger(bench: &Bench) -> Value {
    let status = bench.status();
    balanced_ledger(&status);
    status["ledger"].clone()
}

/// Offset from which a stage's module judges, by partition.
fn activations(bench: &Bench, stage: &str) -> BTreeMap<u64, u64> {
    let list = bench.json(&["smartmodule", "list", "--output", "json"]);
    let stage = list.as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap();
    let began = stage["activations"].as_object().unwrap();
    began.iter().map(|(partition, offset)| (partition.parse().unwrap(), offset.as_u64().unwrap())).collect()
}

/// The fates of all records of a partition, by offset.
fn fates(bench: &Bench, partition: u64) -> Vec<Value> {
    let status = bench.status();
    let end = status["partitions"][usize::try_from(partition).unwrap()]["log_end_offset"].as_u64().unwrap();
    let place = format!("ad_events_raw/{partition}@0..{end}");
    let told = bench.run(&["blame", &place, "--output", "json"]);
    let fates: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(fates.len() as u64, end);
    assert!(fates.iter().enumerate().all(|(i, f)| f["offset"] == i as u64));
    fates
}

fn built(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/smartmodules").join(format!("{module}.wasm"))
}

/// The same module under another digest: a section that means nothing is added.
fn variant(bench: &Bench, module: &str, tag: &str) -> PathBuf {
    let mut wasm = std::fs::read(built(module)).unwrap();
    wasm.extend([0, tag.len() as u8 + 2, 1, b'v']);
    wasm.extend(tag.as_bytes());
    let file = bench.file(&format!("{module}-{tag}.wasm"));
    std::fs::write(&file, wasm).unwrap();
    file
}
