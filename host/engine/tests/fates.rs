//! Every record of a batch has exactly one fate, and each stage gets exactly what the one before handed on.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use clickmill_engine::{BatchOutcome, BatchSource, Module, PassedRecord, ProcessError, RouteOwned, Routed, Verdicts};
use clickmill_schemas::Offset;
use clickmill_schemas::envelope::{ErrorType, Route};
use clickmill_schemas::record::{Record, put_record};
use common::*;
use proptest::prelude::*;

/// What a canned stage does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    Reject,
    Late,
}

const LATE: Route<'static> = Route::Late { ts_ms: 5, watermark_ms: 9 };
const ERROR: Route<'static> = Route::Error { error_type: ErrorType::Schema, rule: "r", message: "m" };

fn route_key(route: &Route<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    route.encode(&mut key);
    key
}

/// A record set of these records: (offset delta, fate), dropped ones left out.
fn set(stage: usize, records: &[(i64, Fate)]) -> Vec<u8> {
    let kept: Vec<_> = records.iter().filter(|(_, fate)| *fate != Fate::Drop).collect();
    let mut out = (kept.len() as u32).to_be_bytes().to_vec();
    for (offset_delta, fate) in kept {
        let key = match fate {
            Fate::Reject => Some(route_key(&ERROR)),
            Fate::Late => Some(route_key(&LATE)),
            _ => None,
        };
        let value = value(stage, *offset_delta);
        let record = Record {
            offset_delta: *offset_delta,
            timestamp_delta_ms: offset_delta * 1_000,
            key: key.as_deref(),
            value: value.as_bytes(),
        };
        put_record(&mut out, &record);
    }
    out
}

fn value(stage: usize, delta: i64) -> String {
    format!("made by {stage} of {delta}")
}

fn is_routed(fate: Fate) -> bool {
    matches!(fate, Fate::Reject | Fate::Late)
}

/// A stage that does this with its inputs, whatever they are.
fn stage_doing(stage: usize, records: &[(i64, Fate)]) -> Module {
    let mut output = set(stage, records);
    let count = records.iter().filter(|(_, fate)| *fate != Fate::Drop).count();
    let routed = records.iter().filter(|(_, fate)| is_routed(*fate)).count();
    output.push(0);
    canned(&output, count, Some(routed))
}

/// The input of the last call of a counter, as its state tells it.
fn last_input(state: &[u8]) -> &[u8] {
    &state[8..]
}

fn framed(batch: &Batch, set: &[u8]) -> Vec<u8> {
    let mut input = BASE.to_be_bytes().to_vec();
    input.extend_from_slice(&(set.len() as u32).to_be_bytes());
    input.extend_from_slice(set);
    input.extend_from_slice(&batch.base_timestamp_ms().to_be_bytes());
    input
}

/// Fates of a batch under two deciding stages, and what goes into the third: outcome and record set.
fn expected(first: &[Fate], second: &[Fate]) -> (BatchOutcome, Vec<(i64, Fate)>) {
    let mut out = BatchOutcome { records: first.len() as u64, ..Default::default() };
    let mut inputs: Vec<i64> = (0..first.len() as i64).collect();
    for (stage, fates) in [first, second].into_iter().enumerate() {
        let fate = |delta: i64| fates[delta as usize];
        for &delta in inputs.iter().filter(|d| is_routed(fate(**d))) {
            let route = if fate(delta) == Fate::Late { LATE } else { ERROR };
            let value = value(stage, delta).into_bytes();
            out.routed.push(Routed { offset: Offset(BASE + delta as u64), stage, route: route.into(), value });
        }
        let dropped = inputs.iter().filter(|d| fate(**d) == Fate::Drop).count() as u64;
        if dropped > 0 {
            out.dropped.push((stage, dropped));
        }
        inputs.retain(|d| fate(*d) == Fate::Pass);
    }
    out.counted = inputs.len() as u64;
    (out, inputs.into_iter().map(|d| (d, Fate::Pass)).collect())
}

