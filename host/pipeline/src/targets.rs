//! Which deployment each partition is to change to: how whoever deploys reaches the workers.
//!
//! A target is a wish. The worker decides at which offset it takes effect, writes that down, and tells so in
//! [`crate::peers`]. This module must not know how a deployment comes about.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use clickmill_engine::Chain;
use clickmill_schemas::{DeploymentId, PartitionId};

/// The targets of all partitions, and whether workers stand still.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    partitions: RwLock<Vec<Arc<Target>>>,
    paused: Arc<AtomicBool>,
}

/// The target of one partition.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// One more than the deployment's id; 0 where there is none yet. Asked for before every batch.
    wanted: AtomicU64,
    /// A chain of it that was made ahead, so that no record waits for instances.
    ready: Mutex<Option<(DeploymentId, Chain)>>,
}

impl Targets {
    /// The target of this partition, which begins to exist by being asked for.
    pub(crate) fn of(&self, partition: PartitionId) -> Arc<Target> {
        let mut all = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let index = partition.0 as usize;
        if index >= all.len() {
            all.resize_with(index + 1, Arc::default);
        }
        all[index].clone()
    }

    /// For workers of another run: targets of their own, and whoever pauses these pauses those.
    pub(crate) fn beside(&self) -> Self {
        Self { partitions: RwLock::default(), paused: self.paused.clone() }
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(crate) fn paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

impl Target {
    pub(crate) fn wanted(&self) -> Option<DeploymentId> {
        self.wanted.load(Ordering::Acquire).checked_sub(1).map(DeploymentId)
    }

    /// Wants a deployment; `ready` is a fresh chain of it.
    pub(crate) fn want(&self, deployment: DeploymentId, ready: Option<Chain>) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready.map(|chain| (deployment, chain));
        self.wanted.store(deployment.0 + 1, Ordering::Release);
    }

    /// The chain that was made ahead, if it is of this deployment.
    pub(crate) fn take_ready(&self, deployment: DeploymentId) -> Option<Chain> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.take_if(|(id, _)| *id == deployment).map(|(_, chain)| chain)
    }
}
