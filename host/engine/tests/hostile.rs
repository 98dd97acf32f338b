//! Whatever a module does ends in a fault that says what it was, within its time, and the host goes on.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::{Duration, Instant};

use clickmill_engine::{Chain, EngineError, Limits, Module};
use clickmill_schemas::record::RecordSetBuilder;
use common::*;

/// Runs a batch of ten through the module; the message of the fault.
fn fault_of(module: &Module) -> String {
    let mut chain = chain(&[&echo(), module, &echo()]);
    let started = Instant::now();
    let fault = process(&mut chain, &Batch::of(10)).expect_err("the module is hostile");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((fault.stage.as_str(), fault.sha256), ("s1", module.digest()));
    assert_eq!(process(&mut chain, &Batch::of(1)).unwrap_err(), fault, "unusable until restored");
    assert_eq!(chain.save().unwrap_err(), fault);
    assert_eq!(chain.emit().unwrap_err(), fault);
    chain.restore(&Default::default()).unwrap();
    assert!(chain.save().is_ok());
    fault.message
}

fn assert_transform(body: &str, expected: &str) {
    let message = fault_of(&module(&[ALLOC, &map(body)]));
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
}

#[test]
fn a_trap_is_told_with_the_function_that_trapped() {
    assert_transform("unreachable", "`unreachable` instruction executed");
    assert_transform("(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero");
    assert_transform("(i32.load (i32.const -8))", "out of bounds memory access");
    let message =
        fault_of(&module(&[ALLOC, "(func $deep_inside unreachable)", &map("(call $deep_inside) (i32.const 0)")]));
    assert!(message.contains("in deep_inside < "), "{message}");
}

#[test]
fn an_endless_loop_runs_out_of_time() {
    assert_transform("(loop $again (br $again)) (i32.const 0)", "map ran past its time limit");
}

#[test]
fn endless_recursion_runs_out_of_stack() {
    let message = fault_of(&module(&[ALLOC, "(func $f (call $f))", &map("(call $f) (i32.const 0)")]));
    assert!(message.contains("call stack exhausted"), "{message}");
}

#[test]
fn memory_without_end_is_refused_at_the_limit() {
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 7)) (i32.const -1)))) unreachable";
    assert_transform(grow, "bytes of memory, over its limit of 4194304");
    assert_transform("(loop $storm (drop (memory.grow (i32.const 65535))) (br $storm)) (i32.const 0)", "time limit");
}

#[test]
fn tables_without_end_are_refused_at_the_limit() {
    let table = "(table $t 0 funcref)";
    let grow = array_map(
        "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 5000)) (i32.const -1)))) unreachable",
    );
    let message = fault_of(&module(&[ALLOC, table, &grow]));
    assert!(message.contains("105000 table elements, over the limit of 100000"), "{message}");
    let storm =
        array_map("(loop $storm (drop (table.grow $t (ref.null func) (i32.const -1))) (br $storm)) (i32.const 0)");
    assert!(fault_of(&module(&[ALLOC, table, &storm])).contains("time limit"));
}

#[test]
fn wild_addresses_and_lengths_are_outside_memory() {
    for args in [
        "(i32.const -16) (i32.const 100)",
        "(i32.const 1024) (i32.const -1)",
        "(i32.const 0) (i32.const -1)",
        "(i32.const -1) (i32.const -1)",
        "(i32.const 1048576) (i32.const 1)",
        "(i32.const 1048570) (i32.const 7)",
    ] {
        assert_transform(&format!("(call $copy {args}) (i32.const 0)"), "copy_records outside memory");
    }
}

#[test]
fn an_output_over_its_limit_is_not_taken() {
    assert_transform("(call $copy (i32.const 0) (i32.const 300000)) (i32.const 0)", "output of 300000 bytes");
}

#[test]
fn an_output_that_is_missing_or_cut_short_is_malformed() {
    assert_transform("(i32.const 10)", "did not call copy_records");
    for len in 0..5 {
        let body = format!("(call $copy (i32.const 0) (i32.const {len})) (i32.const 0)");
        assert_transform(&body, "malformed output");
    }
}