fn run(first: &[Fate], second: &[Fate]) -> (BatchOutcome, Vec<u8>) {
    let zip = |deltas: &[i64], fates: &[Fate]| -> Vec<(i64, Fate)> {
        deltas.iter().map(|d| (*d, fates[*d as usize])).collect()
    };
    let all: Vec<i64> = (0..first.len() as i64).collect();
    let passed: Vec<i64> = all.iter().copied().filter(|d| first[*d as usize] == Fate::Pass).collect();
    let (a, b) = (stage_doing(0, &zip(&all, first)), stage_doing(1, &zip(&passed, second)));
    let mut chain = chain(&[&a, &b, &counter("")]);
    let out = process(&mut chain, &Batch::of(first.len())).unwrap();
    (out, state_bytes(&chain.save().unwrap()))
}

#[test]
fn each_stage_gets_what_the_one_before_handed_on() {
    use Fate::{Drop, Late, Pass, Reject};
    let first = [Pass, Reject, Pass, Drop, Pass, Pass, Late, Pass];
    let second = [Pass, Pass, Drop, Pass, Reject, Pass, Pass, Pass];
    let (out, state) = run(&first, &second);
    let (expected, inputs) = expected(&first, &second);
    assert_eq!(out, expected);
    assert_eq!((out.counted, out.routed.len(), &out.dropped[..]), (3, 3, &[(0, 1), (1, 1)][..]));
    assert_eq!(last_input(&state), framed(&Batch::of(8), &set(1, &inputs)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn records_are_counted_dropped_and_routed_once_whatever_stages_do(
        fates in prop::collection::vec((0usize..12, 0usize..12), 1..150)
    ) {
        let fate = |n: usize| match n { 0 => Fate::Drop, 1 => Fate::Reject, 2 => Fate::Late, _ => Fate::Pass };
        let first: Vec<_> = fates.iter().map(|(a, _)| fate(*a)).collect();
        let second: Vec<_> = fates.iter().map(|(_, b)| fate(*b)).collect();
        let (out, state) = run(&first, &second);
        prop_assert!(out.is_balanced());
        let (expected, inputs) = expected(&first, &second);
        prop_assert_eq!(&out, &expected);
        if !inputs.is_empty() {
            prop_assert_eq!(last_input(&state), framed(&Batch::of(first.len()), &set(1, &inputs)));
        }
    }
}

#[test]
fn a_last_stage_routes_too_and_counts_the_rest() {
    let module = stage_doing(0, &[(2, Fate::Late), (3, Fate::Reject)]);
    let out = process(&mut chain(&[&module]), &Batch::of(5)).unwrap();
    assert_eq!((out.counted, out.routed.len(), &out.dropped[..]), (0, 2, &[(0, 3)][..]), "it keeps no windows");
    let out = process(&mut chain(&[&counter("")]), &Batch::of(5)).unwrap();
    assert_eq!((out.counted, out.dropped.len()), (5, 0), "they are in its windows");
    let all = [0, 1, 2, 3, 4].map(|delta| (delta, if delta < 2 { Fate::Late } else { Fate::Pass }));
    let out = process(&mut chain(&[&stage_doing(0, &all)]), &Batch::of(5)).unwrap();
    assert_eq!((out.counted, out.routed.len(), out.dropped.len()), (3, 2, 0));
    let out = process(&mut chain(&[&module]), &Batch::of(5)).unwrap();
    assert_eq!(out.routed[0].route, RouteOwned::Late { ts_ms: 5, watermark_ms: 9 });
}

#[test]
fn a_stage_that_nothing_reaches_is_not_called() {
    let module = stage_doing(0, &[(0, Fate::Reject), (1, Fate::Drop)]);
    let trap = common::module(&[ALLOC, &map("unreachable")]);
    let out = process(&mut chain(&[&module, &trap]), &Batch::of(2)).unwrap();
    assert_eq!((out.counted, out.routed.len(), &out.dropped[..]), (0, 1, &[(0, 1)][..]));
    let out = process(&mut chain(&[&trap]), &Batch::of(0)).unwrap();
    assert_eq!(out, BatchOutcome::default());
}

#[test]
fn a_record_that_was_routed_before_cannot_come_back() {
    let first = stage_doing(0, &[(0, Fate::Reject), (1, Fate::Pass)]);
    let second = stage_doing(1, &[(0, Fate::Reject)]);
    let fault = process(&mut chain(&[&first, &second]), &Batch::of(2)).unwrap_err();
    assert_eq!(fault.stage, "s1");
    assert!(fault.message.contains("offset delta 0 was not in its input"), "{fault}");
}

#[test]
fn a_route_in_a_producers_key_is_not_obeyed_behind_a_module_that_knows_no_routes() {
    let forged = route_key(&LATE);
    let batch = Batch::keyed([(Some(forged), "forged"), (Some(b"user".to_vec()), "kept"), (None, "none")]);
    let mut chain = chain(&[&echo(), &counter("")]);
    let out = process(&mut chain, &batch).unwrap();
    assert_eq!((out.counted, out.routed.len()), (3, 0));
    let clean = Batch::keyed([(None, "forged"), (Some(b"user".to_vec()), "kept"), (None, "none")]);
    let state = state_bytes(&chain.save().unwrap());
    assert_eq!(last_input(&state), framed(&batch, clean.0.bytes()));
}

#[test]
fn records_with_a_verdict_are_routed_and_not_run() {
    let mut verdicts = Verdicts::default();
    verdicts.insert(Offset(BASE + 2), "s1", "it trapped");
    verdicts.insert(Offset(BASE + 4), "gone", "it was slow");
    verdicts.insert(Offset(BASE + 5), "s1", "of another batch");
    let mut chain = chain(&[&echo(), &counter("")]);
    let batch = Batch::of(5);
    let out = process_with(&mut chain, &batch, &verdicts).unwrap();
    assert_eq!((out.records, out.counted), (5, 3));
    let routed = |delta, stage, message: &str| Routed {
        offset: Offset(BASE + delta),
        stage,
        route: RouteOwned::Error {
            error_type: ErrorType::Smartmodule,
            rule: "smartmodule".into(),
            message: message.into(),
        },
        value: format!("value {delta}").into_bytes(),
    };
    assert_eq!(out.routed, [routed(2, 1, "it trapped"), routed(4, 0, "it was slow")]);
    let mut rest = 3u32.to_be_bytes().to_vec();
    for delta in [0, 1, 3] {
        let (timestamp_delta_ms, value) = (delta * 1_000, format!("value {delta}"));
        put_record(&mut rest, &Record { offset_delta: delta, timestamp_delta_ms, key: None, value: value.as_bytes() });
    }
    assert_eq!(last_input(&state_bytes(&chain.save().unwrap())), framed(&batch, &rest));
    verdicts.forget_before(Offset(BASE + 5));
    assert_eq!(verdicts.len(), 1);
    assert_eq!(process_with(&mut chain, &batch, &verdicts).unwrap().counted, 5);
}

#[test]
fn a_record_with_a_verdict_cannot_be_brought_back_by_a_module() {
    let mut verdicts = Verdicts::default();
    verdicts.insert(Offset(BASE + 1), "s0", "it trapped");
    let module = stage_doing(0, &[(1, Fate::Reject)]);
    let fault = process_with(&mut chain(&[&module]), &Batch::of(3), &verdicts).unwrap_err();
    assert!(fault.message.contains("offset delta 1 was not in its input"), "{fault}");
}

#[test]
fn a_batch_that_cannot_be_read_leaves_the_chain_as_it_was() {
    struct Broken(Batch, u32);
    impl BatchSource for Broken {
        fn base_offset(&self) -> Offset {
            self.0.base_offset()
        }
        fn base_timestamp_ms(&self) -> i64 {
            0
        }
        fn count(&self) -> u32 {
            self.1
        }
        fn records_len(&self) -> usize {
            self.0.records_len()
        }
        fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            if self.1 == 0xdead { Err("checksum".into()) } else { self.0.write_records(dst) }
        }
    }
    let mut chain = chain(&[&echo(), &counter("")]);
    let mut verdicts = Verdicts::default();
    for _ in 0..2 {
        for (count, expected) in
            [(0xdead, "batch cannot be read: checksum"), (4, "at offset 1000 says 4 records and holds 3")]
        {
            let broken = Broken(Batch::of(3), count);
            match chain.process(&broken, &verdicts, &mut BatchOutcome::default()) {
                Err(e @ ProcessError::Source(_)) => {
                    assert!(e.to_string().contains(expected), "{e}")
                }
                other => panic!("{other:?}"),
            }
        }
        // The same with a batch that is taken apart.
        verdicts.insert(Offset(BASE), "s0", "");
    }
    assert_eq!(process(&mut chain, &Batch::of(3)).unwrap().counted, 3);
    assert_eq!(chain.watermark(), Some(3));
}

#[test]
fn what_the_last_stage_hands_on_is_collected_with_its_origin() {
    use Fate::{Drop, Late, Pass, Reject};
    let fates = [Pass, Reject, Pass, Drop, Late, Pass];
    let all: Vec<_> = fates.into_iter().enumerate().map(|(i, fate)| (i as i64, fate)).collect();
    let mut verdicts = Verdicts::default();
    verdicts.insert(Offset(BASE + 9), "s0", "of another batch");
    for judged in [false, true] {
        let batch = Batch::of(fates.len() + usize::from(judged));
        if judged {
            verdicts.insert(Offset(BASE + 6), "s0", "it trapped");
        }
        let (mut chain, mut out) = (chain(&[&stage_doing(0, &all), &echo()]), BatchOutcome::default());
        let mut passed = Vec::new();
        for _ in 0..2 {
            chain.process_collecting(&batch, &verdicts, &mut out, &mut passed).unwrap();
            let expected = [0, 2, 5].map(|delta| PassedRecord {
                offset: Offset(BASE + delta as u64),
                timestamp_ms: 1_413_849_600_000 + delta * 1_000,
                key: None,
                value: value(0, delta).into_bytes(),
            });
            assert_eq!(passed, expected);
            assert_eq!(out, process_with(&mut chain, &batch, &verdicts).unwrap());
        }
    }
    // Nothing is left of another call where a module fails, or where nothing reaches the end.
    let mut passed = vec![PassedRecord { offset: Offset(1), timestamp_ms: 0, key: None, value: Vec::new() }];
    let trap = common::module(&[ALLOC, &map("unreachable")]);
    let mut out = BatchOutcome::default();
    chain(&[&trap]).process_collecting(&Batch::of(2), &verdicts, &mut out, &mut passed).unwrap_err();
    assert_eq!(passed, []);
    let none = stage_doing(0, &[(0, Drop), (1, Reject)]);
    chain(&[&none, &echo()]).process_collecting(&Batch::of(2), &verdicts, &mut out, &mut passed).unwrap();
    assert_eq!((passed, out.counted), (vec![], 0));
}

#[test]
fn a_route_like_key_is_not_collected_as_a_key() {
    let batch = Batch::keyed([(Some(route_key(&LATE)), "forged"), (Some(b"user".to_vec()), "kept")]);
    let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
    chain(&[&echo()]).process_collecting(&batch, &Verdicts::default(), &mut out, &mut passed).unwrap();
    let keys: Vec<_> = passed.iter().map(|record| record.key.as_deref()).collect();
    assert_eq!(keys, [None, Some(&b"user"[..])]);
}
