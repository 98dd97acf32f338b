//! When a module fails: back to the last saved state, then to the one record at fault, then the verdict.

use clickmill_broker::StoredBatch;
use clickmill_engine::{Culprit, Fault, ProcessError, isolate};
use clickmill_schemas::output::Decision;

use super::{Source, Worker, WorkerError};
use crate::chains::ChainError;

/// Batches before which the state is saved once a module has failed, so that a stream of poison still moves.
const CAREFUL_BATCHES: u32 = 64;
/// Times that a batch may fail without a record of its own being at fault.
const ATTEMPTS: u32 = 3;

impl Worker {
    /// `true`: the batch is to be tried again as it is. `false`: the worker went back further than its start.
    pub(super) fn on_fault(&mut self, batch: &StoredBatch, fault: &Fault, attempt: u32) -> Result<bool, WorkerError> {
        tracing::warn!(
            partition = %self.owner.partition, offset = %batch.base_offset, stage = %fault.stage,
            message = %fault.message, "a module failed"
        );
        self.shared.metrics.faulted(self.owner.partition, &fault.stage);
        let went_back = self.saved.offset != batch.base_offset;
        self.go_back()?;
        if went_back {
            return Ok(false);
        }
        let culprit =
            isolate(&mut self.chain, &self.saved.state, &Source(batch), &self.verdicts).map_err(|e| match e {
                ProcessError::Source(e) => WorkerError::Source(e.to_string()),
                ProcessError::Fault(fault) => WorkerError::State(fault),
            })?;
        match culprit {
            Some(culprit) => self.convict(culprit)?,
            None if attempt >= ATTEMPTS => {
                return Err(WorkerError::Unisolated {
                    stage: fault.stage.clone(),
                    from: batch.base_offset,
                    end: batch.next_offset(),
                    message: fault.message.clone(),
                });
            }
            None => {}
        }
        self.go_back()?;
        Ok(true)
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
            self.chain = self.shared.chains.build(deployment)?;
            self.stages = self.shared.chains.deployment(deployment)?;
            self.deployment = deployment;
        }
        self.chain.restore(&self.saved.state).map_err(|source| ChainError::Module { stage: "state".into(), source })?;
        self.position = self.saved.offset;
        self.ledger = self.saved.ledger.clone();
        self.outputs.back_to(self.saved.outputs);
        self.careful = CAREFUL_BATCHES;
        Ok(())
    }
}
