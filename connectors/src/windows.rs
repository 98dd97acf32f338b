//! What sinks of windows read out of chunks: the newest partial of each owner and window, the newest commit of each
//! partition, and who is fenced. Pure; entries stay encoded until a sink wants them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;

use clickmill_schemas::merge::{Fence, WindowRecord};
use clickmill_schemas::output::{Body, Output};
use clickmill_schemas::partial::{self, Head, Owner, Version, WindowKey};
use clickmill_schemas::record::Record;
use clickmill_schemas::{Epoch, Offset, PartitionId, RunId};

use crate::letters::UNREADABLE;
use crate::reader::Chunk;
use crate::sink::{Refused, Written};

/// Highest epoch of each partition of the input topic.
pub type Epochs = BTreeMap<PartitionId, Epoch>;

/// The fence of one run, which can be written down as of an offset.
#[derive(Clone, Debug)]
pub struct Terms {
    run: RunId,
    fence: Fence,
    /// As of `as_of`'s last argument, or of the beginning.
    base: Epochs,
    /// Rises since then, in order of offset.
    rises: VecDeque<(Offset, PartitionId, Epoch)>,
    partitions: u32,
}

impl Terms {
    /// Goes on from what was written down.
    #[must_use]
    pub fn new(run: RunId, base: Epochs) -> Self {
        let mut fence = Fence::default();
        let mut partitions = 0;
        for (partition, epoch) in &base {
            fence.admits((run, *partition, *epoch));
            partitions = partitions.max(partition.0 + 1);
        }
        Self { run, fence, base, rises: VecDeque::new(), partitions }
    }

    /// Partitions of the input topic that are in the log so far. One that is added shows by its first epoch record, which
    /// lies before everything that the others commit without it.
    #[must_use]
    pub const fn partitions(&self) -> u32 {
        self.partitions
    }

    fn admits(&mut self, offset: Offset, partition: PartitionId, epoch: Epoch) -> bool {
        let admitted = self.fence.admits((self.run, partition, epoch));
        if admitted {
            self.partitions = self.partitions.max(partition.0 + 1);
            let newest = self.rises.iter().rev().find(|(_, p, _)| *p == partition).map(|(_, _, e)| e);
            if newest.or_else(|| self.base.get(&partition)) != Some(&epoch) {
                self.rises.push_back((offset, partition, epoch));
            }
        }
        admitted
    }

    /// What a reader that starts at `offset` has to know. Later questions must not be about lower offsets.
    pub fn as_of(&mut self, offset: Offset) -> &Epochs {
        while self.rises.front().is_some_and(|(at, ..)| *at < offset) {
            if let Some((_, partition, epoch)) = self.rises.pop_front() {
                self.base.insert(partition, epoch);
            }
        }
        &self.base
    }
}

/// The newest partial of an owner and window in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest<'a> {
    /// Where it lies.
    pub offset: Offset,
    pub version: Version,
    pub lower_bound: bool,
    /// For [`partial::take_entries`].
    pub entries: &'a [u8],
}

/// A batch of chunks, read.
#[derive(Debug, Default)]
pub struct WindowBatch<'a> {
    pub partials: HashMap<(Owner, WindowKey), Newest<'a>>,
    /// The last of each partition, and where it lies.
    pub commits: BTreeMap<PartitionId, (Offset, Output)>,
    /// The offset after the last chunk.
    pub end: Offset,
    /// See [`Terms::partitions`].
    pub partitions: u32,
    /// The run has gone back to a savepoint: what was final may change.
    pub rewound: bool,
}

impl<'a> WindowBatch<'a> {
    /// Reads the one record of a chunk that was let pass by its time's fence already.
    pub fn single(chunk: &'a Chunk, run: RunId, written: &mut Written) -> Self {
        Self::read(std::slice::from_ref(chunk), &mut Terms::new(run, Epochs::new()), written)
    }

    /// Reads what belongs to the run of `terms`; what nobody can read is refused in `written`.
    pub fn read(chunks: &'a [Chunk], terms: &mut Terms, written: &mut Written) -> Self {
        Self::read_within(chunks, Offset(0)..Offset(u64::MAX), terms, written)
    }

