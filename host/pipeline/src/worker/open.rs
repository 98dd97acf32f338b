//! Recovery: take an epoch, choose a checkpoint, read what the outputs say beyond it, put the chain's state back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clickmill_broker::{StoredBatch, TopicPartition};
use clickmill_engine::{BatchOutcome, ChainState, Verdicts};
use clickmill_schemas::dead_letter::DeadLetter;
use clickmill_schemas::merge::WindowRecord;
use clickmill_schemas::output::{Body, Decision, Ledger, Output, Stamp};
use clickmill_schemas::partial::Owner;
use clickmill_schemas::record::{Record, RecordSetBuilder, Records};
use clickmill_schemas::{Generation, Offset, PartitionId, RunId};

use super::committer::{Committer, errors_topic, windows_topic};
use super::outputs::Outputs;
use super::swap::Pace;
use super::{SavePoint, Shared, Worker, WorkerError};
use crate::breaker::Breaker;
use crate::chains::ChainError;
use crate::checkpoint::resolve::{self, CheckpointName, Choice, newest_first};
use crate::checkpoint::{Checkpoint, CheckpointStore, DirectoryStore, Kept, OutputEnds, take_epoch};
use crate::newcomer::Newcomer;
use crate::recovery::{Activation, Recovered, Recovery};
use crate::rejected::Rejected;

/// Bytes of outputs read at a time.
const READ_BYTES: usize = 1 << 20;

/// What a worker is told to work on.
pub(crate) struct Assignment {
    pub input: TopicPartition,
    pub run: RunId,
    pub store: DirectoryStore,
    /// What was decided for another run, and binds this one.
    pub inherited: Vec<(Offset, Decision)>,
}

impl Worker {
    /// Recovers a partition, ready to run.
    pub(crate) fn open(shared: Arc<Shared>, assignment: Assignment) -> Result<Self, WorkerError> {
        let Assignment { input, run, store, inherited } = assignment;
        let partition = input.partition;
        let target = shared.registry.targets.of(partition);
        let chains = &shared.registry.chains;
        let log = shared.broker.ends(&input)?;
        let epoch = take_epoch(&store)?;
        let kept = checkpoints(&store)?;
        let checkpoint = choose(&store, &kept, &input, run, log.start)?;
        let ends = checkpoint.as_ref().map_or(OutputEnds::default(), |c| c.outputs);
        if let Some(checkpoint) = &checkpoint {
            check_ends(&shared, checkpoint, &input, log.end)?;
        }
        let stamp = Stamp { run, partition, epoch };
        let term = open_term(&shared, stamp)?;
        let mut newcomer = checkpoint.is_none().then(|| Newcomer::new(run, partition));
        let mut recovered =
            read_outputs(&shared, (run, partition), checkpoint.as_ref(), (ends, term), newcomer.as_mut())?;

        let position = checkpoint.as_ref().map_or(Offset(0), |c| c.offset);
        let convicted = recovered.decisions.verdicts.clone();
        recovered.decisions.inherit(inherited.into_iter().filter(|(offset, _)| *offset >= position));
        let found = recovered.decisions.activations.get(&position).map(|a| a.deployment);
        // Before the first worker starts, there is a deployment for every partition.
        let deployment = checkpoint.as_ref().map(|c| c.deployment).or(found).or(target.wanted()).unwrap_or_default();
        let mut chain = chains.build(deployment)?;
        if let Some(checkpoint) = &checkpoint {
            let failed = |source| ChainError::Module { stage: "state".into(), source };
            let state = ChainState::from_bytes(&checkpoint.state).map_err(failed)?;
            chain.restore(&state).map_err(failed)?;
        }
        let mut verdicts = Verdicts::default();
        for (offset, verdict) in &recovered.decisions.verdicts {
            verdicts.insert(*offset, verdict.stage.clone(), verdict.message.clone());
        }
        let ledger = checkpoint.as_ref().map_or_else(Ledger::default, |c| c.ledger.clone());
        let rejected = checkpoint.as_ref().map_or_else(Rejected::default, |c| c.rejected.clone());
        let state = chain.save().map_err(WorkerError::State)?;
        let generation = checkpoint.as_ref().map_or(Generation(0), |c| c.generation);
        let read = |(name, read): (_, Read)| (name, read.map_or(OutputEnds::default(), |c| c.outputs));
        let kept = Kept::found(kept.into_iter().map(read));
        if let Some((oldest, outputs)) = kept.oldest() {
            shared.peers.floors.set(&*shared.broker, (run, partition), (oldest.offset, outputs));
        }
        let saved = SavePoint {
            offset: position,
            state: Arc::new(state),
            ledger: ledger.clone(),
            rejected: rejected.clone(),
            deployment,
            generation,
            outputs: Default::default(),
        };
        let stages = chains.deployment(deployment)?;
        shared.metrics.recovered(partition, checkpoint.as_ref().map(|c| c.written_at_ms));
        if let Some(checkpoint) = &checkpoint {
            for (offset, deployment) in &checkpoint.activations {
                let passed = Activation { deployment: *deployment, generation: None };
                recovered.decisions.activations.entry(*offset).or_insert(passed);
            }
        }
        let heading = recovered.decisions.activations.last_key_value().map_or(deployment, |(_, a)| a.deployment);
        let ends = OutputEnds { windows: term.windows.max(ends.windows), errors: term.errors.max(ends.errors) };
        let mut worker = Self {
            input,
            owner: Owner { run, partition, generation },
            epoch,
            chain,
            deployment,
            stages,
            heading,
            target,
            announced: None,
            waited: Duration::ZERO,
            refused: None,
            pace: Pace::new(Instant::now()),
            breaker: Breaker::default(),
            recovered,
            verdicts,
            convicted,
            position,
            ledger,
            rejected,
            outputs: Outputs::default(),
            committer: Committer::start(shared.clone(), store, kept, ends),
            ends,
            committed: position,
            decided: false,
            last_commit: Instant::now(),
            last_record: Instant::now(),
            saved,
            careful: 0,
            outcome: BatchOutcome::default(),
            oldest_append_ms: None,
            meters: shared.metrics.stage_meters(partition),
            begun: false,
            shared,
        };
        worker.begin(log.start, newcomer.and_then(|n| n.watermark_ms()))?;
        tracing::info!(
            %partition, %epoch, from = %worker.position, resume_at = %worker.recovered.resume_at, end = %log.end,
            "partition recovered"
        );
        Ok(worker)
    }

