//! `topic create|alter|delete`: the same words and exit codes with a running host and without.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use common::Bench;

fn lines(bench: &Bench, topic: &str) -> usize {
    bench.run(&["topic", "read", topic, "--output", "json"]).lines().count()
}

fn topic(bench: &Bench, name: &str) -> Option<common::Value> {
    let topics = bench.json(&["topic", "list", "--output", "json"]);
    topics.as_array().unwrap().iter().find(|t| t["topic"] == name).cloned()
}

fn verbs(bench: &Bench) {
    let made = bench.json(&["topic", "create", "mine", "--partitions", "2", "--compact", "--output", "json"]);
    assert_eq!((made["partitions"].as_array().unwrap().len(), &made["compacted"]), (2, &true.into()));
    let said = bench.fails(&["topic", "create", "mine", "--partitions", "2"], 1);
    assert!(said.contains("exists already"), "{said}");

    let said = bench.run(&[
        "topic",
        "alter",
        "mine",
        "--partitions",
        "3",
        "--retention-max-age-hours",
        "5",
        "--retention-max-bytes",
        "7000",
    ]);
    assert_eq!(said, "topic mine: 3 partitions, keeps newest of each key, up to 5 hours or 7,000 bytes\n");
    bench.run(&["topic", "alter", "mine", "--retention-max-bytes", "none"]);
    let altered = topic(bench, "mine").unwrap();
    assert_eq!((altered["retention_max_age_hours"].as_u64(), altered["retention_max_bytes"].as_u64()), (Some(5), None));
    assert_eq!(altered["partitions"].as_array().unwrap().len(), 3);

    for (args, needle) in [
        (&["create", "ad_events_raw", "--partitions", "2"][..], "clickmill's own"),
        (&["create", "a/b", "--partitions", "2"], "ASCII letters"),
        (&["create", "many", "--partitions", "257"], "1 to 256"),
        (&["alter", "mine", "--partitions", "2"], "never taken away"),
        (&["alter", "ad_events_raw", "--partitions", "1"], "never taken away"),
        (&["alter", "nobodys", "--partitions", "2"], "does not exist"),
        (&["alter", "ctr_windows", "--partitions", "2"], "clickmill's own"),
        (&["alter", "deployments", "--retention-max-bytes", "1"], "clickmill's own"),
        (&["alter", "mine"], "--partitions"),
        (&["alter", "mine", "--retention-max-bytes", "lots"], "`none`"),
        (&["delete", "ad_events_error", "--yes"], "clickmill's own"),
        (&["delete", "nobodys", "--yes"], "does not exist"),
        (&["delete", "mine"], "--yes"),
    ] {
        let said = bench.fails(&[&["topic"], args].concat(), 2);
        assert!(said.contains(needle), "{args:?}: {said}");
    }
    assert_eq!(topic(bench, "mine").unwrap(), altered);
    assert_eq!(bench.run(&["topic", "delete", "mine", "--yes"]), "topic mine is deleted\n");
    assert_eq!(topic(bench, "mine"), None);
}

#[test]
fn topics_are_made_changed_and_deleted_with_a_host_and_without() {
    let bench = Bench::new();
    std::fs::write(
        bench.file("clickmill.yaml"),
        "sinks: {postgres: {enabled: false}, redis: {enabled: false}, parquet: {enabled: false}}\n",
    )
    .unwrap();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    verbs(&bench);
    bench.run(&["topic", "create", "events", "--partitions", "2"]);
    let url = |topic: &str| format!("http://127.0.0.1:{}/api/topics/{topic}/records", bench.port);
    ureq::post(url("events")).send("one\ntwo\nthree\n").unwrap();
    assert_eq!(lines(&bench, "events"), 3);
    for own in ["ctr_windows", "ad_events_error", "deployments"] {
        assert!(ureq::post(url(own)).send("one\n").is_err(), "{own} is not for users");
    }
    bench.run(&["topic", "alter", "ad_events_raw", "--retention-max-bytes", "900000000"]);
    assert_eq!(host.terminate(), Some(0));

    verbs(&bench);
    assert_eq!(lines(&bench, "events"), 3);
    // The configuration names no limit: the one that was set stays.
    bench.run(&["run", "--until-end"]);
    assert_eq!(topic(&bench, "ad_events_raw").unwrap()["retention_max_bytes"], 900_000_000);
}
