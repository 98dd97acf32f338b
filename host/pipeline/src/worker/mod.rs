//! A partition's worker: reads batches, runs the chain, commits.
//!
//! [`open`] recovers, this file loops, [`crate::input`] is what goes through the chain at once, [`swap`] changes the chain,
//! [`outputs`] holds what the next commit appends, [`telling`] is for people, [`commit`] takes it together, [`committer`] appends it and writes the
//! checkpoint while the worker goes on, [`fault`] finds the record that a module fails on. What is decided lies in the pure
//! modules `checkpoint::resolve`, `recovery` and `idle`; here it is carried out. Workers never talk to each other.
//!
//! Between two calls of the loop the worker is *settled*: all that is written down for its position is in force. A fault
//! goes back to the save point and obeys again what is written down from there on.

mod commit;
mod committer;
mod error;
mod fault;
mod open;
mod outputs;
mod retry;
mod swap;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, StoredBatch, TopicPartition};
use clickmill_engine::{BatchOutcome, Chain, ChainState, ProcessError, Verdicts};
use clickmill_schemas::output::{Decision, Ledger};
use clickmill_schemas::partial::Owner;
use clickmill_schemas::{DeploymentId, Epoch, Generation, Offset};

use crate::breaker::{Breaker, OnModuleFailure};
use crate::checkpoint::OutputEnds;
use crate::clock::Clock;
use crate::deployment::Deployment;
use crate::deployment::registry::Registry;
use crate::idle;
use crate::input::Input;
use crate::metrics::{Metrics, StageMeters};
use crate::module_log::ModuleLog;
use crate::peers::{Peers, WorkerState};
use crate::recovery::{Recovered, WrittenVerdict};
use crate::rejected::Rejected;
use crate::targets::Target;
use committer::Committer;
use fault::Onward;
use outputs::Outputs;
use retry::RetryKey;
use swap::{Announced, Pace};

pub use error::WorkerError;
pub(crate) use open::Assignment;
pub(crate) use retry::REPEATED;

/// Longest wait for new records, so that a stop is seen soon.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// How often a paused worker looks whether it may go on.
const PAUSE_STEP: Duration = Duration::from_millis(10);

/// How workers commit and how much they hold.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Time between commits while records flow.
    pub commit_interval: Duration,
    /// A commit is made earlier once this many bytes wait for one.
    pub commit_pending_bytes: usize,
    /// Checkpoints kept of each partition.
    pub checkpoints_kept: usize,
    /// A partition without records for this long follows the watermark of the others.
    pub idle_partition_after: Duration,
    /// Bytes read from the log at a time.
    pub fetch_max_bytes: usize,
    /// What becomes of a stage that fails on every record.
    pub on_module_failure: OnModuleFailure,
    /// So many records that a stage fails on, one after the other, are every record.
    pub breaker_records: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(1),
            commit_pending_bytes: 1 << 20,
            checkpoints_kept: 3,
            idle_partition_after: Duration::from_secs(60),
            fetch_max_bytes: 1 << 20,
            on_module_failure: OnModuleFailure::default(),
            breaker_records: 20,
        }
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub registry: Arc<Registry>,
    pub peers: Arc<Peers>,
    pub stop: AtomicBool,
    pub options: WorkerOptions,
    /// Of a run that nobody reads yet: where a stage fails on every record, the worker ends.
    pub gives_up: bool,
    pub metrics: Metrics,
    pub log: Arc<ModuleLog>,
}

/// A point that the worker can go back to without reading a checkpoint.
struct SavePoint {
    offset: Offset,
    state: Arc<ChainState>,
    ledger: Ledger,
    rejected: Rejected,
    deployment: DeploymentId,
    generation: Generation,
    outputs: outputs::Mark,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    input: TopicPartition,
    owner: Owner,
    epoch: Epoch,
    chain: Chain,
    deployment: DeploymentId,
    stages: Deployment,
    /// Deployment in force once everything that is written down has taken effect.
    heading: DeploymentId,
    /// What it is to be.
    target: Arc<Target>,
    announced: Option<Announced>,
    /// What records have waited for the change of the chain that is under way.
    waited: Duration,
    /// The deployment that could not take over here.
    refused: Option<DeploymentId>,
    pace: Pace,
    breaker: Breaker,
    recovered: Recovered,
    verdicts: Verdicts,
    /// Those of them that are written down for this run.
    convicted: BTreeMap<Offset, WrittenVerdict>,
    position: Offset,
    ledger: Ledger,
    /// Rejected records that a retry may still stand for.
    rejected: Rejected,
    outputs: Outputs,
    committer: Committer,
    /// Of the output topics, after the last commit that is durable.
    ends: OutputEnds,
    /// Offset of the last commit, which may be under way.
    committed: Offset,
    /// A decision waits for the next commit.
    decided: bool,
    last_commit: Instant,
    last_record: Instant,
    saved: SavePoint,
    /// Batches before which the state is still saved, after a fault.
    careful: u32,
    outcome: BatchOutcome,
    /// When the oldest record since the last commit was appended, epoch milliseconds.
    oldest_append_ms: Option<i64>,
    meters: StageMeters,
    /// A batch of this term has been processed.
    begun: bool,
}

