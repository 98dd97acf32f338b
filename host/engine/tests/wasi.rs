//! Modules for wasm32-wasip1 run where they only ask what has a constant answer, and are refused by name otherwise.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::io::Write;
use std::process::Command;

use clickmill_engine::{EngineError, Module};
use common::*;

/// A module that calls WASI's `name` with these arguments and then `then`.
fn calling(name: &str, of: &str, args: &str, then: &str) -> Result<Module, EngineError> {
    let import = format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $wasi {of}))"#);
    importing(&import, &[ALLOC, &map(&format!("(call $wasi {args}) {then} {ECHO}"))])
}

/// Traps unless the answer is this errno.
fn answers(errno: i32) -> String {
    format!("(if (i32.ne (i32.const {errno})) (then unreachable))")
}

#[test]
fn harmless_functions_have_constant_answers() {
    let is = |at: u32, value: i64| {
        format!("(if (i64.ne (i64.load (i32.const {at})) (i64.const {value})) (then unreachable))")
    };
    let two = "(param i32 i32) (result i32)";
    for (name, of, args, then) in [
        ("args_get", two, "(i32.const 0) (i32.const 0)", answers(0)),
        ("args_sizes_get", two, "(i32.const 8) (i32.const 12)", answers(0) + &is(8, 0)),
        ("environ_get", two, "(i32.const 0) (i32.const 0)", answers(0)),
        ("environ_sizes_get", two, "(i32.const 8) (i32.const 12)", answers(0) + &is(8, 0)),
        ("clock_res_get", two, "(i32.const 0) (i32.const 8)", answers(0) + &is(8, 1_000_000)),
        (
            "clock_time_get",
            "(param i32 i64 i32) (result i32)",
            "(i32.const 0) (i64.const 1) (i32.const 8)",
            answers(0) + &is(8, 0),
        ),
        ("random_get", two, "(i32.const 8) (i32.const 8)", answers(0) + &is(8, RANDOM)),
        ("fd_close", "(param i32) (result i32)", "(i32.const 5)", answers(8)),
        ("fd_fdstat_get", two, "(i32.const 1) (i32.const 8)", answers(0) + &is(8, 2)),
        ("fd_fdstat_get", two, "(i32.const 3) (i32.const 8)", answers(8)),
        ("fd_prestat_get", two, "(i32.const 3) (i32.const 8)", answers(8)),
        (
            "fd_prestat_dir_name",
            "(param i32 i32 i32) (result i32)",
            "(i32.const 3) (i32.const 8) (i32.const 8)",
            answers(8),
        ),
        (
            "fd_seek",
            "(param i32 i64 i32 i32) (result i32)",
            "(i32.const 1) (i64.const 0) (i32.const 0) (i32.const 8)",
            answers(70),
        ),
        ("sched_yield", "(result i32)", "", answers(0)),
    ] {
        let mut chain = chain(&[&calling(name, of, args, &then).unwrap()]);
        for _ in 0..2 {
            assert_eq!(process(&mut chain, &Batch::of(2)).unwrap().counted, 2, "{name}");
        }
    }
}

/// The first eight random bytes, little-endian: fixed, since results depend on them.
const RANDOM: i64 = 1222274539429538348;

#[test]
fn wild_arguments_are_answered_with_an_error_or_end_the_call() {
    let two = "(param i32 i32) (result i32)";
    let write = "(param i32 i32 i32 i32) (result i32)";
    for (name, of, args, errno) in [
        ("args_sizes_get", two, "(i32.const -1) (i32.const 8)", 21),
        ("environ_sizes_get", two, "(i32.const 8) (i32.const -4)", 21),
        ("random_get", two, "(i32.const 1048570) (i32.const 8)", 21),
        ("random_get", two, "(i32.const 0) (i32.const -1)", 28),
        ("fd_fdstat_get", two, "(i32.const 1) (i32.const 1048570)", 21),
        ("fd_write", write, "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)", 8),
        ("fd_write", write, "(i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0)", 8),
        ("fd_write", write, "(i32.const 1) (i32.const -1) (i32.const 1) (i32.const 0)", 21),
        ("fd_write", write, "(i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0)", 28),
        ("fd_write", write, "(i32.const 1) (i32.const 0) (i32.const 1) (i32.const -1)", 21),
    ] {
        let mut chain = chain(&[&calling(name, of, args, &answers(errno)).unwrap()]);
        assert_eq!(process(&mut chain, &Batch::of(2)).unwrap().counted, 2, "{name} {args}");
    }
    let exits = calling("proc_exit", "(param i32)", "(i32.const 3)", "").unwrap();
    let fault = process(&mut chain(&[&exits]), &Batch::of(1)).unwrap_err();
    assert!(fault.message.starts_with("map failed: it called proc_exit(3); in "), "{fault}");
}

