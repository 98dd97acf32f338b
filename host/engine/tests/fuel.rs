//! Fuel is the same for the same calls, bounds a call where it is limited, and is not there in an engine that does not
//! meter.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::sync::LazyLock;
use std::time::Duration;

use clickmill_engine::{
    BatchOutcome, Chain, ChainState, Engine, EngineError, EngineOptions, Isolated, Limits, Module, Verdicts, isolate,
};
use common::*;

static METERING: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&EngineOptions { fuel: true, ..EngineOptions::default() }).unwrap());

/// Hands on its input; its work grows with the number of bytes, and without end on poison.
fn scanner() -> Module {
    let scan = at_poison("(loop $again (br $again))");
    try_module_in(&METERING, &[ALLOC, &map(&format!("(local $i i32) {scan} {ECHO}"))]).unwrap()
}

fn metered(call_fuel: Option<u64>) -> Chain {
    let module = scanner();
    let specs: Vec<_> = ["s0", "s1"]
        .into_iter()
        .map(|name| {
            let mut spec = stage(name, &module);
            spec.limits = Limits { call_fuel, call_time: Duration::from_secs(20), ..LIMITS };
            spec
        })
        .collect();
    Chain::new(&METERING, &specs).unwrap()
}

fn fuel(chain: &Chain) -> Vec<(String, u64)> {
    chain.fuel().map(|(stage, fuel)| (stage.to_owned(), fuel)).collect()
}

#[test]
fn the_same_batches_burn_the_same_fuel_and_more_records_more() {
    let (mut one, mut other) = (metered(None), metered(None));
    let mut before = fuel(&one);
    for records in [1, 10, 100] {
        process(&mut one, &Batch::of(records)).unwrap();
        process(&mut other, &Batch::of(records)).unwrap();
        let after = fuel(&one);
        assert_eq!(after, fuel(&other));
        let used: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after.1 - before.1).collect();
        // Each byte of the batch is some instructions.
        assert!(used.iter().all(|used| (records as u64 * 100..records as u64 * 2_000).contains(used)), "{used:?}");
        before = after;
    }
    assert_eq!(before.iter().map(|(stage, _)| stage.as_str()).collect::<Vec<_>>(), ["s0", "s1"]);
}

#[test]
fn a_restored_chain_goes_on_counting() {
    let mut chain = metered(None);
    process(&mut chain, &Batch::of(10)).unwrap();
    let before = fuel(&chain);
    chain.restore(&ChainState::default()).unwrap();
    process(&mut chain, &Batch::of(10)).unwrap();
    let twice: Vec<_> = before.iter().map(|(stage, fuel)| (stage.clone(), fuel * 2)).collect();
    assert_eq!(fuel(&chain), twice, "this module burns nothing at its start");
}

#[test]
fn a_call_that_burns_more_than_its_limit_fails_and_the_record_is_found() {
    let mut chain = metered(Some(20_000));
    let poisoned = Batch::new([&b"fine"[..], b"fine too", b"\xee\xee", b"fine again"]);
    let fault = process(&mut chain, &poisoned).unwrap_err();
    assert!(fault.message.starts_with("map ran past its fuel limit of 20000; in "), "{}", fault.message);
    assert!(chain.fuel().next().unwrap().1 >= 20_000, "what failed was burnt as well");

    let (before, mut out) = (ChainState::default(), BatchOutcome::default());
    let isolated = isolate(&mut chain, &before, &poisoned, &Verdicts::default(), &|| false, &mut out).unwrap();
    let Isolated::Culprit(culprit) = isolated else { panic!("{isolated:?}") };
    assert_eq!((culprit.offset.0, culprit.message), (BASE + 2, fault.message));
}

#[test]
fn a_batch_that_burns_too_much_at_once_passes_in_parts() {
    let mut chain = metered(Some(20_000));
    let large = Batch::of(200);
    assert!(process(&mut chain, &large).unwrap_err().message.contains("fuel limit"));
    let (before, mut out) = (ChainState::default(), BatchOutcome::default());
    let isolated = isolate(&mut chain, &before, &large, &Verdicts::default(), &|| false, &mut out).unwrap();
    assert_eq!((isolated, out.counted), (Isolated::Passed, 200));
}

#[test]
fn an_engine_that_does_not_meter_has_no_fuel_and_takes_no_limit_of_it() {
    let mut plain = chain(&[&echo()]);
    process(&mut plain, &Batch::of(10)).unwrap();
    assert_eq!(plain.fuel().count(), 0);
    let mut spec = stage("s0", &echo());
    spec.limits.call_fuel = Some(1_000_000);
    let refused = Chain::new(&ENGINE, &[spec]).unwrap_err();
    assert!(matches!(&refused, EngineError::NotMetering { stage } if stage == "s0"), "{refused}");
}
