//! `smartmodule new`, `build`, `test` and `bench`, as an author of a module uses them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Bench, POISON};

/// Runs a verb of `smartmodule` in a folder. What is compiled is kept from test to test.
fn smartmodule(bench: &Bench, folder: &Path, args: &[&str]) -> Output {
    let mut command = bench.command(&[]);
    command.arg("smartmodule").args(args).current_dir(folder);
    built_in(&mut command).output().unwrap()
}

fn built_in(command: &mut Command) -> &mut Command {
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules"))
}

/// What it printed, and what it said, where it ended with this code.
fn ended(output: &Output, code: i32) -> String {
    let both = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert_eq!(output.status.code(), Some(code), "{both}");
    both
}

fn project(bench: &Bench, name: &str, kind: &str) -> PathBuf {
    let folder = bench.file(name);
    let made = smartmodule(
        bench,
        bench.file("").as_path(),
        &["new", name, "--kind", kind, "--path", folder.to_str().unwrap()],
    );
    ended(&made, 0);
    folder
}

#[test]
fn a_new_project_of_every_kind_builds_and_passes_its_tests() {
    let bench = Bench::new();
    for kind in ["validate", "enrich", "window", "filter", "map"] {
        let folder = project(&bench, &format!("my-{kind}"), kind);
        let built = ended(&smartmodule(&bench, &folder, &["build"]), 0);
        assert!(built.contains(&format!("my-{kind}.wasm")) && !built.contains("warning"), "{built}");
        let tested = ended(&smartmodule(&bench, &folder, &["test"]), 0);
        assert!(tested.contains("all as expected"), "{tested}");
    }
    // Natively too.
    let native =
        built_in(Command::new("cargo").args(["test", "--release"]).current_dir(bench.file("my-window"))).output();
    let native = ended(&native.unwrap(), 0);
    assert!(native.contains("1 passed") && !native.contains("warning"), "{native}");
}

#[test]
fn the_same_sources_give_the_same_module_wherever_they_lie() {
    let bench = Bench::new();
    let sha256 = |name: &str| {
        let folder = project(&bench, name, "filter");
        // The name is in the bytes.
        let manifest = folder.join("Cargo.toml");
        std::fs::write(&manifest, std::fs::read_to_string(&manifest).unwrap().replace(name, "same")).unwrap();
        let built = smartmodule(&bench, &folder, &["build", "--output", "json"]);
        let built: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
        assert_eq!(built["file"], "./same.wasm");
        built["sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(sha256("one"), sha256("another-place"));
}

#[test]
fn a_difference_is_shown_and_a_panic_is_told_with_its_place() {
    let bench = Bench::new();
    let folder = project(&bench, "panics", "map");
    let source = folder.join("src/lib.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    let line = text.lines().position(|line| line.contains("trim_ascii")).unwrap() + 1;
    let panicking =
        "        if record.value == b\"boom\" { panic!(\"no room for {}\", \"that\") } clickmill_sdk::log(\"seen\");\n";
    let forward = "        out.forward(record";
    std::fs::write(&source, text.replacen(forward, &format!("{panicking}{forward}"), 1)).unwrap();
    ended(&smartmodule(&bench, &folder, &["build"]), 0);

    let cases = folder.join("cases/basic.jsonl");
    std::fs::write(
        &cases,
        "{\"name\":\"wrong\",\"in\":\" a\",\"expect\":[{\"value\":\"b\"}]}\n{\"in\":\"boom\",\"expect\":[]}\n",
    )
    .unwrap();
    let shown = ended(&smartmodule(&bench, &folder, &["test"]), 1);
    assert!(
        shown.contains("basic.jsonl:1  wrong\n  - {\"value\":\"b\"}\n  + {\"value\":\"a\"}\n    it said: seen\n"),
        "{shown}"
    );
    let place = format!("array_map failed: panicked at 'no room for that', src/lib.rs:{line}");
    assert!(shown.contains(&place) && shown.contains("2 of 2 cases differ"), "{shown}");

    ended(&smartmodule(&bench, &folder, &["test", "--update"]), 0);
    ended(&smartmodule(&bench, &folder, &["test"]), 0);
    assert!(
        std::fs::read_to_string(&cases)
            .unwrap()
            .starts_with("{\"name\":\"wrong\",\"in\":\" a\",\"expect\":[{\"value\":\"a\"}]}\n")
    );
}

#[test]
fn fuel_is_the_same_each_time_and_a_bound_on_it_holds() {
    let bench = Bench::new();
    let folder = project(&bench, "measured", "filter");
    ended(&smartmodule(&bench, &folder, &["build"]), 0);
    let measured = |more: &[&str], code| {
        let output =
            smartmodule(&bench, &folder, &[&["bench", "--records", "2000", "--output", "json"], more].concat());
        let said = ended(&output, code);
        let fuel =
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["fuel_per_record"].as_f64().unwrap();
        (fuel, said)
    };
    let (fuel, _) = measured(&[], 0);
    assert!(fuel > 100.0, "{fuel}");
    assert_eq!(measured(&["--max-fuel", &fuel.to_string()], 0).0, fuel);
    let (again, said) = measured(&["--max-fuel", "100"], 1);
    assert!(again == fuel && said.contains("over the limit of 100"), "{said}");
}

#[test]
fn mistakes_say_what_to_do() {
    let bench = Bench::new();
    let here = bench.file("");
    let fails = |args: &[&str]| ended(&smartmodule(&bench, &here, args), 2);
    assert!(fails(&["new", "Bad_Name", "--kind", "map"]).contains("small letters"));
    assert!(fails(&["build", "nowhere"]).contains("nowhere"));
    assert!(fails(&["build"]).contains("smartmodule new NAME"));
    assert!(fails(&["test"]).contains("smartmodule build"));
    let folder = project(&bench, "again", "map");
    assert!(fails(&["new", "again", "--kind", "map", "--path", folder.to_str().unwrap()]).contains("not empty"));
    let wasm = &bench.wat("again/again.wasm", POISON);
    assert!(fails(&["bench", wasm, "--input", "nowhere.jsonl"]).contains("nowhere.jsonl"));
    std::fs::write(folder.join("cases/basic.jsonl"), "\n{\"in\":\"x\",\"expect\":[\"gone\"]}\n").unwrap();
    let said = fails(&["test", wasm]);
    assert!(said.contains("basic.jsonl:2: \"gone\" is nothing that can come out"), "{said}");
    std::fs::write(folder.join("SmartModule.toml"), "[package]\nname = 1\n").unwrap();
    assert!(fails(&["build", "again"]).contains("SmartModule.toml: line 2, column 8: "));
}
