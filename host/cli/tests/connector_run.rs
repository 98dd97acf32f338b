//! Connectors as processes of their own, and what flows to them: beside real hosts, which die and come back.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use common::{Bench, Running, Value, eventually};

/// A file aside of the folder that the host reads.
fn aside(bench: &Bench, name: &str, of: &str, consumer: &str) -> String {
    let file = bench.file(&format!("{name}.yaml"));
    let meta =
        format!("{{name: {name}, type: {of}-sink, version: 0.1.0, topic: ctr_windows, consumer: {{{consumer}}}}}");
    std::fs::write(&file, format!("apiVersion: 0.1.0\nmeta: {meta}\n{of}: {{}}\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A bench whose host runs a Redis connector alone.
fn bench() -> Bench {
    let bench = Bench::new();
    let cache = aside(&bench, "cache", "redis", "");
    std::fs::create_dir_all(bench.file("connectors")).unwrap();
    std::fs::rename(cache, bench.file("connectors/cache.yaml")).unwrap();
    bench
}

/// What the private PostgreSQL holds, which this neither starts nor stops.
fn sql(bench: &Bench, query: &str) -> Option<String> {
    let servers = std::fs::read(bench.data().join("servers/servers.json")).ok()?;
    let servers: Value = serde_json::from_slice(&servers).ok()?;
    let output = Command::new("psql").args([servers["postgres"]["url"].as_str()?, "-XAtc", query]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn applied(bench: &Bench) -> u64 {
    let offset = sql(bench, "SELECT coalesce(max(next_offset), 0) FROM realtime.sink_state");
    offset.and_then(|offset| offset.parse().ok()).unwrap_or(0)
}

fn nothing_differs(bench: &Bench, name: &str) {
    let verified = bench.json(&["connector", "verify", name, "--output", "json"]);
    assert_eq!(verified["different"], 0, "{verified}");
    assert!(verified["compared"].as_u64() > Some(100), "{verified}");
}

#[test]
fn one_by_itself_writes_the_same_numbers_though_it_and_the_host_are_killed() {
    let bench = bench();
    let file = aside(&bench, "warehouse", "postgres", "max_bytes: 65536, linger_ms: 0");
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let own = bench.start("own", &["connector", "run", &file]);
    let rows = bench.generate(60_000, 5, 3);
    let produce = bench.start("produce", &["produce", rows.to_str().unwrap(), "--rate", "15000"]);
    eventually("it has begun", Duration::from_secs(60), || applied(&bench) > 0);
    own.kill();
    let mut own = bench.start("own", &["connector", "run", &file]);
    let before = applied(&bench);
    eventually("it goes on", Duration::from_secs(60), || applied(&bench) > before);
    host.kill();
    let host = bench.start("host", &["run"]);
    assert_eq!(produce.wait(), Some(0), "{}", bench.log("produce"));
    bench.until_ready();
    nothing_differs(&bench, &file);
    assert!(own.is_running(), "{}", bench.log("own"));
    assert_eq!(own.terminate(), Some(0), "{}", bench.log("own"));
    let counted = bench.status()["ledger"]["counted"].as_u64().unwrap();
    assert_eq!(sql(&bench, "SELECT sum(impressions) FROM realtime.metrics_1min").unwrap(), counted.to_string());
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}

#[test]
fn what_the_host_runs_is_not_run_twice_until_it_is_stopped_there() {
    let bench = bench();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["produce", bench.generate(5_000, 5, 1).to_str().unwrap()]);
    eventually("all is counted", Duration::from_secs(30), || bench.status()["ledger"]["waiting"] == 0);
    let said = bench.fails(&["connector", "run", "connectors/cache.yaml"], 1);
    assert!(said.contains("`clickmill connector stop cache` first"), "{said}");
    bench.run(&["connector", "stop", "cache"]);
    let told = bench.json(&["connector", "run", "connectors/cache.yaml", "--until-end", "--output", "json"]);
    let sink = &told["sinks"][0];
    assert_eq!((&sink["name"], &sink["lag"], &sink["topic"]), (&"cache".into(), &0.into(), &"ctr_windows".into()));
    nothing_differs(&bench, "cache");
    std::fs::write(bench.file("bad.yaml"), "apiVersion: 0.1.0\nmeta: {name: a}\n").unwrap();
    let said = bench.fails(&["connector", "run", "bad.yaml"], 2);
    assert!(said.contains("bad.yaml:2:7: the key `type` in `meta` is missing"), "{said}");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}

#[test]
fn without_a_host_it_copies_the_files_and_goes_on_with_the_host_that_is_started() {
    let bench = bench();
    let file = aside(&bench, "warehouse", "postgres", "");
    assert!(bench.fails(&["connector", "run", &file], 2).contains("there is nothing of clickmill"));
    bench.run(&["produce", bench.generate(5_000, 5, 1).to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    bench.run(&["connector", "run", &file, "--until-end"]);
    nothing_differs(&bench, &file);
    let own = bench.start("own", &["connector", "run", &file]);
    eventually("it runs", Duration::from_secs(60), || applied(&bench) > 0);
    let before = applied(&bench);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["produce", bench.generate(7_000, 6, 1).to_str().unwrap()]);
    eventually("it has found the host", Duration::from_secs(30), || applied(&bench) > before);
    nothing_differs(&bench, &file);
    assert_eq!(own.terminate(), Some(0), "{}", bench.log("own"));
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}

/// SIGINT, and the exit code.
fn interrupt(mut running: Running) -> Option<i32> {
    assert!(Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap().success());
    running.child.wait().unwrap().code()
}

#[test]
fn a_tap_shows_what_flows_to_a_connector_from_its_own_offset_on() {
    let bench = bench();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["produce", bench.generate(5_000, 5, 1).to_str().unwrap()]);
    eventually("all is applied", Duration::from_secs(30), || {
        let status = bench.status();
        status["ledger"]["waiting"] == 0 && status["sinks"][0]["lag"] == 0
    });
    let end = bench.status()["sinks"][0]["offset"].as_u64().unwrap();
    let first = bench.run(&["connector", "tap", "cache", "--from-beginning", "--limit", "3", "--output", "json"]);
    let first: Vec<Value> = first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(first.len(), 3);
    assert_eq!((&first[0]["sink"], &first[0]["topic"]), (&"cache".into(), &"ctr_windows".into()));
    let shown = bench.file("tap.jsonl");
    let child = bench
        .command(&["connector", "tap", "cache", "--output", "json"])
        .stdout(File::create(&shown).unwrap())
        .stderr(File::create(bench.file("tap.log")).unwrap())
        .spawn()
        .unwrap();
    let tap = Running { child };
    eventually("it says where it begins", Duration::from_secs(10), || {
        bench.log("tap").contains(&format!("cache: ctr_windows/0 from offset {end} on"))
    });
    bench.run(&["produce", bench.generate(6_000, 6, 1).to_str().unwrap()]);
    let lines = || std::fs::read_to_string(&shown).unwrap();
    eventually("it shows new records", Duration::from_secs(30), || lines().lines().count() > 10);
    assert_eq!(interrupt(tap), Some(0), "{}", bench.log("tap"));
    let offset = |line: &str| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap();
    assert!(lines().lines().map(offset).all(|offset| offset >= end), "from its own offset on");
    assert!(bench.fails(&["connector", "tap", "kafka"], 2).contains("there is no connector kafka; there are: cache"));
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
    assert!(bench.fails(&["connector", "tap", "cache"], 2).contains("no host runs"));
}
