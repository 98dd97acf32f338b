//! A sync that fails once, and is called a success the next time, as the system does.

use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{PartitionId, RunId};

use super::super::encode::{RecordSet, with_frame};
use super::super::frame::Seed;
use super::*;
use crate::topic::TopicPartition;

fn place(dir: &std::path::Path) -> Place {
    let at = TopicPartition::new("t", PartitionId(0));
    Place { at, dir: dir.join("0"), seed: Seed::of(RunId([1; 16]), PartitionId(0)) }
}

fn open(dir: &std::path::Path) -> Partition {
    Partition::open(place(dir), 1 << 20, true).unwrap()
}

/// Appends a batch of one record; the offset after it.
fn write(partition: &Partition) -> Offset {
    let mut set = RecordSetBuilder::default();
    set.push(None, &[7; 100], 1);
    let set = RecordSet { bytes: set.bytes(), count: 1, base_timestamp_ms: 1 };
    with_frame(set, 1, partition.place.seed, |draft| partition.write(draft, 100)).unwrap().1
}

fn go_bad(partition: &Partition, syncs: u32) {
    partition.bad_syncs.store(syncs, Ordering::Relaxed);
}

#[test]
fn after_one_failed_sync_no_later_one_vouches_for_what_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    Partition::create(&place(dir.path())).unwrap();
    let partition = open(dir.path());
    let safe = write(&partition);
    partition.sync();
    let lost = write(&partition);
    go_bad(&partition, 1);
    partition.sync();
    assert!(
        matches!(partition.wait_durable(lost), Err(BrokerError::PartitionFailed { durable_end, .. }) if durable_end == safe)
    );
    // A partition that was queued again meanwhile, and a clean stop: both would be told that all is well.
    assert_eq!(partition.sync(), 0);
    partition.close();
    assert_eq!(partition.ends().end, safe);
    let again = open(dir.path());
    assert_eq!(again.ends().end, safe);
    let next = write(&again);
    again.sync();
    again.wait_durable(next).unwrap();
}

#[test]
fn a_failed_sync_of_a_roll_leaves_a_partition_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    Partition::create(&place(dir.path())).unwrap();
    let partition = open(dir.path());
    let safe = write(&partition);
    partition.sync();
    write(&partition);
    go_bad(&partition, 1);
    assert!(partition.roll_if_older(i64::MAX).is_err());
    assert!(partition.roll_if_older(i64::MAX).is_ok(), "a failed partition is left alone");
    partition.close();
    assert_eq!(open(dir.path()).ends().end, safe);
}
