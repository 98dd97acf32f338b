//! Partitions added to the topic of events while it is in use: nothing is lost or counted twice, and final windows stay.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::sinks::{Sinks, balanced_ledger};
use common::{Bench, DAY, Running, Value, event, eventually};

/// Events of a chunk, and milliseconds of event time from one to the next.
const CHUNK: i64 = 500;
const STEP_MS: i64 = 400;

fn chunk(n: i64) -> String {
    let lines = (n * CHUNK..(n + 1) * CHUNK).map(|i| format!("{}\n", event(&format!("event-{i}"), DAY + i * STEP_MS)));
    lines.collect()
}

fn bench(partitions: u32, sinks: bool) -> Bench {
    let bench = Bench::new();
    let off = if sinks {
        ""
    } else {
        "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n"
    };
    let config = format!(
        "{off}pipeline: {{commit_interval_ms: 100}}\nbroker: {{topics: {{ad_events_raw: {{partitions: {partitions}}}}}}}\n"
    );
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

fn host(bench: &Bench) -> Running {
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    host
}

/// Records of each partition.
fn ends(bench: &Bench) -> Vec<u64> {
    let status = bench.status();
    status["partitions"].as_array().unwrap().iter().map(|p| p["log_end_offset"].as_u64().unwrap()).collect()
}

fn final_windows(bench: &Bench) -> BTreeSet<String> {
    bench.windows("1m").lines().filter(|line| line.ends_with(",true")).map(str::to_owned).collect()
}

#[test]
fn partitions_added_under_load_and_under_kills_change_no_count_and_no_final_window() {
    let (grown, whole) = (bench(3, true), bench(8, true));
    let mut next = 0;
    let mut post = |bench: &Bench, chunks: i64| {
        (next..next + chunks).for_each(|n| bench.post(&chunk(n)));
        next += chunks;
    };
    let mut running = host(&grown);
    post(&grown, 10);
    let committed = |bench: &Bench| {
        eventually("everything is committed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    };
    committed(&grown);
    let before = final_windows(&grown);
    assert!(before.len() > 20, "some windows are final: {}", before.len());

    // Added while events come in; the host is killed as soon as the first of them are in the new partitions.
    let mut alter = grown.start("alter", &["topic", "alter", "ad_events_raw", "--partitions", "5"]);
    while alter.is_running() {
        post(&grown, 1);
    }
    assert_eq!(alter.wait(), Some(0), "{}", grown.log("alter"));
    post(&grown, 1);
    running.kill();
    assert_eq!(ends(&grown).len(), 5);
    assert!(ends(&grown).iter().all(|end| *end > 0), "new events go to the new partitions: {:?}", ends(&grown));
    running = host(&grown);
    post(&grown, 5);

    // Killed while they are being added, at several moments.
    for (partitions, wait_ms) in [("6", 8), ("7", 20), ("8", 45)] {
        let had = ends(&grown).len();
        let alter = grown.start("alter", &["topic", "alter", "ad_events_raw", "--partitions", partitions]);
        std::thread::sleep(Duration::from_millis(wait_ms));
        running.kill();
        alter.wait();
        let has = ends(&grown).len();
        assert!(has == had || has.to_string() == partitions, "{had} partitions became {has}, not {partitions}");
        running = host(&grown);
        post(&grown, 3);
    }
    let altered = grown.json(&["topic", "alter", "ad_events_raw", "--partitions", "8", "--output", "json"]);
    assert_eq!(altered["partitions"].as_array().unwrap().len(), 8);
    post(&grown, 10);
    committed(&grown);
    let after = final_windows(&grown);
    assert!(before.is_subset(&after), "{:?} are not final any more", before.difference(&after).next());
    assert!(after.len() > before.len() + 20, "windows become final with the new partitions: {}", after.len());
    assert!(ends(&grown).iter().all(|end| *end > 500), "{:?}", ends(&grown));

    // Several at once: none of them waits for another to begin where the old ones are.
    grown.run(&["topic", "alter", "ad_events_raw", "--partitions", "12"]);
    grown.run(&["checkpoint", "save", "with-all-of-them"]);
    let partitions = grown.status()["partitions"].clone();
    let watermarks = partitions.as_array().unwrap().iter().map(|p| p["watermark_ms"].as_i64());
    assert!(watermarks.clone().all(|watermark| watermark.is_some()), "{:?}", watermarks.collect::<Vec<_>>());
    committed(&grown);
    let last = final_windows(&grown);
    assert!(after.is_subset(&last), "{:?} are not final any more", after.difference(&last).next());

    // A deployment is for all of them, also for those that were added, each from its first event on.
    let stages = grown.json(&["smartmodule", "list", "--output", "json"]);
    let activations = stages[0]["activations"].as_object().unwrap();
    assert_eq!(activations.len(), 12, "{activations:?}");
    assert!(activations.values().all(|offset| *offset == 0), "{activations:?}");
    assert_eq!(running.terminate(), Some(0), "{}", grown.log("host"));

    let sent: String = (0..next).map(chunk).collect();
    let file = whole.file("all.jsonl");
    std::fs::write(&file, sent).unwrap();
    whole.run(&["produce", file.to_str().unwrap()]);
    for bench in [&grown, &whole] {
        bench.run(&["run", "--until-end"]);
    }
    let events = (next * CHUNK) as u64;
    assert_eq!(balanced_ledger(&grown.status()), [events, events, 0, 0, 0]);
    assert_eq!(balanced_ledger(&whole.status()), [events, events, 0, 0, 0]);
    let (a, b) = (Sinks::of(&grown.data()).snapshot(), Sinks::of(&whole.data()).snapshot());
    // Which windows are final at the end depends on the last event of each partition.
    let csv = |bench: &Bench| {
        bench.windows("1m").lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert!(csv(&grown) == csv(&whole), "windows differ");
    assert_eq!(a.one_minute.lines().count(), b.one_minute.lines().count());
    assert!(totals(&a.one_minute) == totals(&b.one_minute), "realtime.metrics_1min differs");
}

/// Columns but for those that say what is final.
fn totals(rows: &str) -> Vec<String> {
    let told = |field: &&str| !matches!(*field, "t" | "f");
    rows.lines().map(|line| line.split('|').filter(told).collect::<Vec<_>>().join("|")).collect()
}

#[test]
fn a_file_that_was_begun_goes_on_where_its_rows_are_and_a_new_one_goes_everywhere() {
    const ROWS: u64 = 60_000;
    let (grown, whole) = (bench(3, false), bench(3, false));
    let rows = whole.generate(ROWS, 5, 6);
    let rows = rows.to_str().unwrap();
    whole.run(&["produce", rows]);
    whole.run(&["run", "--until-end"]);

    let running = host(&grown);
    let producer = grown.start("produce", &["produce", "--rate", "20000", rows]);
    eventually("some rows are there", Duration::from_secs(20), || ends(&grown).iter().sum::<u64>() > 8_000);
    producer.kill();
    grown.run(&["topic", "alter", "ad_events_raw", "--partitions", "4"]);
    // Once through the host, once into its log: rows are found where they are.
    let producer = grown.start("produce", &["produce", "--resume", "--rate", "20000", rows]);
    eventually("more rows are there", Duration::from_secs(20), || ends(&grown).iter().sum::<u64>() > 20_000);
    producer.kill();
    assert_eq!(running.terminate(), Some(0));
    grown.run(&["topic", "alter", "ad_events_raw", "--partitions", "5"]);
    grown.run(&["produce", "--resume", rows]);
    assert_eq!(ends(&grown)[3..], [0, 0]);
    grown.run(&["run", "--until-end"]);
    assert_eq!(balanced_ledger(&grown.status()), [ROWS, ROWS, 0, 0, 0]);
    let impressions = |bench: &Bench| -> Vec<String> {
        bench.windows("1m").lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
    };
    assert!(impressions(&grown) == impressions(&whole), "windows differ");

    let more = grown.file("more.jsonl");
    std::fs::write(&more, (0..4).map(chunk).collect::<String>()).unwrap();
    grown.run(&["produce", more.to_str().unwrap()]);
    assert!(ends(&grown).iter().all(|end| *end > 0), "{:?}", ends(&grown));
    let again: Value = grown.json(&["topic", "list", "--output", "json"]);
    assert!(again.as_array().unwrap().iter().any(|t| t["partitions"].as_array().unwrap().len() == 5));
}
