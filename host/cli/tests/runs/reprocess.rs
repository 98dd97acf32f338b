//! Judging the topic again: what comes of it is what the right rule would have given from the start.

use std::time::Duration;

use crate::common::sinks::{Sinks, balanced_ledger};
use crate::common::{Bench, POISON, Value, eventually};
use crate::{STRICT, bench, committed, lines, produce, same, same_sinks};

#[test]
fn what_is_judged_again_is_what_the_right_rule_would_have_given_in_every_reader() {
    let (again, whole) = (bench(true), bench(true));
    let host = again.start("host", &["run"]);
    again.until_ready();
    produce(&again, 0);
    committed(&again);
    again.run(&STRICT);
    produce(&again, 1);
    committed(&again);
    again.run(&["smartmodule", "rollback", "--yes"]);
    let before = again.status();
    assert!(before["ledger"]["rejected"].as_u64().unwrap() > 11_000, "{before}");

    // Records come in meanwhile.
    let file = lines(&again, 2);
    let producing = again.start("produce", &["produce", file.to_str().unwrap()]);
    let done = again.json(&["reprocess", "--from", "0", "--message", "without the bad rule", "--output", "json"]);
    assert_eq!(done["state"], "switched", "{done}\n{}", again.log("host"));
    assert_eq!(producing.wait(), Some(0));
    committed(&again);
    (0..3).for_each(|n| produce(&whole, n));
    whole.run(&["run", "--until-end"]);
    same(&again, &whole, "while the host runs");
    assert_ne!(again.status()["run"], before["run"]);
    let history = again.json(&["smartmodule", "history", "--output", "json"]);
    assert_eq!((&history[0]["cause"]["kind"], &history[1]["cause"]["kind"]), (&"switch".into(), &"reprocess".into()));
    // The rule that was undone before it stays undone, and one that changes after it is the new run's.
    bench_has_nothing_to_roll_back(&again);
    again.run(&STRICT);
    again.run(&["smartmodule", "rollback", "--yes"]);
    let blamed: Value = again.json(&["blame", "ad_events_raw/0@4200", "--output", "json"]);
    assert_eq!((&blamed["fate"], &blamed["deployment"]), (&"counted".into(), &history[1]["deployment"]), "{blamed}");

    assert_eq!(host.terminate(), Some(0), "{}", again.log("host"));
    again.run(&["run", "--until-end"]);
    same(&again, &whole, "after a restart");
    same_sinks(&again, &whole, "after a restart");
    let runs = Sinks::of(&again.data()).sql("SELECT count(*) FROM realtime.runs WHERE is_current");
    assert_eq!(runs.trim(), "1");
    // Once more, from a place in the middle, with the same rule: nothing changes.
    let host = again.start("host", &["run"]);
    again.until_ready();
    let done = again.json(&["reprocess", "--from", "2014-10-21T00:10:00Z", "--output", "json"]);
    assert_eq!(done["state"], "switched", "{done}\n{}", again.log("host"));
    assert!(done["partitions"][0]["from"].as_u64().unwrap() > 1_000, "{done}");
    assert_eq!(host.terminate(), Some(0), "{}", again.log("host"));
    again.run(&["run", "--until-end"]);
    same(&again, &whole, "again");
    same_sinks(&again, &whole, "again");
    // And with a rule that lets nothing pass: what the run before had is nowhere any more.
    let host = again.start("host", &["run"]);
    again.until_ready();
    again.run(&["reprocess", "--from", "0", "--stage", "validate", "--param", "date_to=2014-10-20"]);
    assert_eq!(host.terminate(), Some(0), "{}", again.log("host"));
    again.run(&["run", "--until-end"]);
    let sinks = Sinks::of(&again.data()).snapshot();
    assert_eq!(
        (sinks.one_minute.as_str(), sinks.all.as_str(), sinks.hours.as_str(), sinks.hashes.len()),
        ("", "", "", 0)
    );
}

fn bench_has_nothing_to_roll_back(bench: &Bench) {
    let said = bench.fails(&["smartmodule", "rollback", "--yes"], 2);
    assert!(said.contains("nothing"), "{said}");
}

