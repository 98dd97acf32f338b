//! What sinks of windows read out of chunks: the newest partial of each owner and window, the newest commit of each
//! partition, and who is fenced. Pure; entries stay encoded until a sink wants them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use clickmill_schemas::merge::{Fence, WindowRecord};
use clickmill_schemas::output::{Body, Output};
use clickmill_schemas::partial::{self, Head, Owner, Version, WindowKey};
use clickmill_schemas::record::Record;
use clickmill_schemas::{Epoch, Offset, PartitionId, RunId};

use crate::reader::Chunk;
use crate::sink::Written;

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
}

impl Terms {
    /// Goes on from what was written down.
    #[must_use]
    pub fn new(run: RunId, base: Epochs) -> Self {
        let mut fence = Fence::default();
        for (partition, epoch) in &base {
            fence.admits((run, *partition, *epoch));
        }
        Self { run, fence, base, rises: VecDeque::new() }
    }

    fn admits(&mut self, offset: Offset, partition: PartitionId, epoch: Epoch) -> bool {
        let admitted = self.fence.admits((self.run, partition, epoch));
        if admitted {
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
    /// Commits in the order of the log, only the last of each partition.
    pub commits: BTreeMap<PartitionId, Output>,
    /// The offset after the last chunk.
    pub end: Offset,
}

impl<'a> WindowBatch<'a> {
    /// Reads what belongs to the run of `terms`; what nobody can read is counted in `written`.
    pub fn read(chunks: &'a [Chunk], terms: &mut Terms, written: &mut Written) -> Self {
        let mut batch = Self::default();
        for chunk in chunks {
            batch.end = batch.end.max(chunk.next_offset);
            match chunk.records() {
                Ok(records) => {
                    for record in records {
                        match record {
                            Ok((offset, record)) => batch.take(offset, &record, terms, written),
                            Err(e) => written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
                        }
                    }
                }
                Err(e) => written.skip(format!("batch at offset {}: {e}", chunk.base_offset)),
            }
        }
        batch
    }

    fn take(&mut self, offset: Offset, record: &Record<'a>, terms: &mut Terms, written: &mut Written) {
        let value: &'a [u8] = record.value;
        if partial::is_partial(value) {
            match Head::decode(record.key.unwrap_or_default(), value) {
                Ok(head) => self.take_partial(offset, head, value, terms),
                Err(e) => written.skip(format!("record at offset {offset}: {e}")),
            }
        } else {
            match WindowRecord::decode(record.key, value) {
                Ok(WindowRecord::Output(output)) => self.take_output(offset, output, terms),
                Ok(WindowRecord::Partial(_)) => {}
                Err(e) => written.skip(format!("record at offset {offset}: {e}")),
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
        if let Body::Commit(_) = &output.body {
            self.commits.insert(stamp.partition, output);
        }
    }
}
