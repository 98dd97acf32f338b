//! The thread that makes a partition's commits durable, so that no record waits for a disk.
//!
//! One commit at a time, in the order of the stream: outputs of (m, n], then the commit record, then the checkpoint for n.
//! What is in them was taken by [`super::commit`] while the worker stood at n; this module must not know the chain.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_broker::{Appended, Broker, TopicPartition};
use clickmill_engine::ChainState;
use clickmill_schemas::output::Output;
use clickmill_schemas::partial::{self, Head, Owner, Version};
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{Offset, PartitionId};

use super::outputs::Waiting;
use super::{Shared, WorkerError};
use crate::checkpoint::resolve::{newest_first, superfluous};
use crate::checkpoint::store::Created;
use crate::checkpoint::{Checkpoint, CheckpointName, CheckpointStore, DirectoryStore, Kept, OutputEnds};
use crate::metrics::{Committed, Window};
use crate::peers::NewestCommit;
use crate::topics::{AD_EVENTS_ERROR, CTR_WINDOWS};

/// A batch of outputs has no more bytes than this, or a single record. What a record may have is bounded too, far below
/// the least `broker.max_batch_bytes`: a dead letter by [`MAX_PAYLOAD_BYTES`], a partial by the key bytes of its panes
/// (`max_pane_key_bytes` of ctr-window, 1 MiB each, five in a 5-minute window), the others hold names and numbers.
///
/// [`MAX_PAYLOAD_BYTES`]: clickmill_schemas::dead_letter::MAX_PAYLOAD_BYTES
const BATCH_BYTES: usize = 1 << 20;
/// Most that a record has besides its key and value.
const RECORD_OVERHEAD_BYTES: usize = 64;

pub(super) fn windows_topic() -> TopicPartition {
    TopicPartition::new(CTR_WINDOWS, PartitionId(0))
}

pub(super) fn errors_topic() -> TopicPartition {
    TopicPartition::new(AD_EVENTS_ERROR, PartitionId(0))
}

/// Everything that a commit writes.
pub(super) struct Commit {
    pub begun: Instant,
    pub now_ms: i64,
    pub owner: Owner,
    /// Partials as the module emitted them.
    pub emitted: Vec<u8>,
    pub letters: Vec<Waiting>,
    pub late: Vec<Waiting>,
    pub record: Output,
    /// Without its state, and without the ends of what is written now.
    pub checkpoint: Checkpoint,
    pub state: Arc<ChainState>,
    /// There is one at this offset already, of this term: an idle partition's watermark has moved.
    pub again: bool,
}

/// Hands commits over to their thread. Dropping it waits for the one under way.
pub(super) struct Committer {
    /// None once the thread is to end.
    commits: Option<Sender<Commit>>,
    done: Receiver<Result<OutputEnds, WorkerError>>,
    under_way: bool,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// `ends` are those of the output topics after what this term has written so far.
    pub(super) fn start(shared: Arc<Shared>, store: DirectoryStore, kept: Kept, ends: OutputEnds) -> Self {
        let (commits, incoming) = channel::<Commit>();
        let (finished, done) = channel();
        let mut desk = Desk { shared, store, kept, ends };
        let thread = std::thread::spawn(move || {
            // Nobody asks any more once the worker has failed.
            incoming.into_iter().map(|commit| desk.carry_out(commit)).try_for_each(|ends| finished.send(ends)).ok();
        });
        Self { commits: Some(commits), done, under_way: false, thread: Some(thread) }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Hands a commit over; the one before must have been waited for.
    pub(super) fn hand_over(&mut self, commit: Commit) {
        debug_assert!(!self.under_way, "one commit at a time");
        self.under_way = true;
        if let Some(commits) = &self.commits {
            // A thread that has panicked is noticed when its answer is due.
            let _ = commits.send(commit);
        }
    }

    /// The output ends after the commit that has been under way, if it is done by now.
    ///
    /// # Errors
    /// Why it failed: nothing may be committed after it in this term.
    pub(super) fn look(&mut self) -> Result<Option<OutputEnds>, WorkerError> {
        if !self.under_way {
            return Ok(None);
        }
        match self.done.try_recv() {
            Ok(ends) => self.finished(ends).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => self.panicked(),
        }
    }

    /// As [`Committer::look`], once it is done.
    pub(super) fn wait(&mut self) -> Result<Option<OutputEnds>, WorkerError> {
        if !self.under_way {
            return Ok(None);
        }
        match self.done.recv() {
            Ok(ends) => self.finished(ends).map(Some),
            Err(_) => self.panicked(),
        }
    }

    fn finished(&mut self, ends: Result<OutputEnds, WorkerError>) -> Result<OutputEnds, WorkerError> {
        self.under_way = false;
        ends
    }

    /// Its panic is the worker's.
    fn panicked(&mut self) -> ! {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("the thread answers every commit, or panics"),
        }
    }
}

