//! What is wrong with the input ends in a dead letter or a clear error; what is right is counted.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::fs;
use std::time::Duration;

use clickmill_broker::{Broker, EmbeddedLog, TopicPartition};
use clickmill_schemas::{Offset, PartitionId};
use common::sinks::balanced_ledger;
use common::{Bench, DAY, Value, event, eventually};

fn quiet(bench: &Bench) {
    let config =
        "sinks:\n  postgres:\n    enabled: false\n  redis:\n    enabled: false\n  parquet:\n    enabled: false\n";
    fs::write(bench.file("clickmill.yaml"), config).unwrap();
}

/// What a dead letter holds of a value.
const LONGEST_PAYLOAD: usize = 1 << 20;

fn without(mut event: Value, field: &str) -> Value {
    event.as_object_mut().unwrap().remove(field);
    event
}

fn with(mut event: Value, field: &str, value: Value) -> Value {
    event[field] = value;
    event
}

/// Outputs are appended in batches of 1 MiB at most, or of a single record.
fn assert_batches_are_bounded(bench: &Bench) {
    let log = EmbeddedLog::open_read_only(&bench.data().join("log")).unwrap();
    let at = TopicPartition::new("ad_events_error", PartitionId(0));
    let batches = log.fetch(&at, Offset(0), 64 << 20, Duration::ZERO).unwrap();
    let lens: Vec<_> = batches.iter().map(|batch| (batch.count, batch.records_len())).collect();
    assert!(lens.iter().all(|(count, len)| *count == 1 || *len <= 1 << 20), "{lens:?}");
    assert!(lens.iter().any(|(count, _)| *count > 1) && lens.iter().any(|(_, len)| *len > 1 << 20), "{lens:?}");
}

#[test]
fn each_bad_line_is_rejected_by_its_rule_and_the_rest_is_counted() {
    let bench = Bench::new();
    quiet(&bench);
    let good = event("good", DAY);
    let mut lines: Vec<(Vec<u8>, &str)> = vec![
        (b"{\"id\": ".to_vec(), "json"),
        (b"[1, 2]".to_vec(), "object"),
        ([good.to_string().as_bytes(), b" trailing"].concat(), "json"),
        (without(good.clone(), "C21").to_string().into_bytes(), "required"),
        (with(good.clone(), "click", "1".into()).to_string().into_bytes(), "type"),
        (with(good.clone(), "click", 2.into()).to_string().into_bytes(), "range"),
        (with(good.clone(), "C14", 9_999_999_999_i64.into()).to_string().into_bytes(), "range"),
        (with(good.clone(), "id", "".into()).to_string().into_bytes(), "id_empty"),
        (with(good.clone(), "hour", "14102199".into()).to_string().into_bytes(), "hour_format"),
        (with(good.clone(), "ts", (DAY + 3_600_000).into()).to_string().into_bytes(), "ts_within_hour"),
    ];
    let mut invalid = good.to_string().into_bytes();
    let at = invalid.iter().position(|b| *b == b'g').unwrap();
    invalid[at] = 0xff;
    lines.push((invalid, "utf8"));
    lines.push((with(good.clone(), "site_id", "x".repeat(1 << 20).into()).to_string().into_bytes(), "string_too_long"));
    lines.push((with(good.clone(), "site_category", "nul\u{0}".into()).to_string().into_bytes(), "nul_character"));
    let mut text = Vec::new();
    for (line, _) in &lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    // Fine: unknown fields, a duplicate id, white space anywhere.
    text.extend_from_slice(with(good.clone(), "unknown", 1.into()).to_string().as_bytes());
    text.push(b'\n');
    text.extend_from_slice(good.to_string().as_bytes());
    text.extend_from_slice(b"\n\n");
    text.extend_from_slice(good.to_string().replace(',', " ,\t").as_bytes());
    text.push(b'\n');
    let file = bench.file("bad.jsonl");
    fs::write(&file, text).unwrap();
    bench.run(&["produce", "--max-line-bytes", "4000000", file.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);

    let status = bench.status();
    let n = lines.len() as u64;
    assert_eq!(balanced_ledger(&status), [n + 3, 3, n, 0, 0], "{status}");
    assert_batches_are_bounded(&bench);
    let letters = bench.dead_letters();
    for (line, rule) in &lines {
        let text = String::from_utf8(line.clone());
        let found = letters.iter().find(|letter| match &text {
            Ok(text) => letter["raw_payload"] == text[..text.len().min(LONGEST_PAYLOAD)],
            Err(_) => letter["raw_encoding"] == "base64",
        });
        let found = found.unwrap_or_else(|| panic!("no dead letter for {rule}"));
        assert_eq!(found["rule"], *rule, "{found}");
    }
}

/// As long as a record may be by default; JSON makes six bytes of each.
const LONG: usize = 3_900_000;

fn assert_long_letters_are_cut(bench: &Bench) {
    assert_eq!(balanced_ledger(&bench.status()), [3, 1, 2, 0, 0], "{}", bench.log("host"));
    let letters = bench.dead_letters();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!(letter["raw_payload_bytes"], LONG);
        let payload = letter["raw_payload"].as_str().unwrap();
        match letter["raw_encoding"].as_str().unwrap() {
            "utf8" => assert_eq!(payload, "\u{1}".repeat(LONGEST_PAYLOAD)),
            _ => assert_eq!(payload.len(), LONGEST_PAYLOAD.div_ceil(3) * 4),
        }
    }
}

