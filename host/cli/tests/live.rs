//! What a running host tells live: events on the stream soon after they were acknowledged, keys as `clickmill windows` has them,
//! what happened as marks, and how the host fares.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Bench, DAY, POISON, Value, event, eventually};

const MINUTE: i64 = 60_000;

fn bench(more: &str) -> Bench {
    let bench = Bench::new();
    let settings = format!(
        "sinks: {{postgres: {{enabled: false, url: 'postgres://u:hunter22@h/d'}}, redis: {{enabled: false}}}}\n{more}"
    );
    std::fs::write(bench.file("clickmill.yaml"), settings).unwrap();
    bench
}

fn get(bench: &Bench, path: &str) -> Value {
    let url = format!("http://127.0.0.1:{}{path}", bench.port);
    serde_json::from_str(&ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()).unwrap()
}

/// The live stream.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(bench: &Bench) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", bench.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut stream = Self(BufReader::new(socket));
        stream.until(|event| event["caught_up"] == true);
        stream
    }

    /// The data of the next event of which this holds.
    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            if let Some(event) = line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap())
                && is_it(&event)
            {
                return event;
            }
        }
    }
}

fn impressions(event: &Value, start_ms: i64) -> Option<i64> {
    let windows = event["windows"]["1m"].as_array().unwrap();
    windows.iter().find(|w| w["start_ms"] == start_ms)?["impressions"].as_i64()
}

#[test]
fn an_event_is_on_the_stream_within_a_second_and_a_half_of_its_acknowledgement() {
    let bench = bench("");
    let _host = bench.start("host", &["run"]);
    bench.until_ready();
    let mut stream = Stream::open(&bench);
    let mut slowest = Duration::ZERO;
    for n in 0..8 {
        bench.post(&event(&format!("{}", 1_000 + n), DAY + n * 1_000).to_string());
        let acknowledged = Instant::now();
        stream.until(|event| impressions(event, DAY) == Some(n + 1));
        slowest = slowest.max(acknowledged.elapsed());
        // Not in step with the commits.
        std::thread::sleep(Duration::from_millis(370));
    }
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
    eprintln!("slowest of 8 events: {slowest:?}");
}

#[test]
fn the_keys_of_a_range_are_those_of_clickmill_windows_from_memory_and_from_the_topic() {
    let bench = bench("");
    let rows = bench.generate(50_000, 5, 4);
    bench.run(&["produce", rows.to_str().unwrap()]);
    let _host = bench.start("host", &["run"]);
    bench.until_ready();
    let mut stream = Stream::open(&bench);
    stream.until(|event| event["lag"] == 0 && event["processed"] == 50_000);
    let newest = get(&bench, "/api/live/top?size=1m&dimension=total")["to_ms"].as_i64().unwrap();
    for (from, to, source) in
        [(newest - 60 * MINUTE, newest, "memory"), (newest - 240 * MINUTE, newest - 120 * MINUTE, "topic")]
    {
        for dimension in ["site_category", "app_category", "device_type", "banner_pos", "total"] {
            let range = format!("from={from}&to={to}");
            let top = get(&bench, &format!("/api/live/top?size=1m&dimension={dimension}&{range}&limit=100"));
            assert_eq!(top["source"], source);
            let rows = get(&bench, &format!("/api/windows?size=1m&dimension={dimension}&{range}"));
            let mut expected = BTreeMap::<&str, [i64; 5]>::new();
            for row in rows["windows"].as_array().unwrap() {
                let sums = expected.entry(row["key"].as_str().unwrap()).or_default();
                let names = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
                sums.iter_mut().zip(names).for_each(|(sum, name)| *sum += row[name].as_i64().unwrap());
            }
            let keys = top["keys"].as_array().unwrap();
            let found: BTreeMap<&str, [i64; 5]> = keys
                .iter()
                .map(|key| {
                    let names = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
                    let sums = names.map(|name| key[name].as_i64().unwrap());
                    let series = key["series"].as_array().unwrap();
                    let series = series.iter().map(|cells| cells[0].as_i64().unwrap()).sum::<i64>();
                    assert_eq!(series, sums[0], "the series add up");
                    (key["key"].as_str().unwrap(), sums)
                })
                .collect();
            assert_eq!(found, expected, "{dimension} {source}");
            assert!(!expected.is_empty());
        }
    }
}

