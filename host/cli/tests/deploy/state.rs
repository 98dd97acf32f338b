//! What becomes of the windows' state, and of what a stage looks back on.

use std::time::Duration;

use crate::common::{Bench, eventually};
use crate::{activations, bench, events, ledger, produce};

/// Lets records pass once it has been shown three when it began.
const LOOKS_BACK: &str = r#"(module
    (import "env" "copy_records" (func $copy (param i32 i32)))
    (memory (export "memory") 64)
    (global $seen (mut i32) (i32.const 0))
    (func $be (param $at i32) (result i32)
        (i32.or
            (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
                    (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
            (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
                    (i32.load8_u offset=3 (local.get $at)))))
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func (export "look_back") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (global.set $seen (call $be (i32.add (local.get $p) (i32.const 12))))
        (i32.const 0))
    (func (export "filter") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (if (result i32) (i32.eq (global.get $seen) (i32.const 3))
            (then (call $copy (i32.add (local.get $p) (i32.const 12))
                      (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 1)))
                  (call $be (i32.add (local.get $p) (i32.const 12))))
            (else (call $copy (i32.const 0) (i32.const 5)) (i32.const 0)))))"#;

#[test]
fn a_state_that_cannot_be_read_is_left_in_its_generation_and_the_counts_add_up() {
    const ROWS: usize = 30_000;
    let (reset, quiet) = (bench("pipeline: {commit_interval_ms: 100}"), bench(""));
    for bench in [&reset, &quiet] {
        produce(bench, ROWS);
    }
    let file = reset.file("events.jsonl");
    quiet.run(&["produce", file.to_str().unwrap()]);
    quiet.run(&["run", "--until-end"]);
    let host = reset.start("run", &["run"]);
    reset.until_ready();
    // Slow enough for what comes meanwhile, on a busy machine too; the rest is sent at once.
    let producing = reset.start("produce", &["produce", file.to_str().unwrap(), "--rate", "1000"]);
    eventually("records flow", Duration::from_secs(20), || reset.status()["ledger"]["counted"].as_u64() > Some(2_000));
    let fewer = ["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total,device_type"];
    let refused = reset.fails(&[&fewer[..], &["--yes"]].concat(), 1);
    assert!(refused.contains("--reset-state"), "{refused}");
    let plan = reset.try_run(&[&fewer[..], &["--reset-state", "--plan"]].concat());
    assert!(String::from_utf8(plan.stdout).unwrap().contains("new generation"));
    reset.run(&[&fewer[..], &["--reset-state", "--yes"]].concat());
    producing.kill();
    reset.run(&["produce", "--resume", file.to_str().unwrap()]);
    host.kill();
    reset.run(&["run", "--until-end"]);
    let of = |bench: &Bench, dimension: &str| {
        bench.run(&["windows", "--size", "1m", "--dimension", dimension, "--output", "csv"])
    };
    for dimension in ["total", "device_type"] {
        assert_eq!(of(&reset, dimension), of(&quiet, dimension), "{dimension}");
    }
    assert_ne!(of(&reset, "site_category"), of(&quiet, "site_category"), "counted in the first generation only");
    assert_eq!(ledger(&reset), ledger(&quiet));
}

#[test]
fn a_generation_begins_too_where_its_deployment_is_skipped() {
    let bench = bench("");
    bench.run(&["produce", produce(&bench, 3_000).to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    // Both before a worker sees the first of them.
    let fewer =
        ["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--reset-state", "--yes"];
    bench.run(&fewer);
    bench.run(&["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=10", "--yes"]);
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.post(&events(300));
    eventually("they have a fate", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("run"));
    for stage in ["ctr-window", "validate"] {
        assert_eq!(activations(&bench, stage).len(), 3, "{}", bench.log("run"));
    }
    assert_eq!((&ledger(&bench)["counted"], &ledger(&bench)["rejected"]), (&3_150.into(), &150.into()));
}

#[test]
fn a_state_that_has_seen_no_record_is_nobodys_hindrance() {
    let bench = bench("");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.run(&["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--yes"]);
    bench.run(&["produce", produce(&bench, 1_000).to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(ledger(&bench)["counted"], 1_000);
    let rows = bench.run(&["windows", "--size", "1m", "--output", "csv"]);
    assert!(rows.lines().skip(1).all(|row| row.split(',').nth(3) == Some("total")), "{rows}");
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_stage_that_looks_back_is_shown_the_newest_records_when_it_begins_anew() {
    let bench = bench("pipeline: {commit_interval_ms: 50}");
    let module = bench.wat("looks.wasm", LOOKS_BACK);
    let deploy = ["smartmodule", "deploy", &module, "--stage", "looks", "--before", "validate", "--lookback"];
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let refused = bench.fails(&["smartmodule", "deploy", "--stage", "validate", "--lookback", "3", "--yes"], 1);
    assert!(refused.contains("exports no look_back"), "{refused}");
    let refused = bench.fails(&[&deploy[..], &["20000", "--yes"]].concat(), 1);
    assert!(refused.contains("1 to 10000"), "{refused}");
    let plan = bench.try_run(&[&deploy[..], &["3", "--plan"]].concat());
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("(lookback): not set -> 3"), "{plan}");
    bench.run(&[&deploy[..], &["3", "--yes"]].concat());
    bench.post(&events(300));
    eventually("they have a fate", Duration::from_secs(10), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(ledger(&bench)["dropped"], 300, "there was nothing to look back on");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("run"));
    // Fresh instances are shown what the ones before had seen.
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.post(&events(300));
    eventually("they have a fate", Duration::from_secs(10), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!((&ledger(&bench)["dropped"], &ledger(&bench)["counted"]), (&300.into(), &300.into()));
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("run"));
}
