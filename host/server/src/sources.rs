//! How far each source has come, so that a batch is not appended twice.
//!
//! Rows of a source rise in each partition. A round whose sender was given up (its host was frozen, say) may still be
//! on its way when the sender has asked for its positions and sent the rest again: such a round is told apart here.
//! Pure; what is not known here is not judged.

use std::collections::HashMap;

use clickmill_schemas::PartitionId;
use clickmill_schemas::envelope::SourcePosition;

/// Sources that are remembered; beyond it one is forgotten, which only ends the watch over it.
const MAX_SOURCES: usize = 256;

/// The last row of each partition, by source.
pub(crate) type Rows = Vec<Option<u64>>;

/// What is known of one topic.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    rows: HashMap<u64, Rows>,
}

/// A batch that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of its source is in partition {partition} already, which is at row {known}")]
pub(crate) struct AlreadyThere {
    partition: PartitionId,
    row: u64,
    known: u64,
}

impl Sources {
    /// What the log says of a source.
    pub(crate) fn learn(&mut self, source: u64, rows: Rows) {
        if self.rows.len() >= MAX_SOURCES
            && !self.rows.contains_key(&source)
            && let Some(other) = self.rows.keys().next().copied()
        {
            self.rows.remove(&other);
        }
        self.rows.insert(source, rows);
    }

    /// Whether all of a round's batches are new, given in the order of the round.
    pub(crate) fn check(&self, batches: &[(PartitionId, Option<SourcePosition>)]) -> Result<(), AlreadyThere> {
        for (partition, position) in batches {
            let Some(SourcePosition { source, row }) = *position else {
                continue;
            };
            let known = self.rows.get(&source).and_then(|rows| *rows.get(partition.0 as usize)?);
            if let Some(known) = known.filter(|known| row <= *known) {
                return Err(AlreadyThere { partition: *partition, row, known });
            }
        }
        Ok(())
    }

    /// A batch was appended. A source of which nothing is known stays unknown: its other partitions were not read.
    pub(crate) fn appended(&mut self, partition: PartitionId, position: Option<SourcePosition>) {
        let Some(SourcePosition { source, row }) = position else {
            return;
        };
        if let Some(last) = self.rows.get_mut(&source).and_then(|rows| rows.get_mut(partition.0 as usize)) {
            *last = (*last).max(Some(row));
        }
    }

    /// An append may or may not have become durable: only the log can tell.
    pub(crate) fn forget(&mut self, source: u64) {
        self.rows.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u32, row: u64) -> (PartitionId, Option<SourcePosition>) {
        (PartitionId(partition), Some(SourcePosition { source: 7, row }))
    }

    #[test]
    fn a_batch_that_is_there_is_told_apart_once_its_source_is_known() {
        let mut sources = Sources::default();
        assert_eq!(sources.check(&[at(0, 5)]), Ok(()));
        sources.learn(7, vec![Some(5), None]);
        assert!(sources.check(&[at(0, 5)]).is_err());
        assert!(sources.check(&[at(1, 0), at(0, 4)]).is_err());
        assert_eq!(sources.check(&[at(0, 6), at(1, 5), (PartitionId(0), None)]), Ok(()));
        sources.appended(PartitionId(1), at(1, 9).1);
        assert!(sources.check(&[at(1, 9)]).is_err());
        sources.forget(7);
        assert_eq!(sources.check(&[at(1, 9)]), Ok(()));
    }

    #[test]
    fn the_number_of_remembered_sources_is_bounded() {
        let mut sources = Sources::default();
        (0..1_000).for_each(|source| sources.learn(source, vec![Some(1)]));
        assert_eq!(sources.rows.len(), MAX_SOURCES);
        assert!(sources.rows.contains_key(&999));
    }
}
