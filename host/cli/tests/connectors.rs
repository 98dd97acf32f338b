//! Connectors by their files, in real hosts against real servers: each can be changed while the others go on.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;
#[path = "../../../connectors/tests/sinks/endpoint.rs"]
#[allow(dead_code, reason = "the sinks' own tests use the rest")]
mod endpoint;

use std::process::Command;
use std::time::Duration;

use common::sinks::Sinks;
use common::{Bench, Value, eventually};
use endpoint::{Got, Reply, Server};

fn connector(name: &str, of: &str, section: &str) -> String {
    format!(
        "apiVersion: 0.1.0\nmeta: {{name: {name}, type: {of}-sink, version: 0.1.0, topic: ctr_windows}}\n{of}: {{{section}}}\n"
    )
}

fn put(bench: &Bench, file: &str, text: &str) {
    std::fs::create_dir_all(bench.file("connectors")).unwrap();
    std::fs::write(bench.file("connectors").join(file), text).unwrap();
}

fn state(bench: &Bench, name: &str) -> String {
    let list = bench.json(&["connector", "list", "--output", "json"]);
    let one = list.as_array().unwrap().iter().find(|c| c["name"] == name);
    one.map_or_else(|| "none".to_owned(), |one| one["state"].as_str().unwrap().to_owned())
}

fn sink(bench: &Bench, name: &str) -> Value {
    bench.status()["sinks"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone()
}

fn caught_up(bench: &Bench, name: &str) {
    eventually("the sink has everything", Duration::from_secs(60), || {
        bench.status()["ledger"]["waiting"] == 0 && sink(bench, name)["lag"] == 0
    });
}

#[test]
fn a_connector_is_stopped_and_started_while_the_others_go_on() {
    let bench = Bench::new();
    assert_eq!(state(&bench, "parquet"), "none");
    std::fs::write(bench.file("clickmill.yaml"), "sinks: {parquet: {enabled: true}}\n").unwrap();
    assert_eq!((state(&bench, "postgres"), state(&bench, "redis")), ("no host runs".into(), "no host runs".into()));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    assert_eq!((state(&bench, "postgres"), state(&bench, "http")), ("running".into(), "off".into()));
    assert!(bench.run(&["connector", "status"]).contains("no endpoint: set http.endpoint"));
    assert_eq!(bench.run(&["connector", "stop", "postgres"]), "postgres is stopped\n");
    assert_eq!((state(&bench, "postgres"), state(&bench, "redis")), ("stopped by hand".into(), "running".into()));
    bench.until_ready();
    let before = sink(&bench, "postgres")["rows_written"].as_u64().unwrap();
    bench.run(&["produce", bench.generate(20_000, 5, 1).to_str().unwrap()]);
    caught_up(&bench, "redis");
    assert_eq!(sink(&bench, "postgres")["rows_written"], before);
    bench.run(&["connector", "start", "postgres"]);
    caught_up(&bench, "postgres");
    let rows = sink(&bench, "postgres")["rows_written"].as_u64().unwrap();
    assert!(rows > before);
    bench.run(&["connector", "restart", "postgres"]);
    assert_eq!(sink(&bench, "postgres")["rows_written"], rows, "what was written is counted on");
    eventually("it runs again", Duration::from_secs(10), || bench.try_run(&["connector", "status"]).status.success());
    caught_up(&bench, "parquet");
    for name in ["postgres", "redis", "parquet"] {
        let verified = bench.json(&["connector", "verify", name, "--output", "json"]);
        assert_eq!(verified["different"], 0, "{verified}");
        assert!(verified["compared"].as_u64() > Some(100), "{verified}");
    }
    bench.run(&["connector", "rebuild", "parquet"]);
    assert_eq!(bench.json(&["connector", "verify", "parquet", "--output", "json"])["different"], 0);
    let said = bench.fails(&["connector", "stop", "kafka"], 2);
    assert!(said.contains("there is no connector kafka; there are: http, parquet, postgres, redis"), "{said}");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
    let counted = bench.status()["ledger"]["counted"].as_u64().unwrap();
    let sinks = Sinks::of(&bench.data());
    assert_eq!(sinks.sql("SELECT sum(impressions) FROM realtime.metrics_1min").trim(), counted.to_string());
    // Hours that are summed keep what they were summed from.
    sinks.sql("SELECT realtime.roll_up(1000, interval '0')");
    let first = "WHERE window_start = (SELECT min(window_start) FROM realtime.window_partials) AND partition = 0";
    sinks.sql(&format!("UPDATE realtime.window_partials SET clicks[1] = 999 {first} AND dimension = 'device_type'"));
    sinks.sql(&format!(
        "DELETE FROM realtime.window_partials {first} AND dimension = 'total' AND window_size_ms = 60000"
    ));
    sinks.sql("UPDATE realtime.hourly_metrics SET clicks[1] = 7777777 WHERE dimension = 'total'");
    drop(sinks);
    // Without a host too.
    let verified = bench.try_run(&["connector", "verify", "postgres"]);
    assert_eq!(verified.status.code(), Some(1));
    let told = String::from_utf8(verified.stdout).unwrap();
    assert!(told.contains(", 4 differ") && told.contains("device_type") && told.contains("60m"), "{told}");
}

#[test]
fn a_stop_by_hand_outlives_the_host_and_a_change_of_the_file() {
    let bench = Bench::new();
    put(&bench, "redis.yaml", &connector("cache", "redis", ""));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["connector", "stop", "cache"]);
    host.kill();
    assert_eq!(state(&bench, "cache"), "stopped by hand", "no host runs");
    bench.run(&["produce", bench.generate(2_000, 5, 1).to_str().unwrap()]);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    assert_eq!(state(&bench, "cache"), "stopped by hand");
    let told = bench.run(&["connector", "status"]);
    let words: Vec<_> = told.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(words, ["cache", "stopped", "by", "hand"], "it is no failure");
    put(&bench, "redis.yaml", &connector("cache", "redis", "max_keys: 200000"));
    assert_eq!(bench.run(&["connector", "apply"]), "stays stopped: cache\n");
    assert_eq!(state(&bench, "cache"), "stopped by hand");
    bench.run(&["connector", "start", "cache"]);
    caught_up(&bench, "cache");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
    assert_eq!(state(&bench, "cache"), "no host runs");
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    assert_eq!(state(&bench, "cache"), "running");
    assert_eq!(bench.json(&["connector", "verify", "cache", "--output", "json"])["different"], 0);
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}

