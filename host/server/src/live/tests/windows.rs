//! Windows: what counts, what is shown and told, and what is held.

use clickmill_schemas::output::Body;
use clickmill_schemas::{Offset, RunId};

use super::{Bench, FAR, FIVE, MINUTE, RUN};
use crate::live::store::Now;

#[test]
fn a_snapshot_tells_rate_lag_ledger_and_which_windows_are_final() {
    let mut bench = Bench::new(1);
    bench.total(100, 0, 60);
    bench.total(100, MINUTE, 40);
    bench.partial(100, (FIVE, 0), "total", &[("", 100)]);
    bench.commit(100, 2 * MINUTE);
    bench.wall_ms += 1_000;
    bench.commit(300, 2 * MINUTE);
    let event = bench.store.snapshot(Now { wall_ms: 8_500, ends: &[350], caught_up: true });
    assert_eq!((event.lag, event.processed, event.balanced), (50, 300, true));
    assert_eq!((event.ledger.produced, event.ledger.waiting), (350, 50));
    assert_eq!(event.events_per_second, 200.0);
    assert_eq!((event.watermark_ms, event.final_before_ms), (Some(2 * MINUTE), Some(MINUTE)));
    let shown: Vec<_> = event.windows.minutes.iter().map(|w| (w.start_ms, w.impressions, w.r#final)).collect();
    assert_eq!(shown, [(0, 60, true), (MINUTE, 40, false)]);
    assert_eq!(event.windows.fives[0].impressions, 100);
    let idle = bench.store.snapshot(Now { wall_ms: 60_000, ends: &[350], caught_up: true }).events_per_second;
    assert!(idle == 0.0 && idle.is_sign_positive(), "{idle:?}");
    let ahead = bench.store.snapshot(Now { wall_ms: 0, ends: &[290], caught_up: true });
    assert!(!ahead.balanced, "a commit is ahead of its log");
}

#[test]
fn what_a_fenced_worker_or_another_run_writes_is_not_shown() {
    let mut bench = Bench::new(1);
    bench.epoch = 2;
    bench.total(10, 0, 5);
    bench.epoch = 1;
    bench.total(99, 0, 77);
    bench.commit(99, 10 * MINUTE);
    (bench.epoch, bench.run) = (3, RunId([2; 16]));
    bench.total(100, 0, 88);
    bench.commit(100, 10 * MINUTE);
    assert_eq!(bench.shown(), [(0, 5)]);
    assert_eq!(bench.snapshot().watermark_ms, None);
    assert!(bench.store.is_of(RUN) && !bench.store.is_of(bench.run), "readers who take the other one begin anew");
}

#[test]
fn partitions_and_generations_of_a_window_add_up_and_only_newer_versions_replace() {
    let mut bench = Bench::new(2);
    bench.total(10, 0, 5);
    bench.generation = 1;
    bench.total(20, 0, 3);
    (bench.partition, bench.generation) = (1, 0);
    bench.total(4, 0, 2);
    bench.total(3, 0, 99);
    assert_eq!(bench.shown(), [(0, 10)]);
}

#[test]
fn what_comes_after_the_watermark_is_a_correction_and_what_comes_with_it_is_not() {
    let mut bench = Bench::new(2);
    bench.total(10, 0, 5);
    bench.commit(10, MINUTE / 2);
    // The watermark passes the window's end within this commit: nobody can tell which of these came before.
    bench.total(20, 0, 8);
    bench.commit(20, MINUTE);
    assert_eq!(bench.updated().iter().map(|w| w.corrected).collect::<Vec<_>>(), [0]);
    bench.total(30, 0, 10);
    bench.total(30, MINUTE, 7);
    bench.commit(30, MINUTE + 10);
    bench.partition = 1;
    // Of this partition no watermark is known.
    bench.total(3, 0, 1);
    let shown: Vec<_> = bench.updated().iter().map(|w| (w.start_ms, w.impressions, w.corrected)).collect();
    assert_eq!(shown, [(0, 11, 2), (MINUTE, 7, 0)]);
    bench.partition = 0;
    bench.total(40, 0, 13);
    // A generation begins with nothing: all that it counts came after.
    bench.generation = 1;
    bench.total(50, 0, 4);
    assert_eq!(bench.updated().iter().map(|w| w.corrected).collect::<Vec<_>>(), [2 + 3 + 4]);
}

#[test]
fn what_compaction_may_have_taken_is_no_correction() {
    let mut bench = Bench::new(1);
    bench.store.caught_up = false;
    bench.commit(10, 3 * MINUTE);
    bench.total(20, 0, 500);
    assert_eq!(bench.minutes()[0].corrected, 0);
    bench.total(30, 0, 502);
    assert_eq!(bench.minutes()[0].corrected, 2, "from here on both are known");
}

#[test]
fn late_events_are_counted_once_in_the_windows_that_they_were_too_late_for() {
    let mut bench = Bench::new(1);
    bench.total(5, 7 * MINUTE, 1);
    bench.commit(5, 9 * MINUTE);
    bench.updated();
    for offset in [5, 6, 6, 5] {
        bench.late(offset, 7 * MINUTE + 1);
    }
    bench.late(8, i64::MIN);
    bench.late(9, i64::MAX);
    let updated = bench.updated();
    assert_eq!(updated.iter().map(|w| (w.start_ms, w.late)).collect::<Vec<_>>(), [(7 * MINUTE, 2)]);
    assert_eq!(bench.snapshot().windows.fives.iter().map(|w| (w.start_ms, w.late)).collect::<Vec<_>>(), [(FIVE, 2)]);
}

#[test]
fn after_going_back_to_a_savepoint_what_came_after_it_is_counted_anew() {
    let mut bench = Bench::new(1);
    bench.commit(5, 9 * MINUTE);
    bench.total(10, 0, 9);
    bench.late(8, MINUTE);
    bench.activate(20, 4);
    bench.commit(10, 9 * MINUTE);
    assert_eq!(bench.minutes().iter().map(|w| (w.corrected, w.late)).collect::<Vec<_>>(), [(9, 0), (0, 1)]);
    bench.epoch = 2;
    bench.output(Body::Rewind { as_of_offset: Offset(6) });
    bench.commit(6, 9 * MINUTE);
    bench.total(6, 0, 2);
    bench.late(7, MINUTE);
    bench.total(30, 0, 3);
    bench.commit(30, 9 * MINUTE);
    let shown: Vec<_> = bench.minutes().iter().map(|w| (w.impressions, w.corrected, w.late)).collect();
    assert_eq!(shown, [(3, 1, 0), (0, 0, 1)]);
    assert_eq!(bench.marks(), [], "the activation was never reached");
}

#[test]
fn an_update_has_what_changed_and_what_became_final_and_nothing_twice() {
    let mut bench = Bench::new(1);
    bench.total(10, 0, 5);
    bench.total(10, MINUTE, 5);
    bench.commit(10, MINUTE);
    assert_eq!(bench.updated().len(), 2);
    assert_eq!(bench.updated(), []);
    bench.total(20, MINUTE, 5);
    bench.commit(20, 2 * MINUTE);
    let updated: Vec<_> = bench.updated().iter().map(|w| (w.start_ms, w.r#final)).collect();
    assert_eq!(updated, [(0, true)], "the other one is as it was");
    for minute in 0..300 {
        bench.total(30, minute * MINUTE, 6);
    }
    let now = Now { wall_ms: 0, ends: &[0], caught_up: true };
    assert!(bench.store.update(now).is_none(), "a snapshot says it shorter");
}

#[test]
fn a_pane_of_the_year_2100_hides_no_other_and_takes_no_others_room() {
    let mut bench = Bench::within(1, 300_000);
    bench.commit(1, 0);
    for minute in 0..200 {
        bench.total(1, FAR + minute * MINUTE, 1);
        bench.partial(1, (MINUTE, FAR + minute * MINUTE), "site_category", &[("far", 1)]);
    }
    for minute in 0..5_000 {
        bench.total(minute, minute as i64 * MINUTE, 1);
        bench.partial(minute, (MINUTE, minute as i64 * MINUTE), "site_category", &[("near", 1)]);
        bench.commit(minute, minute as i64 * MINUTE);
    }
    let shown = bench.shown();
    assert_eq!((shown.len(), shown.last()), (120, Some(&(4_999, 1))));
    let now = 4_999 * MINUTE;
    assert_eq!(bench.impressions(MINUTE, "site_category", now - 90 * MINUTE, now + MINUTE), Some(91));
    assert_eq!(bench.impressions(MINUTE, "site_category", now, FAR + 1_000 * MINUTE), None, "some of these had to go");
    assert!(bench.store.table.held_bytes() <= 300_000, "{}", bench.store.table.held_bytes());
    // Where event time really comes there, they are shown, and told of.
    bench.store.told();
    bench.commit(9_000, FAR);
    assert_eq!(bench.updated().len(), 60);
}

#[test]
fn what_is_held_stays_within_its_bytes_and_the_oldest_keys_go_first() {
    let limit = 300_000;
    let mut bench = Bench::within(1, limit);
    let names: Vec<String> = (0..200).map(|n| format!("key{n}")).collect();
    let keys: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    for minute in 0..100 {
        for dimension in ["total", "site_category", "app_category"] {
            bench.partial(
                minute,
                (MINUTE, minute as i64 * MINUTE),
                dimension,
                if dimension == "total" { &[("", 1)] } else { &keys },
            );
        }
        bench.commit(minute, minute as i64 * MINUTE);
        assert!(bench.store.table.held_bytes() <= limit);
    }
    assert_eq!(bench.impressions(MINUTE, "total", 0, 100 * MINUTE), Some(100));
    assert_eq!(bench.impressions(MINUTE, "site_category", 0, 100 * MINUTE), None);
    assert_eq!(bench.impressions(MINUTE, "site_category", 80 * MINUTE, 100 * MINUTE), Some(20));
    // A correction of what had to go does not make it whole again.
    bench.partial(500, (MINUTE, 0), "site_category", &keys);
    assert_eq!(bench.impressions(MINUTE, "site_category", 0, MINUTE), None);
    assert_eq!(bench.impressions(MINUTE, "total", -60 * MINUTE, 100 * MINUTE), None, "older than what is kept");

    let mut random = Bench::within(1, limit);
    for n in 0..5_000 {
        random.total(1, n * 1_000 * MINUTE, 1);
        assert!(random.store.table.held_bytes() <= limit);
    }
    assert_eq!(random.impressions(MINUTE, "total", 0, 5_000_000 * MINUTE), None);
}

#[test]
fn what_is_older_than_the_newest_watermark_by_more_than_is_kept_is_passed_over() {
    let mut bench = Bench::new(1);
    bench.store.expect_watermark(Some(1_000 * MINUTE));
    bench.store.expect_watermark(None);
    bench.store.expect_watermark(Some(5));
    bench.total(1, 879 * MINUTE, 1);
    bench.total(1, 880 * MINUTE, 2);
    bench.partial(1, (FIVE, 0), "total", &[("", 3)]);
    bench.partial(1, (7, 999 * MINUTE), "total", &[("", 3)]);
    assert_eq!(bench.shown(), [(880, 2)]);
    assert_eq!(bench.snapshot().windows.fives.len(), 1);
}

#[test]
fn a_partition_that_is_added_holds_final_windows_up() {
    let mut bench = Bench::new(1);
    bench.total(1, 0, 1);
    bench.commit(1, 10 * MINUTE);
    assert!(bench.minutes()[0].r#final);
    bench.store.partitions = 2;
    bench.commit(2, 11 * MINUTE);
    assert!(!bench.minutes()[0].r#final);
}
