//! The commit: outputs of (m, n], then the commit record, then the checkpoint for n.

use std::collections::BTreeMap;
use std::time::Instant;

use clickmill_broker::{Appended, TopicPartition};
use clickmill_schemas::output::{Body, Commit, Decision, Output};
use clickmill_schemas::partial::{self, Version};
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{DeploymentId, Offset, PartitionId};

use super::outputs::Waiting;
use super::{SavePoint, Worker, WorkerError};
use crate::checkpoint::resolve::{newest_first, superfluous};
use crate::checkpoint::store::Created;
use crate::checkpoint::{Checkpoint, CheckpointName, CheckpointStore};
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

/// Appends records to a topic in batches; the last batch may hold what must come last.
struct Appender<'a> {
    worker: &'a Worker,
    topic: TopicPartition,
    set: RecordSetBuilder,
    pending: Vec<(Appended, u32)>,
    now_ms: i64,
}

impl<'a> Appender<'a> {
    fn new(worker: &'a Worker, topic: TopicPartition, now_ms: i64) -> Self {
        Self { worker, topic, set: RecordSetBuilder::default(), pending: Vec::new(), now_ms }
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
            let appended = self.worker.shared.broker.append(&self.topic, &self.set)?;
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

impl Worker {
    /// Commits everything up to the position.
    pub(super) fn commit(&mut self) -> Result<(), WorkerError> {
        let begun = Instant::now();
        let now_ms = self.shared.clock.now_ms();
        let emitted = self.chain.emit().map_err(WorkerError::State)?;

        let record = self.commit_record(now_ms);

        let mut letters = Appender::new(self, errors_topic(), now_ms);
        letters.push_all(&self.outputs.letters)?;
        let errors_end = letters.finish()?;

        let mut windows = Appender::new(self, windows_topic(), now_ms);
        self.stamp_partials(&emitted, &mut windows)?;
        windows.push_all(&self.outputs.late)?;
        let commit = Output { stamp: self.stamp(), body: Body::Commit(record) };
        windows.push(commit.key().as_bytes(), &commit.encode())?;
        let windows_end = windows.finish()?;

        self.ends.errors = errors_end.unwrap_or(self.ends.errors);
        self.ends.windows = windows_end.unwrap_or(self.ends.windows);
        self.outputs.clear();
        self.save_point()?;
        let bytes = self.write_checkpoint(now_ms)?;

        self.verdicts.forget_before(self.position);
        self.committed = self.position;
        self.decided = false;
        self.last_commit = Instant::now();
        self.shared.metrics.committed(self.owner.partition, begun.elapsed(), bytes);
        let (committed, watermark) = (self.committed, self.chain.watermark());
        self.shared.peers.update(self.owner.partition, |peer| {
            peer.committed = committed;
            peer.position = committed;
            peer.watermark_ms = watermark;
        });
        Ok(())
    }

    fn commit_record(&mut self, now_ms: i64) -> Commit {
        Commit {
            generation: self.owner.generation,
            as_of_offset: self.position,
            watermark_ms: self.chain.watermark(),
            closed_before_ms: self.chain.closed_before(),
            ledger: self.ledger.clone(),
            committed_at_ms: now_ms,
        }
    }

    /// Puts the host's stamps before what the module emitted, without decoding it.
    fn stamp_partials(&self, emitted: &[u8], windows: &mut Appender<'_>) -> Result<(), WorkerError> {
        if emitted.is_empty() {
            return Ok(());
        }
        let version = Version { epoch: self.epoch, as_of: self.position };
        let mut stamps = Vec::new();
        partial::put_stamps(&mut stamps, &version);
        let (mut key, mut value) = (partial::key_prefix(&self.owner).into_bytes(), stamps);
        let (key_len, value_len) = (key.len(), value.len());
        for record in Records::new(emitted)? {
            let record = record?;
            key.truncate(key_len);
            key.extend_from_slice(record.key.unwrap_or_default());
            value.truncate(value_len);
            value.extend_from_slice(record.value);
            windows.push(&key, &value)?;
        }
        Ok(())
    }

    /// Remembers where the worker is, so that a fault later on need not go back further.
    pub(super) fn save_point(&mut self) -> Result<(), WorkerError> {
        self.saved = SavePoint {
            offset: self.position,
            state: self.chain.save().map_err(WorkerError::State)?,
            ledger: self.ledger.clone(),
            deployment: self.deployment,
            generation: self.owner.generation,
            outputs: self.outputs.mark(),
        };
        Ok(())
    }

    /// Writes the save point as a checkpoint; its size in bytes.
    fn write_checkpoint(&mut self, now_ms: i64) -> Result<usize, WorkerError> {
        let checkpoint = Checkpoint {
            run: self.owner.run,
            topic: self.input.topic.to_string(),
            partition: self.owner.partition,
            epoch: self.epoch,
            offset: self.position,
            generation: self.owner.generation,
            deployment: self.deployment,
            activations: self.activations(),
            ahead: self.recovered.decisions.activations.range(self.position..).map(|(at, a)| (*at, *a)).collect(),
            ledger: self.ledger.clone(),
            watermark_ms: self.chain.watermark(),
            outputs: self.ends,
            written_at_ms: now_ms,
            state: self.saved.state.to_bytes(),
        };
        let bytes = checkpoint.encode();
        let name = CheckpointName { epoch: self.epoch, offset: self.position };
        if self.store.create(&name.file(), &bytes)? == Created::Exists && self.position != self.committed {
            return Err(WorkerError::Fenced {
                topic: self.input.topic.to_string(),
                partition: self.owner.partition,
                epoch: self.epoch,
            });
        }
        self.forget_old_checkpoints(&checkpoint)?;
        Ok(bytes.len())
    }

    fn forget_old_checkpoints(&mut self, newest: &Checkpoint) -> Result<(), WorkerError> {
        let kept = self.shared.options.checkpoints_kept.max(1);
        let names = self.store.list()?;
        self.kept.written(CheckpointName { epoch: newest.epoch, offset: newest.offset }, newest.outputs);
        for name in superfluous(&names, kept, self.epoch) {
            self.store.delete(&name)?;
        }
        let oldest = newest_first(&names).into_iter().take(kept).next_back();
        if let Some((offset, outputs)) = oldest.and_then(|oldest| self.kept.floor(oldest)) {
            let of = (self.owner.run, self.owner.partition);
            self.shared.peers.keep_from(&*self.shared.broker, of, offset, outputs);
        }
        Ok(())
    }

    /// Where each deployment began to judge, so far.
    pub(super) fn activations(&self) -> BTreeMap<Offset, DeploymentId> {
        let all = self.recovered.decisions.activations.range(..=self.position);
        all.map(|(offset, activation)| (*offset, activation.deployment)).collect()
    }

    /// Writes a decision down, durably, before it takes effect.
    pub(super) fn decide(&mut self, offset: Offset, decision: Decision) -> Result<(), WorkerError> {
        self.append_decision(offset, decision)?.wait()?;
        Ok(())
    }

    /// Writes a decision down; it must not take effect before it is durable.
    pub(super) fn append_decision(&mut self, offset: Offset, decision: Decision) -> Result<Appended, WorkerError> {
        let output = Output { stamp: self.stamp(), body: Body::Decision { offset, decision } };
        let mut set = RecordSetBuilder::default();
        set.push(Some(output.key().as_bytes()), &output.encode(), self.shared.clock.now_ms());
        self.decided = true;
        Ok(self.shared.broker.append(&windows_topic(), &set)?)
    }
}
