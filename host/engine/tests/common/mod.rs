//! Modules in WebAssembly text, and batches for them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use clickmill_engine::{
    BatchOutcome, BatchSource, Chain, ChainState, Engine, EngineError, EngineOptions, Fault, Limits, Module,
    ProcessError, StageSpec, Verdicts,
};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

/// Offset of the first record of every batch here.
pub const BASE: u64 = 1_000;

pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(&EngineOptions::default()).unwrap());

pub const LIMITS: Limits =
    Limits { memory_bytes: 4 << 20, output_bytes: 256 << 10, call_time: Duration::from_millis(100), call_fuel: None };

/// A batch of these values, one second apart.
pub struct Batch(pub RecordSetBuilder);

impl Batch {
    pub fn new<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        Self::keyed(values.into_iter().map(|v| (None, v)))
    }

    pub fn keyed<V: AsRef<[u8]>>(records: impl IntoIterator<Item = (Option<Vec<u8>>, V)>) -> Self {
        let mut set = RecordSetBuilder::default();
        for (i, (key, value)) in records.into_iter().enumerate() {
            set.push(key.as_deref(), value.as_ref(), 1_413_849_600_000 + i as i64 * 1_000);
        }
        Self(set)
    }

    pub fn of(records: usize) -> Self {
        Self::new((0..records).map(|i| format!("value {i}")))
    }
}

impl BatchSource for Batch {
    fn base_offset(&self) -> Offset {
        Offset(BASE)
    }
    fn base_timestamp_ms(&self) -> i64 {
        self.0.base_timestamp_ms()
    }
    fn count(&self) -> u32 {
        self.0.count()
    }
    fn records_len(&self) -> usize {
        self.0.bytes().len()
    }
    fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        dst.copy_from_slice(self.0.bytes());
        Ok(())
    }
}

/// A module of these parts: imports and 1 MiB of memory come with it, `$be` reads a u32, `$set_len` the length of the
/// record set of an input.
pub fn module(parts: &[&str]) -> Module {
    try_module(parts).unwrap()
}

pub fn try_module(parts: &[&str]) -> Result<Module, EngineError> {
    try_module_in(&ENGINE, parts)
}

pub fn try_module_in(engine: &Engine, parts: &[&str]) -> Result<Module, EngineError> {
    engine.compile(&wasm("", parts))
}

/// With these imports beside `copy_records`.
pub fn importing(imports: &str, parts: &[&str]) -> Result<Module, EngineError> {
    ENGINE.compile(&wasm(imports, parts))
}

