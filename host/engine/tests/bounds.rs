//! A module that would keep the compiler busy for minutes, or fill the memory, is refused before it is compiled.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::{Duration, Instant};

use common::*;

/// The refusal of a module with these parts beside a transform; it comes at once.
fn refused(parts: &[&str]) -> String {
    let wasm = wat::parse_str(format!("(module {})", parts.concat())).unwrap();
    let started = Instant::now();
    let error = ENGINE.compile(&wasm).unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    error
}

fn assert_over(parts: &[&str], expected: &str) {
    let error = refused(parts);
    assert!(error.contains(&format!("is more than is compiled: {expected}")), "{error}");
}

#[test]
fn too_much_of_anything_is_refused_by_what_it_is() {
    let times = |what: &str, n: usize| what.repeat(n);
    assert_over(&[&times("(func)", 50_001)], "50001 functions are over the limit of 50000");
    assert_over(&[r#"(import "env" "x" (func))"#.repeat(20_001).as_str()], "20001 imports are over the limit of 20000");
    let exports: String = (0..20_001).map(|i| format!(r#"(export "e{i}" (func 0))"#)).collect();
    assert_over(&["(func)", &exports], "20001 exports are over the limit of 20000");
    assert_over(&[&times("(global i32 (i32.const 0))", 20_001)], "20001 globals");
    let types: String = (0..20_001).map(|i| format!("(type (func (param {})))", "i32 ".repeat(i % 7))).collect();
    assert_over(&[&types], "20001 types");
    let func = |body: &str| format!("(func {body})");
    assert_over(&[&func(&times("nop ", 65_536))], "65537 instructions in one function are over the limit of 65536");
    assert_over(&[&times(&func(&times("nop ", 65_000)), 31)], "2015031 instructions are over the limit of 2000000");
    assert_over(&[&func(&times("(loop)", 1_001))], "1001 loops in one function");
    assert_over(&[&times(&func(&times("(loop)", 1_000)), 51)], "51000 loops are over");
    assert_over(&[&func(&format!("(local {})", times("i64 ", 10_001)))], "10001 locals in one function");
    let targets = format!("(block (br_table {} (i32.const 0)))", times("0 ", 65_536));
    assert_over(&[&func(&targets)], "65540 instructions in one function");
}

#[test]
fn what_costs_the_compiler_most_is_compiled_in_bounded_time_where_it_is_not_refused() {
    // A tenth of what passes; the limits are for seconds, not for the minutes and gigabytes that these once took.
    let roots = format!("(func (drop {}(f64.const 2){}))", "(f64.sqrt ".repeat(2_000), ")".repeat(2_000));
    let nested = format!("(func {}{})", "(loop ".repeat(1_000), ")".repeat(1_000));
    let blocks = format!("(func {}{})", "(block ".repeat(30_000), ")".repeat(30_000));
    for (parts, what) in [(roots.repeat(10), "roots"), (nested, "nested loops"), (blocks, "nested blocks")] {
        let started = Instant::now();
        let module = module(&[ALLOC, &array_map(ECHO), &parts]);
        assert_eq!(process(&mut chain(&[&module]), &Batch::of(1)).unwrap().counted, 1, "{what}");
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: {:?}", started.elapsed());
    }
}

#[test]
fn a_module_that_is_cut_short_anywhere_is_refused() {
    let wasm = wat::parse_str(format!(
        r#"(module (import "env" "copy_records" (func $copy (param i32 i32))) (memory (export "memory") 1)
            (data (i32.const 8) "data") {ALLOC} {})"#,
        array_map("(call $copy (i32.const 0) (i32.const 5)) (i32.const 0)")
    ))
    .unwrap();
    ENGINE.compile(&wasm).unwrap();
    let passed = (0..wasm.len()).filter(|cut| ENGINE.compile(&wasm[..*cut]).is_ok()).count();
    // Before the names and before the data: what is left is a module.
    assert_eq!(passed, 2);
}

#[test]
fn a_large_data_segment_lies_in_memory_or_is_refused() {
    let data =
        |at: usize| format!(r#"(memory (export "memory") 64) (data (i32.const {at}) "{}")"#, "x".repeat(3 << 20));
    let wasm = |at| wat::parse_str(format!("(module {} {ALLOC} {})", data(at), array_map("(i32.const 0)"))).unwrap();
    try_chain(&[&ENGINE.compile(&wasm(1 << 20)).unwrap()]).unwrap();
    let error = try_chain(&[&ENGINE.compile(&wasm(2 << 20)).unwrap()]).unwrap_err().to_string();
    assert!(error.contains("instantiation failed: wasm trap: out of bounds memory access"), "{error}");
    let too_large = ENGINE.compile(&vec![0; (32 << 20) + 1]).unwrap_err().to_string();
    assert!(too_large.contains("33554433 bytes is over the limit of 33554432"), "{too_large}");
}
