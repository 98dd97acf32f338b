//! What a module says reaches the embedder, bounded; what it says last is in its fault.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use clickmill_engine::{Chain, Module};
use common::*;

const LOG: &str = r#"(import "env" "clickmill_log" (func $log (param i32 i32)))"#;
const FD_WRITE: &str =
    r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;

fn texts(chain: &mut Chain) -> Vec<(String, String, u64)> {
    chain.take_logs().into_iter().map(|line| (line.stage, line.text, line.left_out)).collect()
}

/// Says `text` in each call.
fn talker(text: &str, say: &str) -> Module {
    let data = format!(r#"(data (i32.const 1024) "{text}")"#);
    importing(LOG, &[ALLOC, &data, &map(&format!("(local $i i32) {say} {ECHO}"))]).unwrap()
}

#[test]
fn lines_reach_the_embedder_with_their_stage_once() {
    let say = "(call $log (i32.const 1024) (i32.const 11))";
    let mut chain = chain(&[&echo(), &talker("hello there", say), &talker("second one!", say)]);
    process(&mut chain, &Batch::of(3)).unwrap();
    let line = |stage: &str, text: &str| (stage.to_owned(), text.to_owned(), 0);
    assert_eq!(texts(&mut chain), [line("s1", "hello there"), line("s2", "second one!")]);
    assert_eq!(texts(&mut chain), []);
}

#[test]
fn a_storm_of_lines_is_counted_and_not_kept() {
    let storm = "(loop $more
        (call $log (i32.const 1024) (i32.const 1000000))
        (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))";
    let mut chain = chain(&[&talker("x\\0ay\\0az", storm)]);
    process(&mut chain, &Batch::of(1)).unwrap();
    let lines = chain.take_logs();
    let left_out: u64 = lines.iter().map(|line| line.left_out).sum();
    assert_eq!((lines.len() as u64 + left_out, lines.len()), (3_000, 64));
    assert!(lines.iter().all(|line| line.text.len() < 10_000));
    process(&mut chain, &Batch::of(1)).unwrap();
    assert_eq!(chain.take_logs().len(), 64, "what was taken makes room");
}

#[test]
fn lines_of_an_instance_that_failed_are_still_there_and_wild_ones_are_its_fault() {
    let then_trap = talker("before the end", "(call $log (i32.const 1024) (i32.const 14)) unreachable");
    let mut chain = chain(&[&then_trap]);
    process(&mut chain, &Batch::of(1)).unwrap_err();
    chain.restore(&Default::default()).unwrap();
    assert_eq!(texts(&mut chain), [("s0".into(), "before the end".into(), 0)]);
    for args in ["(i32.const 1048576) (i32.const 1)", "(i32.const -1) (i32.const -1)", "(i32.const 0) (i32.const -1)"] {
        let wild = talker("", &format!("(call $log {args})"));
        let fault = process(&mut self::chain(&[&wild]), &Batch::of(1)).unwrap_err();
        assert!(fault.message.contains("clickmill_log outside memory"), "{fault}");
    }
}

/// Traps; `hook` is the body of its clickmill_panic, `before` runs before the trap.
fn panicking(hook: &str, before: &str) -> Module {
    importing(
        FD_WRITE,
        &[
            ALLOC,
            &format!(r#"(func (export "clickmill_panic") (result i32) {hook})"#),
            r#"(data (i32.const 1024) "panicked at 'no\1b[2J', src/rules.rs:12")
            (data (i32.const 2048) "\08\08\00\00\0a\00\00\00stderr it\0a")"#,
            &map(&format!("{before} unreachable")),
        ],
    )
    .unwrap()
}

#[test]
fn the_message_of_a_panic_is_the_faults() {
    let message = |module: &Module| process(&mut chain(&[module]), &Batch::of(2)).unwrap_err().message;
    let told = panicking("(call $copy (i32.const 1024) (i32.const 37)) (i32.const 0)", "");
    assert_eq!(message(&told), "map failed: panicked at 'no\\u{1b}[2J', src/rules.rs:12");
    assert_eq!(message(&told), message(&told), "it is written down");
    // Whatever the hook does, the trap is told.
    for hook in [
        "unreachable",
        "(loop $again (br $again)) (i32.const 0)",
        "(i32.const -1)",
        "(i32.const 0)",
        "(call $copy (i32.const 1024) (i32.const 0)) (i32.const 0)",
        "(call $copy (i32.const -1) (i32.const 37)) (i32.const 0)",
        "(call $copy (i32.const 1024) (i32.const -1)) (i32.const 0)",
    ] {
        let message = message(&panicking(hook, ""));
        assert!(message.starts_with("map failed: wasm trap: wasm `unreachable`"), "{hook}: {message}");
    }
    let long = panicking("(call $copy (i32.const 1024) (i32.const 1000000)) (i32.const 0)", "");
    assert!(message(&long).len() < 5_000);
    // A trap of another kind is no panic.
    let divides = panicking(
        "(call $copy (i32.const 1024) (i32.const 37)) (i32.const 0)",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
    );
    assert!(message(&divides).contains("divide by zero"), "{}", message(&divides));
}

#[test]
fn what_a_call_wrote_to_standard_error_is_told_with_its_trap_whether_or_not_the_log_was_full() {
    let write = "(drop (call $write (i32.const 2) (i32.const 2048) (i32.const 1) (i32.const 3000)))";
    let mut chain = chain(&[&panicking("(i32.const -1)", write)]);
    let mut messages = Vec::new();
    for _ in 0..100 {
        messages.push(process(&mut chain, &Batch::of(1)).unwrap_err().message);
        chain.restore(&Default::default()).unwrap();
    }
    assert!(messages[0].ends_with("; it wrote stderr it"), "{}", messages[0]);
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(chain.take_logs().len(), 64);
}