fn wasm(imports: &str, parts: &[&str]) -> Vec<u8> {
    let wat = format!(
        r#"(module
            {imports}
            (import "env" "copy_records" (func $copy (param i32 i32)))
            (memory (export "memory") 16)
            (func $be (param $at i32) (result i32)
                (i32.or
                    (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
                            (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
                    (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
                            (i32.load8_u offset=3 (local.get $at)))))
            {})"#,
        parts.concat()
    );
    wat::parse_str(wat).unwrap()
}

/// Every input goes to the same place.
pub const ALLOC: &str = r#"(func (export "alloc") (param i32) (result i32) (i32.const 65536))"#;

/// A transform of this body; `$p` is the input's address.
pub fn transform(name: &str, body: &str) -> String {
    format!(r#"(func (export "{name}") (param $p i32) (param $n i32) (param $v i32) (result i32) {body})"#)
}

/// One that is called with whole batches.
pub fn map(body: &str) -> String {
    transform("map", body)
}

/// One that is called with one record at a time, where it knows no routes.
pub fn array_map(body: &str) -> String {
    transform("array_map", body)
}

/// Hands on its input: the byte behind the set is the first of a timestamp before the year 2 billion, 0.
pub const ECHO: &str = "(call $copy (i32.add (local.get $p) (i32.const 12)) (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 1)))
    (call $be (i32.add (local.get $p) (i32.const 12)))";

pub fn echo() -> Module {
    module(&[ALLOC, &map(ECHO)])
}

/// Answers every call with `output` and `answer`, and `routed` where it knows routes.
pub fn canned(output: &[u8], answer: usize, routed: Option<usize>) -> Module {
    let data: String = output.iter().map(|b| format!("\\{b:02x}")).collect();
    let routed =
        routed.map_or(String::new(), |n| format!(r#"(func (export "clickmill_routed") (result i32) (i32.const {n}))"#));
    let body = format!("(call $copy (i32.const 1024) (i32.const {})) (i32.const {answer})", output.len());
    module(&[ALLOC, &format!(r#"(data (i32.const 1024) "{data}")"#), &map(&body), &routed])
}

/// Counts records in its state and hands nothing on, as a window module does. Its watermark is the count; emits nothing.
/// The state is the count and, behind it, the last input. `check` runs first in each transform.
pub fn counter(check: &str) -> Module {
    module(&[
        ALLOC,
        r#"
        (global $count (mut i64) (i64.const 0))
        (global $last (mut i32) (i32.const 0))
        (func (export "clickmill_routed") (result i32) (i32.const 0))
        (func (export "clickmill_state_version") (result i32) (i32.const 1))
        (func (export "clickmill_save") (result i32)
            (i64.store (i32.const 65528) (global.get $count))
            (call $copy (i32.const 65528) (i32.add (i32.const 8) (global.get $last)))
            (i32.const 0))
        (func (export "clickmill_load") (param $p i32) (param $n i32) (result i32)
            (if (i32.lt_u (local.get $n) (i32.const 8)) (then
                (call $copy (i32.const 16) (i32.const 9))
                (return (i32.const -2))))
            (global.set $count (i64.load (local.get $p)))
            (i32.const 0))
        (data (i32.const 16) "too short")
        (func (export "clickmill_emit") (result i32) (call $copy (i32.const 0) (i32.const 4)) (i32.const 0))
        (func (export "clickmill_pending") (result i32) (i32.const 12))
        (func (export "clickmill_watermark") (result i64)
            (if (result i64) (i64.eqz (global.get $count))
                (then (i64.const 0x8000000000000000)) (else (global.get $count))))
        (func (export "clickmill_closed_before") (result i64) (i64.sub (global.get $count) (i64.const 5)))
        (func (export "clickmill_advance") (param $to i64) (result i32)
            (if (i64.gt_s (local.get $to) (global.get $count)) (then (global.set $count (local.get $to))))
            (i32.const 0))"#,
        &map(&format!(
            "(local $i i32)
            {check}
            (global.set $count (i64.add (global.get $count)
                (i64.extend_i32_u (call $be (i32.add (local.get $p) (i32.const 12))))))
            (global.set $last (local.get $n))
            (call $copy (i32.const 0) (i32.const 5))
            (i32.const 0)"
        )),
    ])
}

/// Runs `then` with `$i` at the first `EE EE` of the input.
pub fn at_poison(then: &str) -> String {
    format!(
        "(local.set $i (local.get $p))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (i32.add (local.get $p) (local.get $n))))
            (if (i32.eq (i32.load16_u (local.get $i)) (i32.const 0xeeee)) (then {then}))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))"
    )
}

pub fn stage(name: &str, module: &Module) -> StageSpec {
    StageSpec { name: name.into(), module: module.clone(), params: BTreeMap::new(), limits: LIMITS, lookback: None }
}

/// A chain of these modules, called `s0`, `s1`, …
pub fn chain(modules: &[&Module]) -> Chain {
    try_chain(modules).unwrap()
}

pub fn try_chain(modules: &[&Module]) -> Result<Chain, EngineError> {
    let stages: Vec<_> = modules.iter().enumerate().map(|(i, m)| stage(&format!("s{i}"), m)).collect();
    Chain::new(&ENGINE, &stages)
}

pub fn process(chain: &mut Chain, batch: &Batch) -> Result<BatchOutcome, Fault> {
    process_with(chain, batch, &Verdicts::default())
}

pub fn process_with(chain: &mut Chain, batch: &Batch, verdicts: &Verdicts) -> Result<BatchOutcome, Fault> {
    let mut out = BatchOutcome::default();
    match chain.process(batch, verdicts, &mut out) {
        Ok(()) => Ok(out),
        Err(ProcessError::Fault(fault)) => {
            assert_eq!(out, BatchOutcome::default(), "nothing of a failed batch counts");
            Err(fault)
        }
        Err(ProcessError::Source(e)) => panic!("{e}"),
    }
}

/// The state of the only stage that has one.
pub fn state_bytes(state: &ChainState) -> Vec<u8> {
    let (name, _, len) = state.stages().next().unwrap();
    let bytes = state.to_bytes();
    assert_eq!(bytes.len(), 4 + 2 + 2 + name.len() + 4 + 4 + len);
    bytes[bytes.len() - len..].to_vec()
}

/// Hands on each record as often as the last digit of its value says, the records' values and keys being any. Traps on
/// more than one record at a time, and runs `check` first in each call.
pub fn fan_out(check: &str) -> Module {
    module(&[
        ALLOC,
        &array_map(&format!(
            "(local $i i32) (local $copies i32) (local $len i32) (local $to i32)
            {check}
            (if (i32.ne (call $be (i32.add (local.get $p) (i32.const 12))) (i32.const 1)) (then unreachable))
            (local.set $len (i32.sub (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 4)))
            (local.set $i (i32.sub
                (i32.load8_u (i32.add (local.get $p) (i32.add (local.get $len) (i32.const 14))))
                (i32.const 48)))
            (local.set $copies (local.get $i))
            (i32.store (i32.const 262144) (i32.shl (local.get $copies) (i32.const 24)))
            (local.set $to (i32.const 262148))
            (block $done (loop $next
                (br_if $done (i32.eqz (local.get $i)))
                (memory.copy (local.get $to) (i32.add (local.get $p) (i32.const 16)) (local.get $len))
                (local.set $to (i32.add (local.get $to) (local.get $len)))
                (local.set $i (i32.sub (local.get $i) (i32.const 1)))
                (br $next)))
            (i32.store8 (local.get $to) (i32.const 0))
            (call $copy (i32.const 262144) (i32.sub (i32.add (local.get $to) (i32.const 1)) (i32.const 262144)))
            (local.get $copies)"
        )),
    ])
}

/// Counts records in its accumulator, a little-endian i64, and hands them on. `check` runs first in each call.
pub fn aggregate(check: &str) -> Module {
    module(&[
        ALLOC,
        &transform(
            "aggregate",
            &format!(
                "(local $i i32) (local $len i32) (local $acc i32)
                {check}
                (local.set $len (call $be (i32.add (local.get $p) (i32.const 8))))
                (local.set $acc (i32.add (i32.add (local.get $p) (local.get $len)) (i32.const 20)))
                (memory.copy (i32.const 262144) (i32.add (local.get $p) (i32.const 12)) (local.get $len))
                (local.set $i (i32.add (i32.const 262144) (local.get $len)))
                (i32.store8 (local.get $i) (i32.const 0))
                (i32.store offset=1 (local.get $i) (i32.const 0x08000000))
                (i64.store offset=5 (local.get $i) (i64.add
                    (i64.extend_i32_u (call $be (i32.add (local.get $p) (i32.const 12))))
                    (if (result i64) (i32.eqz (call $be (local.get $acc)))
                        (then (i64.const 0)) (else (i64.load offset=4 (local.get $acc))))))
                (call $copy (i32.const 262144) (i32.add (local.get $len) (i32.const 13)))
                (call $be (i32.add (local.get $p) (i32.const 12)))"
            ),
        ),
    ])
}

/// Passes records on if it was shown exactly `expected` ones before, and drops them if not.
pub fn looks_back(expected: usize) -> Module {
    module(&[
        ALLOC,
        "(global $seen (mut i32) (i32.const 0))",
        &transform("look_back", "(global.set $seen (call $be (i32.add (local.get $p) (i32.const 12)))) (i32.const 0)"),
        &transform(
            "filter",
            &format!(
                "(if (result i32) (i32.eq (global.get $seen) (i32.const {expected}))
                    (then {ECHO})
                    (else (call $copy (i32.const 0) (i32.const 5)) (i32.const 0)))"
            ),
        ),
    ])
}

/// An output with the error `no` that `fluvio-smartmodule` reports, at the place of a record with poison in it.
pub fn err_at_poison() -> String {
    at_poison("(call $copy (i32.const 4096) (i32.const 9)) (return (i32.const 0))")
}
/// For modules with [`err_at_poison`].
pub const NO: &str = r#"(data (i32.const 4096) "\00\00\00\00\01\00\02no")"#;

/// A part of this many records.
pub fn batch_of(records: usize, poisoned: &[usize]) -> Batch {
    Batch::new((0..records).map(|i| {
        if poisoned.contains(&i) { b"some \xee\xee thing 1".to_vec() } else { format!("value {i}").into_bytes() }
    }))
}
