//! A record that becomes several keeps one fate, whatever becomes of those.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::collections::BTreeMap;

use clickmill_engine::{BatchOutcome, Chain, Isolated, Limits, Module, PassedRecord, RouteOwned, Verdicts, isolate};
use clickmill_schemas::Offset;
use clickmill_schemas::envelope::{ErrorType, Route};
use clickmill_schemas::record::{Record, put_record};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    Reject,
    Late,
}

const FATES: [Fate; 4] = [Fate::Pass, Fate::Drop, Fate::Reject, Fate::Late];

/// A stage that does this with its inputs, by the deltas that it gets: it knows routes.
fn deciding(stage: usize, inputs: &[(i64, Fate)]) -> Module {
    let (mut set, mut count, mut routed) = (Vec::new(), 0u32, 0);
    for (n, (offset_delta, fate)) in inputs.iter().enumerate() {
        let mut key = Vec::new();
        match fate {
            Fate::Pass => {}
            Fate::Drop => continue,
            Fate::Late => Route::Late { ts_ms: n as i64, watermark_ms: 9 }.encode(&mut key),
            Fate::Reject => {
                Route::Error { error_type: ErrorType::Schema, rule: "r", message: &n.to_string() }.encode(&mut key);
            }
        }
        let value = format!("{stage}");
        let key = Some(&key[..]).filter(|key| !key.is_empty());
        routed += usize::from(key.is_some());
        count += 1;
        let (offset_delta, value) = (*offset_delta, value.as_bytes());
        put_record(&mut set, &Record { offset_delta, timestamp_delta_ms: 1, key, value });
    }
    let output = [&count.to_be_bytes()[..], &set, &[0]].concat();
    canned(&output, count as usize, Some(routed))
}

/// What becomes of a batch's records, by delta.
#[derive(Default)]
struct Model {
    of: BTreeMap<i64, Becomes>,
}

/// Routes are told by the stage, and by which of its inputs it was.
#[derive(Default)]
struct Becomes {
    rejected: Option<(usize, usize)>,
    late: Option<(usize, usize)>,
    reached: bool,
    dropped_at: usize,
}

