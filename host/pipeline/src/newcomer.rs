//! Where a partition begins that was added to others: a pure fold over what those have committed.
//!
//! Readers call a window final once every partition that they know of has passed it. A new partition is known from its
//! first epoch record on; what was committed before that record may have made windows final. So it begins with its
//! watermark there, and counts nothing in them. One that is added at the same time and has not committed yet begins no earlier
//! either: what it has written down about that counts, and before it has, it is none of the others. This module must not
//! do I/O.

use std::collections::BTreeMap;

use clickmill_schemas::merge::{Fence, Progress, WindowRecord};
use clickmill_schemas::output::{Body, Decision, Output};
use clickmill_schemas::{PartitionId, RunId};

/// Folds the records of `ctr_windows` up to the partition's own epoch record.
#[derive(Debug)]
pub struct Newcomer {
    run: RunId,
    partition: PartitionId,
    fence: Fence,
    /// Those that have an activation, with where they began.
    others: BTreeMap<PartitionId, Option<i64>>,
    began: BTreeMap<PartitionId, i64>,
    progress: Progress,
}

impl Newcomer {
    #[must_use]
    pub fn new(run: RunId, partition: PartitionId) -> Self {
        Self {
            run,
            partition,
            fence: Fence::default(),
            others: BTreeMap::new(),
            began: BTreeMap::new(),
            progress: Progress::default(),
        }
    }

    /// Takes in the next record.
    pub fn window_record(&mut self, record: &WindowRecord) {
        let (run, partition, _) = record.term();
        if run == self.run && partition != self.partition && self.fence.admits(record.term()) {
            let WindowRecord::Output(output) = record else { return };
            self.progress.apply(output);
            let Output { body: Body::Decision { decision, .. }, .. } = output else { return };
            match decision {
                Decision::WatermarkAdvance { watermark_ms } => {
                    self.began.insert(partition, *watermark_ms);
                }
                Decision::Activation { .. } => {
                    self.others.entry(partition).or_insert(self.began.get(&partition).copied());
                }
                Decision::Verdict { .. } | Decision::Gap { .. } => {}
            }
        }
    }

    /// The watermark to begin with; none where no window can be final yet.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        let watermark = |(partition, began): (&PartitionId, &Option<i64>)| match self.progress.commit(*partition) {
            Some(commit) => commit.watermark_ms,
            None => *began,
        };
        self.others.iter().map(watermark).min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::{Commit, Ledger, Stamp};
    use clickmill_schemas::{DeploymentId, Epoch, Generation, Offset};

    use super::*;

    const RUN: RunId = RunId([1; 16]);

    fn commit(partition: u32, epoch: u64, as_of: u64, watermark_ms: Option<i64>) -> WindowRecord {
        let stamp = Stamp { run: RUN, partition: PartitionId(partition), epoch: Epoch(epoch) };
        let commit = Commit {
            generation: Generation(0),
            as_of_offset: Offset(as_of),
            watermark_ms,
            closed_before_ms: None,
            ledger: Ledger::default(),
            committed_at_ms: 0,
            oldest_append_ms: None,
        };
        WindowRecord::Output(Output { stamp, body: Body::Commit(commit) })
    }

    fn decided(partition: u32, decision: Decision) -> WindowRecord {
        let stamp = Stamp { run: RUN, partition: PartitionId(partition), epoch: Epoch(1) };
        WindowRecord::Output(Output { stamp, body: Body::Decision { offset: Offset(0), decision } })
    }

    fn activated(partition: u32) -> WindowRecord {
        decided(partition, Decision::Activation { deployment: DeploymentId(0), generation: None })
    }

    /// After partitions 0 and 1 have been activated.
    fn begins(records: &[WindowRecord]) -> Option<i64> {
        let records = [&[activated(0), activated(1)], records].concat();
        let mut newcomer = Newcomer::new(RUN, PartitionId(3));
        records.iter().for_each(|record| newcomer.window_record(record));
        newcomer.watermark_ms()
    }

    #[test]
    fn it_begins_at_the_least_watermark_that_the_others_have_committed() {
        let (first, second) = (commit(0, 1, 10, Some(500)), commit(1, 1, 10, Some(300)));
        assert_eq!(begins(&[first.clone(), second.clone()]), Some(300));
        assert_eq!(begins(&[first.clone(), second.clone(), commit(1, 2, 20, Some(900))]), Some(500));
        // What a fenced worker says is no commit, and its own are none of the others'.
        assert_eq!(begins(&[first, commit(1, 2, 9, Some(300)), commit(1, 1, 50, Some(499))]), Some(300));
        assert_eq!(begins(&[commit(3, 1, 1, Some(7))]), None);
    }

    #[test]
    fn those_that_are_added_with_it_do_not_hold_it_back() {
        let old = [commit(0, 1, 10, Some(500)), commit(1, 1, 10, Some(300))];
        let stamp = Stamp { run: RUN, partition: PartitionId(2), epoch: Epoch(1) };
        let opened = WindowRecord::Output(Output { stamp, body: Body::Epoch });
        let with = |more: &[WindowRecord]| begins(&[old.as_slice(), more].concat());
        assert_eq!(with(std::slice::from_ref(&opened)), Some(300));
        let advance = decided(2, Decision::WatermarkAdvance { watermark_ms: 250 });
        assert_eq!(with(&[opened.clone(), advance.clone()]), Some(300));
        assert_eq!(with(&[opened, advance, activated(2)]), Some(250));
    }

    #[test]
    fn while_one_of_them_has_no_watermark_nothing_is_final_yet() {
        assert_eq!(begins(&[]), None);
        assert_eq!(begins(&[commit(0, 1, 10, Some(500))]), None);
        assert_eq!(begins(&[commit(0, 1, 10, Some(500)), commit(1, 1, 0, None)]), None);
    }
}
