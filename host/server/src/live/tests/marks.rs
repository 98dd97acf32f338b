//! Marks: where what was decided is placed, and how many there are.

use clickmill_pipeline::deployment::Cause;
use clickmill_schemas::output::Decision;
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset};

use super::{Bench, FAR, MINUTE};
use crate::live::event::MarkKind;
use crate::live::store::Now;

#[test]
fn a_deployment_is_one_mark_where_event_time_was_when_it_was_reached() {
    let mut bench = Bench::new(2);
    bench.deploy(0, Cause::Config, "");
    bench.deploy(1, Cause::Deploy, "a stricter <rule>");
    bench.activate(0, 0);
    assert_eq!(bench.marks(), [], "nobody knows where in event time that is");
    bench.commit(10, 3 * MINUTE);
    bench.activate(25, 1);
    bench.commit(20, 4 * MINUTE);
    assert_eq!(bench.marks().len(), 1, "it is reached later");
    bench.commit(30, 5 * MINUTE);
    bench.partition = 1;
    bench.activate(0, 0);
    bench.activate(8, 1);
    bench.commit(9, 7 * MINUTE);
    let deployment = |text: &str, at| (MarkKind::Deployment, text.to_owned(), at);
    let first = deployment("deployment 0, by the configuration", 3);
    let expected = [first, deployment("deployment 1: a stricter <rule>", 5)];
    assert_eq!(bench.marks(), expected);
    let mark = bench.snapshot().marks[1].clone();
    assert_eq!((mark.wall_ms, mark.deployment), (7_000, Some(DeploymentId(1))));
}

#[test]
fn rollbacks_and_what_the_breaker_undid_are_marked_as_such() {
    let mut bench = Bench::new(1);
    bench.deploy(3, Cause::Deploy, "bad");
    bench.deploy(4, Cause::Breaker { undoes: DeploymentId(3) }, "");
    bench.deploy(5, Cause::Rollback { to: DeploymentId(2) }, "by hand");
    for (deployment, offset) in [(3, 10), (4, 20), (5, 30), (4, 40)] {
        bench.activate(offset, deployment);
        bench.commit(offset, offset as i64 * MINUTE);
    }
    let kinds = [MarkKind::Deployment, MarkKind::Breaker, MarkKind::Rollback, MarkKind::Rollback];
    let texts = [
        "deployment 3: bad",
        "deployment 4, the breaker undoes 3",
        "deployment 5, back to 2: by hand",
        "partition 0 cannot go on with a later one: deployment 4, the breaker undoes 3",
    ];
    let marks = bench.marks();
    assert_eq!(marks.iter().map(|m| m.0).collect::<Vec<_>>(), kinds);
    assert_eq!(marks.iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), texts);
}

#[test]
fn what_happens_over_and_over_is_one_mark_with_a_count_and_comes_again_in_an_update() {
    let mut bench = Bench::new(2);
    let verdict =
        || Decision::Verdict { stage: "enrich".into(), sha256: ModuleDigest([9; 32]), message: "trap".into() };
    bench.commit(1, 10 * MINUTE);
    bench.decide(2, verdict());
    bench.decide(3, Decision::Gap { end: Offset(9) });
    bench.commit(9, 11 * MINUTE);
    bench.store.told();
    bench.decide(10, verdict());
    bench.commit(10, 11 * MINUTE + 1);
    bench.decide(11, verdict());
    bench.decide(11, Decision::WatermarkAdvance { watermark_ms: 12 * MINUTE });
    bench.commit(11, 12 * MINUTE);
    bench.decide(11, Decision::WatermarkAdvance { watermark_ms: 13 * MINUTE });
    bench.commit(11, 13 * MINUTE);
    let first = "stage enrich fails on ad_events_raw/0@2: trap";
    let expected = [
        (MarkKind::Verdict, format!("{first} (2 times)"), 11),
        (MarkKind::Gap, "retention took 6 records of partition 0 before they were judged".to_owned(), 11),
        (MarkKind::Verdict, "stage enrich fails on ad_events_raw/0@11: trap".to_owned(), 12),
        (MarkKind::Advance, "partition 0 is idle, and its watermark follows the others (2 times)".to_owned(), 12),
    ];
    assert_eq!(bench.marks(), expected);
    let now = Now { wall_ms: 0, ends: &[0], caught_up: true };
    let told: Vec<u64> = bench.store.update(now).unwrap().marks.iter().map(|m| m.id).collect();
    assert_eq!(told, [0, 2, 3], "the gap has been told of");
}

#[test]
fn marks_are_bounded_and_deployments_outlive_verdicts() {
    let mut bench = Bench::new(1);
    bench.activate(0, 0);
    bench.commit(0, 0);
    for n in 1..2_000 {
        let stage = format!("stage{n}");
        bench.decide(n, Decision::Verdict { stage, sha256: ModuleDigest([0; 32]), message: "é".repeat(10_000) });
        bench.commit(n, 1);
    }
    let marks = bench.marks();
    assert_eq!((marks.len(), marks[0].0), (500, MarkKind::Deployment));
    assert_eq!(marks[1].1.chars().count(), 301);
    bench.commit(3_000, 25 * 60 * MINUTE);
    assert_eq!(bench.marks(), [], "all of it is long ago");
}

#[test]
fn decisions_whose_commits_compaction_has_taken_are_placed_by_the_windows_behind_them() {
    let mut bench = Bench::new(1);
    bench.store.caught_up = false;
    bench.store.expect_watermark(Some(100 * MINUTE));
    bench.activate(50, 1);
    bench.total(40, 10 * MINUTE, 1);
    bench.total(60, FAR, 1);
    bench.total(60, 20 * MINUTE, 1);
    bench.total(90, 30 * MINUTE, 1);
    bench.commit(100, 100 * MINUTE);
    assert_eq!(bench.marks(), [(MarkKind::Deployment, "deployment 1".to_owned(), 20)]);
}

#[test]
fn a_pause_and_its_end_are_marked_where_event_time_stands() {
    let mut bench = Bench::new(1);
    bench.commit(1, 4 * MINUTE);
    bench.store.set_paused(Some("to look".into()), 8_000);
    bench.store.set_paused(Some("to look".into()), 8_100);
    assert_eq!(bench.snapshot().paused, Some("to look"));
    bench.store.set_paused(None, 9_000);
    let expected = [(MarkKind::Pause, "paused: to look".to_owned(), 4), (MarkKind::Pause, "resumed".to_owned(), 4)];
    assert_eq!(bench.marks(), expected);
}
