//! What the host keeps for modules that keep nothing themselves: accumulators, and records to look back on.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use clickmill_engine::{
    BatchOutcome, Chain, ChainState, Isolated, Kind, Lookback, Module, StageSpec, Verdicts, isolate, statelessness,
};
use clickmill_schemas::Offset;
use common::*;

/// What the only stage with a state has accumulated.
fn accumulated(chain: &mut Chain) -> i64 {
    let state = state_bytes(&chain.save().unwrap());
    assert_eq!(state[..5], [1, 0, 0, 0, 8]);
    i64::from_le_bytes(state[5..].try_into().unwrap())
}

fn looking_back(expected: usize, lookback: Lookback) -> StageSpec {
    StageSpec { lookback: Some(lookback), ..stage("s", &looks_back(expected)) }
}

const LAST_3: Lookback = Lookback { last: 3, age: None };

#[test]
fn a_module_says_its_kind() {
    assert_eq!(aggregate("").kind(), Kind::Aggregate);
    assert_eq!(echo().kind(), Kind::Map);
    assert_eq!(fan_out("").kind(), Kind::ArrayMap);
    assert!(!aggregate("").is_stateful(), "by itself");
}

#[test]
fn an_accumulator_goes_on_from_batch_to_batch_and_through_a_restore() {
    let module = aggregate("");
    let mut first = chain(&[&echo(), &module, &echo()]);
    assert_eq!(process(&mut first, &Batch::of(7)).unwrap().counted, 7);
    process(&mut first, &Batch::of(5)).unwrap();
    let saved = ChainState::from_bytes(&first.save().unwrap().to_bytes()).unwrap();
    assert_eq!(accumulated(&mut first), 12);
    process(&mut first, &Batch::of(1)).unwrap();
    assert_eq!(accumulated(&mut first), 13);
    for mut chain in [first, chain(&[&fan_out(""), &module])] {
        chain.restore(&saved).unwrap();
        process(&mut chain, &Batch::new(["1"; 8])).unwrap();
        assert_eq!(accumulated(&mut chain), 20);
        chain.restore(&ChainState::default()).unwrap();
        process(&mut chain, &Batch::new(["1"; 2])).unwrap();
        assert_eq!(accumulated(&mut chain), 2, "without a state a stage starts empty");
    }
}

#[test]
fn an_accumulator_outlives_the_instance() {
    let leaky = "(if (i32.eq (memory.grow (i32.const 4)) (i32.const -1)) (then unreachable))";
    let mut chain = chain(&[&aggregate(leaky)]);
    for _ in 0..100 {
        process(&mut chain, &Batch::of(3)).unwrap();
    }
    assert_eq!(accumulated(&mut chain), 300);
}

#[test]
fn a_record_at_fault_is_not_accumulated_and_all_others_are() {
    let with_no = |check: &str| {
        let body = transform("aggregate", &format!("(local $i i32) {check} unreachable"));
        module(&[ALLOC, NO, &body])
    };
    assert!(
        process(&mut chain(&[&with_no(&err_at_poison())]), &batch_of(9, &[3])).unwrap_err().message.contains(": no")
    );

    let mut chain = chain(&[&aggregate(&at_poison("unreachable"))]);
    process(&mut chain, &Batch::of(10)).unwrap();
    let before = chain.save().unwrap();
    let (batch, mut verdicts) = (batch_of(300, &[7, 250]), Verdicts::default());
    process(&mut chain, &batch).unwrap_err();
    for expected in [7, 250] {
        let mut out = BatchOutcome::default();
        let found = isolate(&mut chain, &before, &batch, &verdicts, &|| false, &mut out).unwrap();
        let Isolated::Culprit(culprit) = found else { panic!("{found:?}") };
        assert_eq!(culprit.offset, Offset(BASE + expected));
        verdicts.insert(culprit.offset, culprit.stage, culprit.message);
    }
    let mut out = BatchOutcome::default();
    let found = isolate(&mut chain, &before, &batch, &verdicts, &|| false, &mut out).unwrap();
    assert_eq!((found, out.counted, out.routed.len()), (Isolated::Passed, 298, 2));
    assert_eq!(accumulated(&mut chain), 308);
    chain.restore(&before).unwrap();
    process_with(&mut chain, &batch, &verdicts).unwrap();
    assert_eq!(accumulated(&mut chain), 308);
}

