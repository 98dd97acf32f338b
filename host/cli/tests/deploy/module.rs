//! Modules that are no fit, fail, never end or have something to say.

use std::time::Duration;

use crate::common::{POISON, Value, eventually};
use crate::{ENDLESS, TRAP, activations, bench, built, events, ledger, produce, variant};

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
    let with = |name: &str, body: &str| bench.wat(name, &format!("(module {memory} {alloc} {body})"));
    let map = |body: &str| format!(r#"(func (export "array_map") (param i32 i32 i32) (result i32) {body})"#);
    let importing = format!(r#"(module (import "env" "launch" (func)) {memory} {alloc} {})"#, map("(i32.const 0)"));
    let refused = [
        (bench.file("text.wasm").to_str().unwrap().to_owned(), "does not compile"),
        (bench.file("cut.wasm").to_str().unwrap().to_owned(), "does not compile"),
        (bench.file("empty.wasm").to_str().unwrap().to_owned(), "does not compile"),
        (with("bare.wasm", ""), "exports no transform"),
        (bench.wat("imports.wasm", &importing), "env.launch"),
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
    refuse(&["deploy", "--stage", "validate", "--unset-param", "nope", "--yes"], 2, "no parameter nope to take away");
    refuse(&["rollback", "--message", &"long".repeat(1_000), "--yes"], 2, "longer than 2000 characters");
    refuse(&["deploy", "--stage", "ctr-window", "--param", "dimensions=total", "--yes"], 1, "--reset-state");
    refuse(&["deploy", "--stage", "nowhere", "--yes"], 2, "the chain is validate, enrich, ctr-window");
    refuse(&["deploy", built("validate").to_str().unwrap(), "--stage", "x", "--after", "y", "--yes"], 2, "no stage y");
    refuse(&["deploy", built("enrich").to_str().unwrap(), "--stage", "validate"], 2, "--yes");
    // Without its SmartModule.toml beside it: the registry has it.
    std::fs::copy(built("validate"), bench.file("lonely.wasm")).unwrap();
    refuse(&["deploy", "lonely.wasm", "--param", "max_string_bytes=many", "--yes"], 2, "max_string_bytes");
    std::fs::write(bench.file("no.wasm"), "not a module").unwrap();
    refuse(&["deploy", "no.wasm", "--stage", "x", "--after", "validate", "--yes"], 1, "it is no WebAssembly module");
    refuse(&["deploy", "missing.wasm", "--yes"], 2, "missing.wasm");
    refuse(&["rollback", "--yes"], 2, "nothing before deployment 0");
    refuse(&["rollback", "--to", "77", "--yes"], 2, "no deployment 77");
    refuse(&["remove", "nowhere", "--yes"], 2, "no stage nowhere");
    refuse(&["remove", "enrich", "--yes"], 2, "one of clickmill.yaml's");
    refuse(&["deploy", "--stage", "validate", "--after", "nope", "--yes"], 2, "no stage nope");
    refuse(&["deploy", "--promote", "0", "--yes"], 1, "nothing to promote");
    refuse(&["show", "nowhere"], 2, "the chain is");
    assert_eq!(bench.run(&["smartmodule", "list", "--output", "json"]), before);
    assert_eq!(bench.json(&["smartmodule", "history", "--output", "json"]).as_array().unwrap().len(), 1);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_stage_that_fails_on_every_record_goes_back_once_and_nothing_is_lost() {
    let bench = bench("engine: {call_time_limit_ms: 50}\npipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    // With no record to try it on, the canary lets it pass.
    let trap = bench.wat("trap.wasm", TRAP);
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
fn a_module_that_never_ends_is_paused_after_few_records_and_can_be_taken_out() {
    let bench = bench("engine: {call_time_limit_ms: 20}\npipeline: {on_module_failure: pause, breaker_records: 5}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let endless = bench.wat("endless.wasm", ENDLESS);
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

#[test]
fn a_breakers_pause_outlives_the_host_and_a_rollback_takes_effect_in_it() {
    let bench = bench("pipeline: {commit_interval_ms: 100, on_module_failure: pause}");
    let mut host = bench.start("run", &["run"]);
    bench.until_ready();
    let trap = bench.wat("trap.wasm", TRAP);
    bench.run(&["smartmodule", "deploy", &trap, "--stage", "guard", "--before", "validate", "--yes"]);
    bench.run(&["produce", produce(&bench, 6_000).to_str().unwrap()]);
    let failed = || bench.status()["ledger"]["rejected"].as_u64().unwrap();
    let paused = |more_than: u64| {
        let why = format!("it is paused, and more than {more_than} records have their fate");
        eventually(&why, Duration::from_secs(30), || bench.status()["paused"].is_string() && failed() > more_than);
    };
    let mut before = 0;
    for _ in 0..2 {
        // What was convicted is committed in the pause, in a host that begins with it too.
        paused(before);
        host.kill();
        host = bench.start("run", &["run"]);
        eventually("the host answers", Duration::from_secs(20), || bench.try_run(&["status"]).status.success());
        paused(before);
        before = failed();
        // With the same module in force it is paused again, and has come further.
        bench.run(&["smartmodule", "resume"]);
    }
    paused(before);
    host.kill();
    let host = bench.start("run", &["run"]);
    eventually("the host answers", Duration::from_secs(20), || bench.try_run(&["status"]).status.success());
    bench.run(&["smartmodule", "rollback", "--yes"]);
    let lost = failed();
    bench.run(&["smartmodule", "resume"]);
    eventually("all is processed", Duration::from_secs(30), || bench.status()["ledger"]["waiting"] == 0);
    let ledger = ledger(&bench);
    assert_eq!((&ledger["rejected"], &ledger["counted"]), (&lost.into(), &(6_000 - lost).into()));
    assert!((60..400).contains(&lost), "{lost}");
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_module_that_never_ends_is_stopped_after_fewer_records_than_one_that_fails_at_once() {
    // With the limits as they are by default: each record takes some seconds until it is known.
    let bench = bench("");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let endless = bench.wat("endless.wasm", ENDLESS);
    bench.run(&["smartmodule", "deploy", &endless, "--stage", "guard", "--before", "validate", "--yes"]);
    bench.run(&["produce", produce(&bench, 5_000).to_str().unwrap()]);
    eventually("all is processed", Duration::from_secs(120), || bench.status()["ledger"]["waiting"] == 0);
    let failed = ledger(&bench)["rejected"].as_u64().unwrap();
    assert!((5..=7 * 3).contains(&failed), "{failed} records until the breaker tripped");
    let history = bench.json(&["smartmodule", "history", "--output", "json"]);
    assert_eq!(history[0]["cause"]["kind"], "breaker");
    let log = bench.log("run");
    let letter = &bench.dead_letters()[0]["origin"];
    let lines = bench.run(&["smartmodule", "logs", "guard", "--output", "json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_letter = |l: &&Value| l["partition"] == letter["partition"] && l["offset"] == letter["offset"];
    assert_eq!(lines.iter().filter(of_letter).count(), 1, "{letter}: {lines:?}");
    assert!(lines.iter().all(|line| line["kind"] == "fault" && line["text"].as_str().unwrap().contains("time limit")));
    let named = format!("partition={} offset={}", letter["partition"], letter["offset"]);
    assert!(log.lines().any(|line| line.contains("failed on this record") && line.contains(&named)), "{named}: {log}");
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_stage_of_the_configuration_that_fails_on_what_is_there_is_refused_at_the_start() {
    let bench = bench("");
    let settings = std::fs::read_to_string(bench.file("clickmill.yaml")).unwrap();
    bench.run(&["produce", produce(&bench, 2_000).to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let before = (bench.run(&["smartmodule", "list", "--output", "json"]), ledger(&bench));
    for (module, why) in
        [(bench.wat("trap.wasm", TRAP), "canary failed"), (bench.wat("loop.wasm", ENDLESS), "time limit")]
    {
        let stages = format!(
            "stages: [{{name: validate}}, {{name: own, module: {module}}}, {{name: enrich}}, {{name: ctr-window}}]"
        );
        std::fs::write(bench.file("clickmill.yaml"), format!("{settings}{stages}\n")).unwrap();
        let said = bench.fails(&["run", "--until-end"], 2);
        assert!(said.contains(why) && said.contains("stage own"), "{said}");
    }
    std::fs::write(bench.file("clickmill.yaml"), settings).unwrap();
    bench.run(&["run", "--until-end"]);
    assert_eq!((bench.run(&["smartmodule", "list", "--output", "json"]), ledger(&bench)), before);
}

#[test]
fn what_the_chain_in_force_fails_on_hinders_no_other_change() {
    let bench = bench("pipeline: {on_module_failure: dlq}");
    let settings = std::fs::read_to_string(bench.file("clickmill.yaml")).unwrap();
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    let poison = bench.wat("traps.wasm", POISON);
    bench.run(&["smartmodule", "deploy", &poison, "--stage", "traps", "--before", "validate", "--yes"]);
    let line = |i: usize, event: &str| {
        if i.is_multiple_of(2) { format!("{{\"poison\":\"TRAP {i}\"}}\n") } else { format!("{event}\n") }
    };
    let lines: String = events(600).lines().enumerate().map(|(i, event)| line(i, event)).collect();
    std::fs::write(bench.file("half.jsonl"), lines).unwrap();
    bench.run(&["produce", "half.jsonl"]);
    eventually("all is processed", Duration::from_secs(60), || bench.status()["ledger"]["waiting"] == 0);
    assert_eq!(ledger(&bench)["rejected_by_rule"]["smartmodule"], 300);
    bench.run(&["smartmodule", "deploy", "--stage", "validate", "--param", "max_string_bytes=60", "--yes"]);
    let trap = bench.wat("trap.wasm", TRAP);
    let refused = bench.fails(&["smartmodule", "deploy", &trap, "--stage", "all", "--after", "traps", "--yes"], 1);
    assert!(refused.contains("stage all"), "{refused}");
    assert_eq!(host.terminate(), Some(0));
    let stages = "stages: [{name: validate, params: {max_string_bytes: \"70\"}}, {name: enrich}, {name: ctr-window}]";
    std::fs::write(bench.file("clickmill.yaml"), format!("{settings}{stages}\n")).unwrap();
    bench.run(&["run", "--until-end"]);
    assert_eq!(activations(&bench, "validate").len(), 3);
    let list = bench.run(&["smartmodule", "show", "validate"]);
    assert!(list.contains("70"), "{list}");
}

#[test]
fn a_module_that_is_lost_is_named_with_its_stage_and_comes_back_with_the_same_deploy() {
    let bench = bench("");
    bench.run(&["produce", produce(&bench, 2_000).to_str().unwrap()]);
    bench.run(&["run", "--until-end"]);
    let guard = variant(&bench, "validate", "guard");
    let deploy =
        ["smartmodule", "deploy", guard.to_str().unwrap(), "--stage", "guard", "--before", "validate", "--yes"];
    bench.run(&deploy);
    bench.run(&["run", "--until-end"]);
    let digest = bench.json(&["smartmodule", "list", "--output", "json"])[0]["sha256"].as_str().unwrap().to_owned();
    let stored = bench.data().join("modules").join(format!("{digest}.wasm"));
    for damage in [None, Some("something else")] {
        match damage {
            None => std::fs::remove_file(&stored).unwrap(),
            Some(text) => std::fs::write(&stored, text).unwrap(),
        }
        let said = bench.try_run(&["run", "--until-end"]);
        let said = String::from_utf8(said.stderr).unwrap();
        assert!(said.contains("stage guard") && said.contains("deploy the same file again"), "{said}");
        assert!(bench.run(&deploy).contains("in force already"));
        bench.run(&["run", "--until-end"]);
    }
    // What a manifest says wrong is told with the file that says it.
    let toml = bench.data().join("modules").join(format!("{digest}.toml"));
    std::fs::write(&toml, "[package]\nname = 1\n").unwrap();
    let said = bench.fails(&["smartmodule", "deploy", "--stage", "guard", "--param", "max_string_bytes=9", "--yes"], 1);
    assert!(said.contains(toml.to_str().unwrap()) && said.contains("line 2"), "{said}");
    std::fs::write(bench.file("own.toml"), "[package]\nname = 1\n").unwrap();
    let said = bench.fails(&["smartmodule", "deploy", guard.to_str().unwrap(), "--manifest", "own.toml", "--yes"], 2);
    assert!(said.contains("own.toml: line 2"), "{said}");
}

#[test]
fn what_a_module_says_and_why_it_panicked_reaches_the_user() {
    let bench = bench("pipeline: {commit_interval_ms: 100}");
    let host = bench.start("run", &["run"]);
    bench.until_ready();
    // Says a line for each batch, and hands all on.
    let talker = bench.wat(
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
