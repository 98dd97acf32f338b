//! What is found in connector files before anything runs, and what is never shown of them while it does.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use common::{Bench, Value, eventually};

fn connector(name: &str, of: &str, section: &str) -> String {
    format!(
        "apiVersion: 0.1.0\nmeta: {{name: {name}, type: {of}-sink, version: 0.1.0, topic: ctr_windows}}\n{of}: {{{section}}}\n"
    )
}

fn put(bench: &Bench, file: &str, text: &str) {
    std::fs::create_dir_all(bench.file("connectors")).unwrap();
    std::fs::write(bench.file("connectors").join(file), text).unwrap();
}

/// Takes all but the first record, and tells whoever sends something what they have sent.
async fn echo() -> std::net::SocketAddr {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let answer = |uri: Uri, headers: HeaderMap, body: String| async move {
        let told = format!("{uri} {headers:?}");
        match (REQUESTS.fetch_add(1, Ordering::Relaxed), body.contains("\"offset\":0,\"timestamp_ms\"")) {
            (0..4, _) => (StatusCode::SERVICE_UNAVAILABLE, told),
            (_, true) => (StatusCode::UNPROCESSABLE_ENTITY, told),
            (_, false) => (StatusCode::OK, told),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    address
}

#[test]
fn an_endpoint_that_sends_back_what_it_got_makes_nobody_show_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = runtime.block_on(echo());
    let bench = Bench::new().with_env("TOKEN", "v4riable-token");
    let secrets = ["v4riable-token", "l1teral-key", "pl41n-word", "bWU6cGw0MW4td29yZA==", "p4th-of-a-hook", "qu3ry"];
    let endpoint = format!("http://me:pl41n-word@{address}/p4th-of-a-hook?key=qu3ry");
    let headers = "headers: ['X-Api-Key: l1teral-key', 'X-Token: Bearer ${TOKEN}']";
    put(&bench, "hook.yaml", &connector("hook", "http", &format!("endpoint: '{endpoint}', {headers}")));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["produce", bench.generate(2_000, 5, 1).to_str().unwrap()]);
    let mut seen = Vec::new();
    let sink = |seen: &mut Vec<String>| {
        let status: Value = bench.status();
        seen.push(status.to_string());
        seen.push(bench.try_run(&["connector", "status"]).stdout.iter().map(|b| char::from(*b)).collect());
        status["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "hook").unwrap().clone()
    };
    eventually("it has everything", Duration::from_secs(60), || {
        let sink = sink(&mut seen);
        sink["lag"] == 0 && sink["skipped"] == 1
    });
    assert!(seen.iter().any(|told| told.contains("503") && told.contains("***")), "{seen:?}");
    let letters = bench.run(&["topic", "read", "ad_events_error", "--output", "json"]);
    assert!(letters.contains("422") && letters.contains("***"), "{letters}");
    seen.extend([letters, bench.run(&["dlq", "list", "--output", "json"])]);
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
    seen.push(bench.log("host"));
    for (secret, told) in secrets.iter().flat_map(|secret| seen.iter().map(move |told| (secret, told))) {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
}

#[test]
fn a_connector_that_is_asked_for_needs_nothing_of_the_others() {
    let bench = Bench::new();
    put(&bench, "cache.yaml", &connector("cache", "redis", ""));
    put(&bench, "hook.yaml", &connector("hook", "http", ""));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["produce", bench.generate(2_000, 5, 1).to_str().unwrap()]);
    let secret = connector("warehouse", "postgres", "url: 'postgres://me:${{ secrets.NOBODY_HAS }}@h/db'");
    put(&bench, "postgres.yaml", &secret.replace("topic:", "secrets: [{name: NOBODY_HAS}], topic:"));
    put(&bench, "wrong.yaml", "neither: [a connector");
    assert_eq!(bench.json(&["connector", "verify", "cache", "--output", "json"])["different"], 0);
    let tap = ["connector", "tap", "cache", "--from-beginning", "--limit", "3", "--output", "json"];
    assert_eq!(bench.run(&tap).lines().count(), 3);
    let said = bench.fails(&["connector", "tap", "hook"], 2);
    assert!(said.contains("hook is off: no endpoint: set http.endpoint"), "{said}");
    let said = bench.fails(&["connector", "verify", "warehouse"], 2);
    assert!(said.contains("postgres.yaml:3:17: there is no secret `NOBODY_HAS`"), "{said}");
    let said = bench.fails(&["connector", "verify", "kafka"], 2);
    assert!(said.contains("there is no connector kafka; there are: cache, hook, warehouse"), "{said}");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
    // A start would leave out what somebody wants to have: it says what is wrong instead.
    let said = bench.fails(&["run", "--until-end"], 2);
    assert!(said.contains("NOBODY_HAS") && said.contains("wrong.yaml"), "{said}");
}

#[test]
fn files_are_checked_together_and_against_the_servers_that_would_be_asked() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench =
        Bench::new().with_env("DATABASE_URL", &format!("postgres://me:s3cr3t@{nobody}/ads")).with_env("PW", "s3cr3t");
    put(&bench, "a.yaml", &connector("postgres", "postgres", ""));
    put(&bench, "b.yaml", &connector("postgres", "redis", ""));
    put(&bench, "c.yaml", &connector("cache", "redis", ""));
    let check = |arguments: &[&str]| bench.fails(&[&["connector", "check"], arguments].concat(), 2);
    let said = check(&["connectors/a.yaml", "connectors/b.yaml"]);
    assert!(
        said.contains("connectors/b.yaml:2:14: a connector named `postgres` is in connectors/a.yaml too"),
        "{said}"
    );
    assert!(bench.run(&["connector", "check", "connectors/a.yaml", "connectors/a.yaml"]).contains("a.yaml: ok"));
    let said = check(&["--connect", "connectors/a.yaml"]);
    assert!(said.contains("connectors/a.yaml:2:14: sinks.postgres.url of the config"), "{said}");
    assert!(said.contains(&format!("postgres://me:***@{nobody}/ads: connect")) && !said.contains("s3cr3t"), "{said}");
    let ok = bench.run(&["connector", "check", "--connect", "connectors/c.yaml"]);
    assert_eq!(ok, "connectors/c.yaml: ok (redis-sink cache, a private server, not asked)\n");
    let named = connector("cache", "redis", &format!("url: redis://{nobody}"));
    put(&bench, "c.yaml", &named);
    let said = check(&["--connect", "connectors/c.yaml"]);
    assert!(said.contains("connectors/c.yaml:3:14: redis://127.0.0.1"), "{said}");
    let uses = connector("hook", "http", "").replace("http:", "transforms: [{uses: '${{ secrets.PW }}'}]\nhttp:");
    put(&bench, "d.yaml", &uses.replace("topic: ctr_windows", "secrets: [{name: PW}], topic: ad_events_raw"));
    let said = check(&["connectors/d.yaml"]);
    assert!(said.contains("d.yaml:3:21: a secret has no place here") && !said.contains("s3cr3t"), "{said}");
}