#[test]
fn lies_about_counts_are_found_out() {
    let echo_but = |answer: i32| {
        ECHO.replace("(call $be (i32.add (local.get $p) (i32.const 12)))", &format!("(i32.const {answer})"))
    };
    assert_transform(&echo_but(9), "holds 10 records by its head and 9");
    assert_transform(&echo_but(i32::MAX), "malformed output");
    assert_transform(&echo_but(-22), "map answered -22: it cannot decode the records");
    assert_transform(&echo_but(i32::MIN), "a status of its own");
    for (output, answer, routed) in [
        (&[0, 0, 0, 11, 0][..], 11, None),
        (&[0xff, 0xff, 0xff, 0xff, 0], 0xffff_ffff, None),
        (&[0, 0, 0, 10, 0], 10, None),
        (&[0, 0, 0, 10, 0], 10, Some(0)),
        (&[0, 0, 0, 0, 0], 0, Some(1)),
        (&[0, 0, 0, 0, 0], 0, Some(0xffff_ffff)),
        (&[0, 0, 0, 0, 9, 9, 0], 0, Some(0)),
        (&[0, 0, 0, 0, 9, 9, 0], 0, None),
    ] {
        fault_of(&canned(output, answer, routed));
    }
}

#[test]
fn routes_that_are_not_there_are_missed() {
    let routed = r#"(func (export "clickmill_routed") (result i32) (i32.const 3))"#;
    let message = fault_of(&module(&[ALLOC, &map(ECHO), routed]));
    assert!(message.contains("0 records are routed and clickmill_routed says 3"), "{message}");
}

