//! From a deployment's id to a chain that can run: reads the record, loads the modules, compiles each digest once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use clickmill_engine::{Chain, ChainState, Engine, EngineError, EngineOptions, Limits, Module, StageSpec};
use clickmill_schemas::{DeploymentId, ModuleDigest, PartitionId};

use crate::deployment::{Deployment, DeploymentError, ModuleStore, Stage, newest_everywhere};

/// Newest deployments whose modules are kept compiled.
const KEPT_COMPILED: usize = 3;

/// Makes chains; shared by the workers.
pub(crate) struct Chains {
    limits: Limits,
    pub(crate) modules: ModuleStore,
    deployments: Mutex<BTreeMap<DeploymentId, Deployment>>,
    live: Compiler,
    /// Counts fuel; made when it is first asked for.
    metering: OnceLock<Compiler>,
}

/// An engine, and the stored modules that are compiled for it.
struct Compiler {
    engine: Engine,
    stored: Mutex<HashMap<ModuleDigest, Module>>,
}

/// Why a deployment cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error("stage {stage}: {source}")]
    Stored { stage: String, source: Box<DeploymentError> },
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
        let (deployments, live) = (Mutex::new(deployments), Compiler::new(engine));
        Self { limits, modules, deployments, live, metering: OnceLock::new() }
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
        newest_everywhere(&known).map(|(id, _)| id)
    }

    /// Adds a deployment. What only older ones name is compiled again where it should be needed: somebody may deploy a
    /// thousand modules.
    pub(crate) fn add(&self, id: DeploymentId, deployment: Deployment) {
        let mut known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, deployment);
        let newest = || known.values().rev().take(KEPT_COMPILED).flat_map(|d| &d.stages);
        let named: BTreeSet<ModuleDigest> = newest().map(|stage| stage.sha256).collect();
        for compiler in std::iter::once(&self.live).chain(self.metering.get()) {
            compiler.lock().retain(|digest, _| named.contains(digest));
        }
    }

    /// Whether one of the deployments after `since` up to `wanted` begins a generation in a partition, which may skip some.
    pub(crate) fn begins_generation(&self, partition: PartitionId, since: DeploymentId, wanted: DeploymentId) -> bool {
        let known = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = (Bound::Excluded(since), Bound::Included(wanted));
        since < wanted && known.range(skipped).any(|(_, d)| d.reset_state && d.applies_to(partition))
    }

    /// A fresh chain of this deployment.
    pub(crate) fn build(&self, id: DeploymentId) -> Result<Chain, ChainError> {
        self.live(None).chain(&self.deployment(id)?.stages)
    }

    /// Makes chains as the workers run them; `candidate` is a module that may not be stored yet.
    pub(crate) fn live<'a>(&'a self, candidate: Option<&'a [u8]>) -> Maker<'a> {
        Maker::new(self, &self.live, candidate)
    }

    /// Makes chains that count fuel, apart from the workers'.
    pub(crate) fn metering<'a>(&'a self, candidate: Option<&'a [u8]>) -> Result<Maker<'a>, ChainError> {
        if let Some(compiler) = self.metering.get() {
            return Ok(Maker::new(self, compiler, candidate));
        }
        let cache_dir = self.live.engine.options().cache_dir.clone();
        let options = EngineOptions { cache_dir, fuel: true, ..EngineOptions::default() };
        let engine = Engine::new(&options).map_err(|source| ChainError::Module { stage: "canary".into(), source })?;
        Ok(Maker::new(self, self.metering.get_or_init(|| Compiler::new(engine)), candidate))
    }
}

impl Compiler {
    fn new(engine: Engine) -> Self {
        Self { engine, stored: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ModuleDigest, Module>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, stage: &Stage, wasm: &[u8]) -> Result<Module, ChainError> {
        self.engine.compile(wasm).map_err(|source| ChainError::Module { stage: stage.stage.clone(), source })
    }

    fn stored(&self, stage: &Stage, modules: &ModuleStore) -> Result<Module, ChainError> {
        if let Some(module) = self.lock().get(&stage.sha256) {
            return Ok(module.clone());
        }
        // Without the lock: a worker that wants another module does not wait for a compiler.
        let missing = |e| ChainError::Stored { stage: stage.stage.clone(), source: Box::new(e) };
        let module = self.compile(stage, &modules.get(stage.sha256).map_err(missing)?)?;
        Ok(self.lock().entry(stage.sha256).or_insert(module).clone())
    }
}

/// Makes chains on one engine, of stored modules and of one that may not be stored yet.
pub(crate) struct Maker<'a> {
    chains: &'a Chains,
    compiler: &'a Compiler,
    candidate: Option<(ModuleDigest, &'a [u8])>,
    /// The candidate, compiled. It goes with the attempt: somebody may try a thousand.
    tried: OnceLock<Module>,
}

impl<'a> Maker<'a> {
    fn new(chains: &'a Chains, compiler: &'a Compiler, candidate: Option<&'a [u8]>) -> Self {
        let candidate = candidate.map(|wasm| (crate::deployment::digest(wasm), wasm));
        Self { chains, compiler, candidate, tried: OnceLock::new() }
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.compiler.engine
    }

    pub(crate) fn specs(&self, stages: &[Stage]) -> Result<Vec<StageSpec>, ChainError> {
        let spec = |stage: &Stage| {
            Ok(StageSpec {
                name: stage.stage.clone(),
                module: self.module(stage)?,
                params: stage.params.clone(),
                limits: self.chains.limits.clone(),
                lookback: stage.lookback.of_engine(),
            })
        };
        stages.iter().map(spec).collect()
    }

    /// A fresh chain of these stages.
    pub(crate) fn chain(&self, stages: &[Stage]) -> Result<Chain, ChainError> {
        Chain::new(self.engine(), &self.specs(stages)?)
            .map_err(|source| ChainError::Module { stage: "chain".into(), source })
    }

    /// The chain with this state in it, to see whether it can read it.
    pub(crate) fn with_state(&self, stages: &[Stage], state: &[u8]) -> Result<Chain, ChainError> {
        let mut chain = self.chain(stages)?;
        let failed = |source| ChainError::Module { stage: "state".into(), source };
        chain.restore(&ChainState::from_bytes(state).map_err(failed)?).map_err(failed)?;
        Ok(chain)
    }

    pub(crate) fn keeps_windows(&self, stage: &Stage) -> Result<bool, ChainError> {
        Ok(self.module(stage)?.keeps_windows())
    }

    fn module(&self, stage: &Stage) -> Result<Module, ChainError> {
        if let Some(module) = self.compiler.lock().get(&stage.sha256) {
            return Ok(module.clone());
        }
        match (self.candidate, self.tried.get()) {
            (Some((digest, _)), Some(module)) if digest == stage.sha256 => Ok(module.clone()),
            (Some((digest, wasm)), None) if digest == stage.sha256 => {
                let module = self.compiler.compile(stage, wasm)?;
                Ok(self.tried.get_or_init(|| module).clone())
            }
            _ => self.compiler.stored(stage, &self.chains.modules),
        }
    }
}
