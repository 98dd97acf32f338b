//! Reports of a real host: value by value those of its windows, from PostgreSQL and without it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Bench, Value, eventually};

const HOUR_MS: i64 = 3_600_000;
const METRICS: [&str; 5] = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
const DIMENSIONS: [&str; 5] = ["total", "site_category", "app_category", "device_type", "banner_pos"];

/// By bucket and key.
type Sums = BTreeMap<(String, String), [i64; 5]>;

fn get(bench: &Bench, path: &str) -> Value {
    let url = format!("http://127.0.0.1:{}{path}", bench.port);
    let text = ureq::get(&url).call().unwrap().body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn metrics(row: &Value) -> [i64; 5] {
    METRICS.map(|name| row[name].as_i64().unwrap())
}

/// What a report must say of windows as the command gives them, summed here.
fn summed(windows: &[Value], dimension: &str, bucket: impl Fn(i64) -> String) -> Sums {
    let mut sums = Sums::new();
    for window in windows.iter().filter(|window| window["dimension"] == dimension) {
        let start: jiff::Timestamp = window["window_start"].as_str().unwrap().parse().unwrap();
        let key = (bucket(start.as_millisecond()), window["key"].as_str().unwrap().to_owned());
        let sum = sums.entry(key).or_default();
        sum.iter_mut().zip(metrics(window)).for_each(|(sum, n)| *sum += n);
    }
    sums
}

fn rows(report: &Value) -> Sums {
    let rows = report["rows"].as_array().unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let sums: Sums = rows.iter().map(|row| ((text(row, "label"), text(row, "key")), metrics(row))).collect();
    assert_eq!(sums.len(), rows.len(), "each row once");
    sums
}

/// Compares every report there is with the windows.
fn assert_equal(bench: &Bench, source: &str, note: &str) {
    let windows = bench.json(&["windows", "--size", "5m", "--output", "json"]);
    let windows: Vec<Value> = windows["windows"].as_array().unwrap().clone();
    let time = |ms: i64, format: &str| jiff::Timestamp::from_millisecond(ms).unwrap().strftime(format).to_string();
    for dimension in DIMENSIONS {
        for (by, format) in
            [("hour", "%Y-%m-%dT%H:00:00Z"), ("day", "%Y-%m-%d"), ("hour_of_day", "%H:00"), ("weekday", "%A")]
        {
            let report = get(bench, &format!("/api/reports/trend?by={by}&dimension={dimension}"));
            assert_eq!(report["source"], source, "{}", report["note"]);
            assert!(report["note"].as_str().unwrap_or_default().contains(note), "{}", report["note"]);
            assert_eq!(rows(&report), summed(&windows, dimension, |ms| time(ms, format)), "{by} {dimension}");
        }
        let report = get(bench, &format!("/api/reports/breakdown?dimension={dimension}&limit=1000"));
        let labels = |(key, sums): ((String, String), [i64; 5])| {
            let label = if key.1.is_empty() { dimension.to_owned() } else { key.1.clone() };
            ((label, key.1), sums)
        };
        let all: Sums = summed(&windows, dimension, |_| String::new()).into_iter().map(labels).collect();
        assert_eq!(rows(&report), all, "{dimension}");
    }
    // A part of the time, of one key.
    let (from, to) = (1_413_849_600_000 + 5 * HOUR_MS, 1_413_849_600_000 + 31 * HOUR_MS);
    let path = format!("/api/reports/trend?by=day&dimension=device_type&key=1&from={from}&to={to}");
    let within = |window: &&Value| {
        let start: jiff::Timestamp = window["window_start"].as_str().unwrap().parse().unwrap();
        window["key"] == "1" && (from..to).contains(&start.as_millisecond())
    };
    let part: Vec<Value> = windows.iter().filter(within).cloned().collect();
    assert_eq!(rows(&get(bench, &path)), summed(&part, "device_type", |ms| time(ms, "%Y-%m-%d")));
}

fn caught_up(bench: &Bench) {
    eventually("PostgreSQL has everything", Duration::from_secs(120), || {
        let status = bench.status();
        let sinks = status["sinks"].as_array().unwrap();
        let level = sinks.iter().all(|sink| sink["lag"] == 0 && sink["state"] == "running");
        level && status["ledger"]["waiting"] == 0
    });
}

#[test]
fn reports_are_equal_to_the_windows_after_a_kill_and_without_postgresql() {
    let bench = Bench::new();
    let config = "sinks: {redis: {enabled: false}}\npipeline: {commit_interval_ms: 100}\n";
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    let file = bench.generate(120_000, 7, 72);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let producing = bench.start("produce", &["produce", file.to_str().unwrap(), "--rate", "60000"]);
    eventually("a part is counted", Duration::from_secs(60), || {
        bench.status()["ledger"]["counted"].as_u64() > Some(20_000)
    });
    host.kill();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    producing.wait();
    bench.run(&["produce", file.to_str().unwrap(), "--resume"]);
    caught_up(&bench);
    assert_eq!(bench.status()["ledger"]["produced"], 120_000);
    assert_equal(&bench, "postgres", "");
    // Hours that have rested are summed; the answers are the same.
    std::thread::sleep(Duration::from_secs(8));
    assert_equal(&bench, "postgres", "");
    bench.run(&["connector", "stop", "postgres"]);
    assert_equal(&bench, "windows", "connector postgres is stopped");
    bench.run(&["connector", "start", "postgres"]);
    bench.run(&["connector", "rebuild", "postgres"]);
    caught_up(&bench);
    assert_equal(&bench, "postgres", "");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}
