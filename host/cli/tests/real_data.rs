//! Real Avazu rows, against a recount by DuckDB, which shares no code with us. Skipped, visibly, without the rows.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::path::Path;
use std::process::Command;

use common::sinks::{Sinks, balanced_ledger};
use common::{Bench, real_data};

/// Python with DuckDB: `cargo xtask test` makes the environment and names it.
fn duckdb_python() -> String {
    std::env::var("CLICKMILL_RECOUNT_PYTHON").expect("run the tests with `cargo xtask test`: they need DuckDB")
}

fn equals_recount(file: &Path) {
    let bench = Bench::new();
    bench.run(&["produce", file.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let [produced, counted, rejected, late, dropped] = balanced_ledger(&bench.status());
    assert_eq!([rejected, late, dropped], [0, 0, 0]);
    assert!(produced > 0 && counted == produced);
    let mut compare = Command::new(duckdb_python());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/recount/recount.py");
    compare.arg(script).arg("compare").arg(file);
    for size in ["1m", "5m"] {
        let csv = bench.file(&format!("windows-{size}.csv"));
        std::fs::write(&csv, bench.windows(size)).unwrap();
        compare.arg(csv);
    }
    let output = compare.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    let sinks = Sinks::of(&bench.data());
    let total = sinks.sql("SELECT sum(impressions) FROM realtime.metrics_1min");
    assert_eq!(total.trim(), counted.to_string());
    let total = sinks
        .sql("SELECT sum((v->>'impressions')::bigint) FROM realtime.metrics_5min, jsonb_each(device_ctr) AS d(k, v)");
    assert_eq!(total.trim(), counted.to_string());
}

#[test]
fn twenty_thousand_unsorted_rows_equal_a_recount_by_duckdb() {
    if let Some(file) = real_data("avazu_20k.csv") {
        equals_recount(&file);
    }
}

#[test]
fn ten_thousand_rows_with_rounded_ids_equal_a_recount_by_duckdb() {
    if let Some(file) = real_data("avazu_10k_rounded_ids.csv") {
        equals_recount(&file);
    }
}

#[test]
fn generated_rows_equal_a_recount_by_duckdb() {
    let bench = Bench::new();
    equals_recount(&bench.generate(50_000, 11, 48));
}
