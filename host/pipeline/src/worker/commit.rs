//! The commit: what of the worker goes into it. [`super::committer`] makes it durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use clickmill_broker::Appended;
use clickmill_schemas::output::{Body, Commit, Decision, Output};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{DeploymentId, Offset};

use super::committer::{self, windows_topic};
use super::{SavePoint, Worker, WorkerError};
use crate::checkpoint::Checkpoint;

impl Worker {
    /// Takes what a commit of everything up to the position consists of, and hands it over; the worker goes on meanwhile.
    pub(super) fn commit(&mut self) -> Result<(), WorkerError> {
        self.finish_commit()?;
        let (begun, now_ms) = (Instant::now(), self.shared.clock.now_ms());
        let emitted = self.chain.emit().map_err(WorkerError::State)?;
        let (letters, late) = self.outputs.take();
        self.save_point()?;
        self.meters.commit(self.deployment, &self.chain);
        self.verdicts.forget_before(self.position);
        self.convicted = self.convicted.split_off(&self.position);
        let record = Output { stamp: self.stamp(), body: Body::Commit(self.commit_record(now_ms)) };
        let commit = committer::Commit {
            begun,
            now_ms,
            owner: self.owner,
            emitted,
            letters,
            late,
            record,
            checkpoint: self.checkpoint(now_ms),
            state: self.saved.state.clone(),
            again: self.position == self.committed,
        };
        self.committer.hand_over(commit);
        self.committed = self.position;
        self.decided = false;
        self.last_commit = begun;
        Ok(())
    }

    /// Commits, and waits until that is durable.
    pub(super) fn commit_durably(&mut self) -> Result<(), WorkerError> {
        self.commit()?;
        self.finish_commit()
    }

    /// Waits for the commit under way, if there is one.
    pub(super) fn finish_commit(&mut self) -> Result<(), WorkerError> {
        self.ends = self.committer.wait()?.unwrap_or(self.ends);
        Ok(())
    }

    /// Notices a commit that has been finished, or has failed.
    pub(super) fn look_at_commit(&mut self) -> Result<(), WorkerError> {
        self.ends = self.committer.look()?.unwrap_or(self.ends);
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
            oldest_append_ms: self.take_oldest_append(),
        }
    }

    /// Remembers where the worker is, so that a fault later on need not go back further.
    pub(super) fn save_point(&mut self) -> Result<(), WorkerError> {
        self.saved = SavePoint {
            offset: self.position,
            state: Arc::new(self.chain.save().map_err(WorkerError::State)?),
            ledger: self.ledger.clone(),
            rejected: self.rejected.clone(),
            deployment: self.deployment,
            generation: self.owner.generation,
            outputs: self.outputs.mark(),
        };
        Ok(())
    }

    /// The checkpoint of the position, its state aside. Recovery from it reads the outputs from the end of the commit before:
    /// while this one is on its way to the log, what is decided for later offsets may come to lie before it.
    fn checkpoint(&mut self, now_ms: i64) -> Checkpoint {
        Checkpoint {
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
            rejected: self.rejected.clone(),
            watermark_ms: self.chain.watermark(),
            verdicts: self.convicted.clone(),
            outputs: self.ends,
            // Known once it is written.
            written: self.ends,
            written_at_ms: now_ms,
            state: Vec::new(),
        }
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
