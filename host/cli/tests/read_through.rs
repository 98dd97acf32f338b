//! `topic read --through`: what a module makes of a topic, from a stopped data directory and from a running host.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::path::PathBuf;

use common::{Bench, DAY, POISON, Value, event};

/// Sound events, two lines that are none, and three that make the module trap.
fn lines(bench: &Bench) -> PathBuf {
    let mut text = String::new();
    for n in 0..2_500_i64 {
        match n {
            700 | 1_900 => text.push_str("not json\n"),
            10 | 11 | 2_000 => text.push_str(&format!("{{\"id\": \"TRAP{n}\"}}\n")),
            _ => text.push_str(&format!("{}\n", event(&format!("e{n}"), DAY + n))),
        }
    }
    let path = bench.file("lines.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}

/// Standard output and error.
fn read(bench: &Bench, args: &[&str]) -> (String, String) {
    let output = bench.try_run(&[&["topic", "read", "ad_events_raw"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_passes_is_what_is_there_and_everything_else_is_accounted_for() {
    let bench = Bench::new();
    std::fs::write(
        bench.file("clickmill.yaml"),
        "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n",
    )
    .unwrap();
    bench.run(&["produce", lines(&bench).to_str().unwrap()]);
    let same = bench.wat("same.wasm", &POISON.replace("array_map", "map"));
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/smartmodules/validate.wasm");

    let (plain, _) = read(&bench, &["--output", "json"]);
    let (passed, said) = read(&bench, &["--through", &same, "--output", "json"]);
    let expected: Vec<&str> = plain.lines().filter(|line| !line.contains("TRAP")).collect();
    assert_eq!(passed.lines().collect::<Vec<_>>(), expected, "a module that changes nothing changes nothing");
    assert!(said.contains("2,500 records read: 2497 passed, 0 rejected, 0 dropped, 3 failed"), "{said}");
    let failures = said.lines().filter(|line| line.contains("the module failed: ") && line.contains("unreachable"));
    assert_eq!(failures.count(), 3, "{said}");

    let (valid, said) = read(&bench, &["--through", built, "--output", "json"]);
    // Three have no more than an id.
    assert_eq!(valid.lines().count(), 2_495);
    assert!(said.contains("2,500 records read: 2495 passed, 5 rejected (") && said.contains("json 2"), "{said}");
    // Our own modules hand events on in Avro.
    let first: Value = serde_json::from_str(valid.lines().next().unwrap()).unwrap();
    assert_eq!(first["value"]["encoding"], "base64");
    let (_, some) = read(&bench, &["--through", built, "--limit", "1500"]);
    assert!(some.contains("1,500 records read: "), "{some}");

    for bad in [&["--through", "/nowhere.wasm"][..], &["--param", "a=b"], &["--through", &same, "--param", "a"]] {
        bench.fails(&[&["topic", "read", "ad_events_raw"], bad].concat(), 2);
    }
    std::fs::write(bench.file("text.wasm"), b"not a module").unwrap();
    let text = bench.file("text.wasm");
    let said = bench.fails(&["topic", "read", "ad_events_raw", "--through", text.to_str().unwrap()], 1);
    assert!(said.contains("text.wasm is refused") && said.contains("does not compile"), "{said}");

    let host = bench.start("host", &["run"]);
    bench.until_ready();
    assert_eq!(read(&bench, &["--through", &same, "--output", "json"]).0, passed);
    assert_eq!(read(&bench, &["--through", built, "--output", "json"]).0, valid);
    // Partials are decoded for people, and come as they are to a module.
    bench.run(&["topic", "read", "ctr_windows", "--through", &same, "--output", "json"]);
    assert_eq!(host.terminate(), Some(0));
}
