//! State is saved, put back and handed on; the record at fault is found in the state that it fails in.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use clickmill_engine::{BatchOutcome, Chain, ChainState, Culprit, EngineError, Isolated, Module, Verdicts, isolate};
use clickmill_schemas::Offset;
use common::*;

/// `records` values, those at `poisoned` with poison in them.
fn batch(records: usize, poisoned: &[usize]) -> Batch {
    Batch::new((0..records).map(|i| {
        if poisoned.contains(&i) { b"some \xee\xee thing".to_vec() } else { format!("value {i}").into_bytes() }
    }))
}

#[test]
fn a_restored_chain_goes_on_where_it_was_saved() {
    let module = counter("");
    let mut first = chain(&[&echo(), &module]);
    assert_eq!((first.watermark(), first.closed_before()), (None, Some(-5)));
    process(&mut first, &Batch::of(30)).unwrap();
    let saved = ChainState::from_bytes(&first.save().unwrap().to_bytes()).unwrap();
    process(&mut first, &Batch::of(30)).unwrap();
    assert_eq!(first.watermark(), Some(60));
    for mut chain in [first, chain(&[&echo(), &module])] {
        chain.restore(&saved).unwrap();
        process(&mut chain, &Batch::of(5)).unwrap();
        assert_eq!((chain.watermark(), chain.closed_before(), chain.pending_bytes()), (Some(35), Some(30), 12));
        chain.advance(100).unwrap();
        chain.advance(7).unwrap();
        assert_eq!(chain.watermark(), Some(100));
        assert_eq!(chain.emit().unwrap(), [0, 0, 0, 0]);
        chain.restore(&ChainState::default()).unwrap();
        assert_eq!(chain.watermark(), None, "without a state a stage starts empty");
    }
}

#[test]
fn a_state_finds_its_stage_by_name_and_is_never_lost_silently() {
    let module = counter("");
    let chain_of = |stages: &[(&str, &Module)]| {
        let specs: Vec<_> = stages.iter().map(|(name, module)| stage(name, module)).collect();
        clickmill_engine::Chain::new(&ENGINE, &specs).unwrap()
    };
    let mut old = chain_of(&[("window", &module)]);
    process(&mut old, &Batch::of(9)).unwrap();
    let saved = old.save().unwrap();
    let mut longer = chain_of(&[("filter", &echo()), ("window", &module)]);
    longer.restore(&saved).unwrap();
    assert_eq!(longer.watermark(), Some(9));
    for (stages, expected) in [
        (&[("window2", &module)][..], "there is one of stage window, and no such stage"),
        (&[("window", &echo())], "stage window keeps none and is given one"),
    ] {
        let mut chain = chain_of(stages);
        let error = chain.restore(&saved).unwrap_err();
        assert!(matches!(error, EngineError::State(_)) && error.to_string().contains(expected), "{error}");
        assert_eq!(process(&mut chain, &Batch::of(2)).unwrap().counted, 2, "nothing has changed");
    }
}

#[test]
fn a_state_that_a_module_refuses_is_told_in_its_words() {
    let mut chain = chain(&[&counter("")]);
    let mut bytes = chain.save().unwrap().to_bytes();
    bytes.truncate(bytes.len() - 8 - 4);
    bytes.extend_from_slice(&[0, 0, 0, 3, 1, 2, 3]);
    let error = chain.restore(&ChainState::from_bytes(&bytes).unwrap()).unwrap_err().to_string();
    assert!(error.contains("stage s0") && error.contains("state of version 1: too short"), "{error}");
    assert!(chain.save().is_err(), "a chain that was not restored is unusable");
    chain.restore(&ChainState::default()).unwrap();
    assert!(chain.save().is_ok());
}

/// The record at fault, if there is one.
fn first_culprit(chain: &mut Chain, before: &ChainState, batch: &Batch, known: &Verdicts) -> Option<Culprit> {
    match isolate(chain, before, batch, known, &|| false, &mut BatchOutcome::default()).unwrap() {
        Isolated::Culprit(culprit) => Some(culprit),
        Isolated::Passed => None,
        Isolated::Stopped => panic!("nobody told it to stop"),
    }
}

#[test]
fn a_poison_record_among_a_thousand_is_found() {
    let module = counter(&at_poison("unreachable"));
    for (poisoned, expected) in [(vec![617], 617), (vec![0], 0), (vec![999], 999), (vec![998, 3, 500], 3)] {
        let mut chain = chain(&[&echo(), &module]);
        process(&mut chain, &Batch::of(10)).unwrap();
        let before = chain.save().unwrap();
        let batch = batch(1_000, &poisoned);
        let fault = process(&mut chain, &batch).unwrap_err();
        let culprit = first_culprit(&mut chain, &before, &batch, &Verdicts::default()).unwrap();
        assert_eq!(culprit.offset, Offset(BASE + expected));
        assert_eq!((&culprit.stage, culprit.sha256), (&fault.stage, module.digest()));
        assert!(culprit.message.contains("unreachable"), "{culprit:?}");
    }
}