#[test]
fn a_storm_of_output_ends_with_the_time_of_the_call() {
    // 1,024 buffers of 512 KiB each: the sum is believed, the bytes are not copied.
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func $wasi (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(local $i i32)
        (loop $fill
            (i64.store (i32.add (i32.const 8192) (local.get $i)) (i64.const 0x0008000000000000))
            (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 8192))))
        (loop $again (drop (call $wasi (i32.const 1) (i32.const 8192) (i32.const 1024) (i32.const 8))) (br $again))
        (i32.const 0)";
    let module = importing(import, &[ALLOC, &map(body)]).unwrap();
    let started = std::time::Instant::now();
    let mut chain = chain(&[&module]);
    let fault = process(&mut chain, &Batch::of(1)).unwrap_err();
    assert!(fault.message.contains("time limit"), "{fault}");
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(chain.take_logs().is_empty(), "zeros without a line end are no line");
}

#[test]
fn everything_else_of_wasi_is_refused_by_name() {
    for (name, of) in [
        ("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"),
        ("fd_read", "(param i32 i32 i32 i32) (result i32)"),
        ("sock_send", "(param i32 i32 i32 i32 i32) (result i32)"),
        ("poll_oneoff", "(param i32 i32 i32 i32) (result i32)"),
        // One that is there, of another type.
        ("random_get", "(param i64 i32) (result i32)"),
    ] {
        let import = format!(r#"(import "wasi_snapshot_preview1" "{name}" (func {of}))"#);
        let error = importing(&import, &[ALLOC, &map(ECHO)]).unwrap_err().to_string();
        assert!(error.contains(&format!("imports wasi_snapshot_preview1.{name} (")), "{error}");
        assert!(error.contains("that reach nothing outside: args_get, "), "{error}");
    }
}

#[test]
fn initialize_is_called_before_init_and_is_bounded() {
    let module = |body: &str| {
        let parts = [
            ALLOC,
            r#"(global $ready (mut i32) (i32.const 0))"#,
            &format!(r#"(func (export "_initialize") {body})"#),
            r#"(func (export "init") (param i32 i32 i32) (result i32) (i32.sub (global.get $ready) (i32.const 1)))"#,
            &map(ECHO),
        ];
        try_chain(&[&importing("", &parts).unwrap()])
    };
    assert!(module("(global.set $ready (i32.const 1))").is_ok());
    let error = module("").unwrap_err().to_string();
    assert!(error.contains("init refused (-1)"), "{error}");
    let error = module("(loop $again (br $again))").unwrap_err().to_string();
    assert!(error.contains("_initialize ran past its time limit"), "{error}");
    let typed = importing("", &[ALLOC, &map(ECHO), r#"(func (export "_initialize") (param i32))"#]);
    assert!(typed.unwrap_err().to_string().contains("_initialize is (i32) -> ()"));
}

/// What rustc makes of a crate for wasm32-wasip1; `None` where this machine's has no such target.
fn rustc_wasip1(source: &str) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("lib.rs"), dir.path().join("lib.wasm"));
    std::fs::write(&from, source).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--target=wasm32-wasip1", "--crate-type=cdylib", "-O", "-o"]).arg(&to).arg(&from);
    let built = rustc.output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    if said.contains("can't find crate for `std`") {
        if let Some(file) = std::env::var_os("CLICKMILL_SKIPS_FILE") {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
            writeln!(file, "a module that rustc built for wasm32-wasip1: `rustup target add wasm32-wasip1`").unwrap();
        }
        return None;
    }
    assert!(built.status.success(), "{said}");
    Some(std::fs::read(to).unwrap())
}

#[test]
fn a_module_that_rustc_built_for_wasip1_runs_says_and_panics() {
    let source = r#"
        use std::collections::HashMap;
        #[link(wasm_import_module = "env")]
        unsafe extern "C" { fn copy_records(at: *const u8, len: usize); }
        #[unsafe(no_mangle)] pub extern "C" fn alloc(len: usize) -> *mut u8 { Vec::with_capacity(len).leak().as_mut_ptr() }
        #[unsafe(no_mangle)] pub extern "C" fn map(at: *mut u8, len: usize, _: i32) -> i32 {
            let input = unsafe { std::slice::from_raw_parts(at, len) };
            let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let map: HashMap<u8, usize> = input.iter().map(|b| (*b, 1)).collect();
            println!("{} bytes at {:?}, args {}, var {:?}", map.len().min(1), time, std::env::args().count(), std::env::var("PATH").is_ok());
            if input.windows(4).any(|w| w == b"fail") { panic!("told to fail"); }
            let set = &input[12..len - 8];
            unsafe { copy_records(set.as_ptr(), set.len() + 1) };
            i32::from_be_bytes(set[..4].try_into().unwrap())
        }"#;
    let Some(wasm) = rustc_wasip1(source) else { return };
    let mut chain = chain(&[&ENGINE.compile(&wasm).unwrap()]);
    assert_eq!(process(&mut chain, &Batch::of(3)).unwrap().counted, 3);
    let texts = |chain: &mut clickmill_engine::Chain| chain.take_logs().into_iter().map(|l| l.text).collect::<Vec<_>>();
    assert_eq!(texts(&mut chain), ["1 bytes at 0ns, args 0, var false"]);
    let fault = process(&mut chain, &Batch::new(["fine", "fail"])).unwrap_err();
    assert!(fault.message.contains("; it wrote "), "{fault}");
    assert!(fault.message.contains("panicked at ") && fault.message.contains("told to fail"), "{fault}");
    assert!(texts(&mut chain).iter().any(|line| line.contains("told to fail")));
}
