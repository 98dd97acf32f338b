//! Tried before it is for all: on one partition, in the shadow.

use std::time::Duration;

use crate::common::eventually;
use crate::{ENDLESS, activations, bench, events, fates, ledger, produce, variant};

#[test]
fn a_rollout_to_one_partition_is_promoted_to_all_and_a_pause_outlives_the_host() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let file = variant(&bench, "validate", "canary");
    let file = file.to_str().unwrap();
    let staged = bench.json(&[
        "smartmodule",
        "deploy",
        file,
        "--stage",
        "validate",
        "--partition",
        "1",
        "--yes",
        "--output",
        "json",
    ]);
    assert_eq!(staged["activations"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1"]);
    let other =
        bench.fails(&["smartmodule", "deploy", "--stage", "validate", "--param", "date_to=2030-01-01", "--yes"], 1);
    assert!(other.contains("--promote 1"), "{other}");
    bench.run(&["smartmodule", "deploy", "--promote", "1", "--yes"]);
    assert_eq!(activations(&bench, "validate").len(), 3);

    bench.run(&["smartmodule", "pause", "--message", "looking at it"]);
    bench.run(&["produce", produce(&bench, 1_000).to_str().unwrap()]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.status()["ledger"]["waiting"], 1_000);
    host.kill();
    assert!(bench.fails(&["run", "--until-end"], 2).contains("looking at it"));
    let host = bench.start("run", &["run"]);
    eventually("the host answers", Duration::from_secs(20), || bench.try_run(&["status"]).status.success());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.status()["ledger"]["waiting"], 1_000);
    bench.run(&["smartmodule", "resume"]);
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_stage_that_is_added_to_one_partition_is_listed_and_a_rollback_plans_what_it_takes_back() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.run(&["produce", produce(&bench, 3_000).to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    let guard = variant(&bench, "validate", "guard");
    let deploy = ["smartmodule", "deploy", guard.to_str().unwrap(), "--stage", "guard", "--after", "validate"];
    bench.run(&[&deploy[..], &["--param", "max_string_bytes=12", "--partition", "1", "--yes"]].concat());
    let list = bench.json(&["smartmodule", "list", "--output", "json"]);
    let stages: Vec<&str> = list.as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["validate", "guard", "enrich", "ctr-window"]);
    assert_eq!(activations(&bench, "guard").keys().collect::<Vec<_>>(), [&1]);
    assert!(bench.run(&["smartmodule", "show", "guard"]).contains("max_string_bytes"));
    bench.run(&["smartmodule", "deploy", "--promote", "1", "--yes"]);
    assert_eq!(activations(&bench, "guard").len(), 3);
    let plan = bench.try_run(&["smartmodule", "rollback", "--plan"]);
    assert_eq!(plan.status.code(), Some(3));
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("stage guard: removed") && plan.contains("1,500 verdicts would flip"), "{plan}");
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn what_is_listed_of_a_rollout_that_was_taken_back_is_what_blame_says() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let mut sent = 0;
    let mut send = || {
        sent += 1;
        let file = bench.file(&format!("events-{sent}.jsonl"));
        std::fs::write(&file, events(1_000)).unwrap();
        bench.run(&["produce", "--again", file.to_str().unwrap()]);
        eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    };
    send();
    let rule = ["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=1000", "--partition", "0"];
    bench.run(&[&rule[..], &["--yes"]].concat());
    send();
    let refused = bench.fails(&["reprocess", "--from", "0"], 1);
    assert!(refused.contains("promote it"), "{refused}");
    bench.run(&["smartmodule", "rollback", "--yes"]);
    send();
    let fewer = ["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--reset-state"];
    bench.run(&[&fewer[..], &["--partition", "0", "--yes"]].concat());
    send();
    bench.run(&["smartmodule", "deploy", "--promote", "3", "--reset-state", "--yes"]);
    send();
    for (stage, deployment, at) in [("validate", 2, 0), ("enrich", 0, 1), ("ctr-window", 3, 2)] {
        let list = bench.json(&["smartmodule", "list", "--output", "json"]);
        let listed = list.as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap();
        assert_eq!(listed["deployment"], deployment, "{listed}");
        for (partition, from) in activations(&bench, stage) {
            for (offset, fate) in (0..).zip(fates(&bench, partition)) {
                let judged = &fate["stages"][at];
                let as_listed = judged["deployment"] == listed["deployment"] && judged["sha256"] == listed["sha256"];
                assert_eq!(as_listed, offset >= from, "{partition}@{offset}, listed from {from}: {judged}");
            }
        }
    }
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_shadow_of_a_module_that_never_ends_says_so_soon() {
    let bench = bench("engine: {call_time_limit_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let endless = bench.wat("endless.wasm", ENDLESS);
    bench.run(&["shadow", "start", &endless, "--stage", "endless", "--before", "validate"]);
    bench.run(&["produce", produce(&bench, 2_000).to_str().unwrap()]);
    let report = || bench.json(&["shadow", "report", "--output", "json"]);
    eventually("it has failed once", Duration::from_secs(10), || report()["failures"].as_u64() >= Some(1));
    assert!(report()["records"].as_u64() < Some(100), "told before it had seen many: {}", report());
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_shadow_reports_what_would_flip_and_is_promoted_on_a_condition() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.fails(&["shadow", "report"], 2);
    bench.run(&["shadow", "start", "--stage", "validate", "--param", "max_string_bytes=12"]);
    assert!(bench.fails(&["shadow", "start", "--stage", "validate"], 1).contains("running already"));
    bench.run(&["produce", produce(&bench, 10_000).to_str().unwrap()]);
    let report = || bench.json(&["shadow", "report", "--output", "json"]);
    eventually("the shadow has seen all", Duration::from_secs(30), || report()["records"] == 10_000);
    let seen = report();
    assert_eq!((&seen["flips"], &seen["skipped"], &seen["failures"]), (&5_000.into(), &0.into(), &0.into()));
    let cells = seen["cells"].as_array().unwrap();
    let flipped = cells.iter().find(|c| c["new"] == "rejected:string_too_long").unwrap();
    assert_eq!((&flipped["old"], &flipped["records"]), (&"passed".into(), &5_000.into()));
    assert!(flipped["samples"][0]["message"].as_str().unwrap().contains("site_domain"));
    assert!(seen["fuel_per_record_new"].as_u64() > Some(100));
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(ledger(&bench)["rejected"], 0, "its output is thrown away");
    let refused = bench.fails(&["shadow", "promote", "--if", "flips<0.1%"], 1);
    assert!(refused.contains("it is 50%, of 10000 records"), "{refused}");
    bench.fails(&["shadow", "promote", "--if", "flips!"], 2);
    bench.run(&["shadow", "promote", "--if", "flips<=5000, failures=0"]);
    bench.fails(&["shadow", "report"], 2);
    assert_eq!(activations(&bench, "validate").len(), 3);
    assert_eq!(host.terminate(), Some(0));
}
