//! Modules that wasm-smith makes of bytes, with a SmartModule's exports: each is refused, or every call of it ends in an
//! outcome or a fault, in its time, and the engine goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use clickmill_engine::{
    BatchOutcome, Chain, ChainState, Engine, EngineOptions, Limits, MemoryBatch, Module, ProcessError, StageSpec,
    Verdicts, isolate,
};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;
use wasm_smith::Config;

use crate::chain::{BASE, ECHO};

/// All that a module may import.
const IMPORTS: &str = r#"(module
    (import "env" "copy_records" (func (param i32 i32)))
    (import "env" "clickmill_log" (func (param i32 i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
const TRANSFORMS: [&str; 5] = ["array_map", "filter", "map", "filter_map", "aggregate"];
/// Exports that a module may have, in groups of which it has all or none.
const GROUPS: [&[(&str, &str)]; 6] = [
    &[("dealloc", "(param i32 i32)")],
    &[("init", "(param i32 i32 i32) (result i32)")],
    &[("clickmill_routed", "(result i32)")],
    &[("clickmill_panic", "(result i32)"), ("_initialize", "")],
    &[
        ("clickmill_state_version", "(result i32)"),
        ("clickmill_save", "(result i32)"),
        ("clickmill_load", "(param i32 i32) (result i32)"),
    ],
    &[
        ("clickmill_emit", "(result i32)"),
        ("clickmill_pending", "(result i32)"),
        ("clickmill_watermark", "(result i64)"),
        ("clickmill_closed_before", "(result i64)"),
        ("clickmill_advance", "(param i64) (result i32)"),
    ],
];
const LIMITS: Limits =
    Limits { memory_bytes: 4 << 20, output_bytes: 256 << 10, call_time: Duration::from_millis(10), call_fuel: None };
/// Far more than all calls of an input may take together, on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);
const RECORDS: usize = 3;

struct Lab {
    engine: Engine,
    sound: Chain,
}

thread_local! {
    static LAB: RefCell<Lab> = RefCell::new(lab());
}

fn lab() -> Lab {
    let engine = Engine::new(&EngineOptions::default()).expect("an engine starts");
    let echo = engine.compile(&wat::parse_str(ECHO).expect("the module is sound text")).expect("the module is sound");
    let sound = chain(&engine, echo).expect("the module is sound");
    Lab { engine, sound }
}

fn chain(engine: &Engine, module: Module) -> Option<Chain> {
    let spec = StageSpec { name: "made".into(), module, params: BTreeMap::new(), limits: LIMITS, lookback: None };
    Chain::new(engine, &[spec]).ok()
}

/// Bytes as a choice of exports (two) and what wasm-smith makes a module of.
pub fn made_module(data: &[u8]) {
    let Some(([transform, groups], rest)) = data.split_first_chunk() else { return };
    let Some(wasm) = module(*transform, *groups, rest) else { return };
    LAB.with_borrow_mut(|Lab { engine, sound }| {
        let begun = Instant::now();
        if let Some(mut chain) = engine.compile(&wasm).ok().and_then(|module| chain(engine, module)) {
            drive(&mut chain);
        }
        assert!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
        let mut out = BatchOutcome::default();
        sound.process(&batch(), &Verdicts::default(), &mut out).expect("a sound module goes on");
        assert_eq!(out.counted, RECORDS as u64);
    });
}

fn module(transform: u8, groups: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut exports = r#"(module (memory (export "memory") 1)"#.to_owned();
    let mut export = |name: &str, of: &str| exports.push_str(&format!(r#"(func (export "{name}") {of} unreachable)"#));
    export("alloc", "(param i32) (result i32)");
    export(TRANSFORMS[usize::from(transform) % TRANSFORMS.len()], "(param i32 i32 i32) (result i32)");
    let chosen = GROUPS.iter().enumerate().filter(|(i, _)| groups >> i & 1 == 1);
    chosen.flat_map(|(_, group)| *group).for_each(|(name, of)| export(name, of));
    exports.push(')');
    let parsed = |text: &str| wat::parse_str(text).expect("sound text");
    let config = Config {
        available_imports: Some(parsed(IMPORTS)),
        exports: Some(parsed(&exports)),
        gc_enabled: false,
        exceptions_enabled: false,
        memory64_enabled: false,
        max_memories: 1,
        max_memory32_bytes: 1 << 20,
        max_instructions: 200,
        ..Config::default()
    };
    Some(wasm_smith::Module::new(config, &mut Unstructured::new(bytes)).ok()?.to_bytes())
}

fn batch() -> MemoryBatch {
    let mut batch = RecordSetBuilder::default();
    (0..RECORDS).for_each(|n| batch.push(None, format!("value {n}").as_bytes(), 1_413_849_600_000));
    MemoryBatch::new(Offset(BASE), batch)
}

fn drive(chain: &mut Chain) {
    let (mut out, mut passed, none) = (BatchOutcome::default(), Vec::new(), ChainState::default());
    match chain.process_collecting(&batch(), &Verdicts::default(), &mut out, &mut passed) {
        Ok(()) => assert!(out.is_balanced() && out.records == RECORDS as u64, "{out:?}"),
        Err(ProcessError::Fault(fault)) => {
            assert!(out == BatchOutcome::default() && passed.is_empty(), "nothing of a failed batch counts");
            assert!(fault.message.len() < 20_000 && !fault.message.contains(char::is_control), "{fault}");
            assert_eq!(chain.save().expect_err("a chain with a fault is unusable"), fault);
            // Whoever is at fault, the host finds it or the parts pass; a module may also fail apart from any record.
            let _ = isolate(chain, &none, &batch(), &Verdicts::default(), &|| false, &mut out);
        }
        Err(ProcessError::Source(e)) => panic!("the batch is sound: {e}"),
    }
    let lines = chain.take_logs();
    assert!(lines.len() <= 64 && lines.iter().all(|line| !line.text.contains(char::is_control)), "{lines:?}");
    // What stands in the way is a fault each time; a module need not start a second time.
    let _ = chain.restore(&none);
    let saved = chain.save();
    let _ = (chain.emit(), chain.pending_bytes(), chain.watermark(), chain.closed_before(), chain.advance(5));
    if let Ok(saved) = saved {
        assert_eq!(ChainState::from_bytes(&saved.to_bytes()).expect("what was saved reads"), saved);
        let _ = chain.restore(&saved);
    }
}