#[test]
fn alloc_is_bounded_and_checked_like_any_call() {
    for (body, expected) in [
        ("(i32.const -1)", "gave a region outside memory"),
        ("(i32.const 1048575)", "gave a region outside memory"),
        ("(loop $again (br $again)) (i32.const 0)", "alloc ran past its time limit"),
        ("unreachable", "alloc failed"),
    ] {
        let alloc = format!(r#"(func (export "alloc") (param i32) (result i32) {body})"#);
        let message = fault_of(&module(&[&alloc, &map(ECHO)]));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn every_hook_is_bounded_like_any_call() {
    for (body, expected) in
        [("(loop $again (br $again))", "ran past its time limit"), ("unreachable", "failed: wasm trap")]
    {
        each_hook(body, expected);
    }
}

/// Runs each hook with this body.
fn each_hook(body: &str, expected: &str) {
    const HOOKS: [(&str, &str, &str); 8] = [
        ("clickmill_state_version", "(result i32)", "i32"),
        ("clickmill_save", "(result i32)", "i32"),
        ("clickmill_load", "(param i32 i32) (result i32)", "i32"),
        ("clickmill_emit", "(result i32)", "i32"),
        ("clickmill_pending", "(result i32)", "i32"),
        ("clickmill_watermark", "(result i64)", "i64"),
        ("clickmill_closed_before", "(result i64)", "i64"),
        ("clickmill_advance", "(param i64) (result i32)", "i32"),
    ];
    let copies = "(call $copy (i32.const 0) (i32.const 4))";
    for (hostile, _, _) in HOOKS {
        let mut parts = vec![ALLOC.to_owned(), map(ECHO)];
        for (name, of, result) in HOOKS {
            let body = if name == hostile { body } else { copies };
            parts.push(format!(r#"(func (export "{name}") {of} {body} ({result}.const 0))"#));
        }
        let module = module(&parts.iter().map(String::as_str).collect::<Vec<_>>());
        let mut chain = chain(&[&module]);
        let saved = chain.save();
        let fault = match hostile {
            "clickmill_load" => match chain.restore(&saved.unwrap()).unwrap_err() {
                EngineError::Fault(fault) => fault,
                other => panic!("{other}"),
            },
            "clickmill_state_version" | "clickmill_save" => saved.unwrap_err(),
            "clickmill_emit" => chain.emit().unwrap_err(),
            "clickmill_advance" => chain.advance(1).unwrap_err(),
            _ => {
                chain.pending_bytes();
                chain.watermark();
                chain.closed_before();
                chain.save().expect_err("the fault is kept for the next call")
            }
        };
        assert!(fault.message.starts_with(&format!("{hostile} {expected}")), "{fault}");
    }
}

#[test]
fn a_start_function_and_init_are_bounded_and_init_may_refuse() {
    let init = |body: &str| {
        format!(r#"(func (export "init") (param i32 i32 i32) (result i32) {body}) (data (i32.const 8) "\00\02no")"#)
    };
    for (part, expected) in [
        ("(func $s (loop $again (br $again))) (start $s)".to_owned(), "instantiation ran past its time limit"),
        ("(func $s unreachable) (start $s)".to_owned(), "instantiation failed: wasm trap"),
        (init("(loop $again (br $again)) (i32.const 0)"), "init ran past its time limit"),
        (init("(call $copy (i32.const 8) (i32.const 4)) (i32.const -2)"), "init refused (-2): no"),
        (init("(call $copy (i32.const -8) (i32.const 4)) (i32.const -2)"), "init refused (-2): error in init"),
        ("(table 1000000 funcref)".to_owned(), "1000000 table elements"),
    ] {
        let error = try_chain(&[&module(&[ALLOC, &map(ECHO), &part])]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_memory_that_starts_over_the_limit_is_refused() {
    let mut spec = stage("big", &echo());
    spec.limits = Limits { memory_bytes: 1 << 19, ..LIMITS };
    let error = Chain::new(&ENGINE, &[spec]).unwrap_err().to_string();
    assert!(error.contains("1048576 bytes of memory, over its limit of 524288"), "{error}");
}

#[test]
fn emitted_windows_are_partials_or_a_fault() {
    let set = |key: &[u8], value: &[u8]| {
        let mut set = RecordSetBuilder::default();
        set.push(Some(key), value, 0);
        set.bytes().to_vec()
    };
    let (key, sound) = (b"60000|1413849600000|total", b"\0\x02\0\x02\0\0\0\0\0");
    for (emitted, expected) in [
        (set(key, sound), None),
        (vec![0; 4], None),
        (vec![0; 6], Some("malformed windows: malformed record set: bytes left over")),
        (set(b"60000|total", sound), Some("malformed windows: not a window partial: bad key")),
        (set(key, &sound[..7]), Some("malformed windows: not a window partial: entry cut short")),
    ] {
        let data: String = emitted.iter().map(|b| format!("\\{b:02x}")).collect();
        let hooks = format!(
            r#"(data (i32.const 2048) "{data}")
            (func (export "clickmill_state_version") (result i32) (i32.const 0))
            (func (export "clickmill_save") (result i32) (call $copy (i32.const 0) (i32.const 0)) (i32.const 0))
            (func (export "clickmill_load") (param i32 i32) (result i32) (i32.const 0))
            (func (export "clickmill_emit") (result i32) (call $copy (i32.const 2048) (i32.const {})) (i32.const 0))
            (func (export "clickmill_pending") (result i32) (i32.const -1))
            (func (export "clickmill_watermark") (result i64) (i64.const 0))
            (func (export "clickmill_closed_before") (result i64) (i64.const 0))
            (func (export "clickmill_advance") (param i64) (result i32) (i32.const -9))"#,
            emitted.len()
        );
        let module = module(&[ALLOC, &map(ECHO), &hooks]);
        let fresh = || chain(&[&module]);
        match (fresh().emit(), expected) {
            (Ok(windows), None) => assert_eq!(windows, emitted),
            (Err(fault), Some(expected)) => assert!(fault.message.starts_with(expected), "{fault}"),
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
        assert!(fresh().advance(1).unwrap_err().message.contains("answered -9"));
        let mut chain = fresh();
        assert_eq!(chain.pending_bytes(), 0);
        assert!(chain.save().unwrap_err().message.contains("clickmill_pending answered -1"));
    }
}

#[test]
fn a_stateless_module_that_never_frees_is_renewed_before_its_limit() {
    // Touches 256 KiB more in each call, of 4 MiB.
    let leaky = format!("(if (i32.eq (memory.grow (i32.const 4)) (i32.const -1)) (then unreachable)) {ECHO}");
    let mut chain = chain(&[&module(&[ALLOC, &map(&leaky)])]);
    for _ in 0..100 {
        assert_eq!(process(&mut chain, &Batch::of(10)).unwrap().counted, 10);
    }
}

#[test]
fn a_batch_that_no_module_could_hold_is_a_fault_and_not_a_panic() {
    struct Huge;
    impl clickmill_engine::BatchSource for Huge {
        fn base_offset(&self) -> clickmill_schemas::Offset {
            clickmill_schemas::Offset(0)
        }
        fn base_timestamp_ms(&self) -> i64 {
            0
        }
        fn count(&self) -> u32 {
            1
        }
        fn records_len(&self) -> usize {
            usize::MAX
        }
        fn write_records(&self, _: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            unreachable!("there is no room for it")
        }
    }
    let error = chain(&[&echo()]).process(&Huge, &Default::default(), &mut Default::default()).unwrap_err();
    assert!(error.to_string().contains("more than a module can take"), "{error}");
}
