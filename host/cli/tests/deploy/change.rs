//! A change of the chain: from its offset on, whole or not at all, and the same in every replay.

use std::time::Duration;

use crate::common::{Bench, eventually};
use crate::{activations, bench, events, fates, ledger, produce, variant};

#[test]
fn a_rule_changed_under_load_judges_from_its_offset_on_and_a_rollback_undoes_it() {
    const ROWS: usize = 80_000;
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let file = produce(&bench, ROWS);
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    // Slow enough for what comes meanwhile, on a busy machine too; the rest is sent at once.
    let producing = bench.start("produce", &["produce", file.to_str().unwrap(), "--rate", "2000"]);
    eventually("records flow", Duration::from_secs(20), || bench.status()["ledger"]["counted"].as_u64() > Some(3_000));
    let strict = ["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=12"];
    let again = bench.try_run(&[&strict[..], &["--plan"]].concat());
    assert_eq!(again.status.code(), Some(3), "a plan that would change something");
    let plan = String::from_utf8(again.stdout).unwrap();
    assert!(plan.contains("rejected:string_too_long") && plan.contains("max_string_bytes: not set -> 12"), "{plan}");
    bench.run(&[&strict[..], &["--message", "short names", "--yes"]].concat());
    let strict_from = activations(&bench, "validate");
    assert_eq!(strict_from.len(), 3);
    let no_op = bench.run(&[&strict[..], &["--yes"]].concat());
    assert!(no_op.contains("in force already"), "{no_op}");
    std::thread::sleep(Duration::from_millis(300));
    bench.run(&["smartmodule", "rollback", "--yes"]);
    let lenient_from = activations(&bench, "validate");
    producing.kill();
    bench.run(&["produce", "--resume", file.to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);

    let mut rejected = 0;
    for (partition, from) in &strict_from {
        let fates = fates(&bench, *partition);
        let until = lenient_from[partition];
        assert!(*from < until && until < fates.len() as u64, "{from} {until} {}", fates.len());
        for (offset, fate) in (0..).zip(&fates) {
            let strict = (*from..until).contains(&offset);
            let stage = &fate["stages"][0];
            let expected = if offset < *from {
                0
            } else if strict {
                1
            } else {
                2
            };
            assert_eq!(stage["deployment"], expected, "{partition}@{offset}");
            if fate["fate"] == "rejected" {
                assert!(strict, "{partition}@{offset}: {fate}");
                assert_eq!((&stage["rule"], &stage["message"]), (&"string_too_long".into(), &"short names".into()));
                rejected += 1;
            } else {
                assert_eq!(fate["fate"], "counted");
            }
        }
    }
    let ledger_now = ledger(&bench);
    assert!(rejected > 100, "{rejected}");
    assert_eq!((ledger_now["rejected"].as_u64(), ledger_now["late"].as_u64()), (Some(rejected), Some(0)));
    assert_eq!(bench.dead_letters().len() as u64, rejected);

    // What is written down is obeyed without any checkpoint, too.
    let windows = bench.windows("1m");
    host.kill();
    std::fs::remove_dir_all(bench.data().join("checkpoints")).unwrap();
    bench.run(&["run", "--until-end"]);
    assert_eq!(bench.windows("1m"), windows);
    assert_eq!(ledger(&bench)["rejected"].as_u64(), Some(rejected));
    assert_eq!(activations(&bench, "validate"), lenient_from);
    assert_eq!(bench.dead_letters().len() as u64, rejected);
}

#[test]
fn two_hundred_changes_under_load_leave_the_windows_of_an_undisturbed_run() {
    const ROWS: usize = 400_000;
    const SWAPS: usize = 200;
    let (changed, quiet) = (bench("pipeline: {commit_interval_ms: 200}"), bench(""));
    let file = changed.generate(ROWS as u64, 11, 2);
    quiet.run(&["produce", file.to_str().unwrap()]);
    quiet.run(&["run", "--until-end"]);

    let host = changed.start("run", &["run"]);
    changed.until_ready();
    // Slow enough to last as long as the changes do.
    let mut producing = changed.start("produce", &["produce", file.to_str().unwrap(), "--rate", "2000"]);
    for n in 0..SWAPS {
        // In turn: stateless, the one with state by save and load, a stage added, and taken out again.
        let file = match n % 4 {
            0 => variant(&changed, "validate", &n.to_string()),
            1 => variant(&changed, "ctr-window", &n.to_string()),
            _ => variant(&changed, "validate", "guard"),
        };
        let file = file.to_str().unwrap();
        match n % 4 {
            0 => changed.run(&["smartmodule", "deploy", file, "--stage", "validate", "--yes"]),
            1 => changed.run(&["smartmodule", "deploy", file, "--stage", "ctr-window", "--yes"]),
            2 => changed.run(&["smartmodule", "deploy", file, "--stage", "guard", "--before", "validate", "--yes"]),
            _ => changed.run(&["smartmodule", "remove", "guard", "--yes"]),
        };
        assert!(producing.is_running() || n > SWAPS / 2, "the records have ended after {n} changes");
    }
    // It resumes where it was.
    producing.kill();
    changed.run(&["produce", "--resume", file.to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(60), || changed.status()["ledger"]["waiting"] == 0);
    for size in ["1m", "5m"] {
        assert_eq!(changed.windows(size), quiet.windows(size), "{size}");
    }
    assert_eq!(ledger(&changed), ledger(&quiet));
    let history = changed.json(&["smartmodule", "history", "--output", "json"]);
    assert_eq!(history.as_array().unwrap().len(), SWAPS + 1);
    drop(host);
}

#[test]
fn of_deploys_at_once_each_is_done_or_refused_and_none_is_half_done() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    bench.run(&["produce", produce(&bench, 10_000).to_str().unwrap()]);
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let outcomes: Vec<(Option<i32>, String)> = std::thread::scope(|scope| {
        let deploy = |n: usize| {
            let param = format!("max_string_bytes={}", 1_000 + n);
            let output = bench.try_run(&["smartmodule", "deploy", "--stage", "validate", "--param", &param, "--yes"]);
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let threads: Vec<_> = (0..6).map(|n| scope.spawn(move || deploy(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let done = outcomes.iter().filter(|(code, _)| *code == Some(0)).count();
    let busy = outcomes.iter().filter(|(code, said)| *code == Some(1) && said.contains("another deployment")).count();
    assert!(done >= 1 && done + busy == 6, "{outcomes:?}");
    let history = bench.json(&["smartmodule", "history", "--output", "json"]);
    assert_eq!(history.as_array().unwrap().len(), 1 + done);
    assert_eq!(activations(&bench, "validate").len(), 3);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn changes_at_one_offset_replay_to_the_same_with_a_generation_between_them() {
    const ROWS: usize = 20_000;
    let (changed, quiet) = (bench("pipeline: {commit_interval_ms: 100}"), bench(""));
    let lines = events(ROWS);
    let half = |bench: &Bench, n: usize| {
        let file = bench.file(&format!("half-{n}.jsonl"));
        let part: String = lines.lines().skip(n * ROWS / 2).take(ROWS / 2).map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, part).unwrap();
        bench.run(&["produce", file.to_str().unwrap()]);
    };
    half(&quiet, 0);
    half(&quiet, 1);
    quiet.run(&["run", "--until-end"]);

    let host = changed.start("run", &["run"]);
    changed.until_ready();
    half(&changed, 0);
    eventually("all is processed", Duration::from_secs(20), || changed.status()["ledger"]["waiting"] == 0);
    // The stream stands: all of these are at one offset of each partition.
    let smartmodule = |args: &[&str]| changed.run(&[&["smartmodule"], args, &["--yes"]].concat());
    smartmodule(&["deploy", "--stage", "ctr-window", "--param", "dimensions=total,device_type", "--reset-state"]);
    smartmodule(&["deploy", "--stage", "validate", "--param", "max_string_bytes=1000"]);
    let refused = changed.fails(&["smartmodule", "rollback", "--to", "0", "--yes"], 1);
    assert!(refused.contains("--reset-state"), "{refused}");
    smartmodule(&["rollback", "--to", "0", "--reset-state"]);
    smartmodule(&["deploy", "--stage", "ctr-window", "--param", "dimensions=total,banner_pos", "--reset-state"]);
    let from = activations(&changed, "ctr-window");
    host.kill();
    let host = changed.start("run", &["run"]);
    changed.until_ready();
    assert_eq!(activations(&changed, "ctr-window"), from);
    half(&changed, 1);
    eventually("all is processed", Duration::from_secs(20), || changed.status()["ledger"]["waiting"] == 0);
    host.kill();
    std::fs::remove_dir_all(changed.data().join("checkpoints")).unwrap();
    changed.run(&["run", "--until-end"]);
    let of = |bench: &Bench, dimension: &str| {
        bench.run(&["windows", "--size", "5m", "--dimension", dimension, "--output", "csv"])
    };
    for dimension in ["total", "banner_pos"] {
        assert_eq!(of(&changed, dimension), of(&quiet, dimension), "{dimension}");
    }
    assert_eq!(ledger(&changed), ledger(&quiet));
}

#[test]
fn a_deploy_to_a_stopped_directory_takes_effect_with_the_next_run() {
    let bench = bench("");
    bench.run(&["produce", produce(&bench, 2_000).to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let said = bench.run(&["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=12", "--yes"]);
    assert!(said.contains("next `clickmill run`"), "{said}");
    let more = bench.file("more.jsonl");
    std::fs::write(&more, events(2_100).lines().skip(2_000).map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    bench.run(&["produce", more.to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    assert_eq!(ledger(&bench)["rejected"], 50);
    let again = ["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=12", "--yes"];
    let said = bench.run(&again);
    assert!(said.contains("in force already") && !said.contains("no host runs"), "{said}");
    // The file has not changed since: what was deployed stays.
    bench.run(&["run", "--until-end"]);
    assert_eq!(bench.json(&["smartmodule", "history", "--output", "json"]).as_array().unwrap().len(), 2);
}