#[test]
fn files_are_applied_whole_or_not_at_all_and_what_is_as_before_goes_on() {
    let bench = Bench::new();
    put(&bench, "redis.yaml", &connector("cache", "redis", "max_keys: 200000"));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    assert_eq!((state(&bench, "cache"), state(&bench, "postgres")), ("running".into(), "none".into()));
    bench.run(&["produce", bench.generate(5_000, 5, 1).to_str().unwrap()]);
    caught_up(&bench, "cache");
    let written = sink(&bench, "cache")["rows_written"].clone();

    put(&bench, "postgres.yaml", &connector("warehouse", "postgres", "on_other_run: forget"));
    put(&bench, "redis.yaml", &connector("cache", "redis", "max_keys: 100000"));
    let said = bench.fails(&["connector", "apply"], 1);
    assert!(said.contains("postgres.yaml:3:26: `postgres.on_other_run` is a text"), "{said}");
    let signal = || Command::new("kill").args(["-HUP", &host.child.id().to_string()]).status().unwrap();
    assert!(signal().success());
    eventually("it says so", Duration::from_secs(10), || bench.log("host").contains("are not applied"));
    assert_eq!((state(&bench, "cache"), state(&bench, "warehouse")), ("running".into(), "none".into()));

    put(&bench, "postgres.yaml", &connector("warehouse", "postgres", "on_other_run: keep"));
    put(&bench, "redis.yaml", &connector("cache", "redis", "max_keys: 200000"));
    assert!(signal().success());
    eventually("it is applied", Duration::from_secs(60), || state(&bench, "warehouse") == "running");
    caught_up(&bench, "warehouse");
    assert_eq!(sink(&bench, "cache")["rows_written"], written, "it was not touched");
    let applied = bench.json(&["connector", "apply", "--output", "json"]);
    assert_eq!(applied["unchanged"].as_array().unwrap().len(), 2);
    std::fs::remove_file(bench.file("connectors/redis.yaml")).unwrap();
    assert_eq!(bench.run(&["connector", "apply"]), "removed: cache\nas before: warehouse\n");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));

    put(&bench, "again.yaml", &connector("warehouse", "redis", ""));
    let said = bench.fails(&["run", "--until-end"], 2);
    assert!(said.contains("a connector named `warehouse` is in"), "{said}");
}