fn long_lines(good: &Value) -> Vec<u8> {
    [&[1; LONG][..], b"\n", &[0xff; LONG], b"\n", good.to_string().as_bytes(), b"\n"].concat()
}

#[test]
fn values_as_long_as_a_record_may_be_are_rejected_with_their_beginning() {
    let bench = Bench::new();
    quiet(&bench);
    let file = bench.file("long.jsonl");
    fs::write(&file, long_lines(&event("good", DAY))).unwrap();
    bench.run(&["produce", file.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    assert_long_letters_are_cut(&bench);
}

#[test]
fn with_the_least_batch_that_may_be_set_long_values_stop_no_partition() {
    let bench = Bench::new();
    let config = "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\nbroker: {max_batch_bytes: 8388608}\n";
    fs::write(bench.file("clickmill.yaml"), config).unwrap();
    let host = bench.start("host", &["run"]);
    eventually("the host answers", Duration::from_secs(20), || bench.try_run(&["status"]).status.success());
    let url = format!("http://127.0.0.1:{}/api/topics/ad_events_raw/records", bench.port);
    for line in long_lines(&event("good", DAY)).split_inclusive(|byte| *byte == b'\n') {
        ureq::post(&url).send(line).unwrap();
    }
    eventually("all are judged", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(host.terminate(), Some(0));
    assert_long_letters_are_cut(&bench);
    fs::write(bench.file("clickmill.yaml"), "broker: {max_batch_bytes: 8388607}\n").unwrap();
    assert!(bench.fails(&["status"], 2).contains("8388608"));
}

#[test]
fn a_csv_row_whose_hour_cannot_be_read_is_rejected_for_its_hour() {
    let bench = Bench::new();
    quiet(&bench);
    let rows = fs::read_to_string(bench.generate(3, 1, 1)).unwrap();
    let file = bench.file("hours.csv");
    fs::write(&file, rows.replacen(",14102100,", ",14109999,", 1)).unwrap();
    bench.run(&["produce", file.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let ledger = &bench.status()["ledger"];
    assert_eq!((&ledger["counted"], &ledger["rejected_by_rule"]["hour_format"]), (&2.into(), &1.into()), "{ledger}");
}

#[test]
fn before_run_the_ledger_says_what_was_produced_and_that_it_waits() {
    let bench = Bench::new();
    quiet(&bench);
    let file = bench.generate(500, 1, 1);
    bench.run(&["produce", file.to_str().unwrap()]);
    let ledger = &bench.status()["ledger"];
    assert_eq!((&ledger["produced"], &ledger["waiting"], &ledger["counted"]), (&500.into(), &500.into(), &0.into()));
    assert!(
        bench.run(&["status"]).contains("500 produced = 0 counted + 0 rejected + 0 late + 0 dropped + 500 waiting")
    );
}

#[test]
fn one_event_from_the_year_2099_closes_no_window_and_a_gap_of_two_days_locks_nothing_out() {
    let bench = Bench::new();
    quiet(&bench);
    let mut text = String::new();
    text.push_str(&format!("{}\n", event("far-0", 4_070_908_800_000)));
    for i in 0..3_000 {
        if i == 1_000 {
            text.push_str(&format!("{}\n", event("far-1", 4_070_908_800_000)));
        }
        text.push_str(&format!("{}\n", event(&format!("a{i}"), DAY + i * 100)));
    }
    for i in 0..3_000 {
        text.push_str(&format!("{}\n", event(&format!("b{i}"), DAY + 2 * 86_400_000 + i * 100)));
    }
    let file = bench.file("far.jsonl");
    fs::write(&file, text).unwrap();
    bench.run(&["produce", file.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    assert_eq!(balanced_ledger(&bench.status()), [6_002, 6_002, 0, 0, 0]);
    let status = bench.status();
    for partition in status["partitions"].as_array().unwrap() {
        let watermark = partition["watermark_ms"].as_i64().unwrap();
        let end = DAY + 2 * 86_400_000 + 300_000;
        assert!((DAY + 2 * 86_400_000..=end).contains(&watermark), "{partition}");
    }
}

#[test]
fn other_columns_a_missing_file_and_unknown_keys_are_the_user_s_mistakes() {
    let bench = Bench::new();
    quiet(&bench);
    let file = bench.file("other.csv");
    fs::write(&file, "id,click,colour\n1,0,red\n").unwrap();
    assert!(bench.fails(&["produce", file.to_str().unwrap()], 2).contains("colour"));
    assert!(bench.fails(&["produce", "nowhere.csv"], 2).contains("nowhere.csv"));
    fs::write(bench.file("clickmill.yaml"), "server:\n  listn: 1\n").unwrap();
    let error = bench.fails(&["status"], 2);
    assert!(error.contains("listn") && error.contains("clickmill.yaml") && error.contains('2'), "{error}");
    bench.fails(&["windows", "--size", "7m"], 2);
}

#[test]
fn a_stage_whose_file_is_no_module_is_named_with_its_file() {
    let bench = Bench::new();
    fs::write(bench.file("rule.wasm"), "(module)").unwrap();
    fs::write(bench.file("clickmill.yaml"), "stages: [{name: rule, module: rule.wasm}]\n").unwrap();
    let said = bench.fails(&["run"], 2);
    assert!(said.contains("stages: rule: module: rule.wasm is no WebAssembly module"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}

#[test]
fn a_gz_cut_short_keeps_what_came_before_and_says_where() {
    let bench = Bench::new();
    quiet(&bench);
    let whole = bench.file("rows.csv.gz");
    bench.run(&["generate", "--rows", "20000", "--seed", "1", "--hours", "2", "--out", whole.to_str().unwrap()]);
    let bytes = fs::read(&whole).unwrap();
    let cut = bench.file("cut.csv.gz");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let error = bench.fails(&["produce", cut.to_str().unwrap()], 1);
    assert!(error.contains("cut.csv.gz"), "{error}");
    bench.run(&["run", "--until-end"]);
    let [produced, counted, ..] = balanced_ledger(&bench.status());
    assert!(produced > 1_000 && produced < 20_000 && counted == produced, "{produced} {counted}");
}

#[test]
fn a_second_host_learns_who_has_the_data_directory_and_a_port_in_use_is_named() {
    let bench = Bench::new();
    quiet(&bench);
    let mut host = bench.start("host", &["run"]);
    eventually("the host answers", Duration::from_secs(20), || {
        bench.try_run(&["status"]).status.success() && host.is_running()
    });
    let error = bench.fails(&["run"], 2);
    assert!(error.contains(&host.child.id().to_string()) && error.contains("in use"), "{error}");
    let other = Bench::new();
    quiet(&other);
    let taken = format!("127.0.0.1:{}", bench.port);
    let output = other.command(&["run"]).env("CLICKMILL_LISTEN", &taken).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&taken));
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn files_that_several_processes_send_at_once_are_in_the_topic_once() {
    let bench = Bench::new();
    let (one, other) = (bench.generate(3_000, 1, 2), bench.generate(3_000, 2, 2));
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let files = [&[one][..], &[one, other], &[one], &[one, other], &[one]];
    let senders: Vec<_> = files
        .iter()
        .map(|files| (files, bench.start("produce", &[&["produce", "--rate", "5000"], *files].concat())))
        .collect();
    let sent: Vec<usize> =
        senders.into_iter().filter_map(|(files, sender)| (sender.wait() == Some(0)).then_some(files.len())).collect();
    assert_eq!(sent.len(), 1, "{}", bench.log("produce"));
    let ends: u64 =
        bench.status()["partitions"].as_array().unwrap().iter().map(|p| p["log_end_offset"].as_u64().unwrap()).sum();
    assert_eq!(3_000 * sent[0] as u64, ends);
    assert!(bench.log("produce").contains("by another process"), "{}", bench.log("produce"));
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}
