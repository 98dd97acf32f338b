//! A hostile module in a chain: whatever its calls answer and copy out, every record has one fate or the module a fault.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use clickmill_engine::{
    BatchOutcome, Chain, ChainState, Engine, EngineOptions, Limits, MemoryBatch, ProcessError, StageSpec, Verdicts,
};
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

use crate::windows::assert_partials;

/// Answers every call with what its state says. The state: answers of the transform, `clickmill_routed`,
/// `clickmill_save`, `clickmill_emit` and `clickmill_pending` (i32 each), a watermark and a `closed_before` (i64 each),
/// all little-endian, and then what every call copies out.
const HOSTILE: &str = r#"(module
    (import "env" "copy_records" (func $copy (param i32 i32)))
    (memory (export "memory") 16)
    (global $len (mut i32) (i32.const 0))
    (func $answer (param $at i32) (result i32)
        (call $copy (i32.const 524324) (global.get $len))
        (i32.load (local.get $at)))
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func (export "array_map") (param i32 i32 i32) (result i32) (call $answer (i32.const 524288)))
    (func (export "clickmill_routed") (result i32) (i32.load (i32.const 524292)))
    (func (export "clickmill_state_version") (result i32) (i32.const 1))
    (func (export "clickmill_save") (result i32) (call $answer (i32.const 524296)))
    (func (export "clickmill_emit") (result i32) (call $answer (i32.const 524300)))
    (func (export "clickmill_pending") (result i32) (i32.load (i32.const 524304)))
    (func (export "clickmill_watermark") (result i64) (i64.load (i32.const 524308)))
    (func (export "clickmill_closed_before") (result i64) (i64.load (i32.const 524316)))
    (func (export "clickmill_advance") (param i64) (result i32) (i32.load (i32.const 524304)))
    (func (export "clickmill_load") (param $at i32) (param $len i32) (result i32)
        (memory.copy (i32.const 524288) (local.get $at) (local.get $len))
        (global.set $len (i32.sub (local.get $len) (i32.const 36)))
        (i32.const 0)))"#;
/// Bytes of the state before what is copied out.
const HEAD: usize = 36;
/// Hands on its input.
pub(crate) const ECHO: &str = r#"(module
    (import "env" "copy_records" (func $copy (param i32 i32)))
    (memory (export "memory") 16)
    (func $be (param $at i32) (result i32)
        (i32.or
            (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
                    (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
            (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
                    (i32.load8_u offset=3 (local.get $at)))))
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func (export "array_map") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (call $copy (i32.add (local.get $p) (i32.const 12))
            (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 1)))
        (call $be (i32.add (local.get $p) (i32.const 12)))))"#;
const LIMITS: Limits =
    Limits { memory_bytes: 4 << 20, output_bytes: 256 << 10, call_time: Duration::from_millis(500), call_fuel: None };
const STAGE: &str = "hostile";
pub(crate) const BASE: u64 = 1_000;
const RECORDS: u64 = 3;

thread_local! {
    /// The hostile module alone, as the last of two, and as the first.
    static CHAINS: RefCell<[Chain; 3]> = RefCell::new(chains());
}

fn chains() -> [Chain; 3] {
    let engine = Engine::new(&EngineOptions::default()).expect("an engine starts");
    let stage = |name: &str, wat| {
        let wasm = wat::parse_str(wat).expect("the module is sound text");
        let module = engine.compile(&wasm).expect("the module is sound");
        StageSpec { name: name.to_owned(), module, params: BTreeMap::new(), limits: LIMITS, lookback: None }
    };
    let (hostile, echo) = (stage(STAGE, HOSTILE), stage("echo", ECHO));
    [vec![hostile.clone()], vec![echo.clone(), hostile.clone()], vec![hostile, echo]]
        .map(|stages| Chain::new(&engine, &stages).expect("a chain is made"))
}

/// Bytes as the state that decides what a module answers.
pub fn guest_output(data: &[u8]) {
    if data.len() < HEAD || data.len() > LIMITS.output_bytes {
        return;
    }
    CHAINS.with_borrow_mut(|chains| chains.iter_mut().for_each(|chain| run(chain, data)));
}

fn run(chain: &mut Chain, answers: &[u8]) {
    let state = state(answers);
    let restore = |chain: &mut Chain| chain.restore(&state).expect("the module takes any state");
    let mut batch = RecordSetBuilder::default();
    (0..RECORDS).for_each(|n| batch.push(None, format!("value {n}").as_bytes(), 1_413_849_600_000));

    restore(chain);
    let mut out = BatchOutcome::default();
    match chain.process(&MemoryBatch::new(Offset(BASE), batch), &Verdicts::default(), &mut out) {
        Ok(()) => assert_fates(&out),
        Err(ProcessError::Fault(fault)) => {
            assert_eq!(out, BatchOutcome::default(), "nothing of a failed batch counts");
            assert_eq!(chain.save().expect_err("a chain with a fault is unusable"), fault);
            restore(chain);
        }
        Err(ProcessError::Source(e)) => panic!("the batch is sound: {e}"),
    }
    match chain.emit() {
        Ok(emitted) => drop(assert_partials(&emitted)),
        Err(_) => restore(chain),
    }
    match chain.save() {
        Ok(saved) => assert_eq!(ChainState::from_bytes(&saved.to_bytes()).expect("what was saved reads"), saved),
        Err(_) => restore(chain),
    }
    let _ = (chain.pending_bytes(), chain.watermark(), chain.closed_before(), chain.advance(5));
}

fn state(answers: &[u8]) -> ChainState {
    let mut bytes = b"CMS\x01\0\x01".to_vec();
    bytes.extend_from_slice(&(STAGE.len() as u16).to_be_bytes());
    bytes.extend_from_slice(STAGE.as_bytes());
    bytes.extend_from_slice(&1i32.to_be_bytes());
    bytes.extend_from_slice(&(answers.len() as u32).to_be_bytes());
    bytes.extend_from_slice(answers);
    ChainState::from_bytes(&bytes).expect("a state of one stage")
}

fn assert_fates(out: &BatchOutcome) {
    assert!(out.is_balanced() && out.records == RECORDS, "{out:?}");
    let mut offsets: Vec<u64> = out.routed.iter().map(|routed| routed.offset.0).collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), out.routed.len(), "a record is routed twice: {out:?}");
    assert!(offsets.iter().all(|offset| (BASE..BASE + RECORDS).contains(offset)), "{out:?}");
}
