//! How `run` and `demo` end: in time whatever hangs, on every signal that asks for it, and with nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::sinks::{Sinks, balanced_ledger};
use common::{Bench, eventually};

const ROWS: u64 = 20_000;

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Processes whose working directory is in a folder: the private servers, which run in theirs.
fn processes_in(folder: &Path) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .collect()
}

fn servers(bench: &Bench) -> Vec<u32> {
    processes_in(&bench.data().join("servers/home"))
}

/// A host whose sinks have confirmed everything.
fn running(bench: &Bench) -> common::Running {
    let host = bench.start("host", &["run"]);
    eventually("the sinks are up to date", Duration::from_secs(60), || {
        let status = bench.try_run(&["status", "--output", "json"]);
        let status: common::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        !sinks.is_empty() && sinks.iter().all(|sink| sink["state"] == "running" && sink["lag"] == 0)
    });
    host
}

fn metrics(bench: &Bench) -> String {
    let mut connection = std::net::TcpStream::connect(("127.0.0.1", bench.port)).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn produce_that_is_interrupted_says_how_to_go_on_and_goes_on() {
    let bench = Bench::new();
    let rows = bench.generate(ROWS, 3, 2);
    let file = rows.to_str().unwrap();
    let produce = bench.start("produce", &["produce", file, "--rate", "4000"]);
    eventually("some rows are in", Duration::from_secs(30), || {
        bench.data().join("log/ad_events_raw").exists() && bench.log("produce").is_empty()
    });
    std::thread::sleep(Duration::from_millis(500));
    signal("-INT", produce.child.id());
    assert_eq!(produce.wait(), Some(1), "{}", bench.log("produce"));
    assert!(bench.log("produce").contains("interrupted: ") && bench.log("produce").contains("--resume"));
    bench.run(&["produce", file, "--resume"]);
    let waiting = bench.status()["ledger"]["waiting"].as_u64();
    assert_eq!(waiting, Some(ROWS), "each row once");
}

#[test]
fn a_host_whose_servers_hang_stops_in_five_seconds_and_goes_on_with_the_right_counts() {
    let bench = Bench::new();
    let rows = bench.generate(ROWS, 3, 2);
    bench.run(&["produce", rows.to_str().unwrap()]);
    running(&bench).kill();
    let host = running(&bench);
    let metrics = metrics(&bench);
    for sink in ["postgres", "redis"] {
        for line in [format!("clickmill_sink_up{{sink=\"{sink}\"}} 1"), format!("lag_records{{sink=\"{sink}\"}} 0")] {
            assert!(metrics.contains(&line), "{line}: {metrics}");
        }
    }
    assert_eq!(bench.log("host").matches("runs already").count(), 2, "PostgreSQL and Redis: {}", bench.log("host"));
    let frozen = servers(&bench);
    assert!(frozen.len() > 4, "{frozen:?}");
    for pid in &frozen {
        signal("-STOP", *pid);
    }
    // Something that the sinks cannot get rid of any more.
    let more = bench.generate(ROWS, 4, 2);
    bench.run(&["produce", more.to_str().unwrap()]);
    let begun = Instant::now();
    let code = host.terminate();
    assert!(begun.elapsed() < Duration::from_secs(5), "the stop took {:?}", begun.elapsed());
    assert_eq!(code, Some(0), "{}", bench.log("host"));
    assert_eq!(servers(&bench), [] as [u32; 0]);

    bench.run(&["run", "--until-end"]);
    let ledger = balanced_ledger(&bench.status());
    assert_eq!(ledger[0], 2 * ROWS);
    let counted = Sinks::of(&bench.data()).sql("SELECT sum(impressions) FROM realtime.metrics_1min");
    assert_eq!(counted.trim(), ledger[1].to_string());
}

#[test]
fn a_hangup_ends_a_host_in_order_though_nobody_can_read_its_talk() {
    let bench = Bench::new();
    let mut command = bench.command(&["run"]);
    let mut host = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the servers run", Duration::from_secs(60), || {
        std::net::TcpStream::connect(("127.0.0.1", bench.port)).is_ok() && servers(&bench).len() > 4
    });
    // As a terminal that is closed: its end of the pipe goes, then comes the signal.
    drop(host.stderr.take());
    signal("-HUP", host.id());
    assert_eq!(host.wait().unwrap().code(), Some(0));
    assert_eq!(servers(&bench), [] as [u32; 0]);
}