#[test]
fn a_check_finds_everything_and_tells_no_secret() {
    let bench = Bench::new().with_env("PASSWORD", "s3cr3t-word");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let secret = format!("url: 'postgres://me:${{{{ secrets.PASSWORD }}}}@{nobody}/ads'");
    let text = connector("warehouse", "postgres", &secret).replace("topic:", "secrets: [{name: PASSWORD}], topic:");
    put(&bench, "postgres.yaml", &text);
    let file = bench.file("connectors/postgres.yaml");
    let file = file.to_str().unwrap();
    assert!(bench.run(&["connector", "check", file]).contains("ok (postgres-sink warehouse)"));
    let said = bench.fails(&["connector", "check", "--connect", file], 2);
    assert!(said.contains(&format!("postgres://me:***@{nobody}/ads: connect to PostgreSQL")), "{said}");
    assert!(!said.contains("s3cr3t"), "{said}");
    // As a port, or as a part of a message of the driver, it is not told either; nor may it name anything.
    let odd = Bench::new().with_env("PASSWORD", "1#p?s@x/Zebra");
    put(&odd, "odd.yaml", &text.replace(&nobody.to_string(), "127.0.0.1:${{ secrets.PASSWORD }}"));
    let said = odd.fails(&["connector", "check", "--connect", "connectors/odd.yaml"], 2);
    assert!(said.contains("***") && !said.contains("Zebra"), "{said}");
    put(&odd, "odd.yaml", &text.replace("name: warehouse", "name: '${{ secrets.PASSWORD }}'"));
    let said = odd.fails(&["connector", "check", "connectors/odd.yaml"], 2);
    assert!(said.contains("a secret has no place here") && !said.contains("Zebra"), "{said}");
    // Whatever is in a password, the server that is asked is the one that is named.
    put(&odd, "odd.yaml", &text);
    let said = odd.fails(&["connector", "check", "--connect", "connectors/odd.yaml"], 2);
    assert!(said.contains(&format!("postgres://me:***@{nobody}/ads: connect to PostgreSQL")), "{said}");
    assert!(Command::new("mkfifo").arg(odd.file("connectors/pipe.yaml")).status().unwrap().success());
    assert!(odd.fails(&["connector", "list"], 2).contains("pipe.yaml: is no regular file"));
    put(
        &bench,
        "bad.yaml",
        &text.replace("0.1.0", "9.0.0").replace("PASSWORD }}", "OTHER }}").replace("meta:", "mata:"),
    );
    let bad = bench.file("connectors/bad.yaml");
    let said = bench.fails(&["connector", "check", file, bad.to_str().unwrap()], 2);
    for part in ["bad.yaml:1:13: apiVersion 9.0.0 is not known", "bad.yaml:2:1: unknown key `mata`", "OTHER"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The repository's own are what the program comes with.
    for file in ["postgres-sink", "redis-sink", "parquet-sink", "http-sink"] {
        let path = format!("{}/../../connectors/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        assert!(bench.run(&["connector", "check", &path]).contains("ok"));
        if file == "http-sink" {
            assert!(bench.fails(&["connector", "run", &path], 2).contains("connector http is off: it has no endpoint"));
        }
    }
    let schema = bench.json(&["connector", "schema"]);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn files_and_an_endpoint_have_everything_although_the_host_is_killed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let slow = |_: &Got| {
        std::thread::sleep(Duration::from_millis(20));
        Reply::Status(200)
    };
    let server = runtime.block_on(Server::start(slow));
    let bench = Bench::new().with_env("TOKEN", "s3cr3t-token");
    let headers = "headers: ['Authorization: Bearer ${{ secrets.TOKEN }}', 'X-Offsets: {first_offset}-{last_offset}']";
    let hook = connector("hook", "http", &format!("endpoint: '{}', max_records: 20, {headers}", server.url));
    put(&bench, "hook.yaml", &hook.replace("topic:", "secrets: [{name: TOKEN}], topic:"));
    put(&bench, "lake.yaml", &connector("lake", "parquet", "offsets_per_file: 1000"));
    let check = ["connector", "check", "--connect", "connectors/hook.yaml", "connectors/lake.yaml"];
    assert!(bench.run(&check).contains("connectors/hook.yaml: ok (http-sink hook, http://127.0.0.1:"));
    let wrong = hook.replace("max_records: 20", "method: GET").replace("{first_offset}", "{first}");
    put(&bench, "wrong.yaml.off", &wrong);
    let said = bench.fails(&["connector", "check", "connectors/wrong.yaml.off"], 2);
    assert!(said.contains("`http.method` is a text: it must be one of POST, PUT"), "{said}");
    assert!(said.contains("`http.headers[1]` is a text: it must be `Name: value`"), "{said}");

    let host = bench.start("host", &["run"]);
    bench.until_ready();
    let before = server.got().len();
    bench.run(&["produce", bench.generate(20_000, 5, 1).to_str().unwrap()]);
    runtime.block_on(server.reach(before + 3));
    host.kill();
    assert!(runtime.block_on(async { server.accepted().len() }) < 1_000);
    bench.run(&["run", "--until-end"]);
    let read = bench.run(&["topic", "read", "ctr_windows", "--output", "json"]);
    let offset = |line: &str| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap();
    let expected: Vec<u64> = read.lines().map(offset).collect();
    let mut sent = std::collections::BTreeMap::new();
    let mut received = Vec::new();
    for got in server.got().iter().filter(|got| !got.key().is_empty()) {
        assert_eq!(got.header("authorization"), "Bearer s3cr3t-token");
        match sent.insert(got.key().to_owned(), got.text.clone()) {
            None => received.extend(got.offsets()),
            Some(text) => assert_eq!(text, got.text, "one key, one body"),
        }
    }
    assert_eq!(received, expected);
    assert!(!bench.log("host").contains("s3cr3t"), "{}", bench.log("host"));

    let verified = bench.json(&["connector", "verify", "lake", "--output", "json"]);
    assert_eq!(verified["different"], 0, "{verified}");
    assert!(verified["compared"].as_u64() > Some(100), "{verified}");
    let said = bench.fails(&["connector", "verify", "hook"], 1);
    assert!(said.contains("an HTTP endpoint cannot be asked what it holds"), "{said}");
    // A file that lacks is missed.
    let run = std::fs::read_dir(bench.data().join("processed/windows")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(std::fs::read_dir(run).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert_eq!(bench.try_run(&["connector", "verify", "lake"]).status.code(), Some(1));
}
