//! Where a partition begins that was added to others: a pure fold over what those have committed.
//!
//! Readers call a window final once every partition that they know of has passed it. A new partition is known from its
//! first epoch record on; what was committed before that record may have made windows final. So it begins with its
//! watermark there, and counts nothing in them. This module must not do I/O.

use std::collections::BTreeSet;

use clickmill_schemas::merge::{Fence, Progress, WindowRecord};
use clickmill_schemas::{PartitionId, RunId};

/// Folds the records of `ctr_windows` up to the partition's own epoch record.
#[derive(Debug)]
pub struct Newcomer {
    run: RunId,
    partition: PartitionId,
    fence: Fence,
    others: BTreeSet<PartitionId>,
    progress: Progress,
}

impl Newcomer {
    #[must_use]
    pub fn new(run: RunId, partition: PartitionId) -> Self {
        Self { run, partition, fence: Fence::default(), others: BTreeSet::new(), progress: Progress::default() }
    }

    /// Takes in the next record.
    pub fn window_record(&mut self, record: &WindowRecord) {
        let (run, partition, _) = record.term();
        if run == self.run && partition != self.partition && self.fence.admits(record.term()) {
            self.others.insert(partition);
            if let WindowRecord::Output(output) = record {
                self.progress.apply(output);
            }
        }
    }

    /// The watermark to begin with; none where no window can be final yet.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.others.iter().map(|p| self.progress.commit(*p).and_then(|c| c.watermark_ms)).min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
    use clickmill_schemas::{Epoch, Generation, Offset};

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
        };
        WindowRecord::Output(Output { stamp, body: Body::Commit(commit) })
    }

    fn begins(records: &[WindowRecord]) -> Option<i64> {
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
    fn while_one_of_them_has_no_watermark_nothing_is_final_yet() {
        let stamp = Stamp { run: RUN, partition: PartitionId(1), epoch: Epoch(1) };
        let begun = WindowRecord::Output(Output { stamp, body: Body::Epoch });
        assert_eq!(begins(&[]), None);
        assert_eq!(begins(&[commit(0, 1, 10, Some(500)), begun]), None);
        assert_eq!(begins(&[commit(0, 1, 10, Some(500)), commit(1, 1, 0, None)]), None);
    }
}