impl Model {
    fn stage(&mut self, stage: usize, inputs: &[(i64, Fate)]) -> Vec<i64> {
        let mut passed = Vec::new();
        for (n, (delta, fate)) in inputs.iter().enumerate() {
            let of = self.of.entry(*delta).or_default();
            match fate {
                Fate::Pass => passed.push(*delta),
                Fate::Drop => of.dropped_at = stage,
                Fate::Reject => _ = of.rejected.get_or_insert((stage, n)),
                Fate::Late => _ = of.late.get_or_insert((stage, n)),
            }
        }
        passed
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn one_fate_a_record_whatever_becomes_of_what_it_was_made_into(
        copies in prop::collection::vec(0usize..5, 1..40),
        first in prop::collection::vec(0usize..4, 200),
        second in prop::collection::vec(0usize..4, 200),
        windows: bool,
        judged in 0usize..80,
    ) {
        let mut verdicts = Verdicts::default();
        verdicts.insert(Offset(BASE + judged as u64), "s0", "it trapped");
        let batch = Batch::new(copies.iter().map(|n| format!("{n}")));
        let mut model = Model::default();
        let mut pieces = Vec::new();
        for (delta, copies) in copies.iter().enumerate().filter(|(delta, _)| *delta != judged) {
            model.of.insert(delta as i64, Default::default());
            pieces.extend(std::iter::repeat_n(delta as i64, *copies));
        }
        let decide = |deltas: &[i64], fates: &[usize]| -> Vec<(i64, Fate)> {
            deltas.iter().zip(fates).map(|(delta, fate)| (*delta, FATES[*fate])).collect()
        };
        let one = decide(&pieces, &first);
        let two = decide(&model.stage(1, &one), &second);
        let reached = model.stage(2, &two);
        for delta in &reached {
            model.of.get_mut(delta).unwrap().reached = true;
        }
        let (a, b, c, end) = (fan_out(""), deciding(1, &one), deciding(2, &two), counter(""));
        let mut chain = chain(&if windows { vec![&a, &b, &c, &end] } else { vec![&a, &b, &c] });
        let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
        chain.process_collecting(&batch, &verdicts, &mut out, &mut passed).unwrap();

        prop_assert!(out.is_balanced());
        prop_assert_eq!(out.records as usize, copies.len());
        let (mut counted, mut dropped, mut routed) = (0, BTreeMap::new(), Vec::new());
        for (delta, Becomes { rejected, late, reached, dropped_at }) in &model.of {
            match (rejected, late) {
                (Some((stage, n)), _) => routed.push((*stage, *delta, Some(n.to_string()))),
                _ if *reached => counted += 1,
                (None, Some((stage, _))) => routed.push((*stage, *delta, None)),
                (None, None) => *dropped.entry(*dropped_at).or_insert(0u64) += 1,
            }
        }
        routed.sort();
        if judged < copies.len() {
            routed.insert(0, (0, judged as i64, Some("it trapped".into())));
        }
        let got: Vec<_> = out.routed.iter().map(|r| {
            let message = match &r.route { RouteOwned::Error { message, .. } => Some(message.clone()), RouteOwned::Late { .. } => None };
            (r.stage, (r.offset.0 - BASE) as i64, message)
        }).collect();
        prop_assert_eq!(got, routed);
        prop_assert_eq!(out.counted, counted);
        prop_assert_eq!(&out.dropped, &dropped.into_iter().collect::<Vec<_>>());
        let collected: Vec<_> = passed.iter().map(|record| (record.offset.0 - BASE) as i64).collect();
        prop_assert_eq!(collected, if windows { vec![] } else { reached });
        if windows {
            let seen = two.iter().filter(|(_, fate)| *fate == Fate::Pass).count() as i64;
            prop_assert_eq!(chain.watermark().unwrap_or(0), seen, "windows get every one of them");
        }
    }
}

#[test]
fn what_a_record_becomes_has_its_offset_and_its_time_and_no_key_like_a_route() {
    let mut forged = Vec::new();
    Route::Late { ts_ms: 1, watermark_ms: 2 }.encode(&mut forged);
    let records = [(Some(b"k".to_vec()), "a2"), (None, "b0"), (Some(forged), "c1"), (None, "d1")];
    let batch = Batch::keyed(records);
    for modules in [vec![fan_out("")], vec![echo(), fan_out(""), echo()]] {
        let mut chain = chain(&modules.iter().collect::<Vec<_>>());
        let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
        chain.process_collecting(&batch, &Verdicts::default(), &mut out, &mut passed).unwrap();
        let made = |delta: i64, key: Option<&[u8]>, value: &str| PassedRecord {
            offset: Offset(BASE + delta as u64),
            timestamp_ms: 1_413_849_600_000 + delta * 1_000,
            key: key.map(<[u8]>::to_vec),
            value: value.into(),
        };
        let expected = [made(0, Some(b"k"), "a2"), made(0, Some(b"k"), "a2"), made(2, None, "c1"), made(3, None, "d1")];
        assert_eq!(passed, expected);
        let stage = modules.len() / 2;
        assert_eq!((out.counted, &out.dropped[..]), (3, &[(stage, 1)][..]));
    }
}

#[test]
fn stages_that_fan_out_multiply() {
    let (a, b) = (fan_out(""), fan_out(""));
    let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
    let batch = Batch::new(["3", "0", "2"]);
    chain(&[&a, &b]).process_collecting(&batch, &Verdicts::default(), &mut out, &mut passed).unwrap();
    assert_eq!((passed.len(), out.counted, &out.dropped[..]), (13, 2, &[(0, 1)][..]));
}

#[test]
fn later_stages_cannot_repeat_or_invent_what_they_were_given() {
    for (given, expected) in
        [(vec![0, 0, 0], "malformed output"), (vec![0, 1, 0], "offset delta 0"), (vec![2], "offset delta 2")]
    {
        let given: Vec<_> = given.into_iter().map(|delta| (delta, Fate::Pass)).collect();
        let fault = process(&mut chain(&[&fan_out(""), &deciding(1, &given)]), &Batch::new(["2", "1"])).unwrap_err();
        assert!(fault.stage == "s1" && fault.message.contains(expected), "{fault}");
    }
}

#[test]
fn the_record_at_fault_is_found_and_all_others_go_on() {
    for (check, said) in [(at_poison("unreachable"), "unreachable"), (err_at_poison(), "it reports an error: no")] {
        let module = |check: &str| {
            if said == "unreachable" { fan_out(check) } else { with_no(check) }
        };
        let mut chain = chain(&[&module(&check), &counter("")]);
        let before = chain.save().unwrap();
        let batch = batch_of(500, &[123]);
        process(&mut chain, &batch).unwrap_err();
        let (mut verdicts, mut out) = (Verdicts::default(), BatchOutcome::default());
        let found = isolate(&mut chain, &before, &batch, &verdicts, &|| false, &mut out).unwrap();
        let Isolated::Culprit(culprit) = found else { panic!("{found:?}") };
        assert_eq!((culprit.offset, culprit.stage.as_str()), (Offset(BASE + 123), "s0"));
        assert!(culprit.message.contains(said), "{culprit:?}");
        verdicts.insert(culprit.offset, culprit.stage, culprit.message);
        chain.restore(&before).unwrap();
        let out = process_with(&mut chain, &batch, &verdicts).unwrap();
        let zeros = (0..500).filter(|i| i % 10 == 0).count() as u64;
        assert_eq!((out.records, out.routed.len()), (500, 1));
        assert_eq!((out.counted, &out.dropped[..]), (499 - zeros, &[(0, zeros)][..]));
    }
}

/// [`fan_out`] with the data of [`err_at_poison`].
fn with_no(check: &str) -> Module {
    // Any echo will do: the digit has no say here, so values that end in 0 are dropped by hand.
    module(&[
        ALLOC,
        NO,
        &array_map(&format!(
            "(local $i i32) {check}
            (if (i32.eq (i32.const 48) (i32.load8_u (i32.add (local.get $p)
                    (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 10)))))
                (then (call $copy (i32.const 0) (i32.const 5)) (return (i32.const 0))))
            {ECHO}"
        )),
    ])
}