#[test]
fn a_redis_that_has_lost_windows_is_not_the_same() {
    let bench = Bench::new();
    put(&bench, "cache.yaml", &connector("cache", "redis", ""));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.run(&["produce", bench.generate(2_000, 5, 1).to_str().unwrap()]);
    assert!(bench.run(&["connector", "verify", "cache"]).ends_with(", 0 differ\n"));
    bench.run(&["connector", "stop", "cache"]);
    let record: Value =
        serde_json::from_slice(&std::fs::read(bench.data().join("servers/servers.json")).unwrap()).unwrap();
    let (port, password) =
        (record["redis"]["port"].to_string(), record["redis"]["password"].as_str().unwrap().to_owned());
    let redis = |arguments: &[&str]| {
        let asked = std::process::Command::new("redis-cli")
            .args(["-p", &port, "--no-auth-warning", "-a", &password])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(asked.stdout).unwrap()
    };
    let verify = || {
        let verified = bench.try_run(&["connector", "verify", "cache", "--timeout", "0"]);
        (verified.status.code(), String::from_utf8(verified.stdout).unwrap())
    };
    assert_eq!(verify().0, Some(0));
    let keys = redis(&["KEYS", "metrics:1min:*"]);
    // What expires takes its version with it, and is no difference.
    let gone = keys.lines().next().unwrap();
    assert_eq!(redis(&["DEL", gone, &format!("clickmill:version:{{{gone}}}")]).trim(), "2");
    assert_eq!(verify().0, Some(0));
    redis(&["DEL", keys.lines().nth(1).unwrap()]);
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("the server nothing"), "{told}");
    redis(&["FLUSHALL"]);
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("`clickmill connector rebuild cache`"), "{told}");
    bench.run(&["connector", "start", "cache"]);
    bench.run(&["connector", "rebuild", "cache"]);
    assert!(bench.run(&["connector", "verify", "cache"]).ends_with(", 0 differ\n"));
    bench.run(&["connector", "stop", "cache"]);
    // Everything has expired, and the newest windows are not final.
    for key in redis(&["KEYS", "*metrics:*"]).lines() {
        redis(&["DEL", key]);
    }
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("windows are open, and the server holds none of them any more"), "{told}");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}