    /// [`read`](Self::read), of these offsets alone.
    pub fn read_within(chunks: &'a [Chunk], of: Range<Offset>, terms: &mut Terms, written: &mut Written) -> Self {
        let mut batch = Self::default();
        for chunk in chunks.iter().filter(|chunk| chunk.next_offset > of.start && chunk.base_offset < of.end) {
            batch.end = batch.end.max(chunk.next_offset.min(of.end));
            match chunk.records() {
                Ok(records) => {
                    for record in records {
                        match record {
                            Ok((offset, _)) if !of.contains(&offset) => {}
                            Ok((offset, record)) => batch.take(offset, &record, terms, written),
                            Err(e) => written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
                        }
                    }
                }
                Err(e) => written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
            }
        }
        batch.partitions = terms.partitions();
        batch
    }

    /// Takes out what is known to be refused; it is noted in `written`.
    pub fn leave_out(&mut self, mut known: BTreeMap<Offset, Refused>, written: &mut Written) {
        let mut stays = |offset: Offset| match known.remove(&offset) {
            Some(Refused { offset, rule, message }) => {
                written.refuse(offset, rule, message);
                false
            }
            None => true,
        };
        self.partials.retain(|_, newest| stays(newest.offset));
        self.commits.retain(|_, (offset, _)| stays(*offset));
    }

    fn take(&mut self, offset: Offset, record: &Record<'a>, terms: &mut Terms, written: &mut Written) {
        let value: &'a [u8] = record.value;
        if partial::is_partial(value) {
            match Head::decode(record.key.unwrap_or_default(), value) {
                Ok(head) => self.take_partial(offset, head, value, terms),
                Err(e) => written.refuse(offset, UNREADABLE, e.to_string()),
            }
        } else {
            match WindowRecord::decode(record.key, value) {
                Ok(WindowRecord::Output(output)) => self.take_output(offset, output, terms),
                Ok(WindowRecord::Partial(_)) => {}
                Err(e) => written.refuse(offset, UNREADABLE, e.to_string()),
            }
        }
    }

    fn take_partial(&mut self, offset: Offset, head: Head, value: &'a [u8], terms: &mut Terms) {
        let Head { owner, window, version, lower_bound, entries_at } = head;
        if owner.run != terms.run || !terms.admits(offset, owner.partition, version.epoch) {
            return;
        }
        let newest = Newest { offset, version, lower_bound, entries: value.get(entries_at..).unwrap_or_default() };
        let seen = self.partials.entry((owner, window)).or_insert(newest);
        if seen.version < version {
            *seen = newest;
        }
    }

    fn take_output(&mut self, offset: Offset, output: Output, terms: &mut Terms) {
        let stamp = output.stamp;
        if stamp.run != terms.run || !terms.admits(offset, stamp.partition, stamp.epoch) {
            return;
        }
        match output.body {
            Body::Commit(_) => {
                self.commits.insert(stamp.partition, (offset, output));
            }
            Body::Rewind { .. } => self.rewound = true,
            Body::Epoch | Body::Late { .. } | Body::Decision { .. } | Body::Inherit { .. } | Body::Retried { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::Stamp;
    use clickmill_schemas::record::RecordSetBuilder;

    use super::*;

    const RUN: RunId = RunId([3; 16]);

    fn begun(offset: u64, partition: u32, epoch: u64) -> Chunk {
        let stamp = Stamp { run: RUN, partition: PartitionId(partition), epoch: Epoch(epoch) };
        let output = Output { stamp, body: Body::Epoch };
        let mut set = RecordSetBuilder::default();
        set.push(Some(output.key().as_bytes()), &output.encode(), 0);
        let at = Offset(offset);
        let set = set.bytes().to_vec();
        Chunk { from: at, base_offset: at, next_offset: at.plus(1), base_timestamp_ms: 0, set, failed: Vec::new() }
    }

    #[test]
    fn a_partition_that_is_added_is_known_from_its_first_epoch_on_and_after_a_restart() {
        let mut terms = Terms::new(RUN, Epochs::new());
        let read =
            |chunks: &[Chunk], terms: &mut Terms| WindowBatch::read(chunks, terms, &mut Written::default()).partitions;
        assert_eq!(read(&[begun(0, 0, 1), begun(1, 1, 1)], &mut terms), 2);
        assert_eq!(read(&[begun(2, 0, 2)], &mut terms), 2);
        assert_eq!(read(&[begun(3, 2, 1)], &mut terms), 3);
        let mut again = Terms::new(RUN, terms.as_of(Offset(4)).clone());
        assert_eq!(read(&[begun(4, 0, 3)], &mut again), 3);
    }
}