#[test]
fn a_deploy_its_failure_and_the_breaker_are_marks_and_late_events_show_in_their_window() {
    let bench = bench("pipeline: {commit_interval_ms: 100, breaker_records: 3}\n");
    let poison = bench.wat("poison.wasm", POISON);
    let _host = bench.start("host", &["run"]);
    bench.until_ready();
    let mut stream = Stream::open(&bench);
    let at = |n: i64, minute: i64| event(&format!("{n}"), DAY + minute * MINUTE).to_string();
    for n in 0..60 {
        bench.post(&at(n, n));
    }
    stream.until(|event| event["lag"] == 0 && event["processed"] == 60);
    bench.run(&[
        "smartmodule",
        "deploy",
        &poison,
        "--stage",
        "mask",
        "--before",
        "enrich",
        "--yes",
        "--message",
        "masks <it>",
    ]);
    for n in 60..90 {
        let mut bad = event(&format!("{n}"), DAY + 60 * MINUTE);
        bad["site_id"] = "TRAP".into();
        bench.post(&bad.to_string());
    }
    bench.post(&at(100, 10));
    stream.until(|event| event["processed"] == 91);
    // A listener that comes now is told of all of it.
    let told = |event: &Value| event["marks"].as_array().unwrap().iter().any(|mark| mark["kind"] == "breaker");
    eventually("the breaker is marked", Duration::from_secs(20), || told(&snapshot(&bench)));
    let marks = snapshot(&bench)["marks"].as_array().unwrap().clone();
    let of = |kind: &str| marks.iter().filter(|mark| mark["kind"] == kind).collect::<Vec<_>>();
    assert!(of("deployment").iter().any(|mark| mark["text"].as_str().unwrap().contains("masks <it>")), "{marks:?}");
    assert!(of("verdict")[0]["text"].as_str().unwrap().contains("stage mask fails on"), "{marks:?}");
    assert_eq!((of("breaker").len(), of("breaker")[0]["deployment"].is_number()), (1, true), "{marks:?}");
    let wall = of("breaker")[0]["wall_ms"].as_i64().unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    assert!((now - 60_000..=now + 1_000).contains(&wall), "{wall}");
    let late: i64 =
        snapshot(&bench)["windows"]["1m"].as_array().unwrap().iter().map(|w| w["late"].as_i64().unwrap()).sum();
    assert_eq!(late, bench.status()["ledger"]["late"].as_i64().unwrap());
}

fn snapshot(bench: &Bench) -> Value {
    let mut socket = TcpStream::connect(("127.0.0.1", bench.port)).unwrap();
    socket.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    Stream(BufReader::new(socket)).until(|_| true)
}

#[test]
fn a_host_tells_its_limits_its_settings_without_secrets_and_whether_its_checkpoints_are_sound() {
    let bench =
        bench("pipeline: {commit_interval_ms: 100}\n").with_env("SLACK_WEBHOOK_URL", "http://127.0.0.1:9/hunter33");
    let _host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post(&event("1", DAY).to_string());
    eventually("a checkpoint is written", Duration::from_secs(10), || bench.status()["ledger"]["counted"] == 1);
    let health = get(&bench, "/api/health");
    let text = health.to_string();
    assert!(!text.contains("hunter") && text.contains("***"), "{text}");
    assert_eq!((&health["ready"], &health["config"]["pipeline"]["commit_interval_ms"]), (&true.into(), &100.into()));
    assert_eq!(health["config"]["sinks"]["postgres"]["url"], "***");
    for version in ["clickmill", "wasmtime", "rustc"] {
        assert!(health["versions"][version].as_str().unwrap().contains('.'), "{text}");
    }
    let limits = health["limits"].as_array().unwrap();
    let of = |name: &str| limits.iter().find(|limit| limit["name"] == name).unwrap().clone();
    assert!(of("pipeline.checkpoints_kept")["use"].as_i64().unwrap() >= 1, "{text}");
    assert!(of("broker.max_in_flight_bytes")["use"].is_number() && of("engine.call_fuel_limit")["limit"].is_null());
    assert_eq!(of("server.max_in_flight_requests")["use"], 1);
    let (now, newest) = (&health["clock"]["now_ms"], &health["clock"]["newest_commit_ms"]);
    assert!((now.as_i64().unwrap() - newest.as_i64().unwrap()).abs() < 60_000);

    let list = get(&bench, "/api/checkpoints");
    assert!(
        list["checkpoints"]
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["state"] == "unchecked" && c["written_ms"].is_number())
    );
    let verify = format!("http://127.0.0.1:{}/api/checkpoints/verify", bench.port);
    let verify = || -> Value {
        serde_json::from_str(&ureq::post(&verify).send("").unwrap().body_mut().read_to_string().unwrap()).unwrap()
    };
    let sound = verify();
    assert!(sound["checkpoints"].as_array().unwrap().iter().all(|c| c["state"] == "sound"), "{sound}");
    let oldest = sound["checkpoints"].as_array().unwrap().last().unwrap();
    let file = format!(
        "checkpoints/ad_events_raw/{}/{:010}-{:020}.ckpt",
        oldest["partition"],
        oldest["epoch"].as_u64().unwrap(),
        oldest["offset"].as_u64().unwrap()
    );
    let mut bytes = std::fs::read(bench.data().join(&file)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(bench.data().join(&file), bytes).unwrap();
    let damaged = verify();
    let damaged = damaged["checkpoints"].as_array().unwrap().last().unwrap();
    assert_eq!(damaged["state"], "damaged");
    assert!(damaged["fault"].as_str().unwrap().contains("checksum"), "{damaged}");
}