#[test]
fn what_is_still_to_be_judged_again_is_kept_and_partitions_are_not_added() {
    let bench = bench(false);
    let settings = std::fs::read_to_string(bench.file("clickmill.yaml")).unwrap();
    let small = "broker: {segment_bytes: 1048576, maintenance_interval_ms: 100}";
    std::fs::write(bench.file("clickmill.yaml"), format!("{settings}{small}\n")).unwrap();
    // Rows that do not compress as well as those of the other tests: several segments.
    let rows = |seed| bench.generate(60_000, seed, 2).to_str().unwrap().to_owned();
    (1..3).for_each(|seed| drop(bench.run(&["produce", &rows(seed)])));
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    committed(&bench);
    let (windows, ledger) = (bench.windows("1m"), balanced_ledger(&bench.status()));
    bench.run(&["smartmodule", "pause"]);
    bench.run(&["reprocess", "--from", "0", "--detach"]);
    bench.run(&["topic", "alter", "ad_events_raw", "--retention-max-bytes", "1048576"]);
    let said = bench.fails(&["topic", "alter", "ad_events_raw", "--partitions", "5"], 1);
    assert!(said.contains("is being filled"), "{said}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
    let said = bench.fails(&["topic", "alter", "ad_events_raw", "--partitions", "5"], 2);
    assert!(said.contains("is being filled"), "{said}");
    let _host = bench.start("host", &["run"]);
    bench.until_ready();
    std::thread::sleep(Duration::from_millis(500));
    bench.run(&["smartmodule", "resume"]);
    eventually("it has switched", Duration::from_secs(20), || {
        bench.json(&["smartmodule", "history", "--output", "json"])[0]["cause"]["kind"] == "switch"
    });
    assert_eq!((bench.windows("1m"), balanced_ledger(&bench.status())), (windows, ledger));
    // Once checkpoints have moved on it goes, and cannot be judged again.
    for seed in 3..6 {
        bench.run(&["produce", &rows(seed)]);
        committed(&bench);
    }
    eventually("retention takes it", Duration::from_secs(20), || {
        bench.status()["partitions"][0]["log_start_offset"].as_u64() > Some(0)
    });
    let said = bench.fails(&["reprocess", "--from", "0"], 1);
    assert!(said.contains("retention"), "{said}");
}

#[test]
fn a_host_that_is_killed_while_a_run_fills_goes_on_with_it() {
    let (again, whole) = (bench(false), bench(false));
    for bench in [&again, &whole] {
        let module = bench.wat("traps.wasm", POISON);
        bench.run(&["run", "--until-end"]);
        bench.run(&["smartmodule", "deploy", &module, "--stage", "traps", "--before", "validate", "--yes"]);
    }
    (0..3).for_each(|n| produce(&whole, n));
    whole.run(&["run", "--until-end"]);
    let mut host = again.start("host", &["run"]);
    again.until_ready();
    produce(&again, 0);
    committed(&again);
    again.run(&STRICT);
    (1..3).for_each(|n| produce(&again, n));
    committed(&again);
    again.run(&["smartmodule", "rollback", "--yes"]);
    for round in 0..3 {
        // Below it the first rule judged, and records that the module failed on are among those.
        again.run(&["reprocess", "--from", "3900", "--detach"]);
        for wait_ms in [0, 20, 60, 120, 200, 300] {
            std::thread::sleep(Duration::from_millis(wait_ms));
            host.kill();
            host = again.start("host", &["run"]);
            again.until_ready();
        }
        eventually("it has switched", Duration::from_secs(30), || {
            again.json(&["smartmodule", "history", "--output", "json"])[0]["cause"]["kind"] == "switch"
        });
        host.kill();
        again.run(&["run", "--until-end"]);
        same(&again, &whole, &format!("round {round}"));
        host = again.start("host", &["run"]);
        again.until_ready();
    }
    let folders = std::fs::read_dir(again.data().join("checkpoints")).unwrap().count();
    assert_eq!(folders, 1, "only the checkpoints of the run that readers take are kept");
}

#[test]
fn what_cannot_be_judged_again_is_said_and_changes_nothing() {
    let bench = bench(false);
    produce(&bench, 0);
    let said = bench.fails(&["reprocess", "--from", "0"], 2);
    assert!(said.contains("needs a running host"), "{said}");
    let said = bench.fails(&["reprocess", "--from", "yesterday"], 2);
    assert!(said.contains("offset"), "{said}");
    let _host = bench.start("host", &["run"]);
    bench.until_ready();
    committed(&bench);
    let (windows, run) = (bench.windows("1m"), bench.status()["run"].clone());
    bench.fails(&["reprocess", "status"], 2);
    bench.fails(&["reprocess", "stop"], 2);
    std::fs::write(bench.file("bad.wasm"), b"\0asm").unwrap();
    bench.fails(&["reprocess", "--from", "0", "--with", "bad.wasm", "--stage", "validate"], 1);
    bench.fails(&["reprocess", "--from", "0", "--param", "a=b"], 2);
    // One that is being filled can be ended, and nobody deploys beside it.
    bench.run(&["smartmodule", "pause"]);
    bench.run(&["reprocess", "--from", "0", "--stage", "validate", "--param", "date_to=2014-10-20", "--detach"]);
    let said = bench.fails(&["reprocess", "--from", "0"], 1);
    assert!(said.contains("is being filled"), "{said}");
    let said = bench.fails(&STRICT, 1);
    assert!(said.contains("reprocess stop"), "{said}");
    bench.run(&["reprocess", "stop"]);
    bench.run(&["smartmodule", "resume"]);
    assert_eq!((bench.windows("1m"), &bench.status()["run"]), (windows, &run));
    bench.run(&STRICT);
    assert_eq!(bench.json(&["smartmodule", "list", "--output", "json"])[0]["deployment"], 2);
    // A pause holds a run that is being filled too, and lets it go on.
    bench.run(&["smartmodule", "pause"]);
    bench.run(&["reprocess", "--from", "0", "--stage", "validate", "--param", "date_to=2014-10-30", "--detach"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.json(&["reprocess", "status", "--output", "json"])["state"], "catching_up");
    bench.run(&["smartmodule", "resume"]);
    eventually("it has switched", Duration::from_secs(10), || {
        bench.json(&["reprocess", "status", "--output", "json"])["state"] == "switched"
    });
}

#[test]
fn a_run_in_which_a_module_fails_on_every_record_is_given_up() {
    let bench = bench(false);
    // Further back than the canary looks.
    let poison: String = (0..600).map(|i| format!("{{\"poison\":\"TRAP {i}\"}}\n")).collect();
    std::fs::write(bench.file("poison.jsonl"), poison).unwrap();
    bench.run(&["produce", "poison.jsonl"]);
    produce(&bench, 0);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    committed(&bench);
    let before = (bench.windows("1m"), balanced_ledger(&bench.status()));
    let module = bench.wat("traps.wasm", POISON);
    let with = ["reprocess", "--from", "0", "--with", &module, "--stage", "traps", "--before", "validate"];
    let said = bench.fails(&with, 1);
    assert!(said.contains("stage traps fails on every record"), "{said}");
    bench.run(&["reprocess", "stop"]);
    assert_eq!((bench.windows("1m"), balanced_ledger(&bench.status())), before);
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}

#[test]
fn a_generation_that_begins_where_the_run_begins_to_differ_is_taken_over() {
    let bench = bench(false);
    produce(&bench, 0);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    committed(&bench);
    let fewer =
        ["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--reset-state", "--yes"];
    bench.run(&fewer);
    let before = (bench.windows("1m"), balanced_ledger(&bench.status()));
    bench.run(&["reprocess", "--from", "100000000"]);
    assert_eq!((bench.windows("1m"), balanced_ledger(&bench.status())), before);
    // Before it, only another generation can begin.
    let said = bench.fails(&["reprocess", "--from", "2000"], 1);
    assert!(said.contains("--reset-state"), "{said}");
    let totals = || bench.run(&["windows", "--size", "1m", "--dimension", "total", "--output", "csv"]);
    let whole = totals();
    for from in ["2000", "0"] {
        bench.run(&["reprocess", "--from", from, "--reset-state", "--message", "fewer dimensions"]);
        assert_eq!((totals(), balanced_ledger(&bench.status())), (whole.clone(), before.1), "from {from}");
    }
    let devices = bench.run(&["windows", "--size", "1m", "--dimension", "device_type", "--output", "csv"]);
    assert_eq!(devices.lines().count(), 1, "all was judged without that dimension: {devices}");
    produce(&bench, 1);
    committed(&bench);
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("host"));
}
