//! How readers of `ctr_windows` put partials together: fence, merge, and what is final.
//!
//! Pure data structures; whoever holds one feeds it the topic's records in order. They must not know where the
//! records come from nor where the windows go.

use std::collections::BTreeMap;

use crate::ids::{Epoch, Offset, PartitionId, RunId};
use crate::output::{Body, Commit, Ledger, Output};
use crate::partial::{self, Metrics, NotAPartial, Owner, Partial, Version, WindowKey};

/// One record of `ctr_windows`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowRecord {
    Partial(Partial),
    Output(Output),
}

/// A record of `ctr_windows` that is neither a partial nor an [`Output`].
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Partial(#[from] NotAPartial),
    #[error("not an output record: {0}")]
    Output(#[from] serde_json::Error),
}

impl WindowRecord {
    /// # Errors
    /// [`Unreadable`] for bytes that no worker wrote.
    pub fn decode(key: Option<&[u8]>, value: &[u8]) -> Result<Self, Unreadable> {
        if partial::is_partial(value) {
            Ok(Self::Partial(Partial::decode(key.unwrap_or_default(), value)?))
        } else {
            Ok(Self::Output(Output::decode(value)?))
        }
    }

    /// Whose term wrote it.
    #[must_use]
    pub const fn term(&self) -> (RunId, PartitionId, Epoch) {
        match self {
            Self::Partial(p) => (p.owner.run, p.owner.partition, p.version.epoch),
            Self::Output(o) => (o.stamp.run, o.stamp.partition, o.stamp.epoch),
        }
    }
}

/// Keeps out what a fenced worker wrote after its successor had begun.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    highest: BTreeMap<(RunId, PartitionId), Epoch>,
}

impl Fence {
    /// The highest epochs of a run's partitions.
    #[must_use]
    pub fn epochs(&self, of: RunId) -> Vec<(PartitionId, Epoch)> {
        self.highest.iter().filter(|((run, _), _)| *run == of).map(|((_, p), epoch)| (*p, *epoch)).collect()
    }

    /// Whether a record of this term counts; remembers the highest epoch seen.
    pub fn admits(&mut self, (run, partition, epoch): (RunId, PartitionId, Epoch)) -> bool {
        let highest = self.highest.entry((run, partition)).or_insert(epoch);
        if epoch < *highest {
            return false;
        }
        *highest = epoch;
        true
    }
}

/// The newest partials of one (window, dimension), by owner.
#[derive(Clone, Debug, Default)]
pub struct MergedWindow {
    /// In no order: as many as partitions. A tree has room for eleven in its least node, of which most windows use one.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    owner: Owner,
    version: Version,
    lower_bound: bool,
    entries: Vec<(String, Metrics)>,
}

impl MergedWindow {
    /// Sums over owners by key, in the byte order of keys.
    #[must_use]
    pub fn sums(&self) -> BTreeMap<String, Metrics> {
        let mut sums = BTreeMap::<String, Metrics>::new();
        for part in &self.parts {
            for (key, metrics) in &part.entries {
                match sums.get_mut(key) {
                    Some(sum) => sum.add(metrics),
                    None => {
                        sums.insert(key.clone(), *metrics);
                    }
                }
            }
        }
        sums
    }

    /// Some of a key's events may be in the overflow bucket.
    #[must_use]
    pub fn lower_bound(&self) -> bool {
        self.parts.iter().any(|part| part.lower_bound)
    }
}

/// Merged windows, in order of size, start, dimension.
#[derive(Clone, Debug, Default)]
pub struct WindowTable {
    windows: BTreeMap<WindowKey, MergedWindow>,
}

impl WindowTable {
    /// Takes a partial in; `false` where what is stored is as new.
    pub fn apply(&mut self, partial: Partial) -> bool {
        let Partial { owner, window, version, lower_bound, entries } = partial;
        let parts = &mut self.windows.entry(window).or_default().parts;
        let part = Part { owner, version, lower_bound, entries };
        match parts.iter_mut().find(|part| part.owner == owner) {
            Some(stored) if stored.version >= version => return false,
            Some(stored) => *stored = part,
            None => {
                parts.reserve_exact(1);
                parts.push(part);
            }
        }
        true
    }

