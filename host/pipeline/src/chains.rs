//! From a deployment's id to a chain that can run: reads the record, loads the modules, compiles each digest once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use clickmill_engine::{Chain, ChainState, Engine, EngineError, EngineOptions, Limits, Module, StageSpec};
use clickmill_schemas::{DeploymentId, ModuleDigest};

use crate::deployment::{Deployment, DeploymentError, ModuleStore, Stage};

/// Newest deployments whose modules are kept compiled.
const KEPT_COMPILED: usize = 3;

/// Makes chains; shared by the workers.
pub(crate) struct Chains {
    engine: Engine,
    limits: Limits,
    pub(crate) modules: ModuleStore,
    deployments: Mutex<BTreeMap<DeploymentId, Deployment>>,
    compiled: Mutex<HashMap<ModuleDigest, Module>>,
    meter: OnceLock<Engine>,
    /// Stored modules, compiled for it.
    metered: Mutex<HashMap<ModuleDigest, Module>>,
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
        let (deployments, compiled) = (Mutex::new(deployments), Mutex::new(HashMap::new()));
        Self { engine, limits, modules, deployments, compiled, meter: OnceLock::new(), metered: Mutex::default() }
    }

    pub(crate) fn deployment(&self, id: DeploymentId) -> Result<Deployment, DeploymentError> {
        let known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned().ok_or(DeploymentError::Unknown(id))
    }

    /// Everything that was ever deployed.
    pub(crate) fn deployments(&self) -> BTreeMap<DeploymentId, Deployment> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest deployment that is for all partitions.
    pub(crate) fn newest(&self) -> Option<DeploymentId> {
        let known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().find(|(_, d)| d.partitions.is_none()).map(|(id, _)| *id)
    }

    /// Adds a deployment. What only older ones name is compiled again where it should be needed: somebody may deploy a
    /// thousand modules.
    pub(crate) fn add(&self, id: DeploymentId, deployment: Deployment) {
        let mut known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, deployment);
        let newest = || known.values().rev().take(KEPT_COMPILED).flat_map(|d| &d.stages);
        let named: BTreeSet<ModuleDigest> = newest().map(|stage| stage.sha256).collect();
        for compiled in [&self.compiled, &self.metered] {
            let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
            compiled.retain(|digest, _| named.contains(digest));
        }
    }

    /// A fresh chain of this deployment.
    pub(crate) fn build(&self, id: DeploymentId) -> Result<Chain, ChainError> {
        self.chain(&self.deployment(id)?.stages, None)
    }

    /// A fresh chain of these stages; `candidate` is a module that may not be stored yet.
    pub(crate) fn chain(&self, stages: &[Stage], candidate: Option<&[u8]>) -> Result<Chain, ChainError> {
        let mut specs = Vec::new();
        for stage in stages {
            let module = self.module(stage, candidate)?;
            specs.push(spec(stage, module, self.limits.clone()));
        }
        Chain::new(&self.engine, &specs).map_err(|source| ChainError::Module { stage: "chain".into(), source })
    }

    /// The chain with this state in it, to see whether it can read it.
    pub(crate) fn with_state(
        &self,
        stages: &[Stage],
        candidate: Option<&[u8]>,
        state: &[u8],
    ) -> Result<Chain, ChainError> {
        let mut chain = self.chain(stages, candidate)?;
        let failed = |source| ChainError::Module { stage: "state".into(), source };
        chain.restore(&ChainState::from_bytes(state).map_err(failed)?).map_err(failed)?;
        Ok(chain)
    }

    pub(crate) fn keeps_windows(&self, stage: &Stage) -> Result<bool, ChainError> {
        Ok(self.module(stage, None)?.keeps_windows())
    }

    fn module(&self, stage: &Stage, candidate: Option<&[u8]>) -> Result<Module, ChainError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = compiled.get(&stage.sha256) {
            return Ok(module.clone());
        }
        let module = self.compile(&self.engine, stage, candidate)?;
        // What is only tried is not kept: somebody may try a thousand.
        if candidate.is_none() {
            compiled.insert(stage.sha256, module.clone());
        }
        Ok(module)
    }

    fn compile(&self, engine: &Engine, stage: &Stage, candidate: Option<&[u8]>) -> Result<Module, ChainError> {
        let stored;
        let wasm = match candidate {
            Some(wasm) if crate::deployment::digest(wasm) == stage.sha256 => wasm,
            _ => {
                stored = self.modules.get(stage.sha256)?;
                &stored
            }
        };
        engine.compile(wasm).map_err(|source| ChainError::Module { stage: stage.stage.clone(), source })
    }

    /// What chains are tried on, apart from the workers'; made when it is first asked for.
    pub(crate) fn metered<'a>(&'a self, candidate: Option<&'a [u8]>) -> Result<Metered<'a>, ChainError> {
        let engine = match self.meter.get() {
            Some(engine) => engine.clone(),
            None => {
                let options = EngineOptions { fuel: true, ..EngineOptions::default() };
                let made =
                    Engine::new(&options).map_err(|source| ChainError::Module { stage: "canary".into(), source })?;
                self.meter.get_or_init(|| made).clone()
            }
        };
        Ok(Metered { chains: self, engine, candidate, tried: OnceLock::new() })
    }
}

/// Makes chains on an engine that counts fuel.
pub(crate) struct Metered<'a> {
    chains: &'a Chains,
    engine: Engine,
    candidate: Option<&'a [u8]>,
    /// The candidate, compiled; it goes with the attempt.
    tried: OnceLock<Module>,
}

impl Metered<'_> {
    pub(crate) fn specs(&self, stages: &[Stage]) -> Result<Vec<StageSpec>, ChainError> {
        stages.iter().map(|stage| Ok(spec(stage, self.module(stage)?, self.chains.limits.clone()))).collect()
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn chain(&self, stages: &[Stage]) -> Result<Chain, ChainError> {
        Chain::new(&self.engine, &self.specs(stages)?)
            .map_err(|source| ChainError::Module { stage: "chain".into(), source })
    }

    pub(crate) fn keeps_windows(&self, stage: &Stage) -> Result<bool, ChainError> {
        Ok(self.module(stage)?.keeps_windows())
    }

    fn module(&self, stage: &Stage) -> Result<Module, ChainError> {
        let is_tried = |module: &&Module| module.digest() == stage.sha256;
        if let Some(module) = self.tried.get().filter(is_tried) {
            return Ok(module.clone());
        }
        let mut stored = self.chains.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = stored.get(&stage.sha256) {
            return Ok(module.clone());
        }
        let module = self.chains.compile(&self.engine, stage, self.candidate)?;
        let is_candidate = |wasm: &[u8]| crate::deployment::digest(wasm) == stage.sha256;
        if self.candidate.is_some_and(is_candidate) {
            return Ok(self.tried.get_or_init(|| module).clone());
        }
        stored.insert(stage.sha256, module.clone());
        Ok(module)
    }
}

fn spec(stage: &Stage, module: Module, limits: Limits) -> StageSpec {
    StageSpec { name: stage.stage.clone(), module, params: stage.params.clone(), limits, lookback: None }
}
