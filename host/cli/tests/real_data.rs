//! Real Avazu rows, against a recount by DuckDB, which shares no code with us. Skipped, visibly, without the rows.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::path::{Path, PathBuf};
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

/// The first block of SQL behind this text of `schemas/pricing.md`.
fn pricing_sql(after: &str) -> String {
    let text = std::fs::read_to_string(schemas().join("pricing.md")).unwrap();
    let text = &text[text.find(after).unwrap()..];
    let sql = &text[text.find("```sql\n").unwrap() + 7..];
    sql[..sql.find("```").unwrap()].trim_end().trim_end_matches(';').to_owned()
}

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

#[test]
fn the_sql_of_the_pricing_table_gives_what_enrich_gives_in_duckdb_and_in_postgresql() {
    let bench = Bench::new();
    let file = bench.generate(20_000, 12, 3);
    std::fs::write(bench.file("clickmill.yaml"), "sinks:\n  postgres:\n    raw_events: true\n").unwrap();
    bench.run(&["produce", file.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let ours = Sinks::of(&bench.data()).sql(
        "SELECT sum(cost_micros), sum(conversions), sum(revenue_micros) FROM realtime.ctr_metrics \
              WHERE dimension = 'total' AND window_end - window_start = interval '1 minute'",
    );
    assert!(ours.trim().split('|').all(|sum| sum.parse::<i64>().is_ok_and(|sum| sum > 0)), "{ours}");
    let sums =
        |sql: &str| format!("SELECT sum(cost_micros), sum(conversion), sum(revenue_micros) FROM ({sql}) AS priced");

    let postgres = sums(&pricing_sql("PostgreSQL, with")).replace(":'pricing'", "$json$PRICING$json$");
    let postgres = postgres.replace("PRICING", &std::fs::read_to_string(schemas().join("pricing.json")).unwrap());
    let events = "SELECT value->>'id' AS id, (value->>'click')::int AS click, (value->>'banner_pos')::int AS banner_pos, \
                  (value->>'device_type')::int AS device_type FROM realtime.raw_events";
    let found = Sinks::of(&bench.data()).sql(&format!("WITH events AS ({events}) {postgres}"));
    assert_eq!(found, ours, "PostgreSQL");

    let script = "import duckdb, sys\n\
        duckdb.sql('CREATE TABLE events AS SELECT id, click::BIGINT AS click, banner_pos, device_type FROM \
        read_csv(?, all_varchar = true)', params=[sys.argv[1]])\n\
        print('|'.join(str(value) for value in duckdb.sql(sys.argv[2]).fetchone()))";
    let duckdb = sums(&pricing_sql("DuckDB, in the folder"));
    let mut python = Command::new(duckdb_python());
    let output = python.current_dir(schemas()).args(["-c", script]).arg(&file).arg(&duckdb).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), ours, "DuckDB");
}
