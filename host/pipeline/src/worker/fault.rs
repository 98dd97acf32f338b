//! When a module fails: back to the last saved state, then in parts to the one record at fault and the verdict on it,
//! or through the batch, where it only was too much at once.

use std::sync::atomic::Ordering;

use clickmill_engine::{BatchSource, Culprit, Fault, Isolated, ProcessError, isolate};
use clickmill_schemas::output::Decision;

use super::{Input, Worker, WorkerError};
use crate::chains::ChainError;

/// Batches before which the state is saved once a module has failed, so that a stream of poison still moves.
const CAREFUL_BATCHES: u32 = 64;

/// How it goes on after a fault.
pub(super) enum Onward {
    /// The batch has passed in parts.
    Passed,
    /// The batch is to be tried again: one more of its records has a verdict.
    Again,
    /// The worker is where its save point is, and reads again from there.
    WentBack,
}

impl Worker {
    pub(super) fn on_fault(&mut self, input: &Input<'_>, fault: &Fault) -> Result<Onward, WorkerError> {
        tracing::warn!(
            partition = %self.owner.partition, offset = %input.base_offset(), stage = %fault.stage,
            message = %fault.message, "a module failed"
        );
        self.shared.metrics.faulted(self.owner.partition, &fault.stage);
        // A save point at the same place may still be of the deployment before.
        let behind = self.saved.offset != input.base_offset() || self.saved.deployment != self.deployment;
        self.go_back()?;
        let stop = || self.shared.stop.load(Ordering::Relaxed);
        if behind || stop() {
            return Ok(Onward::WentBack);
        }
        let (chain, state, outcome) = (&mut self.chain, &self.saved.state, &mut self.outcome);
        let isolated = isolate(chain, state, input, &self.verdicts, &stop, outcome).map_err(|e| match e {
            ProcessError::Source(e) => WorkerError::Source(e.to_string()),
            ProcessError::Fault(fault) => WorkerError::State(fault),
        })?;
        let onward = match isolated {
            Isolated::Passed => return Ok(Onward::Passed),
            Isolated::Culprit(culprit) => {
                self.convict(culprit)?;
                Onward::Again
            }
            Isolated::Stopped => Onward::WentBack,
        };
        self.go_back()?;
        Ok(onward)
    }

    fn convict(&mut self, culprit: Culprit) -> Result<(), WorkerError> {
        let Culprit { offset, stage, sha256, message } = culprit;
        if offset < self.recovered.resume_at {
            let needed = self.recovered.resume_at;
            return Err(WorkerError::Irreproducible { stage, offset, message, needed });
        }
        self.decide(offset, Decision::Verdict { stage: stage.clone(), sha256, message: message.clone() })?;
        self.verdicts.insert(offset, stage, message);
        Ok(())
    }

    /// Puts the worker where its save point is.
    fn go_back(&mut self) -> Result<(), WorkerError> {
        let deployment = self.saved.deployment;
        if deployment != self.deployment {
            let chains = &self.shared.registry.chains;
            self.chain = chains.build(deployment)?;
            self.stages = chains.deployment(deployment)?;
            self.deployment = deployment;
        }
        self.owner.generation = self.saved.generation;
        self.chain.restore(&self.saved.state).map_err(|source| ChainError::Module { stage: "state".into(), source })?;
        self.position = self.saved.offset;
        self.ledger = self.saved.ledger.clone();
        self.outputs.back_to(self.saved.outputs);
        self.careful = CAREFUL_BATCHES;
        // What was written down for this place since the save is in force again.
        self.settle()
    }
}
