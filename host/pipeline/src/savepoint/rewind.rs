//! Going back to a savepoint: what came after it is void, and the partitions start where it was made.
//!
//! What is to be done is written down first (`control/rewind`), and a start that finds it there does it again from its
//! beginning: every step may be repeated, and no worker runs before the last one. In order, for all partitions: a rewind
//! record and a commit under a new epoch, in one batch; the windows as they were then, under versions that win in every
//! reader (those that did not exist are emptied); the rewind record among the dead letters; a checkpoint that names the
//! ends behind all this, so that no decision from after the savepoint is read. Windows that were open then are in the
//! saved state, and are written by the workers, who also let the newest deployment judge.

use std::collections::BTreeMap;
use std::path::Path;

use clickmill_broker::{Appended, Broker, TopicPartition};
use clickmill_schemas::merge::{Fence, WindowRecord};
use clickmill_schemas::output::{Body, Commit, Output, Stamp};
use clickmill_schemas::partial::{self, Head, Owner, Version, WindowKey};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Offset, PartitionId, RunId};

use super::{Savepoint, load};
use crate::chains::Chains;
use crate::checkpoint::resolve::newest_first;
use crate::checkpoint::{CheckpointName, CheckpointStore, DirectoryStore, OutputEnds, take_epoch};
use crate::deployment::CONTROL;
use crate::host::StartError;
use crate::savepoint::SavepointError;
use crate::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};
use crate::views::scan::scan;

/// Name of what is to be done in the folder `control`.
const PENDING: &str = "rewind";
/// Bytes of a batch, about.
const BATCH_BYTES: usize = 1 << 20;

/// What a rewind works on.
pub(crate) struct Place<'a> {
    pub broker: &'a dyn Broker,
    pub chains: &'a Chains,
    pub data_dir: &'a Path,
    /// Folder of the run's checkpoints.
    pub checkpoints: &'a Path,
    pub run: RunId,
    pub partitions: u32,
    pub now_ms: i64,
}

/// Goes back to the savepoint `from`, if one is named, or ends what a killed start has begun.
pub(crate) fn rewind(place: &Place<'_>, from: Option<&str>) -> Result<(), StartError> {
    let control = DirectoryStore::open(&place.data_dir.join(CONTROL))?;
    if let Some(name) = pending(place.data_dir)? {
        tracing::info!(savepoint = %name, "going back to it was not finished: it is done now");
        carry_out(place, &load(place.data_dir, &name)?)?;
        control.delete(PENDING)?;
        if from == Some(&name) {
            return Ok(());
        }
    }
    if let Some(name) = from {
        let savepoint = load(place.data_dir, name)?;
        check(place, &savepoint)?;
        control.create(PENDING, name.as_bytes())?;
        carry_out(place, &savepoint)?;
        control.delete(PENDING)?;
        tracing::info!(savepoint = %name, "the run has gone back to it");
    }
    Ok(())
}

/// The savepoint that a killed start was going back to.
pub(super) fn pending(data_dir: &Path) -> Result<Option<String>, SavepointError> {
    let Some(control) = DirectoryStore::open_to_read(&data_dir.join(CONTROL))? else { return Ok(None) };
    Ok(control.read(PENDING)?.map(|name| String::from_utf8_lossy(&name).into_owned()))
}

/// Whether everything is there that is needed.
fn check(place: &Place<'_>, savepoint: &Savepoint) -> Result<(), StartError> {
    let (manifest, name) = (&savepoint.manifest, savepoint.manifest.name.clone());
    if manifest.run != place.run {
        return Err(SavepointError::OtherRun { name, found: manifest.run, ours: place.run }.into());
    }
    let saved = savepoint.checkpoints.len();
    if saved != place.partitions as usize {
        return Err(SavepointError::Partitions { name, saved, now: place.partitions }.into());
    }
    for (partition, checkpoint) in &savepoint.checkpoints {
        let at = TopicPartition::new(AD_EVENTS_RAW, *partition);
        place.broker.keep_from(&at, checkpoint.offset);
        let (ends, offset) = (place.broker.ends(&at)?, checkpoint.offset);
        if offset < ends.start || offset > ends.end {
            let (partition, start, end) = (*partition, ends.start, ends.end);
            return Err(SavepointError::OutOfLog { name, partition, offset, start, end }.into());
        }
    }
    let windows = TopicPartition::new(CTR_WINDOWS, PartitionId(0));
    let mut behind = None;
    let read = scan(place.broker, &windows, Offset(0), &mut |_, record| {
        if partial::is_partial(record.value) {
            return Ok(());
        }
        if let WindowRecord::Output(Output { stamp, body: Body::Rewind { as_of_offset } }) =
            WindowRecord::decode(record.key, record.value)?
            && let Some(checkpoint) = savepoint.checkpoints.get(&stamp.partition)
            && stamp.run == place.run
            && stamp.epoch > checkpoint.epoch
            && as_of_offset < checkpoint.offset
        {
            behind = Some((stamp.partition, checkpoint.offset, as_of_offset));
        }
        Ok(())
    });
    read.map_err(StartError::View)?;
    match behind {
        Some((partition, offset, back)) => Err(SavepointError::Behind { name, partition, offset, back }.into()),
        None => Ok(()),
    }
}

