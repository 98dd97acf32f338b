//! Dead letters in a real host: listed, looked at, repaired, tried against another module, sent again and counted once,
//! whatever is killed in between.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use common::sinks::{Sinks, balanced_ledger};
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

fn until_all(bench: &Bench, letters: usize, state: &str) {
    eventually(&format!("{letters} are {state}"), Duration::from_secs(60), || {
        let states = states(bench);
        states.len() == letters && states.iter().all(|(_, s)| s == state)
    });
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
    let ids: Vec<String> = states(&bench).into_iter().map(|(id, _)| id).collect();
    let named: Vec<&str> =
        ["dlq", "retry", "--timeout", "60"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let retried = bench.run(&named);
    assert!(retried.starts_with("600 dead letters sent again"), "{retried}");
    until_all(&bench, 600, "resolved");
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
    until_all(&bench, all, "resolved");
    let [produced, counted, rejected, late, dropped] = balanced_ledger(&bench.status());
    let letters = LETTERS as u64;
    assert_eq!((counted, rejected, late), (letters, letters, 0), "{}", bench.log("host"));
    assert_eq!(produced, 2 * letters + dropped);
    eprintln!("retries that came twice and were dropped: {dropped}");
    let dropped_for = &bench.status()["ledger"]["dropped_by_reason"];
    assert_eq!(dropped_for["repeated retry"].as_u64().unwrap_or_default(), dropped);
}

#[test]
fn what_was_sent_without_a_host_is_judged_by_the_next_one_and_not_sent_twice() {
    let bench = bench(ONE);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["smartmodule", "deploy", "--yes", "--stage", "validate", "--param", "date_to=2014-10-21"]);
    let later = |i: i64| event(&format!("e{i}"), DAY + 3_600_000 * 30 + i);
    bench.post(&(0..50).map(|i| format!("{}\n", later(i))).collect::<String>());
    until_all(&bench, 50, "dead");
    bench.run(&["smartmodule", "deploy", "--yes", "--stage", "validate", "--param", "date_to=2014-10-30"]);
    assert_eq!(host.terminate(), Some(0));
    let sent = bench.run(&["dlq", "retry", "--all"]);
    assert!(sent.contains("50 letters judged when a host runs"), "{sent}");
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    until_all(&bench, 50, "resolved");
    assert_eq!(balanced_ledger(&bench.status()), [100, 50, 50, 0, 0]);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_line_of_todays_file_is_not_taken_for_yesterdays_of_the_same_name() {
    let bench = bench(ONE);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let header = "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,\
                  device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21";
    let file = bench.file("ads.csv");
    for day in ["yesterday", "today"] {
        std::fs::write(&file, format!("{header}\n{day} is no row\n")).unwrap();
        bench.run(&["produce", file.to_str().unwrap()]);
    }
    until_all(&bench, 2, "dead");
    let payloads: Vec<Value> = letters(&bench).iter().map(|letter| letter["raw_payload"].clone()).collect();
    assert_eq!(payloads, ["yesterday is no row", "today is no row"]);
    assert_eq!(host.terminate(), Some(0));
}

/// With PostgreSQL beside it.
fn bench_with_postgres() -> Bench {
    let bench = Bench::new();
    let config = format!(
        "sinks: {{redis: {{enabled: false}}}}\npipeline: {{commit_interval_ms: 100}}\ndlq: {{backoff_ms: 200}}\n{ONE}\n"
    );
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

#[test]
fn what_is_given_up_is_in_postgresql_with_every_attempt() {
    let bench = bench_with_postgres();
    let module = bench.wat("poison.wasm", POISON);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["smartmodule", "deploy", "--yes", &module, "--stage", "poison", "--after", "validate"]);
    let mut poison = event("b", DAY + 1);
    poison["site_domain"] = "xTRAPx".into();
    bench.post(&format!("no JSON \u{0}\n{}\n{poison}\n", broken("a", DAY)));
    until_states(&bench, &[("0-0", "dead"), ("0-1", "dead"), ("0-2", "dead")]);
    host.kill();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["dlq", "edit", "0-1", "--set", "click=0"]);
    bench.run(&["dlq", "retry", "0-1"]);
    assert_eq!(host.terminate(), Some(0));
    bench.run(&["run", "--until-end"]);

    let sinks = Sinks::of(&bench.data());
    let messages = "SELECT id, state, error_type, rule, retry_count, origin_offset, raw_encoding FROM errors.dlq_messages ORDER BY id";
    assert_eq!(
        sinks.sql(messages),
        "0-0|dead|parsing|json|0|0|base64\n0-1|resolved|schema|range|0|1|utf8\n0-2|dead|smartmodule|smartmodule|0|2|utf8\n"
    );
    let history = "SELECT id, attempt, outcome FROM errors.retry_history ORDER BY id, attempt";
    assert_eq!(sinks.sql(history), "0-1|1|counted\n0-2|1|rejected\n0-2|2|rejected\n0-2|3|rejected\n");
    let payload = "SELECT encode(decode(raw_payload, 'base64'), 'escape') FROM errors.dlq_messages WHERE id = '0-0'";
    assert_eq!(sinks.sql(payload), "no JSON \\000\n");
    assert_eq!(sinks.sql("SELECT sum(letters) FROM errors.rate_per_minute"), "3\n");
    assert_eq!(sinks.sql("SELECT rule, dead FROM errors.by_rule WHERE error_type = 'parsing'"), "json|1\n");
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'errors.dlq_messages'::regclass";
    let partitions = sinks.sql(partitions);
    assert!(
        ["2\n", "3\n"].contains(&&*partitions),
        "today's, over midnight tomorrow's, and the default one: {partitions}"
    );
}

