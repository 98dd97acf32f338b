//! When a module fails: back to the last saved state, then in parts to the one record at fault and the verdict on it,
//! or through the batch, where it only was too much at once.

use std::sync::atomic::Ordering;

use clickmill_engine::{BatchSource, Culprit, Fault, Isolated, ProcessError, isolate};
use clickmill_schemas::output::Decision;

use super::{Input, Worker, WorkerError};
use crate::breaker::OnModuleFailure;
use crate::chains::ChainError;
use crate::deployment::registry::Tripped;
use crate::module_log::LineKind;
use crate::recovery::WrittenVerdict;

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
            partition = %self.owner.partition, from = %input.base_offset(), records = input.count(), stage = %fault.stage,
            message = %fault.message, "a module failed on these records: whether one of them is at fault is looked for"
        );
        self.shared.metrics.faulted(self.owner.partition, &fault.stage);
        self.drain_logs();
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
            Isolated::Passed => {
                let text = format!("{} (none of the records is at fault: they passed in smaller parts)", fault.message);
                self.module_line(LineKind::Fault, input.base_offset(), fault.stage.clone(), fault.sha256, text, 0);
                return Ok(Onward::Passed);
            }
            Isolated::Culprit(culprit) => {
                self.convict(culprit)?;
                // Where another deployment is wanted by now, the rest of these records may be its own.
                let changes = self.wanted_change().is_some();
                let paused = self.shared.registry.targets.paused();
                if changes || paused { Onward::WentBack } else { Onward::Again }
            }
            Isolated::Stopped => Onward::WentBack,
        };
        self.go_back()?;
        Ok(onward)
    }

    fn convict(&mut self, culprit: Culprit) -> Result<(), WorkerError> {
        let Culprit { offset, stage, sha256, message, took } = culprit;
        tracing::warn!(partition = %self.owner.partition, %offset, %stage, %message, "a module failed on this record");
        self.module_line(LineKind::Fault, offset, stage.clone(), sha256, message.clone(), 0);
        if offset < self.recovered.resume_at {
            let needed = self.recovered.resume_at;
            return Err(WorkerError::Irreproducible { stage, offset, message, needed });
        }
        self.decide(offset, Decision::Verdict { stage: stage.clone(), sha256, message: message.clone() })?;
        let limit = self.shared.options.breaker_records;
        if self.breaker.convicted(self.deployment, &stage, (offset, took), limit) {
            if self.shared.gives_up {
                return Err(WorkerError::Module { stage, offset, message });
            }
            self.stop_module(&stage, &message)?;
        }
        self.convicted.insert(offset, WrittenVerdict { stage: stage.clone(), message: message.clone() });
        self.verdicts.insert(offset, stage, message);
        Ok(())
    }

    /// A stage fails on every record: what the configuration says is done, loudly, once.
    fn stop_module(&mut self, stage: &str, message: &str) -> Result<(), WorkerError> {
        let (partition, deployment) = (self.owner.partition, self.deployment);
        self.shared.metrics.tripped(stage);
        let registry = &self.shared.registry;
        match self.shared.options.on_module_failure {
            OnModuleFailure::Dlq => {
                tracing::error!(%partition, %deployment, %stage, %message, "a stage fails on every record; all go to the dead letters");
            }
            OnModuleFailure::Pause => {
                registry
                    .pause(&format!("stage {stage} of deployment {deployment} fails on every record: {message}"))?;
                // Whoever resumes has seen it: what fails then pauses anew.
                self.breaker.rearm();
                tracing::error!(%partition, %deployment, %stage, %message, "a stage fails on every record: the pipeline is paused");
            }
            OnModuleFailure::Rollback => {
                match registry.trip(deployment, stage, message, self.shared.clock.now_ms())? {
                    Tripped::RolledBack(undone) => tracing::error!(
                        %partition, %deployment, %stage, %message, rolled_back_by = %undone,
                        "a stage failed on every record: it goes back to the module before"
                    ),
                    Tripped::Void => {}
                    Tripped::NothingBefore => tracing::error!(
                        %partition, %deployment, %stage, %message,
                        "a stage fails on every record and has no module before it; all go to the dead letters"
                    ),
                }
            }
        }
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
        self.rejected = self.saved.rejected.clone();
        self.outputs.back_to(self.saved.outputs);
        self.careful = CAREFUL_BATCHES;
        // What was written down for this place since the save is in force again.
        self.settle()
    }
}
