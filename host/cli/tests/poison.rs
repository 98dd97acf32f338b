//! A module that fails on some records, in a real host: those become dead letters, all others count exactly, and no
//! crash changes what has been decided.
//!
//! The program carries its modules, so the one under test is a copy of it with another module in the place of `enrich`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clickmill_broker::partitioner::partition_for;
use common::sinks::balanced_ledger;
use common::{Bench, DAY, POISON, Running, Value, event, eventually};

/// The module, made as long as `len` by a section that means nothing.
fn padded(len: usize) -> Vec<u8> {
    let mut wasm = wat::parse_str(POISON).unwrap();
    let size = len - wasm.len() - 6;
    wasm.push(0);
    wasm.extend((0..5).map(|i| (size >> (7 * i)) as u8 & 0x7f | if i < 4 { 0x80 } else { 0 }));
    wasm.extend(b"\x03pad");
    wasm.resize(len, 0);
    wasm
}

/// A copy of the program with the module in the place of `enrich`.
fn poisoned(folder: &Path) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/smartmodules/enrich.wasm");
    let enrich = std::fs::read(built).unwrap();
    let mut program = std::fs::read(env!("CARGO_BIN_EXE_clickmill")).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&program, &enrich).collect();
    assert_eq!(places.len(), 1, "the program carries the module once");
    program[places[0]..][..enrich.len()].copy_from_slice(&padded(enrich.len()));
    let path = folder.join("clickmill-poisoned");
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o755).open(&path).unwrap();
    std::io::Write::write_all(&mut file, &program).unwrap();
    path
}