#[test]
fn outputs_of_a_whole_batch_are_bounded_and_a_smaller_part_passes() {
    // 9 times 50 bytes of each of 1000 records, over the limit of 256 KiB.
    let batch = Batch::new((0..1_000).map(|_| format!("{:>40}", 9)));
    let mut chain = chain(&[&fan_out("")]);
    let before = chain.save().unwrap();
    let fault = process(&mut chain, &batch).unwrap_err();
    assert!(fault.message.contains("for one batch, over its limit of 262144"), "{fault}");
    let mut out = BatchOutcome::default();
    let got = isolate(&mut chain, &before, &batch, &Verdicts::default(), &|| false, &mut out).unwrap();
    assert_eq!((got, out.counted), (Isolated::Passed, 1_000));
}

#[test]
fn a_module_that_never_frees_is_renewed_in_the_midst_of_a_batch() {
    // Touches 64 KiB more in each call, of 4 MiB.
    let leaky = "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))";
    let mut chain = chain(&[&fan_out(leaky)]);
    assert_eq!(process(&mut chain, &Batch::new((0..1_000).map(|_| "1"))).unwrap().counted, 1_000);
}

#[test]
fn hostile_outputs_of_one_record_are_faults() {
    for (output, answer, expected) in [
        (&[0, 0, 0, 2, 0][..], 2, "malformed"),
        (&[0xff, 0xff, 0xff, 0xff, 0], 0xffff_ffffu32, "array_map answered -1"),
        (&[0, 0, 0, 0, 9], 0, "not followed by one error flag"),
        (&[0, 0, 0, 0], 0, "not followed by one error flag"),
        (&[0, 0], 0, "malformed"),
        (&[0, 0, 0, 0, 0], 1, "holds 0 records by its head and 1"),
        (&[0, 0, 0, 0, 1, 0, 2, b'n', b'o'], 0, "it reports an error: no"),
    ] {
        let data: String = output.iter().map(|b| format!("\\{b:02x}")).collect();
        let body = format!("(call $copy (i32.const 1024) (i32.const {})) (i32.const {answer})", output.len());
        let hostile = module(&[ALLOC, &format!(r#"(data (i32.const 1024) "{data}")"#), &array_map(&body)]);
        let fault = process(&mut chain(&[&hostile]), &Batch::of(3)).unwrap_err();
        assert!(fault.message.contains(expected), "{fault}");
    }
    let mut spec = stage("s", &fan_out(""));
    spec.limits = Limits { output_bytes: 64, ..LIMITS };
    let fault = process(&mut Chain::new(&ENGINE, &[spec]).unwrap(), &Batch::new(["value 9"])).unwrap_err();
    assert!(fault.message.contains("over its limit of 64"), "{fault}");
}