    /// Writes down what a term that finds nothing before it must: the first activation, a gap, and where the others are,
    /// `beside_ms`, if there were any before it.
    fn begin(&mut self, log_start: Offset, beside_ms: Option<i64>) -> Result<(), WorkerError> {
        let written = self.recovered.decisions.gaps.contains_key(&self.position);
        if log_start > self.position && !written {
            if !self.may_decide() {
                return Err(WorkerError::Trimmed {
                    topic: self.input.topic.to_string(),
                    partition: self.owner.partition,
                    from: self.position,
                    start: log_start,
                    needed: self.recovered.resume_at,
                });
            }
            self.decide(self.position, Decision::Gap { end: log_start })?;
            self.recovered.decisions.gaps.insert(self.position, log_start);
        }
        if self.recovered.decisions.activations.is_empty() {
            // Before the activation, which says that all of this has been written.
            if let Some(watermark_ms) = beside_ms {
                self.decide(self.position, Decision::WatermarkAdvance { watermark_ms })?;
                self.recovered.decisions.advances.insert(self.position, watermark_ms);
                // Nothing is final until it is committed.
                let due = self.last_commit.checked_sub(self.shared.options.commit_interval);
                self.last_commit = due.unwrap_or(self.last_commit);
            }
            let first = Activation { deployment: self.deployment, generation: None };
            self.decide(self.position, Decision::Activation { deployment: self.deployment, generation: None })?;
            self.recovered.decisions.activations.insert(self.position, first);
        }
        Ok(())
    }
}

type Read = Result<Checkpoint, crate::checkpoint::Damaged>;

/// The checkpoints that are kept, newest first.
fn checkpoints(store: &DirectoryStore) -> Result<Vec<(CheckpointName, Read)>, WorkerError> {
    let mut out = Vec::new();
    for name in newest_first(&store.list()?) {
        if let Some(bytes) = store.read(&name.file())? {
            out.push((name, Checkpoint::decode(&bytes)));
        }
    }
    Ok(out)
}