impl Drop for Committer {
    /// A term writes nothing after its worker has gone: the next one may begin at once.
    fn drop(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Desk {
    shared: Arc<Shared>,
    store: DirectoryStore,
    kept: Kept,
    ends: OutputEnds,
}

impl Desk {
    fn carry_out(&mut self, mut commit: Commit) -> Result<OutputEnds, WorkerError> {
        let mut letters = Appender::new(&*self.shared.broker, errors_topic(), commit.now_ms);
        letters.push_all(&commit.letters)?;
        self.ends.errors = letters.finish()?.unwrap_or(self.ends.errors);

        let mut windows = Appender::new(&*self.shared.broker, windows_topic(), commit.now_ms);
        let written = stamp_partials(&commit, &mut windows)?;
        windows.push_all(&commit.late)?;
        windows.push(commit.record.key().as_bytes(), &commit.record.encode())?;
        self.ends.windows = windows.finish()?.unwrap_or(self.ends.windows);
        let (partition, offset) = (commit.owner.partition, commit.checkpoint.offset);
        let newest = NewestCommit::of(&commit.record).map(Arc::new);
        let latency = newest.as_ref().and_then(|newest| newest.commit.oldest_append_ms).map(|ms| self.age(ms));
        let closed_before_ms = newest.as_ref().and_then(|newest| newest.commit.closed_before_ms);
        self.shared.peers.update(partition, |peer| peer.newest = newest);

        let checkpoint_begun = Instant::now();
        commit.checkpoint.written = self.ends;
        commit.checkpoint.state = commit.state.to_bytes();
        let checkpoint_bytes = self.write_checkpoint(&commit.checkpoint, commit.again)?;
        let committed = Committed {
            took: commit.begun.elapsed(),
            latency,
            checkpoint_took: checkpoint_begun.elapsed(),
            checkpoint_bytes,
            checkpoint_at_ms: commit.checkpoint.written_at_ms,
            written,
            closed_before_ms,
        };
        self.shared.metrics.committed(partition, committed);
        self.shared.peers.update(partition, |peer| peer.committed = offset);
        Ok(self.ends)
    }

    /// Time since then by the wall clock; none where that has gone back.
    fn age(&self, then_ms: i64) -> Duration {
        let age_ms = self.shared.clock.now_ms().saturating_sub(then_ms);
        Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))
    }

    /// The size of what was written, in bytes.
    fn write_checkpoint(&mut self, checkpoint: &Checkpoint, again: bool) -> Result<usize, WorkerError> {
        let bytes = checkpoint.encode();
        let name = CheckpointName { epoch: checkpoint.epoch, offset: checkpoint.offset };
        if self.store.create(&name.file(), &bytes)? == Created::Exists && !again {
            return Err(WorkerError::Fenced {
                topic: checkpoint.topic.clone(),
                partition: checkpoint.partition,
                epoch: checkpoint.epoch,
            });
        }
        self.forget_old_checkpoints(checkpoint)?;
        Ok(bytes.len())
    }

    fn forget_old_checkpoints(&mut self, newest: &Checkpoint) -> Result<(), WorkerError> {
        let kept = self.shared.options.checkpoints_kept.max(1);
        let names = self.store.list()?;
        self.kept.written(CheckpointName { epoch: newest.epoch, offset: newest.offset }, newest.outputs);
        for name in superfluous(&names, kept, newest.epoch) {
            self.store.delete(&name)?;
        }
        let oldest = newest_first(&names).into_iter().take(kept).next_back();
        if let Some(floor) = oldest.and_then(|oldest| self.kept.floor(oldest)) {
            self.shared.peers.floors.set(&*self.shared.broker, (newest.run, newest.partition), floor);
        }
        Ok(())
    }
}

/// Puts the host's stamps before what the module emitted, without decoding it; the windows that it is of.
fn stamp_partials(commit: &Commit, windows: &mut Appender<'_>) -> Result<BTreeSet<Window>, WorkerError> {
    let mut written = BTreeSet::new();
    if commit.emitted.is_empty() {
        return Ok(written);
    }
    let version = Version { epoch: commit.checkpoint.epoch, as_of: commit.checkpoint.offset };
    let mut stamps = Vec::new();
    partial::put_stamps(&mut stamps, &version);
    let (mut key, mut value) = (partial::key_prefix(&commit.owner).into_bytes(), stamps);
    let (key_len, value_len) = (key.len(), value.len());
    for record in Records::new(&commit.emitted)? {
        let record = record?;
        key.truncate(key_len);
        key.extend_from_slice(record.key.unwrap_or_default());
        value.truncate(value_len);
        value.extend_from_slice(record.value);
        if let Ok(Head { window, .. }) = Head::decode(&key, &value) {
            written.insert((window.size_ms, window.start_ms));
        }
        windows.push(&key, &value)?;
    }
    Ok(written)
}

/// Appends records to a topic in batches; the last batch may hold what must come last.
struct Appender<'a> {
    broker: &'a dyn Broker,
    topic: TopicPartition,
    set: RecordSetBuilder,
    pending: Vec<(Appended, u32)>,
    now_ms: i64,
}

impl<'a> Appender<'a> {
    fn new(broker: &'a dyn Broker, topic: TopicPartition, now_ms: i64) -> Self {
        Self { broker, topic, set: RecordSetBuilder::default(), pending: Vec::new(), now_ms }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), WorkerError> {
        if self.set.bytes().len() + key.len() + value.len() + RECORD_OVERHEAD_BYTES > BATCH_BYTES {
            self.flush()?;
        }
        self.set.push(Some(key), value, self.now_ms);
        Ok(())
    }

    fn push_all(&mut self, waiting: &[Waiting]) -> Result<(), WorkerError> {
        waiting.iter().try_for_each(|w| self.push(w.key.as_bytes(), &w.value))
    }

    fn flush(&mut self) -> Result<(), WorkerError> {
        if !self.set.is_empty() {
            let appended = self.broker.append(&self.topic, &self.set)?;
            self.pending.push((appended, self.set.count()));
            self.set.clear();
        }
        Ok(())
    }

    /// Waits until everything is durable; the end after the last record, if there was one.
    fn finish(mut self) -> Result<Option<Offset>, WorkerError> {
        self.flush()?;
        let mut end = None;
        for (appended, count) in self.pending {
            end = Some(appended.wait()?.plus(u64::from(count)));
        }
        Ok(end)
    }
}
