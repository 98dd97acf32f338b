//! `docs/METRICS.md` and what a host tells are the same: each metric once, its type and its labels; and what it tells is so.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Bench, DAY, event, eventually};

/// Fails on whatever it is given.
const TRAP: &str = r#"(module (memory (export "memory") 16) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "array_map") (param i32 i32 i32) (result i32) unreachable))"#;
/// Hands nothing on.
const NOTHING: &str = r#"(module (import "env" "copy_records" (func $copy (param i32 i32))) (memory (export "memory") 16)
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func (export "filter") (param i32 i32 i32) (result i32) (call $copy (i32.const 0) (i32.const 5)) (i32.const 0)))"#;

type Labels = BTreeMap<String, String>;

/// What a scrape says: types by name, and samples.
#[derive(Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    samples: Vec<(String, Labels, f64)>,
}

impl Scrape {
    fn of(bench: &Bench) -> Self {
        let url = format!("http://127.0.0.1:{}/metrics", bench.port);
        let text = ureq::get(&url).call().unwrap().into_body().read_to_string().unwrap();
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').unwrap();
                assert!(scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
            } else if !line.starts_with('#') {
                scrape.samples.push(sample(line));
            }
        }
        scrape
    }

    /// The family of a sample: a histogram's has suffixes.
    fn family<'a>(&self, name: &'a str) -> &'a str {
        let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
        base.filter(|base| self.types.get(*base).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
    }

    /// Type and names of labels of each family that has samples.
    fn families(&self) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let mut families = BTreeMap::new();
        for (name, labels, _) in &self.samples {
            let family = self.family(name);
            let labels: BTreeSet<_> = labels.keys().filter(|label| *label != "le").cloned().collect();
            let found = (self.types[family].clone(), labels);
            let known = families.entry(family.to_owned()).or_insert_with(|| found.clone());
            assert_eq!(*known, found, "{name}: its samples have the same labels");
        }
        families
    }

    fn values(&self, name: &str, of: &[(&str, &str)]) -> Vec<f64> {
        let fits = |labels: &Labels| of.iter().all(|(label, value)| labels.get(*label).is_some_and(|v| v == value));
        self.samples.iter().filter(|(n, labels, _)| n == name && fits(labels)).map(|(_, _, value)| *value).collect()
    }

    fn sum(&self, name: &str, of: &[(&str, &str)]) -> f64 {
        self.values(name, of).iter().sum()
    }

    fn labels(&self, name: &str, label: &str) -> BTreeSet<&str> {
        self.samples.iter().filter(|(n, _, _)| n == name).map(|(_, labels, _)| labels[label].as_str()).collect()
    }
}

/// Values of labels here have neither quotes nor commas.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.strip_suffix('}').map_or((series, ""), |series| series.split_once('{').unwrap());
    let label = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(label).collect();
    (name.to_owned(), labels, value.parse().unwrap())
}

/// The rows of the tables: name, type, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = include_str!("../../../docs/METRICS.md");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 7, "{line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        let name = ticked(cells[0]).pop_first().unwrap();
        let row = (cells[1].to_owned(), ticked(cells[2]));
        assert!(rows.insert(name.clone(), row).is_none(), "{name} has two rows");
    }
    rows
}

/// So many events, one a second from `from_second` of the day on.
fn events(tag: &str, n: i64, from_second: i64) -> String {
    (0..n).map(|i| format!("{}\n", event(&format!("{tag}{i}"), DAY + (from_second + i) * 1_000))).collect()
}

fn until_processed(bench: &Bench) {
    eventually("all is processed", Duration::from_secs(30), || bench.status()["ledger"]["waiting"] == 0);
}

/// A host that has met everything that there is a metric for.
fn eventful(bench: &Bench) -> common::Running {
    let settings = "sinks: {parquet: {enabled: false}}\npipeline: {commit_interval_ms: 100, breaker_records: 5}\n\
        engine: {call_time_limit_ms: 100}\n";
    std::fs::write(bench.file("clickmill.yaml"), settings).unwrap();
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    // Without a record the canary has nothing against it; the breaker has.
    let trap = bench.wat("trap.wasm", TRAP);
    bench.run(&["smartmodule", "deploy", &trap, "--stage", "guard", "--before", "validate", "--yes"]);
    bench.post(&events("a", 60, 0));
    until_processed(bench);
    let nothing = bench.wat("nothing.wasm", NOTHING);
    bench.run(&["smartmodule", "deploy", &nothing, "--stage", "hole", "--after", "validate", "--yes"]);
    bench.post(&events("b", 9, 60));
    until_processed(bench);
    bench.run(&["smartmodule", "remove", "hole", "--yes"]);
    // Ten minutes on, some of them wrong, and behind them late ones.
    let mut wrong = event("wrong", DAY + 600_000);
    wrong["click"] = 2.into();
    bench.post(&format!("{}{wrong}\nnot JSON\n", events("c", 300, 600)));
    until_processed(bench);
    bench.post(&events("late", 3, 0));
    until_processed(bench);
    host
}

