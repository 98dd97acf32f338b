//! Dead letters in a real host: listed, looked at, repaired, tried against another module, sent again and counted once,
//! whatever is killed in between.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use common::sinks::balanced_ledger;
use common::{Bench, DAY, POISON, Value, event, eventually};

fn bench(settings: &str) -> Bench {
    let bench = Bench::new();
    let config = format!(
        "sinks: {{postgres: {{enabled: false}}, redis: {{enabled: false}}}}\npipeline: {{commit_interval_ms: 100}}\n{settings}\n"
    );
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

/// All letters, by the program's own listing.
fn letters(bench: &Bench) -> Vec<Value> {
    let lines = bench.run(&["dlq", "list", "--output", "json"]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn states(bench: &Bench) -> Vec<(String, String)> {
    let text = |letter: &Value, field: &str| letter[field].as_str().unwrap().to_owned();
    let mut states: Vec<_> = letters(bench).iter().map(|l| (text(l, "id"), text(l, "state"))).collect();
    states.sort();
    states
}

fn until_states(bench: &Bench, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect();
    let mut seen = Vec::new();
    let begun = std::time::Instant::now();
    while seen != wanted {
        assert!(begun.elapsed() < Duration::from_secs(30), "{seen:?} and not {wanted:?}");
        seen = states(bench);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn broken(id: &str, ts: i64) -> Value {
    let mut event = event(id, ts);
    event["click"] = 7.into();
    event
}

/// Offsets begin at 0 in the one partition.
const ONE: &str = "broker: {topics: {ad_events_raw: {partitions: 1}}}";

#[test]
fn a_rejected_event_is_looked_at_repaired_and_counted_once() {
    let bench = bench(ONE);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post(&format!("{}\n{}\nno JSON\n", event("a", DAY), broken("b", DAY + 1)));
    until_states(&bench, &[("0-1", "dead"), ("0-2", "dead")]);

    let letter = &letters(&bench)[0];
    assert_eq!((&letter["error_type"], &letter["rule"]), (&"schema".into(), &"range".into()), "{letter}");
    for field in ["raw_payload", "raw_encoding", "message", "retry_count", "error_timestamp", "origin", "module_digest"]
    {
        assert!(!letter[field].is_null(), "{field}: {letter}");
    }
    assert_eq!(letter["raw_payload"], broken("b", DAY + 1).to_string());

    let shown = bench.run(&["dlq", "show", "0-1"]);
    assert!(shown.contains("it would be rejected by range") && shown.contains("00000000  7b 22"), "{shown}");
    // Against the same module, with the same payload, nothing is sent.
    let refused = bench.try_run(&["dlq", "retry", "0-1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(balanced_ledger(&bench.status()), [3, 1, 2, 0, 0]);

    bench.run(&["dlq", "edit", "0-1", "--set", "click=1"]);
    let retried = bench.run(&["dlq", "retry", "0-1"]);
    assert!(retried.contains("1 dead letter sent again: 1 counted"), "{retried}");
    until_states(&bench, &[("0-1", "resolved"), ("0-2", "dead")]);
    assert_eq!(balanced_ledger(&bench.status()), [4, 2, 2, 0, 0]);
    let shown: Value = bench.json(&["dlq", "show", "0-1", "--output", "json"]);
    assert_eq!(shown["raw_payload"], broken("b", DAY + 1).to_string(), "the original is kept");
    assert_eq!(shown["attempts"][0]["outcome"], "counted");
    let blame: Value = bench.json(&["blame", "ad_events_raw/0@3", "--output", "json"]);
    assert_eq!((&blame["fate"], &blame["message"]), (&"counted".into(), &"retry 1 of ad_events_raw/0@1".into()));
    // A second time there is nothing to do.
    let again = bench.run(&["dlq", "retry", "0-1"]);
    assert!(again.contains("1 letter resolved"), "{again}");
    assert_eq!(balanced_ledger(&bench.status()), [4, 2, 2, 0, 0]);
    let windows = bench.windows("1m");
    assert!(windows.lines().any(|line| line.contains(",total,,2,1,")), "{windows}");

    // The same without a host, and after it has read everything anew.
    let before = letters(&bench);
    assert_eq!(host.terminate(), Some(0));
    assert_eq!(letters(&bench), before);
    bench.run(&["dlq", "purge", "--all", "--state", "resolved"]);
    assert_eq!(states(&bench), [("0-2".to_owned(), "dead".to_owned())]);
    let stats: Value = bench.json(&["dlq", "stats", "--output", "json"]);
    assert_eq!((&stats["letters"], &stats["by_rule"][0]["rule"]), (&1.into(), &"json".into()));
    assert!(bench.fails(&["dlq", "show", "0-77"], 2).contains("no dead letter 0-77"));
    assert!(bench.fails(&["dlq", "list", "--type", "nope"], 2).contains("parsing"));
}

#[test]
fn letters_are_tried_against_a_module_that_is_not_deployed_and_pass_once_it_is() {
    let bench = bench(ONE);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let lines: String = (0..600).map(|i| format!("{}\n", event(&format!("e{i}"), DAY + 3_600_000 * 30 + i))).collect();
    // Outside of the days that the rule accepts from the first deployment on.
    bench.run(&["smartmodule", "deploy", "--yes", "--stage", "validate", "--param", "date_to=2014-10-21"]);
    bench.post(&lines);
    eventually("all are rejected", Duration::from_secs(30), || letters(&bench).len() == 600);
    let dry = bench.run(&["dlq", "retry", "--all", "--dry-run"]);
    assert!(dry.starts_with("0 of 600 would pass now"), "{dry}");

    let module = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/smartmodules/validate.wasm");
    let module = module.to_str().unwrap();
    let with = ["dlq", "retry", "--dry-run", "--with", module, "--stage", "validate", "--param", "date_to=2014-10-30"];
    let dry = bench.run(&with);
    assert!(dry.starts_with("600 of 600 would pass now"), "{dry}");
    assert_eq!(balanced_ledger(&bench.status()), [600, 0, 600, 0, 0], "a dry run sends nothing");

    bench.run(&["smartmodule", "deploy", "--yes", "--stage", "validate", "--param", "date_to=2014-10-30"]);
    let retried = bench.run(&["dlq", "retry", "--all", "--timeout", "60"]);
    assert!(retried.starts_with("600 dead letters sent again"), "{retried}");
    eventually("all are resolved", Duration::from_secs(60), || states(&bench).iter().all(|(_, s)| s == "resolved"));
    assert_eq!(balanced_ledger(&bench.status()), [1_200, 600, 600, 0, 0]);

    // Who judges anew with the module that accepts them counts the originals, and their retries no second time.
    bench.run(&["reprocess", "--from", "0"]);
    assert_eq!(balanced_ledger(&bench.status()), [1_200, 600, 0, 0, 600]);
    assert_eq!(letters(&bench), Vec::<Value>::new());
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn what_a_module_failed_on_is_tried_three_times_and_counted_where_another_one_takes_it() {
    let bench = bench(&format!("{ONE}\ndlq: {{backoff_ms: 300}}\nengine: {{call_time_limit_ms: 50}}"));
    let module = bench.wat("poison.wasm", POISON);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post(&format!("{}\n", event("a", DAY)));
    bench.run(&["smartmodule", "deploy", "--yes", &module, "--stage", "poison", "--after", "validate"]);
    let mut poison = event("b", DAY + 1);
    poison["site_domain"] = "xTRAPx".into();
    bench.post(&format!("{poison}\n"));
    until_states(&bench, &[("0-1", "dead")]);
    let letter = &letters(&bench)[0];
    assert_eq!((&letter["error_type"], letter["attempts"].as_array().unwrap().len()), (&"smartmodule".into(), 3));
    assert!(letter["stacktrace"].as_str().is_some_and(|trace| !trace.is_empty()), "{letter}");
    // What was not sent is no record: the ledger has two.
    assert_eq!(balanced_ledger(&bench.status()), [2, 1, 1, 0, 0]);

    // One that still waits passes by itself once a chain is in force that takes it; the other one when somebody says so.
    bench.post(&format!("{poison}\n"));
    eventually("it waits", Duration::from_secs(10), || {
        letters(&bench).iter().any(|letter| letter["id"] == "0-2" && letter["state"] == "waiting")
    });
    bench.run(&["smartmodule", "remove", "--yes", "poison"]);
    until_states(&bench, &[("0-1", "dead"), ("0-2", "resolved")]);
    bench.run(&["dlq", "retry", "0-1"]);
    until_states(&bench, &[("0-1", "resolved"), ("0-2", "resolved")]);
    assert_eq!(balanced_ledger(&bench.status()), [5, 3, 2, 0, 0]);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn whatever_kills_the_host_each_retried_letter_is_counted_once() {
    const LETTERS: i64 = 2_000;
    let bench = bench("broker: {topics: {ad_events_raw: {partitions: 3}}}");
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["smartmodule", "deploy", "--yes", "--stage", "validate", "--param", "date_to=2014-10-21"]);
    let late_days = |i: i64| event(&format!("e{i}"), DAY + 3_600_000 * 30 + i);
    bench.post(&(0..LETTERS).map(|i| format!("{}\n", late_days(i))).collect::<String>());
    let all = usize::try_from(LETTERS).unwrap();
    eventually("all are rejected", Duration::from_secs(30), || letters(&bench).len() == all);
    bench.run(&["smartmodule", "deploy", "--yes", "--stage", "validate", "--param", "date_to=2014-10-30"]);
    let mut host = Some(host);
    for kill in 0..6_u64 {
        let mut retry = bench.command(&["dlq", "retry", "--all", "--timeout", "1"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 + 25 * kill));
        host.take().unwrap().kill();
        retry.wait().unwrap();
        host = Some(bench.start("host", &["run"]));
        bench.until_ready();
    }
    bench.run(&["dlq", "retry", "--all", "--timeout", "60"]);
    eventually("all are resolved", Duration::from_secs(60), || states(&bench).iter().all(|(_, s)| s == "resolved"));
    let [produced, counted, rejected, late, dropped] = balanced_ledger(&bench.status());
    let letters = LETTERS as u64;
    assert_eq!((counted, rejected, late), (letters, letters, 0), "{}", bench.log("host"));
    assert_eq!(produced, 2 * letters + dropped);
    eprintln!("retries that came twice and were dropped: {dropped}");
    let dropped_for = &bench.status()["ledger"]["dropped_by_reason"];
    assert_eq!(dropped_for["repeated retry"].as_u64().unwrap_or_default(), dropped);
}
