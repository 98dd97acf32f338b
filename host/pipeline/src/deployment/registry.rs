//! Writes deployments down and hands them to the workers, one at a time; and lets the workers stand still.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use clickmill_broker::Broker;
use clickmill_schemas::{DeploymentId, PartitionId};

use super::change::stage_undone;
use super::{CONTROL, Cause, Deployment, DeploymentError, append};
use crate::chains::{ChainError, Chains};
use crate::checkpoint::{CheckpointStore, DirectoryStore, StoreError};
use crate::targets::Targets;

/// Everything that is deployed, and the way to add to it.
pub(crate) struct Registry {
    broker: Arc<dyn Broker>,
    pub(crate) chains: Arc<Chains>,
    pub(crate) targets: Targets,
    partitions: AtomicU32,
    changing: Mutex<()>,
    /// Holds the reason of a pause, which outlives the process.
    control: DirectoryStore,
    folder: PathBuf,
}

/// Name of the reason in the folder [`CONTROL`].
const PAUSED: &str = "paused";

/// Why the workers of a data directory stand still, or would, if they do.
///
/// # Errors
/// Where that cannot be read.
pub fn paused_in(data_dir: &Path) -> Result<Option<String>, StoreError> {
    let Some(control) = DirectoryStore::open_to_read(&data_dir.join(CONTROL))? else { return Ok(None) };
    Ok(control.read(PAUSED)?.map(|reason| String::from_utf8_lossy(&reason).into_owned()))
}

/// The right to add a deployment: nobody else does meanwhile.
pub(crate) struct Turn<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, ()>);

/// What a breaker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tripped {
    /// This deployment undoes it.
    RolledBack(DeploymentId),
    /// The failing deployment is no longer the newest one: somebody was faster.
    Void,
    /// The stage was never another one.
    NothingBefore,
}

impl Registry {
    pub(crate) fn open(
        broker: Arc<dyn Broker>,
        chains: Arc<Chains>,
        data_dir: &Path,
        partitions: u32,
    ) -> Result<Self, StoreError> {
        let (targets, control) = (Targets::default(), DirectoryStore::open(&data_dir.join(CONTROL))?);
        targets.set_paused(control.read(PAUSED)?.is_some());
        let partitions = AtomicU32::new(partitions);
        let (changing, folder) = (Mutex::new(()), data_dir.to_owned());
        Ok(Self { broker, chains, targets, partitions, changing, control, folder })
    }

    /// For workers of another run, who want deployments of their own.
    pub(crate) fn beside(&self) -> Result<Self, StoreError> {
        let control = DirectoryStore::open(&self.folder.join(CONTROL))?;
        let (broker, chains, folder) = (self.broker.clone(), self.chains.clone(), self.folder.clone());
        let (targets, partitions) = (self.targets.beside(), AtomicU32::new(self.partitions()));
        Ok(Self { broker, chains, targets, partitions, changing: Mutex::new(()), control, folder })
    }

    /// Lets all workers stand still, until resumed, after a restart too. The first reason stays.
    pub(crate) fn pause(&self, reason: &str) -> Result<(), StoreError> {
        self.control.create(PAUSED, reason.as_bytes())?;
        self.targets.set_paused(true);
        Ok(())
    }

    pub(crate) fn resume(&self) -> Result<(), StoreError> {
        self.control.delete(PAUSED)?;
        self.targets.set_paused(false);
        Ok(())
    }

    /// Why the workers stand still, if they do.
    pub(crate) fn paused(&self) -> Result<Option<String>, StoreError> {
        Ok(self.control.read(PAUSED)?.map(|reason| String::from_utf8_lossy(&reason).into_owned()))
    }

    /// Partitions of the input topic that have workers, or will have.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions.load(Ordering::Relaxed)
    }

    pub(crate) fn history(&self) -> BTreeMap<DeploymentId, Deployment> {
        self.chains.deployments()
    }

    /// Takes the turn; none where somebody has it.
    pub(crate) fn try_turn(&self) -> Option<Turn<'_>> {
        match self.changing.try_lock() {
            Ok(guard) => Some(Turn(guard)),
            Err(TryLockError::Poisoned(poisoned)) => Some(Turn(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Appends a deployment, durably, and wants it of every partition that it is for.
    pub(crate) fn install(&self, _turn: &Turn<'_>, deployment: Deployment) -> Result<DeploymentId, ChainError> {
        let id = append(&*self.broker, &deployment)?;
        self.chains.add(id, deployment.clone());
        for partition in (0..self.partitions.load(Ordering::Relaxed)).map(PartitionId) {
            if deployment.applies_to(partition) {
                // What could be compiled a moment ago can be again; if it cannot, the worker finds out and says so.
                let ready = self.chains.build(id).ok();
                self.targets.of(partition).want(id, ready);
            }
        }
        Ok(id)
    }

    /// After a switch of runs: what the new one was filled with is what is deployed, unless that is written down.
    pub(crate) fn take_up(&self, turn: &Turn<'_>, of: DeploymentId, now_ms: i64) -> Result<(), ChainError> {
        let history = self.history();
        let Some(filled) = history.get(&of) else { return Err(DeploymentError::Unknown(of).into()) };
        if history.values().any(|d| d.cause == Cause::Switch { of }) {
            return Ok(());
        }
        // A generation that the run began has begun.
        let (cause, reset_state) = (Cause::Switch { of }, false);
        let deployment = Deployment { created_at_ms: now_ms, cause, partitions: None, reset_state, ..filled.clone() };
        self.install(turn, deployment).map(drop)
    }

    /// Wants the newest deployment of every partition, as after a start.
    pub(crate) fn want_newest(&self) {
        self.want_newest_from(0);
    }

    /// Takes in partitions that were added: deployments are for them too from now on, and the newest one is wanted.
    pub(crate) fn grow(&self, partitions: u32) {
        // So that no deployment is installed meanwhile that would miss them.
        let _turn = Turn(self.changing.lock().unwrap_or_else(PoisonError::into_inner));
        let had = self.partitions.swap(partitions, Ordering::Relaxed);
        self.want_newest_from(had);
    }

    fn want_newest_from(&self, first: u32) {
        let history = self.history();
        for partition in (first..self.partitions.load(Ordering::Relaxed)).map(PartitionId) {
            if let Some((id, _)) = history.iter().rev().find(|(_, d)| d.applies_to(partition)) {
                self.targets.of(partition).want(*id, None);
            }
        }
    }

    /// Puts a stage that fails on every record back to what it was before, unless that has been done.
    pub(crate) fn trip(
        &self,
        failing: DeploymentId,
        stage: &str,
        message: &str,
        now_ms: i64,
    ) -> Result<Tripped, ChainError> {
        let turn = Turn(self.changing.lock().unwrap_or_else(PoisonError::into_inner));
        let history = self.history();
        let Some(current) = history.get(&failing) else {
            return Err(DeploymentError::Unknown(failing).into());
        };
        let newer = |(id, d): (&DeploymentId, &Deployment)| *id > failing && d.partitions == current.partitions;
        if history.iter().any(newer) {
            return Ok(Tripped::Void);
        }
        let Some(stages) = stage_undone(&history, failing, stage) else {
            return Ok(Tripped::NothingBefore);
        };
        let undo = Deployment {
            stages,
            message: format!("stage {stage} failed on every record: {message}"),
            created_at_ms: now_ms,
            cause: Cause::Breaker { undoes: failing },
            // Where a generation was begun for it, the module before cannot read its state either.
            reset_state: current.reset_state,
            ..current.clone()
        };
        Ok(Tripped::RolledBack(self.install(&turn, undo)?))
    }
}