fn bench(program: &Path, settings: &str) -> Bench {
    let bench = Bench::new().with_program(program);
    let config = format!(
        "sinks: {{postgres: {{enabled: false}}, redis: {{enabled: false}}, parquet: {{enabled: false}}}}\n{settings}\n"
    );
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

fn with_domain(id: &str, ts: i64, domain: &str) -> Value {
    let mut event = event(id, ts);
    event["site_domain"] = domain.into();
    event
}

/// Rule of each dead letter by its origin; none is there twice.
fn rules(bench: &Bench) -> BTreeMap<(u64, u64), (String, String)> {
    let mut rules = BTreeMap::new();
    for letter in bench.dead_letters() {
        let origin = |field: &str| letter["origin"][field].as_u64().unwrap();
        let text = |field: &str| letter[field].as_str().unwrap().to_owned();
        let at = (origin("partition"), origin("offset"));
        let twice = rules.insert(at, (text("rule"), text("raw_payload")));
        assert_eq!(twice, None, "{at:?} has two dead letters");
    }
    rules
}

#[test]
fn poison_is_isolated_whatever_kills_the_host_and_everything_else_counts() {
    const ROWS: usize = 40_000;
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let program = poisoned(folder.path());
    let settings = "engine: {call_time_limit_ms: 200}\npipeline: {commit_interval_ms: 100}";
    let (undisturbed, killed) = (bench(&program, settings), bench(&program, settings));
    let domain = |i: usize| match i {
        7_000 | 19_500 | 33_333 => "xLOOPx",
        _ if i % 4_001 == 4_000 => "xTRAPx",
        _ => "fine",
    };
    let (mut poison, mut lines) = (0, String::new());
    for i in 0..ROWS {
        poison += usize::from(domain(i) != "fine");
        lines.push_str(&format!("{}\n", with_domain(&format!("e{i}"), DAY + i as i64 * 50, domain(i))));
        if i % 1_000 == 0 {
            lines.push_str("not JSON\n");
        }
    }
    assert_eq!(poison, 12);
    let rejected = ROWS / 1_000;
    for bench in [&undisturbed, &killed] {
        let file = bench.file("events.jsonl");
        std::fs::write(&file, &lines).unwrap();
        bench.run(&["produce", file.to_str().unwrap()]);
    }
    undisturbed.run(&["run", "--until-end"]);

    let mut unfinished = 0;
    for kill in 0..8 {
        let host = killed.start("host", &["run"]);
        std::thread::sleep(Duration::from_millis(150 + 50 * kill));
        host.kill();
        unfinished += u64::from(killed.status()["ledger"]["waiting"] != 0);
    }
    eprintln!("kills that left something to do: {unfinished} of 8");
    assert!(unfinished >= 3, "the kills came too late to disturb anything: {unfinished}");
    killed.run(&["run", "--until-end"]);

    let [rows, poison, rejected] = [ROWS, poison, rejected].map(|n| n as u64);
    let expected = [rows + rejected, rows - poison, rejected + poison, 0, 0];
    for bench in [&undisturbed, &killed] {
        let status = bench.status();
        assert_eq!(balanced_ledger(&status), expected, "{}", bench.log("host"));
        let by_rule = &status["ledger"]["rejected_by_rule"];
        assert_eq!((&by_rule["smartmodule"], &by_rule["json"]), (&poison.into(), &rejected.into()));
    }
    for size in ["1m", "5m"] {
        assert!(undisturbed.windows(size) == killed.windows(size), "windows of {size} differ");
    }
    let letters = rules(&killed);
    assert_eq!(letters.len() as u64, poison + rejected);
    assert_eq!(letters, rules(&undisturbed));
    for (rule, payload) in letters.values() {
        let poisonous = payload.contains("xTRAPx") || payload.contains("xLOOPx");
        assert_eq!(rule, if poisonous { "smartmodule" } else { "json" });
    }
}

/// Ids that go to this partition of two.
fn ids(partition: u32) -> impl Iterator<Item = String> {
    (0..).map(|i| format!("id-{i}")).filter(move |id| partition_for(id.as_bytes(), 2).0 == partition)
}

const MINUTE: i64 = 60_000;

/// A host whose partition 1 has had events up to minute 10 and then none, until its watermark was moved past minute 20
/// by those of partition 0; and the final windows before minute 15. The host has been killed.
fn with_a_partition_moved_while_idle(program: &Path) -> (Bench, Vec<String>) {
    let settings = "broker: {topics: {ad_events_raw: {partitions: 2}}}\n\
        pipeline: {commit_interval_ms: 10, idle_partition_after_ms: 300}";
    let bench = bench(program, settings);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    // Minute by minute, so that there is more than one checkpoint; in the end so much that no older one is replayed
    // within a commit interval.
    let (mut zero, mut one) = (ids(0), ids(1));
    let mut sent = 0;
    for minute in 0..=10 {
        let ts = DAY + minute * MINUTE;
        let events = if minute < 8 { 3 } else { 10_000 };
        let mut lines = format!("{}\n", event(&zero.next().unwrap(), ts));
        one.by_ref().take(events).for_each(|id| lines.push_str(&format!("{}\n", event(&id, ts))));
        bench.post(&lines);
        sent += events;
        let processed = || bench.status()["partitions"][1]["processed_offset"] == sent;
        eventually("a commit", Duration::from_secs(10), processed);
    }
    let (begun, mut ts) = (Instant::now(), DAY + 10 * MINUTE);
    while bench.status()["partitions"][1]["watermark_ms"].as_i64().unwrap() < DAY + 20 * MINUTE {
        assert!(begun.elapsed() < Duration::from_secs(30), "partition 1 is not moved: {}", bench.status());
        ts += 30_000;
        bench.post(&event(&zero.next().unwrap(), ts).to_string());
    }
    host.kill();
    let windows = old_windows(&bench);
    assert!(windows.len() > 10 && windows.iter().all(|row| row.ends_with(",true")), "{windows:?}");
    (bench, windows)
}

/// Rows of windows that begin before minute 15.
fn old_windows(bench: &Bench) -> Vec<String> {
    let windows = bench.windows("1m");
    windows
        .lines()
        .skip(1)
        .filter(|row| row.split(',').nth(1).unwrap() < "2014-10-21T00:15")
        .map(str::to_owned)
        .collect()
}

/// Seven events of long ago and one that the module fails on, in one batch of partition 1: the seven are late.
fn assert_old_events_are_late(bench: &Bench, host: Running, windows: &[String]) {
    bench.until_ready();
    let mut lines: Vec<String> =
        ids(1).skip(40_000).take(7).map(|id| event(&id, DAY + 2 * MINUTE).to_string()).collect();
    lines.insert(4, with_domain(&ids(1).nth(50_000).unwrap(), DAY + 2 * MINUTE, "xTRAPx").to_string());
    bench.post(&lines.join("\n"));
    eventually("all are judged", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    let status = bench.status();
    assert_eq!((&status["ledger"]["late"], &status["ledger"]["rejected"]), (&7.into(), &1.into()), "{status}");
    balanced_ledger(&status);
    assert_eq!(host.terminate(), Some(0));
    assert_eq!(old_windows(bench), windows);
}

#[test]
fn a_fault_in_the_first_batch_after_a_kill_does_not_undo_an_idle_partitions_advance() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (bench, windows) = with_a_partition_moved_while_idle(&poisoned(folder.path()));
    let host = bench.start("host", &["run"]);
    assert_old_events_are_late(&bench, host, &windows);
}

#[test]
fn a_fallback_to_an_older_checkpoint_does_not_skip_an_idle_partitions_advance() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (bench, windows) = with_a_partition_moved_while_idle(&poisoned(folder.path()));
    let mut checkpoints: Vec<PathBuf> = std::fs::read_dir(bench.data().join("checkpoints/ad_events_raw/1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "ckpt"))
        .collect();
    checkpoints.sort();
    assert_eq!(checkpoints.len(), 3);
    for newer in &checkpoints[1..] {
        let mut bytes = std::fs::read(newer).unwrap();
        *bytes.last_mut().unwrap() ^= 0x40;
        std::fs::write(newer, bytes).unwrap();
    }
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    // Long enough for what it replayed to be committed.
    std::thread::sleep(Duration::from_millis(500));
    host.kill();
    assert!(bench.log("host").contains("checkpoint passed over"));
    assert_eq!(old_windows(&bench), windows);
    let host = bench.start("host", &["run"]);
    assert_old_events_are_late(&bench, host, &windows);
}
