//! A rule is changed while events flow: each record is judged by the version that is written down for its offset, by
//! one and by one only, and no crash and no number of changes makes a count wrong.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::sinks::balanced_ledger;
use common::{Bench, DAY, Value, event, eventually};

fn bench(settings: &str) -> Bench {
    let bench = Bench::new();
    let config = format!("sinks: {{postgres: {{enabled: false}}, redis: {{enabled: false}}}}\n{settings}\n");
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

/// Events whose `site_domain` is long in every other one.
fn events(n: usize) -> String {
    let mut lines = String::new();
    for i in 0..n {
        let mut event = event(&format!("e{i}"), DAY + i as i64 * 20);
        event["site_domain"] = if i % 2 == 0 { "short".into() } else { "much-longer-than-the-others".into() };
        lines.push_str(&format!("{event}\n"));
    }
    lines
}

fn produce(bench: &Bench, n: usize) -> PathBuf {
    let file = bench.file("events.jsonl");
    std::fs::write(&file, events(n)).unwrap();
    file
}

/// The ledger, which must balance.
fn ledger(bench: &Bench) -> Value {
    let status = bench.status();
    balanced_ledger(&status);
    status["ledger"].clone()
}

/// Offset from which a stage's module judges, by partition.
fn activations(bench: &Bench, stage: &str) -> BTreeMap<u64, u64> {
    let list = bench.json(&["smartmodule", "list", "--output", "json"]);
    let stage = list.as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap();
    let began = stage["activations"].as_object().unwrap();
    began.iter().map(|(partition, offset)| (partition.parse().unwrap(), offset.as_u64().unwrap())).collect()
}

/// The fates of all records of a partition, by offset.
fn fates(bench: &Bench, partition: u64) -> Vec<Value> {
    let status = bench.status();
    let end = status["partitions"][usize::try_from(partition).unwrap()]["log_end_offset"].as_u64().unwrap();
    let place = format!("ad_events_raw/{partition}@0..{end}");
    let told = bench.run(&["blame", &place, "--output", "json"]);
    let fates: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(fates.len() as u64, end);
    assert!(fates.iter().enumerate().all(|(i, f)| f["offset"] == i as u64));
    fates
}

fn built(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/smartmodules").join(format!("{module}.wasm"))
}

/// The same module under another digest: a section that means nothing is added.
fn variant(bench: &Bench, module: &str, tag: &str) -> PathBuf {
    let mut wasm = std::fs::read(built(module)).unwrap();
    wasm.extend([0, tag.len() as u8 + 2, 1, b'v']);
    wasm.extend(tag.as_bytes());
    let file = bench.file(&format!("{module}-{tag}.wasm"));
    std::fs::write(&file, wasm).unwrap();
    file
}

fn wat(bench: &Bench, name: &str, text: &str) -> String {
    let file = bench.file(name);
    std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    file.to_str().unwrap().to_owned()
}

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
fn what_is_no_fit_module_is_refused_and_nothing_changes() {
    let bench = bench("engine: {call_time_limit_ms: 100}");
    bench.run(&["produce", produce(&bench, 2_000).to_str().unwrap()]);
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    let before = bench.run(&["smartmodule", "list", "--output", "json"]);

    std::fs::write(bench.file("text.wasm"), "this is no module").unwrap();
    let whole = std::fs::read(built("validate")).unwrap();
    std::fs::write(bench.file("cut.wasm"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(bench.file("empty.wasm"), b"").unwrap();
    let (alloc, memory) =
        (r#"(func (export "alloc") (param i32) (result i32) (i32.const 1024))"#, r#"(memory (export "memory") 16)"#);
    let with = |name: &str, body: &str| wat(&bench, name, &format!("(module {memory} {alloc} {body})"));
    let map = |body: &str| format!(r#"(func (export "array_map") (param i32 i32 i32) (result i32) {body})"#);
    let importing = format!(r#"(module (import "env" "launch" (func)) {memory} {alloc} {})"#, map("(i32.const 0)"));
    let refused = [
        (bench.file("text.wasm").to_str().unwrap().to_owned(), "does not compile"),
        (bench.file("cut.wasm").to_str().unwrap().to_owned(), "does not compile"),
        (bench.file("empty.wasm").to_str().unwrap().to_owned(), "does not compile"),
        (with("bare.wasm", ""), "exports no transform"),
        (wat(&bench, "imports.wasm", &importing), "env.launch"),
        (
            with("starts.wasm", &format!("{} (func $s (loop $l (br $l))) (start $s)", map("(i32.const 0)"))),
            "time limit",
        ),
        (with("traps.wasm", &map("unreachable")), "canary failed"),
        (with("loops.wasm", &map("(loop $l (br $l)) (i32.const 0)")), "time limit"),
        (with("negative.wasm", &map("(i32.const -33)")), "cannot encode its output"),
        (with("silent.wasm", &map("(i32.const 1)")), "copy_records"),
    ];
    for (file, why) in &refused {
        let error =
            bench.fails(&["smartmodule", "deploy", file, "--stage", "extra", "--after", "validate", "--yes"], 1);
        assert!(error.contains(why), "{file}: {error}");
        bench.fails(&["smartmodule", "deploy", file, "--stage", "extra", "--after", "validate", "--plan"], 1);
    }
    let refuse = |args: &[&str], code, why: &str| {
        let error = bench.fails(&[&["smartmodule"], args].concat(), code);
        assert!(error.contains(why), "{args:?}: {error}");
    };
    let wrong = ["deploy", "--stage", "validate", "--param", "max_string_bytes=many", "--yes"];
    refuse(&wrong, 2, "max_string_bytes");
    refuse(&["deploy", "--stage", "validate", "--param", "max_string_byte=5", "--yes"], 2, "max_string_bytes");
    refuse(&["deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--yes"], 1, "--reset-state");
    refuse(&["deploy", "--stage", "nowhere", "--yes"], 2, "the chain is validate, enrich, ctr-window");
    refuse(&["deploy", built("validate").to_str().unwrap(), "--stage", "x", "--after", "y", "--yes"], 2, "no stage y");
    refuse(&["deploy", built("enrich").to_str().unwrap(), "--stage", "validate"], 2, "--yes");
    refuse(&["deploy", "missing.wasm", "--yes"], 2, "missing.wasm");
    refuse(&["rollback", "--yes"], 2, "nothing before deployment 0");
    refuse(&["rollback", "--to", "77", "--yes"], 2, "no deployment 77");
    refuse(&["remove", "nowhere", "--yes"], 2, "no stage nowhere");
    refuse(&["deploy", "--promote", "0", "--yes"], 1, "everywhere already");
    refuse(&["show", "nowhere"], 2, "the chain is");
    assert_eq!(bench.run(&["smartmodule", "list", "--output", "json"]), before);
    assert_eq!(bench.json(&["smartmodule", "history", "--output", "json"]).as_array().unwrap().len(), 1);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_state_that_cannot_be_read_is_left_in_its_generation_and_the_counts_add_up() {
    const ROWS: usize = 30_000;
    let (reset, quiet) = (bench("pipeline: {commit_interval_ms: 100}"), bench(""));
    for bench in [&reset, &quiet] {
        produce(bench, ROWS);
    }
    let file = reset.file("events.jsonl");
    quiet.run(&["produce", file.to_str().unwrap()]);
    quiet.run(&["run", "--until-end"]);
    let host = reset.start("run", &["run"]);
    reset.until_ready();
    // Slow enough for what comes meanwhile, on a busy machine too; the rest is sent at once.
    let producing = reset.start("produce", &["produce", file.to_str().unwrap(), "--rate", "1000"]);
    eventually("records flow", Duration::from_secs(20), || reset.status()["ledger"]["counted"].as_u64() > Some(2_000));
    let fewer = ["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total,device_type"];
    let refused = reset.fails(&[&fewer[..], &["--yes"]].concat(), 1);
    assert!(refused.contains("--reset-state"), "{refused}");
    let plan = reset.try_run(&[&fewer[..], &["--reset-state", "--plan"]].concat());
    assert!(String::from_utf8(plan.stdout).unwrap().contains("new generation"));
    reset.run(&[&fewer[..], &["--reset-state", "--yes"]].concat());
    producing.kill();
    reset.run(&["produce", "--resume", file.to_str().unwrap()]);
    host.kill();
    reset.run(&["run", "--until-end"]);
    let of = |bench: &Bench, dimension: &str| {
        bench.run(&["windows", "--size", "1m", "--dimension", dimension, "--output", "csv"])
    };
    for dimension in ["total", "device_type"] {
        assert_eq!(of(&reset, dimension), of(&quiet, dimension), "{dimension}");
    }
    assert_ne!(of(&reset, "site_category"), of(&quiet, "site_category"), "counted in the first generation only");
    assert_eq!(ledger(&reset), ledger(&quiet));
}

#[test]
fn a_stage_that_fails_on_every_record_goes_back_once_and_nothing_is_lost() {
    let bench = bench("engine: {call_time_limit_ms: 50}\npipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    // With no record to try it on, the canary lets it pass.
    let trap = wat(
        &bench,
        "trap.wasm",
        r#"(module (memory (export "memory") 16) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "array_map") (param i32 i32 i32) (result i32) unreachable))"#,
    );
    bench.run(&["smartmodule", "deploy", &trap, "--stage", "guard", "--before", "validate", "--yes"]);
    bench.run(&["produce", produce(&bench, 20_000).to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(30), || bench.status()["ledger"]["waiting"] == 0);
    let ledger_now = ledger(&bench);
    let failed = ledger_now["rejected_by_rule"]["smartmodule"].as_u64().unwrap();
    assert!((20..=20 * 3).contains(&failed), "{failed} records until the breaker tripped in each partition");
    assert_eq!(ledger_now["counted"].as_u64(), Some(20_000 - failed));
    let history = bench.json(&["smartmodule", "history", "--output", "json"]);
    let causes: Vec<&str> = history.as_array().unwrap().iter().map(|d| d["cause"]["kind"].as_str().unwrap()).collect();
    assert_eq!(causes, ["breaker", "deploy", "config"], "once, for all partitions");
    assert!(bench.log("run").contains("goes back to the module before"));
    host.kill();
    bench.run(&["run", "--until-end"]);
    assert_eq!(ledger(&bench), ledger_now);
}

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
    // The file has not changed since: what was deployed stays.
    bench.run(&["run", "--until-end"]);
    assert_eq!(bench.json(&["smartmodule", "history", "--output", "json"]).as_array().unwrap().len(), 2);
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
    assert!(refused.contains("50.0000%"), "{refused}");
    bench.fails(&["shadow", "promote", "--if", "flips!"], 2);
    bench.run(&["shadow", "promote", "--if", "flips<=5000, failures=0"]);
    bench.fails(&["shadow", "report"], 2);
    assert_eq!(activations(&bench, "validate").len(), 3);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn what_a_module_says_and_why_it_panicked_reaches_the_user() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    // Says a line for each batch, and hands all on.
    let talker = wat(
        &bench,
        "talker.wasm",
        r#"(module
            (import "env" "copy_records" (func $copy (param i32 i32)))
            (import "env" "clickmill_log" (func $log (param i32 i32)))
            (memory (export "memory") 256)
            (data (i32.const 16) "good day")
            (func $be (param $at i32) (result i32)
                (i32.or
                    (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
                            (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
                    (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
                            (i32.load8_u offset=3 (local.get $at)))))
            (func (export "alloc") (param i32) (result i32) (i32.const 65536))
            (func (export "array_map") (param $p i32) (param $n i32) (param $v i32) (result i32)
                (call $log (i32.const 16) (i32.const 8))
                (call $copy (i32.add (local.get $p) (i32.const 12))
                    (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 1)))
                (call $be (i32.add (local.get $p) (i32.const 12)))))"#,
    );
    bench.run(&["smartmodule", "deploy", &talker, "--stage", "talker", "--before", "validate", "--yes"]);
    bench.run(&["produce", produce(&bench, 100).to_str().unwrap()]);
    let lines = || bench.run(&["smartmodule", "logs", "talker", "--output", "json"]);
    eventually("the line is there", Duration::from_secs(10), || lines().contains("good day"));
    let line: Value = serde_json::from_str(lines().lines().next().unwrap()).unwrap();
    assert_eq!((&line["kind"], &line["stage"], &line["text"]), (&"log".into(), &"talker".into(), &"good day".into()));
    assert_eq!(bench.run(&["smartmodule", "logs", "validate"]), "");
    assert_eq!(host.terminate(), Some(0));
    bench.fails(&["smartmodule", "logs"], 2);
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
fn a_state_that_has_seen_no_record_is_nobodys_hindrance() {
    let bench = bench("");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.run(&["smartmodule", "deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--yes"]);
    bench.run(&["produce", produce(&bench, 1_000).to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(20), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(ledger(&bench)["counted"], 1_000);
    let rows = bench.run(&["windows", "--size", "1m", "--output", "csv"]);
    assert!(rows.lines().skip(1).all(|row| row.split(',').nth(3) == Some("total")), "{rows}");
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_module_that_never_ends_is_paused_after_few_records_and_can_be_taken_out() {
    let bench = bench("engine: {call_time_limit_ms: 20}\npipeline: {on_module_failure: pause, breaker_records: 5}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let endless = wat(
        &bench,
        "endless.wasm",
        r#"(module (memory (export "memory") 16) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "array_map") (param i32 i32 i32) (result i32) (loop $ever (br $ever)) (i32.const 0)))"#,
    );
    bench.run(&["smartmodule", "deploy", &endless, "--stage", "guard", "--before", "validate", "--yes"]);
    bench.run(&["produce", produce(&bench, 5_000).to_str().unwrap()]);
    let paused = || bench.run(&["status"]).contains("PAUSED");
    eventually("the pipeline is paused", Duration::from_secs(60), paused);
    bench.run(&["smartmodule", "rollback", "--yes"]);
    bench.run(&["smartmodule", "resume"]);
    eventually("all is processed", Duration::from_secs(30), || bench.status()["ledger"]["waiting"] == 0);
    let ledger = ledger(&bench);
    let failed = ledger["rejected"].as_u64().unwrap();
    assert!((5..=5 * 3).contains(&failed), "{ledger}");
    assert_eq!(host.terminate(), Some(0));
}

/// Lets records pass once it has been shown three when it began.
const LOOKS_BACK: &str = r#"(module
    (import "env" "copy_records" (func $copy (param i32 i32)))
    (memory (export "memory") 64)
    (global $seen (mut i32) (i32.const 0))
    (func $be (param $at i32) (result i32)
        (i32.or
            (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
                    (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
            (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
                    (i32.load8_u offset=3 (local.get $at)))))
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func (export "look_back") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (global.set $seen (call $be (i32.add (local.get $p) (i32.const 12))))
        (i32.const 0))
    (func (export "filter") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (if (result i32) (i32.eq (global.get $seen) (i32.const 3))
            (then (call $copy (i32.add (local.get $p) (i32.const 12))
                      (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 1)))
                  (call $be (i32.add (local.get $p) (i32.const 12))))
            (else (call $copy (i32.const 0) (i32.const 5)) (i32.const 0)))))"#;

#[test]
fn a_stage_that_looks_back_is_shown_the_newest_records_when_it_begins_anew() {
    let bench = bench("pipeline: {commit_interval_ms: 50}");
    let module = wat(&bench, "looks.wasm", LOOKS_BACK);
    let deploy = ["smartmodule", "deploy", &module, "--stage", "looks", "--before", "validate", "--lookback"];
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let refused = bench.fails(&["smartmodule", "deploy", "--stage", "validate", "--lookback", "3", "--yes"], 1);
    assert!(refused.contains("exports no look_back"), "{refused}");
    let refused = bench.fails(&[&deploy[..], &["20000", "--yes"]].concat(), 1);
    assert!(refused.contains("1 to 10000"), "{refused}");
    let plan = bench.try_run(&[&deploy[..], &["3", "--plan"]].concat());
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("(lookback): not set -> 3"), "{plan}");
    bench.run(&[&deploy[..], &["3", "--yes"]].concat());
    bench.post(&events(300));
    eventually("they have a fate", Duration::from_secs(10), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(ledger(&bench)["dropped"], 300, "there was nothing to look back on");
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("run"));
    // Fresh instances are shown what the ones before had seen.
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    bench.post(&events(300));
    eventually("they have a fate", Duration::from_secs(10), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!((&ledger(&bench)["dropped"], &ledger(&bench)["counted"]), (&300.into(), &300.into()));
    assert_eq!(host.terminate(), Some(0), "{}", bench.log("run"));
}