impl Worker {
    /// Works until told to stop; commits once more before it returns.
    pub(crate) fn run(mut self) -> Result<(), WorkerError> {
        self.settle()?;
        let committed = self.committed;
        self.shared.peers.update(self.owner.partition, |peer| peer.committed = committed);
        self.publish(WorkerState::Running);
        self.publish_deployment();
        while !self.stopped() {
            if self.stands_still() {
                self.stand_still()?;
                continue;
            }
            let wait = self.until_commit().min(LONGEST_WAIT);
            let batches =
                self.shared.broker.fetch(&self.input, self.position, self.shared.options.fetch_max_bytes, wait)?;
            if batches.is_empty() {
                self.follow_target()?;
                self.hasten_activation()?;
                self.follow_the_others()?;
            }
            for batch in &batches {
                if !self.batch(batch)? || self.stopped() {
                    break;
                }
            }
            self.commit_if_due()?;
        }
        if self.has_news() && self.may_decide() {
            self.commit()?;
        }
        self.finish_commit()?;
        self.publish(WorkerState::Stopped);
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// One round of a pause: what has been processed is committed, and deployments are taken up all the same.
    fn stand_still(&mut self) -> Result<(), WorkerError> {
        if self.has_news() && self.may_decide() {
            self.commit_durably()?;
        }
        self.publish(WorkerState::Paused);
        while self.shared.registry.targets.paused() && !self.stopped() {
            self.follow_target()?;
            self.hasten_activation()?;
            std::thread::sleep(PAUSE_STEP);
        }
        self.publish(WorkerState::Running);
        Ok(())
    }

    /// Whether a pause holds here: not before what is decided already, or nothing that is deployed could take effect, and
    /// no commit would hold the records that were convicted.
    fn stands_still(&self) -> bool {
        self.shared.registry.targets.paused() && self.position >= self.decided_up_to()
    }

    /// Nothing below is open: it was written down before the start, or every record at fault has its verdict.
    fn decided_up_to(&self) -> Offset {
        self.recovered.resume_at.max(self.breaker.after_last())
    }

    /// A batch through the chain, in parts where something binds within it. `false`: the worker went back, and must read
    /// again from its position.
    fn batch(&mut self, batch: &StoredBatch) -> Result<bool, WorkerError> {
        if self.position < batch.base_offset {
            return Err(WorkerError::Misaligned { found: batch.base_offset, expected: self.position });
        }
        let retry = RetryKey::of(batch)?;
        while self.position < batch.next_offset() {
            if self.stands_still() {
                return Ok(false);
            }
            self.follow_target()?;
            let decided = Some(self.decided_up_to()).filter(|offset| *offset > self.position);
            let limit = [self.recovered.decisions.next_after(self.position), decided].into_iter().flatten().min();
            let input = Input::new(batch, self.position, limit)?;
            if !self.process(&input, retry.as_ref())? {
                return Ok(false);
            }
            self.commit_if_due()?;
        }
        Ok(true)
    }

    /// Some records through the chain. `false`: as [`Worker::batch`].
    fn process(&mut self, input: &Input<'_>, retry: Option<&RetryKey>) -> Result<bool, WorkerError> {
        let retry = retry.and_then(RetryKey::get);
        self.outcome.clear();
        while !self.drops_repeated(retry) {
            if self.careful > 0 {
                self.save_point()?;
            }
            self.outcome.clear();
            match self.chain.process(input, &self.verdicts, &mut self.outcome) {
                Ok(()) => {
                    self.meters.batch(self.deployment, &self.chain);
                    break;
                }
                Err(ProcessError::Source(e)) => return Err(WorkerError::Source(e.to_string())),
                Err(ProcessError::Fault(fault)) => match self.on_fault(input, &fault)? {
                    Onward::Passed => {
                        self.meters.batch(self.deployment, &self.chain);
                        break;
                    }
                    Onward::Again => {}
                    Onward::WentBack => return Ok(false),
                },
            }
        }
        self.careful = self.careful.saturating_sub(1);
        self.drain_logs();
        self.absorb(input.batch, retry)?;
        self.position = input.to();
        self.note_append(input.batch.base_timestamp_ms);
        self.last_record = Instant::now();
        let records = input.to().0 - input.from().0;
        self.pace.count(records, self.last_record);
        if !std::mem::replace(&mut self.begun, true) {
            tracing::info!(partition = %self.owner.partition, position = %self.position, "first batch processed");
        }
        self.shared.metrics.processed(self.owner.partition, records);
        self.settle()?;
        let (position, watermark, at) = (self.position, self.chain.watermark(), self.last_record);
        self.shared.peers.update(self.owner.partition, |peer| {
            peer.position = position;
            peer.watermark_ms = watermark;
            peer.last_record = at;
        });
        Ok(true)
    }

    /// Obeys every written decision that binds at the position.
    fn settle(&mut self) -> Result<(), WorkerError> {
        let mut changed = false;
        if let Some(end) = self.recovered.decisions.gaps.get(&self.position).copied() {
            self.ledger.drop_for("retention", end.0 - self.position.0);
            self.rejected.insert_range(self.position, end);
            self.position = end;
            changed = true;
        }
        if let Some(activation) = self.binding_activation()? {
            self.switch_to(activation)?;
        }
        if let Some(advance) = self.recovered.decisions.advances.get(&self.position).copied()
            && self.chain.watermark() < Some(advance)
        {
            self.chain.advance(advance).map_err(WorkerError::State)?;
            changed = true;
        }
        if changed { self.save_point() } else { Ok(()) }
    }

    /// Moves an idle partition's watermark, if the others have gone on.
    fn follow_the_others(&mut self) -> Result<(), WorkerError> {
        let quiet = self.last_record.elapsed();
        if quiet < self.shared.options.idle_partition_after || !self.may_decide() {
            return Ok(());
        }
        let others = self.shared.peers.neighbours(self.owner.partition);
        let own = self.chain.watermark();
        if let Some(watermark_ms) = idle::advance_to(own, quiet, self.shared.options.idle_partition_after, &others)
            && self.last_commit.elapsed() >= self.shared.options.commit_interval
        {
            self.decide(self.position, Decision::WatermarkAdvance { watermark_ms })?;
            self.recovered.decisions.advances.insert(self.position, watermark_ms);
            self.settle()?;
            self.shared.peers.update(self.owner.partition, |peer| peer.watermark_ms = Some(watermark_ms));
        }
        Ok(())
    }

    /// Whether nothing that was written down before the start still lies ahead.
    fn may_decide(&self) -> bool {
        self.position >= self.recovered.resume_at
    }

    fn has_news(&self) -> bool {
        self.position > self.committed || self.decided
    }

    fn until_commit(&self) -> Duration {
        if self.has_news() {
            self.shared.options.commit_interval.saturating_sub(self.last_commit.elapsed())
        } else {
            LONGEST_WAIT
        }
    }

    /// One commit at a time; where too much waits for the next, the worker waits too.
    fn commit_if_due(&mut self) -> Result<(), WorkerError> {
        self.look_at_commit()?;
        if !self.has_news() || !self.may_decide() {
            return Ok(());
        }
        let time = !self.committer.is_under_way() && self.last_commit.elapsed() >= self.shared.options.commit_interval;
        if time || self.outputs.bytes() + self.chain.pending_bytes() >= self.shared.options.commit_pending_bytes {
            self.commit()?;
        }
        Ok(())
    }

    fn publish(&mut self, state: WorkerState) {
        let (epoch, position) = (self.epoch, self.position);
        let watermark = self.chain.watermark();
        self.shared.peers.update(self.owner.partition, |peer| {
            peer.state = state;
            peer.epoch = epoch;
            peer.position = position;
            peer.watermark_ms = watermark;
        });
    }
}
