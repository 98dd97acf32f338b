//! The status for who asks often says what the log says, and what workers have committed since.

use std::sync::Arc;

use super::*;
use crate::NewestCommit;
use crate::views::standing::Standing;

/// A commit that a worker of this process has made.
fn made(run: RunId, partition: u32, epoch: u64, as_of: u64, watermark_ms: i64) -> Arc<NewestCommit> {
    let commit = Commit {
        generation: Generation(0),
        as_of_offset: Offset(as_of),
        watermark_ms: Some(watermark_ms),
        closed_before_ms: None,
        ledger: Ledger { counted: as_of, ..Ledger::default() },
        committed_at_ms: 8,
        oldest_append_ms: None,
    };
    Arc::new(NewestCommit { run, partition: PartitionId(partition), epoch: Epoch(epoch), commit })
}

#[test]
fn the_log_is_read_once_and_what_workers_have_committed_since_comes_on_top() {
    let f = Fixture::new();
    f.produce(0, 50);
    f.produce(1, 50);
    f.commit(0, 2, 20, 0);
    f.commit(1, 2, 10, 0);
    let mut standing = Standing::default();
    let mut processed = |workers: &[Arc<NewestCommit>]| {
        let status = standing.status(&f.log, RunState::Running, workers).unwrap();
        assert!(status.ledger.balances());
        status.partitions.iter().map(|p| (p.processed_offset.0, p.watermark_ms)).collect::<Vec<_>>()
    };
    let minute = Some(MINUTE);
    assert_eq!(processed(&[]), [(20, minute), (10, minute)]);
    // Of a term that has ended, of another run, of an idle partition whose watermark has moved.
    let workers = [made(f.run, 0, 1, 40, 9), made(RunId([9; 16]), 0, 5, 45, 9), made(f.run, 1, 2, 10, 2 * MINUTE)];
    assert_eq!(processed(&workers), [(20, minute), (10, Some(2 * MINUTE))]);
    assert_eq!(processed(&[made(f.run, 0, 2, 30, 7)]), [(30, Some(7)), (10, Some(2 * MINUTE))]);
    // Written by nobody of this process: not looked for any more.
    f.commit(1, 2, 40, 0);
    assert_eq!(processed(&[]), [(30, Some(7)), (10, Some(2 * MINUTE))]);
}

#[test]
fn another_run_that_has_taken_the_place_is_read_from_the_log() {
    let mut f = Fixture::new();
    f.produce(0, 50);
    f.commit(0, 1, 20, 0);
    let mut standing = Standing::default();
    let first = f.run;
    assert_eq!(standing.status(&f.log, RunState::Running, &[]).unwrap().ledger.waiting, 30);
    f.run = RunId([7; 16]);
    f.commit(0, 1, 45, 0);
    crate::runs::switch_to(&f.log, f.run, clickmill_schemas::DeploymentId(0), 1).unwrap();
    let status = standing.status(&f.log, RunState::Running, &[made(first, 0, 9, 50, 0)]).unwrap();
    assert_eq!((status.run, status.ledger.waiting), (Some(f.run), 5));
}
