//! From a deployment's id to a chain that can run: reads the record, loads the modules, compiles each digest once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use clickmill_engine::{Chain, ChainState, Engine, EngineError, Limits, Module, StageSpec};
use clickmill_schemas::{DeploymentId, ModuleDigest};

use crate::deployment::{Deployment, DeploymentError, ModuleStore};

/// Makes chains; shared by the workers.
pub(crate) struct Chains {
    engine: Engine,
    limits: Limits,
    modules: ModuleStore,
    deployments: Mutex<BTreeMap<DeploymentId, Deployment>>,
    compiled: Mutex<HashMap<ModuleDigest, Module>>,
}

/// Why a deployment cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error("{stage}: {source}")]
    Module { stage: String, source: EngineError },
}

impl Chains {
    pub(crate) fn new(
        engine: Engine,
        limits: Limits,
        modules: ModuleStore,
        deployments: BTreeMap<DeploymentId, Deployment>,
    ) -> Self {
        Self { engine, limits, modules, deployments: Mutex::new(deployments), compiled: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn deployment(&self, id: DeploymentId) -> Result<Deployment, DeploymentError> {
        let known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned().ok_or(DeploymentError::Unknown(id))
    }

    /// The newest deployment.
    pub(crate) fn newest(&self) -> Option<(DeploymentId, Deployment)> {
        let known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        known.last_key_value().map(|(id, deployment)| (*id, deployment.clone()))
    }

    pub(crate) fn add(&self, id: DeploymentId, deployment: Deployment) {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner).insert(id, deployment);
    }

    /// A fresh chain of this deployment.
    pub(crate) fn build(&self, id: DeploymentId) -> Result<Chain, ChainError> {
        self.chain(&self.deployment(id)?)
    }

    /// Whether the chain starts with its parameters, and can read this state.
    pub(crate) fn try_out(&self, deployment: &Deployment, state: Option<&[u8]>) -> Result<(), ChainError> {
        let mut chain = self.chain(deployment)?;
        let Some(state) = state else { return Ok(()) };
        let failed = |source| ChainError::Module { stage: "state".into(), source };
        chain.restore(&ChainState::from_bytes(state).map_err(failed)?).map_err(failed)
    }

    fn chain(&self, deployment: &Deployment) -> Result<Chain, ChainError> {
        let mut specs = Vec::new();
        for stage in &deployment.stages {
            let failed = |source| ChainError::Module { stage: stage.stage.clone(), source };
            let module = self.module(stage.sha256, failed)?;
            specs.push(StageSpec {
                name: stage.stage.clone(),
                module,
                params: stage.params.clone(),
                limits: self.limits.clone(),
                lookback: None,
            });
        }
        Chain::new(&self.engine, &specs).map_err(|source| ChainError::Module { stage: "chain".into(), source })
    }

    fn module(&self, digest: ModuleDigest, failed: impl Fn(EngineError) -> ChainError) -> Result<Module, ChainError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = compiled.get(&digest) {
            return Ok(module.clone());
        }
        let module = self.engine.compile(&self.modules.get(digest)?).map_err(failed)?;
        compiled.insert(digest, module.clone());
        Ok(module)
    }
}