#[test]
fn a_hangup_is_nothing_to_a_host_under_nohup() {
    let bench = Bench::new();
    let mut command = Command::new("nohup");
    let run = bench.command(&["run"]);
    command.arg(run.get_program()).args(run.get_args()).current_dir(bench.folder.path());
    for (key, value) in run.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let null = std::process::Stdio::null;
    let mut host = common::Running { child: command.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap() };
    eventually("the host serves", Duration::from_secs(60), || {
        std::net::TcpStream::connect(("127.0.0.1", bench.port)).is_ok()
    });
    signal("-HUP", host.child.id());
    std::thread::sleep(Duration::from_millis(500));
    assert!(host.is_running());
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn until_end_that_was_interrupted_says_so_and_fails() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::new().with_env("REDIS_URL", &format!("redis://{nobody}"));
    let rows = bench.generate(1_000, 3, 1);
    bench.run(&["produce", rows.to_str().unwrap()]);
    let host = bench.start("host", &["run", "--until-end"]);
    eventually("the host runs", Duration::from_secs(60), || bench.log("host").contains("clickmill runs"));
    assert_eq!(host.terminate(), Some(1));
    assert!(bench.log("host").contains("error: interrupted before everything was processed"), "{}", bench.log("host"));
}

fn demos(bench: &Bench) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(bench.data()).into_iter().flatten().map(|e| e.unwrap().path());
    folders.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("demo-")).collect()
}

/// Processes that have the text among their arguments.
fn processes_with(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().map(|e| e.unwrap().path().join("cmdline"));
    all.filter(|path| std::fs::read(path).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))).count()
}

#[test]
fn what_a_killed_demo_leaves_is_removed_by_the_next_one_and_what_is_kept_stays() {
    let bench = Bench::new();
    let killed = bench.start("killed", &["demo", "--rows", "20000"]);
    eventually("the demo serves", Duration::from_secs(60), || bench.log("killed").contains("in another terminal"));
    let left = demos(&bench);
    assert_eq!(left.len(), 1);
    eventually("its servers run", Duration::from_secs(60), || bench.log("killed").matches("server is up").count() == 2);
    let file = left[0].join("events.csv.gz").display().to_string();
    assert_eq!(processes_with(&file), 1, "produce");
    killed.kill();
    eventually("produce ends with its demo", Duration::from_secs(5), || processes_with(&file) == 0);
    assert!(processes_in(&left[0]).len() > 4);

    // The port is taken meanwhile, which is nothing to a demo that nobody watches.
    let taken = std::net::TcpListener::bind(("127.0.0.1", bench.port)).unwrap();
    let output = bench.try_run(&["demo", "--exit", "--keep", "--rows", "1000"]);
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{talk}");
    assert_eq!(talk.matches("removed what a killed demo left").count(), 1, "{talk}");
    assert_eq!(processes_in(&left[0]), [] as [u32; 0]);
    let kept = demos(&bench);
    assert!(kept.len() == 1 && kept != left, "{kept:?}");

    // The one that serves says what is wrong before it does anything, and how to mend it.
    let said = bench.fails(&["demo"], 2);
    assert!(said.contains("in use") && said.contains("CLICKMILL_LISTEN") && !said.contains("generating"), "{said}");
    drop(taken);
    let demo = bench.start("demo", &["demo", "--rows", "1000"]);
    eventually("the demo serves", Duration::from_secs(60), || bench.log("demo").contains("in another terminal"));
    assert_eq!(demos(&bench).len(), 2);
    signal("-HUP", demo.child.id());
    assert_eq!(demo.wait(), Some(0), "{}", bench.log("demo"));
    assert_eq!(demos(&bench), kept, "only the folder to keep is kept");
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let bench = Bench::new();
    let demo = bench.start("demo", &["demo", "--exit", "--rows", "1000000"]);
    eventually("the demo runs", Duration::from_secs(60), || {
        bench.log("demo").contains("running validate") && servers_of_demo(&bench) > 0
    });
    let left = demos(&bench);
    let begun = Instant::now();
    assert_eq!(demo.terminate(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "the stop took {:?}", begun.elapsed());
    assert!(bench.log("demo").contains("error: interrupted before the check"), "{}", bench.log("demo"));
    assert_eq!(demos(&bench), [] as [std::path::PathBuf; 0]);
    assert_eq!(processes_in(&left[0]), [] as [u32; 0]);
}

fn servers_of_demo(bench: &Bench) -> usize {
    demos(bench).iter().map(|demo| processes_in(demo).len()).sum()
}
