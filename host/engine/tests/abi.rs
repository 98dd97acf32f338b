//! What a module must export and may import is checked before anything of it runs.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use clickmill_engine::{Chain, Engine, EngineError, EngineOptions};
use common::*;

fn error_of(wat: &str) -> String {
    ENGINE.compile(&wat::parse_str(wat).unwrap()).unwrap_err().to_string()
}

#[test]
fn a_module_is_known_by_the_digest_of_its_bytes() {
    assert_eq!(echo().digest(), echo().digest());
    assert_ne!(echo().digest(), counter("").digest());
    assert!(!echo().is_stateful() && counter("").is_stateful());
    let empty = ENGINE.compile(b"").unwrap_err().to_string();
    assert!(empty.contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "{empty}");
}

#[test]
fn an_import_beyond_copy_records_is_named() {
    for (import, named) in [
        (
            r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))"#,
            "wasi_snapshot_preview1.proc_exit (i64) -> ()",
        ),
        (r#"(import "env" "copy_records" (func (param i64 i32)))"#, "env.copy_records (i64, i32) -> ()"),
        (r#"(import "env" "memory" (memory 1))"#, "env.memory a memory"),
        (r#"(import "env" "base" (global i32))"#, "env.base a global"),
        (r#"(import "env" "t" (table 1 funcref))"#, "env.t a table"),
    ] {
        let error = error_of(&format!("(module {import})"));
        assert!(
            error.contains(named) && error.contains("a SmartModule may import env.copy_records (i32, i32)"),
            "{error}"
        );
    }
}

#[test]
fn an_export_that_is_missing_or_of_another_type_is_named() {
    let func = |name: &str, of: &str| format!(r#"(func (export "{name}") {of} unreachable)"#);
    let memory = r#"(memory (export "memory") 1)"#;
    let alloc = func("alloc", "(param i32) (result i32)");
    let transform = |name| func(name, "(param i32 i32 i32) (result i32)");
    let map = transform("array_map");
    for (parts, expected) in [
        ([alloc.as_str(), &map, ""], "it exports no memory"),
        (
            [&alloc, &map, r#"(global (export "memory") i32 (i32.const 0))"#],
            "its export memory is a global, not a memory",
        ),
        ([memory, &map, ""], "it does not export alloc (i32) -> (i32)"),
        ([memory, &map, &func("alloc", "(result i32)")], "its export alloc is () -> (i32), expected (i32) -> (i32)"),
        ([memory, &alloc, ""], "it exports no transform: array_map, filter, map, filter_map or aggregate"),
        (
            [memory, &alloc, &(transform("aggregate") + &func("clickmill_routed", "(result i32)"))],
            "it exports clickmill_routed beside aggregate",
        ),
        (
            [memory, &alloc, &(map.clone() + &transform("look_back") + &func("clickmill_routed", "(result i32)"))],
            "it exports clickmill_routed beside look_back",
        ),
        ([memory, &alloc, &(transform("map") + &transform("filter"))], "two transforms, filter and map"),
        ([memory, &alloc, &func("filter", "(param i32)")], "its export filter is (i32) -> ()"),
        (
            [memory, &alloc, &(map.clone() + &func("clickmill_save", "(result i32)"))],
            "it exports clickmill_save but not clickmill_load",
        ),
        (
            [memory, &alloc, &(map.clone() + &func("clickmill_advance", "(result i32)"))],
            "its export clickmill_advance is () -> (i32)",
        ),
    ] {
        let error = error_of(&format!("(module {})", parts.concat()));
        assert!(error.contains(expected), "{error} lacks {expected}");
    }
}

#[test]
fn what_is_not_a_wasm_module_of_32_bits_does_not_compile() {
    assert!(ENGINE.compile(b"\0asm nonsense").unwrap_err().to_string().contains("does not compile"));
    assert!(error_of("(module (memory i64 1))").contains("does not compile"));
    let error = ENGINE.compile(&vec![0; 33 << 20]).unwrap_err();
    assert!(matches!(error, EngineError::TooLarge { bytes: 34_603_008, .. }), "{error}");
}

#[test]
fn every_transform_of_one_input_can_be_a_stage() {
    for name in ["filter", "map", "filter_map", "array_map"] {
        let mut chain = chain(&[&module(&[ALLOC, &transform(name, ECHO)]), &echo()]);
        assert_eq!(process(&mut chain, &Batch::of(7)).unwrap().counted, 7, "{name}");
    }
}

#[test]
fn a_chain_that_makes_no_sense_is_refused_by_name() {
    let refused = |stages: &[clickmill_engine::StageSpec]| Chain::new(&ENGINE, stages).unwrap_err().to_string();
    assert!(refused(&[]).contains("at least one stage"));
    assert!(refused(&[stage("a", &echo()), stage("a", &echo())]).contains("two stages are called a"));
    let two = [stage("a", &counter("")), stage("b", &counter(""))];
    assert!(refused(&two).contains("stages a and b both keep windows"));
    let mut with_params = stage("a", &echo());
    with_params.params.insert("x".into(), "1".into());
    assert!(refused(&[with_params]).contains("stage a: the module takes no parameters (it exports no init), and has"));
    let mut forged = stage(
        "a",
        &module(&[ALLOC, &array_map(ECHO), r#"(func (export "init") (param i32 i32 i32) (result i32) (i32.const 0))"#]),
    );
    forged.params.insert("clickmill.first".into(), "true".into());
    assert!(refused(&[forged]).contains("set by the host alone"));
    let other = Engine::new(&EngineOptions::default()).unwrap();
    assert!(Chain::new(&other, &[stage("a", &echo())]).unwrap_err().to_string().contains("another engine"));
}

#[test]
fn init_gets_the_parameters_and_the_first_stage_is_told_so() {
    // Refuses with its own input, behind a length.
    let init = r#"(func (export "init") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (i32.store8 (i32.const 65534) (i32.const 0)) (i32.store8 (i32.const 65535) (local.get $n))
        (call $copy (i32.const 65534) (i32.add (local.get $n) (i32.const 2)))
        (i32.sub (i32.const 23) (local.get $v)))"#;
    let routed = r#"(func (export "clickmill_routed") (result i32) (i32.const 0))"#;
    let module = |more| common::module(&[ALLOC, &array_map(ECHO), init, more]);
    let mut spec = stage("asks", &module(routed));
    spec.params.insert("p".into(), "1".into());
    let mut foreign = stage("asks", &module(""));
    foreign.params.insert("p".into(), "1".into());
    let said = |stages: &[clickmill_engine::StageSpec]| Chain::new(&ENGINE, stages).unwrap_err().to_string();
    let second = said(&[stage("a", &echo()), spec.clone()]);
    assert!(second.ends_with(r"init refused (-2): \u{0}\u{1}\u{0}\u{1}p\u{0}\u{1}1\u{0}"), "{second:?}");
    assert_eq!(said(&[foreign]).split_once("): ").unwrap().1, second.split_once("): ").unwrap().1, "as Fluvio does");
    let first = said(&[spec]);
    assert!(
        first.ends_with(r"\u{0}\u{2}\u{0}\u{f}clickmill.first\u{0}\u{4}true\u{0}\u{1}p\u{0}\u{1}1\u{0}"),
        "{first:?}"
    );
}

#[test]
fn compiled_modules_are_kept_in_the_cache_directory() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = dir.path().join("cache");
    for _ in 0..2 {
        let engine = Engine::new(&EngineOptions { cache_dir: Some(cache_dir.clone()), ..Default::default() }).unwrap();
        engine
            .compile(
                &wat::parse_str(format!(
                    r#"(module (memory (export "memory") 1) {ALLOC} {})"#,
                    array_map("unreachable")
                ))
                .unwrap(),
            )
            .unwrap();
        assert!(std::fs::read_dir(&cache_dir).unwrap().count() > 0);
    }
}

#[test]
fn chains_go_from_thread_to_thread() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Chain>();
    is_shared::<Engine>();
    is_shared::<clickmill_engine::Module>();
}