#[test]
fn a_host_tells_what_the_table_says_and_no_more() {
    let bench = Bench::new();
    let host = eventful(&bench);
    // The first scrape asks for a sample of fuel, and the sinks may still be writing.
    let complete = |scrape: &Scrape| {
        let confirmed = scrape.sum("clickmill_sink_lag_records", &[]) == 0.0;
        confirmed && scrape.labels("clickmill_stage_fuel_per_record", "stage").contains("ctr-window")
    };
    eventually("fuel is sampled", Duration::from_secs(120), || complete(&Scrape::of(&bench)));
    let scrape = Scrape::of(&bench);
    assert_eq!(scrape.families(), documented());

    let total = |name: &str, of: &[(&str, &str)]| scrape.sum(name, of);
    let status = bench.status();
    for fate in ["counted", "rejected", "late", "dropped"] {
        let expected = status["ledger"][fate].as_f64().unwrap();
        assert!(expected > 0.0, "{fate}: {}", status["ledger"]);
        assert_eq!(total("clickmill_ledger_records_total", &[("fate", fate)]), expected, "{fate}");
    }
    assert_eq!(total("clickmill_rejected_records_total", &[("rule", "json")]), 1.0);
    assert_eq!(total("clickmill_dropped_records_total", &[("reason", "filtered by hole")]), 9.0);
    assert_eq!(total("clickmill_ledger_balanced", &[]), 1.0);
    assert_eq!(total("clickmill_pipeline_paused", &[]), 0.0);
    assert!(total("clickmill_breaker_trips_total", &[("stage", "guard")]) >= 1.0);
    assert_eq!(total("clickmill_breaker_trips_total", &[("stage", "validate")]), 0.0);
    assert_eq!(total("clickmill_sink_errors_total", &[]), 0.0);

    // A stage was given what the one before it handed on, and its instances are where they are needed and nowhere else.
    let records = |stage: &str| total("clickmill_stage_records_total", &[("stage", stage)]);
    assert!(records("validate") > records("enrich") && records("enrich") == records("ctr-window"), "{status}");
    assert_eq!(records("hole"), 9.0);
    let now = BTreeSet::from(["ctr-window", "enrich", "validate"]);
    assert_eq!(scrape.labels("clickmill_stage_memory_bytes", "stage"), now);
    assert_eq!(scrape.labels("clickmill_stage_fuel_per_record", "stage"), now);
    assert_eq!(scrape.values("clickmill_stage_memory_bytes", &[("stage", "enrich")]).len(), 3);
    assert!(scrape.values("clickmill_stage_memory_bytes", &[]).iter().all(|bytes| *bytes >= 65_536.0));
    assert!(scrape.values("clickmill_stage_fuel_per_record", &[]).iter().all(|fuel| *fuel > 100.0));

    // Windows that are not final, told by who reads them.
    for size in ["1m", "5m"] {
        let csv = bench.windows(size);
        let open = csv.lines().filter(|line| line.ends_with(",false"));
        let starts: BTreeSet<&str> = open.map(|line| line.split(',').nth(1).unwrap()).collect();
        assert_eq!(total("clickmill_open_windows", &[("size", size)]), starts.len() as f64, "{size}: {csv}");
    }

    // Each commit with new records was seen, in the topic and then in each server, and none before the host began.
    let commits = total("clickmill_window_latency_seconds_count", &[]);
    assert!(commits >= 4.0 && commits <= total("clickmill_commit_duration_seconds_count", &[]), "{commits} commits");
    let sinks = scrape.labels("clickmill_end_to_end_latency_seconds_count", "sink");
    assert_eq!(sinks.len(), 2, "PostgreSQL's and Redis's windows: {sinks:?}");
    for sink in sinks {
        assert_eq!(total("clickmill_end_to_end_latency_seconds_count", &[("sink", sink)]), commits, "{sink}");
        let mean = total("clickmill_end_to_end_latency_seconds_sum", &[("sink", sink)]) / commits;
        let visible = total("clickmill_window_latency_seconds_sum", &[]) / commits;
        assert!(visible <= mean && mean < 30.0, "{sink}: {mean} s, and {visible} s until they could be read");
    }
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn after_a_kill_counters_go_on_where_they_were_and_the_checkpoints_time_is_known() {
    let bench = Bench::new();
    let settings = "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n";
    std::fs::write(bench.file("clickmill.yaml"), settings).unwrap();
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.post(&events("a", 30, 0));
    until_processed(&bench);
    let counted = |scrape: &Scrape| scrape.sum("clickmill_ledger_records_total", &[("fate", "counted")]);
    assert_eq!(counted(&Scrape::of(&bench)), 30.0);
    host.kill();
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let again = Scrape::of(&bench);
    assert_eq!(counted(&again), 30.0);
    assert_eq!(again.values("clickmill_checkpoint_timestamp_seconds", &[]).len(), 3);
    bench.post(&events("b", 6, 30));
    until_processed(&bench);
    let scrape = Scrape::of(&bench);
    assert_eq!(counted(&scrape), 36.0, "what workers of this process have committed comes on top");
    assert!(scrape.sum("clickmill_log_bytes", &[("topic", "ad_events_raw")]) > 36.0 * 100.0);
    assert_eq!(host.terminate(), Some(0));
}