#[test]
fn verdicts_one_after_the_other_bring_a_batch_through() {
    let module = counter(&at_poison("unreachable"));
    let mut chain = chain(&[&echo(), &module]);
    let before = chain.save().unwrap();
    let batch = batch(300, &[7, 8, 299]);
    let mut verdicts = Verdicts::default();
    let mut found = Vec::new();
    while let Some(culprit) = first_culprit(&mut chain, &before, &batch, &verdicts) {
        found.push(culprit.offset.0 - BASE);
        verdicts.insert(culprit.offset, culprit.stage, culprit.message);
    }
    assert_eq!(found, [7, 8, 299]);
    chain.restore(&before).unwrap();
    let out = process_with(&mut chain, &batch, &verdicts).unwrap();
    assert_eq!((out.counted, out.routed.len()), (297, 3));
    assert_eq!(out.routed[2].value, b"some \xee\xee thing");
    assert_eq!(chain.watermark(), Some(297));
}

#[test]
fn a_record_that_fails_only_in_the_state_before_it_is_found_in_that_state() {
    // Traps on poison once 500 records have been counted: alone in an empty state it passes.
    let check = at_poison("(if (i64.ge_u (global.get $count) (i64.const 500)) (then unreachable))");
    let module = counter(&check);
    let mut chain = chain(&[&module]);
    let empty = chain.save().unwrap();
    let poisoned = batch(100, &[60]);
    assert_eq!(process(&mut chain, &poisoned).unwrap().counted, 100);
    for _ in 0..5 {
        process(&mut chain, &Batch::of(100)).unwrap();
    }
    let before = chain.save().unwrap();
    process(&mut chain, &poisoned).unwrap_err();
    let culprit = first_culprit(&mut chain, &before, &poisoned, &Verdicts::default()).unwrap();
    assert_eq!(culprit.offset, Offset(BASE + 60));
    assert_eq!(first_culprit(&mut chain, &empty, &poisoned, &Verdicts::default()), None);
}

/// Traps on more than 10 records at once.
const TOO_MANY: &str =
    "(if (i32.gt_u (call $be (i32.add (local.get $p) (i32.const 12))) (i32.const 10)) (then unreachable))";

#[test]
fn a_batch_that_is_only_too_much_at_once_passes_in_parts_as_it_would_whole() {
    let before = chain(&[&counter("")]).save().unwrap();
    for records in [11, 100, 1_001] {
        let batch = Batch::of(records);
        let (mut whole, mut parts) = (chain(&[&counter("")]), chain(&[&counter(TOO_MANY)]));
        let expected = process(&mut whole, &batch).unwrap();
        process(&mut parts, &batch).unwrap_err();
        let mut out = BatchOutcome::default();
        let got = isolate(&mut parts, &before, &batch, &Verdicts::default(), &|| false, &mut out).unwrap();
        assert_eq!((got, out.records, out.counted), (Isolated::Passed, expected.records, expected.counted));
        assert!(out.is_balanced() && out.routed.is_empty());
        assert_eq!(parts.watermark(), whole.watermark());
        // And it goes on from there.
        process(&mut parts, &Batch::of(10)).unwrap();
        assert_eq!(parts.watermark(), Some(records as i64 + 10));
    }
}

#[test]
fn a_record_at_fault_is_found_in_a_batch_that_is_too_much_at_once_too() {
    let module = counter(&format!("{TOO_MANY} {}", at_poison("unreachable")));
    for poisoned in [0, 1, 499, 500, 617, 999] {
        let mut chain = chain(&[&module]);
        let before = chain.save().unwrap();
        let batch = batch(1_000, &[poisoned]);
        let mut verdicts = Verdicts::default();
        let found = first_culprit(&mut chain, &before, &batch, &verdicts).unwrap();
        assert_eq!(found.offset, Offset(BASE + poisoned as u64));
        verdicts.insert(found.offset, found.stage, found.message);
        let mut out = BatchOutcome::default();
        let got = isolate(&mut chain, &before, &batch, &verdicts, &|| false, &mut out).unwrap();
        assert_eq!((got, out.counted, out.routed.len()), (Isolated::Passed, 999, 1));
        assert!(out.is_balanced());
    }
}

#[test]
fn it_stops_between_two_parts_when_told_to() {
    let mut chain = chain(&[&counter(&at_poison("unreachable"))]);
    let before = chain.save().unwrap();
    let (batch, asked) = (batch(1_000, &[617]), std::cell::Cell::new(0));
    let stop = || asked.replace(asked.get() + 1) == 3;
    let mut out = BatchOutcome::default();
    let got = isolate(&mut chain, &before, &batch, &Verdicts::default(), &stop, &mut out).unwrap();
    assert_eq!((got, asked.get()), (Isolated::Stopped, 4));
    chain.restore(&before).unwrap();
    assert_eq!(chain.watermark(), None);
}

#[test]
fn an_endless_loop_on_one_record_is_that_records_fault() {
    let module = counter(&at_poison("(loop $forever (br $forever))"));
    let mut chain = chain(&[&module]);
    let before = chain.save().unwrap();
    for poisoned in [0, 333, 999] {
        let batch = batch(1_000, &[poisoned]);
        let begun = cpu_time();
        let culprit = first_culprit(&mut chain, &before, &batch, &Verdicts::default()).unwrap();
        // Ten halvings, and the last part of them is the record alone.
        let took = cpu_time() - begun;
        assert!(took < 6 * LIMITS.call_time, "{took:?} for record {poisoned}");
        assert_eq!(culprit.offset, Offset(BASE + poisoned as u64));
        assert!(culprit.message.contains("time limit"), "{culprit:?}");
    }
}

/// Of this thread, in which modules run: it does not depend on what else the machine does.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
