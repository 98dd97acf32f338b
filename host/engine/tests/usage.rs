//! What a batch has cost is told of each stage, of that batch alone.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::Duration;

use common::*;

/// Records and whether there was time, stage by stage.
fn usage(chain: &clickmill_engine::Chain) -> Vec<(&str, u64, bool)> {
    chain.usage().map(|u| (u.stage, u.records, u.time > Duration::ZERO)).collect()
}

#[test]
fn a_stage_counts_what_came_to_it_of_the_newest_batch_and_no_more() {
    let mut chain = chain(&[&echo(), &looks_back(1), &echo()]);
    assert_eq!(usage(&chain), [("s0", 0, false), ("s1", 0, false), ("s2", 0, false)]);
    for records in [7, 40] {
        process(&mut chain, &Batch::of(records)).unwrap();
        let n = records as u64;
        assert_eq!(usage(&chain), [("s0", n, true), ("s1", n, true), ("s2", 0, false)], "the second one drops all");
    }
}

#[test]
fn records_that_go_one_by_one_are_one_batch_of_their_stage() {
    let mut chain = chain(&[&fan_out(""), &echo()]);
    process(&mut chain, &Batch::of(5)).unwrap();
    // Values end in 0 to 4, and each record is handed on as often.
    assert_eq!(usage(&chain), [("s0", 5, true), ("s1", 10, true)]);
}

#[test]
fn memory_is_what_the_instance_has_grown_to() {
    let grower = module(&[ALLOC, &map(&format!("(drop (memory.grow (i32.const 4))) {ECHO}"))]);
    let mut chain = chain(&[&grower]);
    let memory = |chain: &clickmill_engine::Chain| chain.usage().map(|u| u.memory_bytes).sum::<usize>();
    assert_eq!(memory(&chain), 16 << 16);
    process(&mut chain, &Batch::of(1)).unwrap();
    assert_eq!(memory(&chain), 20 << 16);
}