#[test]
fn the_record_that_a_module_says_it_failed_on_is_tried_first_and_not_just_believed() {
    // Always an error, said to be about this offset; at poison only where it is said so.
    let says = |offset: u64, check: &str| {
        let offset: String = offset.to_be_bytes().iter().map(|b| format!("\\{b:02x}")).collect();
        let data = format!(r#"(data (i32.const 4096) "\00\00\00\00\01\00\02no{offset}")"#);
        let fail = "(call $copy (i32.const 4096) (i32.const 17)) (return (i32.const 0))";
        module(&[ALLOC, &data, &map(&format!("(local $i i32) {} {ECHO}", check.replace("FAIL", fail)))])
    };
    let at_poison = at_poison("FAIL");
    for (poisoned, said, most) in
        [(617, 617, 5), (0, 0, 3), (999, 999, 5), (617, 616, 25), (617, 5_000, 25), (3, 999, 25)]
    {
        let mut chain = chain(&[&says(BASE + said, &at_poison)]);
        let before = chain.save().unwrap();
        let (batch, asked) = (batch_of(1_000, &[poisoned]), std::cell::Cell::new(0));
        let count = || {
            asked.set(asked.get() + 1);
            false
        };
        let found = isolate(&mut chain, &before, &batch, &Verdicts::default(), &count, &mut BatchOutcome::default());
        let Isolated::Culprit(culprit) = found.unwrap() else { panic!("nobody told it to stop") };
        assert_eq!(culprit.offset, Offset(BASE + poisoned as u64));
        assert!(asked.get() <= most, "{} parts for {poisoned}, said to be {said}", asked.get());
    }
}

#[test]
fn states_of_modules_and_what_the_host_keeps_are_never_taken_for_each_other() {
    let (counting, accumulating, looking) = (counter(""), aggregate(""), looking_back(0, LAST_3));
    let chain_of = |spec: &StageSpec| Chain::new(&ENGINE, std::slice::from_ref(spec)).unwrap();
    let specs = [stage("s", &counting), stage("s", &accumulating), looking];
    for (i, of) in specs.iter().enumerate() {
        let mut from = chain_of(of);
        process(&mut from, &Batch::of(4)).unwrap();
        let saved = from.save().unwrap();
        for (j, to) in specs.iter().enumerate() {
            let mut chain = chain_of(to);
            match (chain.restore(&saved), i == j) {
                (Ok(()), true) => {}
                (Err(error), false) => assert!(error.to_string().contains("stage s"), "{error}"),
                (got, _) => panic!("{i} to {j}: {got:?}"),
            }
        }
    }
}

#[test]
fn what_the_host_keeps_goes_over_to_the_next_chain() {
    let leaky = "(drop (memory.grow (i32.const 1)))";
    let chain_of = |first: &Module, second: &Module| {
        let second = StageSpec { name: "b".into(), lookback: Some(LAST_3), ..stage("b", second) };
        Chain::new(&ENGINE, &[stage("a", first), second]).unwrap()
    };
    let mut old = chain_of(&aggregate(""), &looks_back(0));
    process(&mut old, &Batch::of(6)).unwrap();
    // The same modules, and others in their place.
    for (first, second) in [(aggregate(""), looks_back(0)), (aggregate(leaky), looks_back(3))] {
        let mut heir = chain_of(&first, &second);
        heir.succeed(&mut old).unwrap();
        assert_eq!(process(&mut heir, &Batch::of(2)).unwrap().counted, 2);
        let saved = heir.save().unwrap();
        assert_eq!(saved.stages().map(|(name, ..)| name).collect::<Vec<_>>(), ["a", "b"]);
        old = heir;
    }
    let mut plain = Chain::new(&ENGINE, &[stage("a", &aggregate(""))]).unwrap();
    plain.succeed(&mut old).unwrap();
    process(&mut plain, &Batch::of(1)).unwrap();
    assert_eq!(accumulated(&mut plain), 11, "records to look back on are forgotten without harm");
    let mut none = chain(&[&echo()]);
    let error = none.succeed(&mut plain).unwrap_err().to_string();
    assert!(error.contains("stage a keeps one"), "{error}");
}

#[test]
fn malformed_accumulators_are_faults() {
    for output in [&b"\0\0\0\0\0"[..], b"\0\0\0\0\0\0\0\0\x09", b"\0\0\0\0\0\0\0\0\0\0"] {
        let data: String = output.iter().map(|b| format!("\\{b:02x}")).collect();
        let body = format!("(call $copy (i32.const 1024) (i32.const {})) (i32.const 0)", output.len());
        let parts = [ALLOC, &format!(r#"(data (i32.const 1024) "{data}")"#), &transform("aggregate", &body)];
        let fault = process(&mut chain(&[&module(&parts)]), &Batch::of(2)).unwrap_err();
        assert!(fault.message.contains("not followed by an accumulator"), "{fault}");
    }
}

#[test]
fn a_chain_that_begins_in_the_midst_looks_back_first() {
    let mut chain = Chain::new(&ENGINE, &[looking_back(3, LAST_3)]).unwrap();
    chain.look_back(&[&Batch::of(2), &Batch::of(2)]).unwrap();
    assert_eq!(process(&mut chain, &Batch::of(5)).unwrap().counted, 5);
    let mut chain = Chain::new(&ENGINE, &[looking_back(0, LAST_3)]).unwrap();
    assert_eq!(process(&mut chain, &Batch::of(5)).unwrap().counted, 5, "there is nothing to look back on");
}

#[test]
fn fresh_instances_look_back_on_what_was_processed() {
    let mut chain = Chain::new(&ENGINE, &[stage("a", &fan_out("")), looking_back(3, LAST_3)]).unwrap();
    let ones = |n| Batch::new(vec!["1"; n]);
    assert_eq!(process(&mut chain, &ones(2)).unwrap().counted, 0, "shown none");
    let saved = ChainState::from_bytes(&chain.save().unwrap().to_bytes()).unwrap();
    chain.restore(&saved).unwrap();
    assert_eq!(process(&mut chain, &ones(9)).unwrap().counted, 0, "shown two");
    let saved = chain.save().unwrap();
    chain.restore(&saved).unwrap();
    assert_eq!(process(&mut chain, &ones(1)).unwrap().counted, 1, "shown the last three");
    chain.restore(&ChainState::default()).unwrap();
    assert_eq!(process(&mut chain, &ones(1)).unwrap().counted, 0, "shown none");
}

#[test]
fn records_on_which_a_module_failed_are_not_looked_back_on() {
    let module = looks_back(2);
    let spec = StageSpec { lookback: Some(LAST_3), ..stage("s", &module) };
    let mut verdicts = Verdicts::default();
    verdicts.insert(Offset(BASE + 1), "s", "it trapped");
    let mut chain = Chain::new(&ENGINE, &[spec]).unwrap();
    process_with(&mut chain, &Batch::of(3), &verdicts).unwrap();
    let saved = chain.save().unwrap();
    chain.restore(&saved).unwrap();
    assert_eq!(process(&mut chain, &Batch::of(1)).unwrap().counted, 1);
}

#[test]
fn the_age_of_what_is_looked_back_on_counts_from_the_newest() {
    // Records are a second apart.
    let lookback = Lookback { last: 0, age: Some(Duration::from_millis(3_500)) };
    let mut chain = Chain::new(&ENGINE, &[looking_back(4, lookback)]).unwrap();
    chain.look_back(&[&Batch::of(100)]).unwrap();
    assert_eq!(process(&mut chain, &Batch::of(5)).unwrap().counted, 5);
}

#[test]
fn a_lookback_that_cannot_be_is_refused() {
    let refused = |spec| Chain::new(&ENGINE, &[spec]).unwrap_err().to_string();
    let of = |last| refused(looking_back(0, Lookback { last, age: None }));
    assert!(of(0).contains("stage s: it is to look back on 0 records; 1 to 10000 are possible"), "{}", of(0));
    assert!(of(10_001).contains("10001"));
    let spec = StageSpec { lookback: Some(LAST_3), ..stage("s", &echo()) };
    assert!(refused(spec).contains("it exports no look_back"));
}

#[test]
fn look_back_may_refuse_in_its_own_words() {
    let body = r#"(call $copy (i32.const 4101) (i32.const 4)) (i32.const -99)"#;
    let module = module(&[ALLOC, NO, &transform("look_back", body), &map(ECHO)]);
    let mut chain = Chain::new(&ENGINE, &[StageSpec { lookback: Some(LAST_3), ..stage("s", &module) }]).unwrap();
    let error = chain.look_back(&[&Batch::of(1)]).unwrap_err().to_string();
    assert!(error.ends_with("look_back refused (-99): no"), "{error}");
    assert!(process(&mut chain, &Batch::of(1)).is_err(), "it is unusable until restored");
}

/// Hands on what it is given until it has been called `calls` times, and then drops it.
fn forgetful(calls: usize, kind: &str) -> Module {
    module(&[
        ALLOC,
        "(global $calls (mut i32) (i32.const 0))",
        &transform(
            kind,
            &format!(
                "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (if (result i32) (i32.le_u (global.get $calls) (i32.const {calls}))
                    (then {ECHO})
                    (else (call $copy (i32.const 0) (i32.const 5)) (i32.const 0)))"
            ),
        ),
    ])
}

#[test]
fn a_module_whose_instance_remembers_is_found_out_at_the_first_record_that_shows_it() {
    let check = |spec: &StageSpec, sample: &[Batch]| {
        let sample: Vec<&dyn clickmill_engine::BatchSource> = sample.iter().map(|b| b as _).collect();
        statelessness(&ENGINE, std::slice::from_ref(spec), &sample, &mut || {}).unwrap()
    };
    let sample = [Batch::of(10), Batch::of(20)];
    for (module, first) in
        [(forgetful(4, "array_map"), Some(4)), (forgetful(1, "map"), Some(0)), (forgetful(30, "map"), None)]
    {
        let found = check(&stage("s", &module), &sample);
        assert_eq!(found.as_ref().map(|difference| difference.offset.0 - BASE), first);
        if let Some(found) = found {
            assert_eq!((found.whole.passed.len(), found.alone.passed.len()), (0, 1));
        }
    }
    // Behind others it is the record that was handed on, by its offset in the sample.
    let stages = [stage("a", &fan_out(&at_poison("unreachable"))), stage("b", &forgetful(1, "map"))];
    let batches = [batch_of(15, &[3, 4]), batch_of(4, &[])];
    let behind: Vec<&dyn clickmill_engine::BatchSource> = batches.iter().map(|b| b as _).collect();
    let found = statelessness(&ENGINE, &stages, &behind, &mut || {}).unwrap().unwrap();
    assert_eq!((found.offset, found.alone.passed[0].offset), (Offset(BASE + 1), Offset(BASE + 1)));
    // What is handed on from instance to instance is no difference, and neither is a record on which the module fails.
    for spec in [stage("s", &aggregate("")), stage("s", &counter("")), stage("s", &fan_out(""))] {
        assert_eq!(check(&spec, &sample), None);
    }
    assert_eq!(check(&stage("s", &aggregate(&at_poison("unreachable"))), &[batch_of(40, &[5, 39])]), None);
    // One that looks back is shown what was before each record.
    let found = check(&looking_back(0, LAST_3), &sample).unwrap();
    assert_eq!(found.offset, Offset(BASE + 1), "among the others it has not been shown the first one");
}