fn choose(
    store: &DirectoryStore,
    kept: &[(CheckpointName, Read)],
    input: &TopicPartition,
    run: RunId,
    log_start: Offset,
) -> Result<Option<Checkpoint>, WorkerError> {
    let candidates = kept.iter().cloned().map(Ok::<_, WorkerError>);
    let (topic, partition) = (input.topic.to_string(), input.partition);
    match resolve::choose(candidates)? {
        Choice::Fresh => Ok(None),
        Choice::Newer(name, why) => Err(WorkerError::Newer { file: store.path_of(&name.file()), why }),
        Choice::AllDamaged(damaged) => {
            let why = damaged.iter().map(|(n, w)| format!("{}: {w}", n.file())).collect::<Vec<_>>().join("; ");
            if log_start > Offset(0) {
                return Err(WorkerError::AllDamaged { topic, partition, start: log_start, why });
            }
            tracing::error!(%partition, %why, "no checkpoint can be read: starting from the beginning of the log");
            Ok(None)
        }
        Choice::Resume { checkpoint, damaged } => {
            for (name, why) in damaged {
                tracing::error!(%partition, checkpoint = %name.file(), %why, "checkpoint passed over");
            }
            if checkpoint.run != run || checkpoint.partition != partition {
                let name = CheckpointName { epoch: checkpoint.epoch, offset: checkpoint.offset }.file();
                let (found, expected) = (checkpoint.run.to_string(), run.to_string());
                return Err(WorkerError::OtherRun { name, found, expected });
            }
            Ok(Some(*checkpoint))
        }
    }
}

/// A checkpoint ahead of a log's end says that the log has lost what was counted.
fn check_ends(
    shared: &Shared,
    checkpoint: &Checkpoint,
    input: &TopicPartition,
    input_end: Offset,
) -> Result<(), WorkerError> {
    let name = CheckpointName { epoch: checkpoint.epoch, offset: checkpoint.offset }.file();
    let needs = checkpoint.needs();
    let outputs = [(windows_topic(), needs.windows), (errors_topic(), needs.errors)];
    let mut all = vec![(input.to_string(), checkpoint.offset, input_end)];
    for (topic, offset) in outputs {
        all.push((topic.to_string(), offset, shared.broker.ends(&topic)?.end));
    }
    match all.into_iter().find(|(_, offset, end)| offset > end) {
        Some((place, offset, end)) => Err(WorkerError::AheadOfLog { name, offset, place, end }),
        None => Ok(()),
    }
}

/// Opens the term in both output topics; their ends just after.
fn open_term(shared: &Shared, stamp: Stamp) -> Result<OutputEnds, WorkerError> {
    let output = Output { stamp, body: Body::Epoch };
    let mut set = RecordSetBuilder::default();
    set.push(Some(output.key().as_bytes()), &output.encode(), shared.clock.now_ms());
    let windows = shared.broker.append(&windows_topic(), &set)?;
    let errors = shared.broker.append(&errors_topic(), &set)?;
    Ok(OutputEnds { windows: windows.wait()?.plus(1), errors: errors.wait()?.plus(1) })
}

fn read_outputs(
    shared: &Shared,
    (run, partition): (RunId, PartitionId),
    checkpoint: Option<&Checkpoint>,
    (from, to): (OutputEnds, OutputEnds),
    mut newcomer: Option<&mut Newcomer>,
) -> Result<Recovered, WorkerError> {
    let mut recovery = Recovery::new(run, partition, checkpoint);
    each_record(shared, &windows_topic(), from.windows, to.windows, |record| {
        match WindowRecord::decode(record.key, record.value) {
            Ok(record) => {
                recovery.window_record(&record);
                if let Some(newcomer) = &mut newcomer {
                    newcomer.window_record(&record);
                }
            }
            Err(why) => {
                tracing::error!(%why, "a record of ctr_windows cannot be read; passed over")
            }
        }
    })?;
    each_record(shared, &errors_topic(), from.errors, to.errors, |record| {
        if let Ok(output) = Output::decode(record.value) {
            recovery.errors_term(&output);
        } else if let Ok(letter) = serde_json::from_slice::<DeadLetter>(record.value) {
            recovery.dead_letter(&letter);
        }
    })?;
    Ok(recovery.finish())
}

fn each_record(
    shared: &Shared,
    topic: &TopicPartition,
    from: Offset,
    to: Offset,
    mut take: impl FnMut(&Record<'_>),
) -> Result<(), WorkerError> {
    let mut next = from.max(shared.broker.ends(topic)?.start);
    while next < to {
        let batches: Vec<StoredBatch> = shared.broker.fetch(topic, next, READ_BYTES, Duration::ZERO)?;
        for batch in &batches {
            for record in Records::new(&batch.records()?)? {
                let record = record?;
                let offset = batch.base_offset.plus(record.offset_delta.unsigned_abs());
                if offset >= from && offset < to {
                    take(&record);
                }
            }
            next = batch.next_offset();
        }
    }
    Ok(())
}