#[test]
fn a_row_that_postgresql_refuses_costs_that_row_and_is_taken_once_the_constraint_is_gone() {
    let bench = bench_with_postgres();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post(&format!("{}\n", event("a", DAY)));
    assert_eq!(host.terminate(), Some(0));
    let sinks = Sinks::of(&bench.data());
    sinks.sql("ALTER TABLE realtime.window_partials ADD CONSTRAINT of_later CHECK (dimension <> 'device_type' OR window_start < '2014-10-21 00:05+00')");
    drop(sinks);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post(&format!("{}\n", event("b", DAY + 300_000)));
    eventually("the row is a letter", Duration::from_secs(30), || {
        letters(&bench).iter().any(|letter| letter["error_type"] == "sink")
    });
    let letter = letters(&bench).into_iter().find(|letter| letter["error_type"] == "sink").unwrap();
    assert_eq!((&letter["rule"], &letter["connector"]), (&"sqlstate_23514".into(), &"postgres".into()), "{letter}");
    let refused = states(&bench).len();
    until_all(&bench, refused, "dead");
    assert_eq!(balanced_ledger(&bench.status())[2], 0, "a sink's refusal is no record's fate");
    assert_eq!(host.terminate(), Some(0));

    // Without the connector there is nobody who could take them.
    let without = bench.file("without.yaml");
    std::fs::write(&without, "sinks: {postgres: {enabled: false}, redis: {enabled: false}}\n").unwrap();
    let host = bench.start("without", &["--config", without.to_str().unwrap(), "run"]);
    bench.until_ready();
    let said = bench.run(&["dlq", "retry", "--all", "--type", "sink"]);
    assert!(said.contains("no connector of this host is called postgres"), "{said}");
    until_all(&bench, refused, "dead");
    assert_eq!(host.terminate(), Some(0));

    let sinks = Sinks::of(&bench.data());
    assert_eq!(sinks.sql("SELECT count(*) FROM realtime.metrics_1min"), "2\n", "the other rows are there");
    sinks.sql("ALTER TABLE realtime.window_partials DROP CONSTRAINT of_later");
    drop(sinks);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["dlq", "retry", "--all", "--type", "sink"]);
    until_all(&bench, refused, "resolved");
    bench.run(&["connector", "verify", "postgres"]);
    assert_eq!(host.terminate(), Some(0));
}