fn carry_out(place: &Place<'_>, savepoint: &Savepoint) -> Result<(), StartError> {
    let mut terms = BTreeMap::new();
    for (partition, checkpoint) in &savepoint.checkpoints {
        place.broker.keep_from(&TopicPartition::new(AD_EVENTS_RAW, *partition), checkpoint.offset);
        let store = DirectoryStore::open(&place.checkpoints.join(partition.to_string()))?;
        let epoch = take_epoch(&store)?;
        terms.insert(*partition, (epoch, store));
    }
    let commits = commits(place, savepoint)?;
    let final_before = commits.values().map(|commit| commit.closed_before_ms).min().flatten();
    let windows = windows(place, savepoint, final_before)?;

    let stamp = |partition: PartitionId, epoch: Epoch| Stamp { run: place.run, partition, epoch };
    let mut first = RecordSetBuilder::default();
    let mut letters = RecordSetBuilder::default();
    let put = |set: &mut RecordSetBuilder, output: &Output| {
        set.push(Some(output.key().as_bytes()), &output.encode(), place.now_ms);
    };
    for (partition, commit) in commits {
        let stamp = stamp(partition, terms[&partition].0);
        let back = Output { stamp, body: Body::Rewind { as_of_offset: commit.as_of_offset } };
        put(&mut first, &back);
        put(&mut letters, &back);
        put(&mut first, &Output { stamp, body: Body::Commit(commit) });
    }
    let mut out = Appender::new(place.broker, CTR_WINDOWS);
    out.flush(&mut first)?;
    let mut set = RecordSetBuilder::default();
    for ((owner, window), stored) in windows {
        let epoch = terms[&owner.partition].0;
        let (key, value) = stored.record(&owner, &window, epoch);
        set.push(Some(&key), &value, place.now_ms);
        if set.bytes().len() > BATCH_BYTES {
            out.flush(&mut set)?;
        }
    }
    out.flush(&mut set)?;
    let windows = out.end()?;
    let mut out = Appender::new(place.broker, AD_EVENTS_ERROR);
    out.flush(&mut letters)?;
    let outputs = OutputEnds { windows, errors: out.end()? };

    for (partition, checkpoint) in &savepoint.checkpoints {
        let (epoch, store) = &terms[partition];
        let mut checkpoint = checkpoint.clone();
        // What lay ahead of it was decided for what is judged again.
        checkpoint.ahead.clear();
        checkpoint.verdicts.clear();
        (checkpoint.epoch, checkpoint.written_at_ms) = (*epoch, place.now_ms);
        (checkpoint.outputs, checkpoint.written) = (outputs, outputs);
        let name = CheckpointName { epoch: *epoch, offset: checkpoint.offset };
        store.create(&name.file(), &checkpoint.encode())?;
    }
    // None may be started from that is of what is void now.
    for (partition, (epoch, store)) in &terms {
        let to = savepoint.checkpoints[partition].offset;
        for name in newest_first(&store.list()?).into_iter().filter(|name| name.epoch < *epoch && name.offset > to) {
            store.delete(&name.file())?;
        }
    }
    Ok(())
}