    #[must_use]
    pub fn get(&self, key: &WindowKey) -> Option<&MergedWindow> {
        self.windows.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&WindowKey, &MergedWindow)> {
        self.windows.iter()
    }

    /// Keeps the windows for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&WindowKey) -> bool) {
        self.windows.retain(|key, _| keep(key));
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

/// The newest commit of each partition of a run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    commits: BTreeMap<PartitionId, (Epoch, Commit)>,
}

impl Progress {
    /// Takes a commit in, where it is newer than what is known.
    pub fn apply(&mut self, output: &Output) {
        if let Body::Commit(commit) = &output.body {
            let newer = self
                .commits
                .get(&output.stamp.partition)
                .is_none_or(|(epoch, known)| (output.stamp.epoch, commit.as_of_offset) >= (*epoch, known.as_of_offset));
            if newer {
                self.commits.insert(output.stamp.partition, (output.stamp.epoch, commit.clone()));
            }
        }
    }

    #[must_use]
    pub fn commit(&self, partition: PartitionId) -> Option<&Commit> {
        self.commits.get(&partition).map(|(_, commit)| commit)
    }

    /// Exclusive end of the prefix that the newest commit covers.
    #[must_use]
    pub fn processed(&self, partition: PartitionId) -> Offset {
        self.commit(partition).map_or(Offset(0), |c| c.as_of_offset)
    }

    /// Windows that end at or before this are final: no partition changes them any more. Epoch milliseconds;
    /// none while one of the `partitions` has no watermark.
    #[must_use]
    pub fn final_before_ms(&self, partitions: u32) -> Option<i64> {
        (0..partitions).map(|p| self.commit(PartitionId(p)).and_then(|c| c.closed_before_ms)).min().flatten()
    }

    /// Fates summed over the partitions.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut sum = Ledger::default();
        self.commits.values().for_each(|(_, commit)| sum.add(&commit.ledger));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Generation;
    use crate::output::Stamp;

    fn partial(partition: u32, epoch: u64, as_of: u64, impressions: i64) -> Partial {
        Partial {
            owner: Owner { run: RunId([0; 16]), partition: PartitionId(partition), generation: Generation(0) },
            window: WindowKey { size_ms: 60_000, start_ms: 0, dimension: "total".into() },
            version: Version { epoch: Epoch(epoch), as_of: Offset(as_of) },
            lower_bound: false,
            entries: vec![(String::new(), Metrics { impressions, ..Metrics::default() })],
        }
    }

    #[test]
    fn partitions_add_up_and_only_newer_versions_replace() {
        let mut table = WindowTable::default();
        assert!(table.apply(partial(0, 1, 10, 5)));
        assert!(table.apply(partial(1, 1, 7, 2)));
        assert!(!table.apply(partial(0, 1, 10, 99)));
        assert!(table.apply(partial(0, 2, 9, 6)));
        assert!(!table.apply(partial(0, 1, 11, 99)));
        let (_, merged) = table.iter().next().unwrap();
        assert_eq!(merged.sums()[""].impressions, 8);
    }

    #[test]
    fn a_window_is_final_only_when_every_partition_has_closed_it() {
        let mut progress = Progress::default();
        let commit = |partition, closed| Output {
            stamp: Stamp { run: RunId([0; 16]), partition: PartitionId(partition), epoch: Epoch(1) },
            body: Body::Commit(Commit {
                generation: Generation(0),
                as_of_offset: Offset(1),
                watermark_ms: closed,
                closed_before_ms: closed,
                ledger: Ledger::default(),
                committed_at_ms: 0,
                oldest_append_ms: None,
            }),
        };
        progress.apply(&commit(0, Some(50)));
        assert_eq!(progress.final_before_ms(2), None);
        progress.apply(&commit(1, None));
        assert_eq!(progress.final_before_ms(2), None);
        progress.apply(&commit(1, Some(20)));
        assert_eq!(progress.final_before_ms(2), Some(20));
    }

    #[test]
    fn a_fenced_epoch_is_kept_out_after_its_successor_began() {
        let mut fence = Fence::default();
        let term = |epoch| (RunId([0; 16]), PartitionId(0), Epoch(epoch));
        assert!(fence.admits(term(1)) && fence.admits(term(3)) && !fence.admits(term(2)) && fence.admits(term(3)));
    }
}