/// What each partition had committed at the savepoint.
fn commits(place: &Place<'_>, savepoint: &Savepoint) -> Result<BTreeMap<PartitionId, Commit>, StartError> {
    for file in savepoint.manifest.modules.values() {
        // One that was lost is there again.
        let path = savepoint.folder.join(file);
        let wasm = std::fs::read(&path).map_err(super::io("read", &path))?;
        place.chains.modules.put(&wasm, None)?;
    }
    let mut commits = BTreeMap::new();
    for (partition, checkpoint) in &savepoint.checkpoints {
        let stages = place.chains.deployment(checkpoint.deployment)?.stages;
        let chain = place.chains.live(None).with_state(&stages, &checkpoint.state);
        let mut chain = chain.map_err(|source| StartError::Worker { partition: *partition, source: source.into() })?;
        let commit = Commit {
            generation: checkpoint.generation,
            as_of_offset: checkpoint.offset,
            watermark_ms: chain.watermark(),
            closed_before_ms: chain.closed_before(),
            ledger: checkpoint.ledger.clone(),
            committed_at_ms: place.now_ms,
            oldest_append_ms: None,
        };
        commits.insert(*partition, commit);
    }
    Ok(commits)
}

/// The newest of a window of an owner.
struct Stored {
    as_of: Offset,
    /// Flag and entries; none where it is to be emptied.
    guests_part: Option<Vec<u8>>,
}

impl Stored {
    fn record(&self, owner: &Owner, window: &WindowKey, epoch: Epoch) -> (Vec<u8>, Vec<u8>) {
        let mut key = partial::key_prefix(owner).into_bytes();
        partial::put_guest_key(&mut key, window.size_ms, window.start_ms, &window.dimension);
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version { epoch, as_of: self.as_of });
        match &self.guests_part {
            Some(part) => value.extend_from_slice(part),
            None => {
                partial::put_guest_head(&mut value, false, 0);
                partial::put_end(&mut value);
            }
        }
        (key, value)
    }
}

/// Windows that were written after the savepoint, emptied; and those that it may make open again, as they were. What was
/// final then is left as it is.
fn windows(
    place: &Place<'_>,
    savepoint: &Savepoint,
    final_before: Option<i64>,
) -> Result<BTreeMap<(Owner, WindowKey), Stored>, StartError> {
    let (mut fence, mut found) = (Fence::default(), BTreeMap::<(Owner, WindowKey), (Version, Stored)>::new());
    let at = TopicPartition::new(CTR_WINDOWS, PartitionId(0));
    let read = scan(place.broker, &at, Offset(0), &mut |_, record| {
        if !partial::is_partial(record.value) {
            fence.admits(WindowRecord::decode(record.key, record.value)?.term());
            return Ok(());
        }
        let Head { owner, window, version, entries_at, .. } =
            Head::decode(record.key.unwrap_or_default(), record.value)?;
        let term = (owner.run, owner.partition, version.epoch);
        let Some(checkpoint) = savepoint.checkpoints.get(&owner.partition) else { return Ok(()) };
        if owner.run != place.run || !fence.admits(term) {
            return Ok(());
        }
        let key = (owner, window);
        if found.get(&key).is_some_and(|(known, _)| *known >= version) {
            return Ok(());
        }
        let after = version.as_of > checkpoint.offset;
        if after {
            let emptied = Stored { as_of: checkpoint.offset, guests_part: None };
            found.insert(key, (version, emptied));
        } else if final_before.is_none_or(|before| key.1.end_ms() > before) {
            // The flag stands before the entries.
            let part = record.value.get(entries_at - 1..).map(<[u8]>::to_vec);
            found.insert(key, (version, Stored { as_of: version.as_of, guests_part: part }));
        } else {
            found.remove(&key);
        }
        Ok(())
    });
    read.map_err(StartError::View)?;
    Ok(found.into_iter().map(|(key, (_, stored))| (key, stored)).collect())
}

/// Appends to a topic of one partition.
struct Appender<'a> {
    broker: &'a dyn Broker,
    at: TopicPartition,
    pending: Vec<Appended>,
}

impl<'a> Appender<'a> {
    fn new(broker: &'a dyn Broker, topic: &str) -> Self {
        Self { broker, at: TopicPartition::new(topic, PartitionId(0)), pending: Vec::new() }
    }

    fn flush(&mut self, set: &mut RecordSetBuilder) -> Result<(), StartError> {
        if !set.is_empty() {
            self.pending.push(self.broker.append(&self.at, set)?);
            set.clear();
        }
        Ok(())
    }

    /// The topic's end, once everything is durable: nobody else writes.
    fn end(self) -> Result<Offset, StartError> {
        for appended in self.pending {
            appended.wait()?;
        }
        Ok(self.broker.ends(&self.at)?.end)
    }
}
