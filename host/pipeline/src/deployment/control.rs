//! Deploys, plans, rolls back, removes, promotes: checks first, writes down last, and says which partitions have followed.
//!
//! Works the same with workers and without: without, the partitions follow when a host runs. What is refused has changed
//! nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickmill_broker::Broker;
use clickmill_engine::{ChainState, EngineError, Limits};
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};

use super::canary::{self, Canary};
use super::plan::{Change, Plan, StateChange, StateVerdict, same_chain, stage_changes};
use super::registry::{Registry, Turn};
use super::request::check_message;
use super::states::{self, stage_state};
use super::wanted::{Wanted, wanted};
use super::{Deployment, DeploymentError, ModuleStore, Stage, newest_everywhere, read_all};
use crate::chains::{ChainError, Chains, Maker};
use crate::checkpoint::StoreError;
use crate::clock::Clock;
use crate::module_log::ModuleLog;
use crate::peers::{Peers, WorkerState};
use crate::quiet::{Pace, quietly};
use crate::runs;
use crate::shadow::Shadows;
use crate::views::ViewError;
use crate::views::modules::Activations;

pub use super::request::{Candidate, DeployError, Deployed, Options, Request};

/// Records that a canary tries.
const CANARY_RECORDS: u64 = 10_000;
/// Between two looks at what the workers have done.
const LOOK: Duration = Duration::from_millis(2);

/// Makes deployments.
pub struct Deployer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<dyn Clock>,
    data_dir: PathBuf,
    /// None where no host runs.
    pub(super) workers: Option<Workers>,
    pub(super) shadows: Shadows,
}

/// What the workers of this process let others see.
pub(crate) struct Workers {
    pub peers: Arc<Peers>,
    pub log: Arc<ModuleLog>,
}

impl Deployer {
    pub(crate) fn new(
        registry: Arc<Registry>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        data_dir: PathBuf,
        workers: Option<Workers>,
    ) -> Self {
        Self { registry, broker, clock, data_dir, workers, shadows: Shadows::default() }
    }

    /// On a data directory that no host works on.
    ///
    /// # Errors
    /// Where the modules' folder or the topic cannot be read.
    pub fn of_folder(
        broker: Arc<dyn Broker>,
        engine: clickmill_engine::Engine,
        limits: Limits,
        clock: Arc<dyn Clock>,
        data_dir: PathBuf,
    ) -> Result<Self, DeployError> {
        let modules = ModuleStore::open(&data_dir.join("modules"))?;
        let deployments = read_all(&*broker)?.into_iter().collect();
        let info = broker.topic(crate::topics::AD_EVENTS_RAW).map_err(DeploymentError::from)?;
        let partitions = info.map_or(0, |info| info.spec.partitions);
        let chains = Arc::new(Chains::new(engine, limits, modules, deployments));
        let registry = Arc::new(Registry::open(broker.clone(), chains, &data_dir, partitions)?);
        Ok(Self::new(registry, broker, clock, data_dir, None))
    }

    pub(super) fn partitions(&self) -> u32 {
        self.registry.partitions()
    }

    /// Everything that was deployed, oldest first.
    #[must_use]
    pub fn history(&self) -> BTreeMap<DeploymentId, Deployment> {
        self.registry.history()
    }

    /// The chain in force; of a rollout to some partitions, the one of the others.
    #[must_use]
    pub fn stages(&self) -> Vec<Stage> {
        newest_everywhere(&self.history()).map(|(_, d)| d.stages.clone()).unwrap_or_default()
    }

    /// Where each deployment began to judge.
    ///
    /// # Errors
    /// [`ViewError`] where no host runs and the data directory cannot be read.
    pub fn activations(&self) -> Result<Activations, ViewError> {
        match &self.workers {
            Some(Workers { peers, .. }) => {
                Ok(peers.snapshot().into_iter().map(|p| (p.partition, p.activations)).collect())
            }
            None => crate::views::modules::activations(&*self.broker, &self.data_dir),
        }
    }

    /// The SmartModule.toml that a module came with.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn manifest(&self, module: ModuleDigest) -> Result<Option<String>, StoreError> {
        self.registry.chains.modules.manifest(module)
    }

    /// The bytes of a stored module.
    ///
    /// # Errors
    /// [`DeploymentError`] where it is not there, or is not what it was.
    pub fn module(&self, digest: ModuleDigest) -> Result<Vec<u8>, DeploymentError> {
        self.registry.chains.modules.get(digest)
    }

    /// Lets the workers stand still until they are resumed, after a restart too.
    ///
    /// # Errors
    /// Where that cannot be written down, or the reason is too long.
    pub fn pause(&self, reason: &str) -> Result<(), DeployError> {
        check_message(reason)?;
        Ok(self.registry.pause(reason)?)
    }

    /// # Errors
    /// Where that cannot be written down.
    pub fn resume(&self) -> Result<(), StoreError> {
        self.registry.resume()
    }

    /// Why the workers stand still, if they do.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn paused(&self) -> Result<Option<String>, StoreError> {
        self.registry.paused()
    }

    /// What a deploy would do.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub fn plan(&self, request: &Request, options: &Options) -> Result<Plan, DeployError> {
        let wanted = wanted(&self.history(), self.partitions(), request, options)?;
        quietly(|| self.plan_of(&wanted, options, true))
    }

    /// Whether the canary lets a module pass, whatever state it can read.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub(crate) fn check(&self, request: &Request) -> Result<(), DeployError> {
        let plan = self.plan(request, &Options { reset_state: true, ..Options::default() })?;
        plan.canary.as_ref().map_or(Ok(()), Canary::passes)
    }

    /// Checks, writes down, and waits up to `patience` for the partitions to follow.
    ///
    /// # Errors
    /// [`DeployError`], and nothing has changed.
    pub fn deploy(&self, request: &Request, options: &Options, patience: Duration) -> Result<Deployed, DeployError> {
        let turn = self.registry.try_turn().ok_or(DeployError::Busy)?;
        if runs::candidate(&self.data_dir).is_ok_and(|plan| plan.is_some()) {
            return Err(DeployError::Reprocessing);
        }
        let wanted = wanted(&self.history(), self.partitions(), request, options)?;
        // The way back from a bad module must not need it to behave.
        let tries = wanted.candidate.is_some();
        let plan = quietly(|| self.plan_of(&wanted, options, tries))?;
        if !plan.changes {
            // Where its file was lost, it is there again.
            if let Some(candidate) = &wanted.candidate {
                self.registry.chains.modules.put(&candidate.wasm, None)?;
            }
            drop(turn);
            let (activations, waiting) = self.followed(wanted.base.0, options);
            return Ok(Deployed { deployment: wanted.base.0, changed: false, activations, waiting, plan });
        }
        plan.canary.as_ref().map_or(Ok(()), Canary::passes)?;
        let id = quietly(|| self.write_down(&turn, wanted, options))?;
        drop(turn);
        let (activations, waiting) = self.wait_for(id, options, patience);
        Ok(Deployed { deployment: id, changed: true, activations, waiting, plan })
    }

    fn write_down(&self, turn: &Turn<'_>, wanted: Wanted, options: &Options) -> Result<DeploymentId, DeployError> {
        if let Some(candidate) = &wanted.candidate {
            self.registry.chains.modules.put(&candidate.wasm, candidate.manifest.as_deref())?;
        }
        let (_, base) = wanted.base;
        let deployment = Deployment {
            stages: wanted.stages,
            message: wanted.message,
            created_at_ms: self.clock.now_ms(),
            cause: wanted.cause,
            partitions: options.partitions.clone(),
            reset_state: options.reset_state,
            config: Some(base.config_stages().to_vec()),
        };
        self.registry.install(turn, deployment).map_err(DeployError::Refused)
    }

    /// `tries`: with a canary.
    fn plan_of(&self, wanted: &Wanted, options: &Options, tries: bool) -> Result<Plan, DeployError> {
        let (base, old) = (wanted.base.0, &wanted.base.1.stages);
        let new = &wanted.stages;
        let changes = !same_chain(old, new) || options.reset_state || wanted.promotes;
        let mut plan = Plan {
            changes,
            base,
            stages: stage_changes(old, new),
            state: Vec::new(),
            reset_state: options.reset_state,
            partitions: options.partitions.clone(),
            canary: None,
        };
        if !changes {
            return Ok(plan);
        }
        let wasm = wanted.candidate.as_ref().map(|c| c.wasm.as_slice());
        let live = self.registry.chains.live(wasm);
        live.chain(new).map_err(DeployError::Refused)?;
        plan.state = self.states((old, new), options, &live)?;
        if tries && plan.stages.iter().any(|s| s.change != Change::Unchanged) {
            plan.canary = self.canary(wasm, old, new)?;
        }
        Ok(plan)
    }

    /// What the newest records say of a chain; `wasm`: of a module that is not stored yet.
    pub(super) fn canary(
        &self,
        wasm: Option<&[u8]>,
        old: &[Stage],
        new: &[Stage],
    ) -> Result<Option<Canary>, DeployError> {
        let metering = self.registry.chains.metering(wasm).map_err(DeployError::Refused)?;
        let partitions = self.partitions();
        let canary = canary::run(&*self.broker, partitions, CANARY_RECORDS, &metering, old, new)?;
        if canary.as_ref().is_some_and(|canary| canary.failures > 0) {
            return Ok(canary);
        }
        match canary::hidden_state(&*self.broker, partitions, &metering, old, new)? {
            Some((stage, offset)) => Err(DeployError::HiddenState { stage, offset }),
            None => Ok(canary),
        }
    }

    fn checkpoints(&self) -> Result<PathBuf, DeploymentError> {
        Ok(runs::current_folder(&*self.broker, &self.data_dir)?)
    }

    /// Whether a generation has begun in a partition, or will, after this deployment.
    fn was_reset(&self, partition: PartitionId, since: DeploymentId) -> bool {
        self.history().iter().any(|(id, d)| *id > since && d.reset_state && d.applies_to(partition))
    }

    /// Tries the new chain on the state of every partition that it is for.
    pub(super) fn states(
        &self,
        (old, new): (&[Stage], &[Stage]),
        options: &Options,
        live: &Maker<'_>,
    ) -> Result<Vec<StateChange>, DeployError> {
        let (mut out, mut pace) = (Vec::new(), Pace::new());
        for (partition, checkpoint) in states::newest(&self.checkpoints()?, self.partitions())? {
            if options.partitions.as_ref().is_some_and(|only| !only.contains(&partition)) {
                continue;
            }
            let refused = |source| DeployError::State { partition, source };
            let unreadable = |source: EngineError| refused(ChainError::Module { stage: "state".to_owned(), source });
            if checkpoint.ledger.accounted() == 0 {
                continue;
            }
            pace.rest();
            // A generation may have begun behind the checkpoint, or be about to: its state is the empty one.
            let bytes = match self.was_reset(partition, checkpoint.deployment) {
                true => {
                    let mut fresh = live.chain(old).map_err(refused)?;
                    fresh.save().map_err(|fault| unreadable(fault.into()))?.to_bytes()
                }
                false => checkpoint.state,
            };
            let state = ChainState::from_bytes(&bytes).map_err(unreadable)?;
            let mut after = ChainState::default();
            if !options.reset_state {
                let mut chain = live.with_state(new, &bytes).map_err(refused)?;
                after = chain.save().map_err(|fault| unreadable(fault.into()))?;
            }
            for (stage, from_version, bytes) in state.stages() {
                let to_version = stage_state(&after, stage).map(|(version, _)| version);
                let verdict = match to_version {
                    None => StateVerdict::Reset,
                    Some(version) if version == from_version => StateVerdict::Compatible,
                    Some(_) => StateVerdict::Migrated,
                };
                out.push(StateChange { stage: stage.to_owned(), partition, verdict, from_version, to_version, bytes });
            }
        }
        Ok(out)
    }

    fn wait_for(&self, id: DeploymentId, options: &Options, patience: Duration) -> Followed {
        let begun = Instant::now();
        loop {
            let (activations, waiting) = self.followed(id, options);
            let stuck = self.workers.is_none() || begun.elapsed() >= patience;
            if waiting.is_empty() || stuck {
                return (activations, waiting);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Which partitions run this deployment or a later one, and why the others do not.
    fn followed(&self, id: DeploymentId, options: &Options) -> Followed {
        let mut followed = Followed::default();
        let mine = |partition: &PartitionId| options.partitions.as_ref().is_none_or(|only| only.contains(partition));
        let Some(Workers { peers, .. }) = &self.workers else {
            let why = "no host runs on this data directory: it takes effect with the next `clickmill run`";
            // Where that cannot be read, the next start says why.
            let activations = self.activations().unwrap_or_default();
            for partition in (0..self.partitions()).map(PartitionId).filter(mine) {
                let newest = activations.get(&partition).and_then(|began| began.last_key_value());
                match newest.filter(|(_, deployment)| **deployment >= id) {
                    Some((offset, _)) => followed.0.insert(partition, *offset).map(drop),
                    None => followed.1.insert(partition, why.to_owned()).map(drop),
                };
            }
            return followed;
        };
        for peer in peers.snapshot().into_iter().filter(|peer| mine(&peer.partition)) {
            let began = peer.activations.iter().find(|(_, deployment)| **deployment >= id).map(|(offset, _)| *offset);
            if let (Some(offset), true) = (began, peer.deployment >= Some(id)) {
                followed.0.insert(peer.partition, offset);
                continue;
            }
            let why = match (peer.refused, peer.state) {
                (Some((refused, why)), _) if refused == id => why,
                (_, WorkerState::Failed(why)) => format!("it has stopped: {why}"),
                (_, WorkerState::Retrying(why)) => format!("it waits and tries again: {why}"),
                (_, WorkerState::Recovering) => "it recovers".to_owned(),
                _ => "it has not come to it yet".to_owned(),
            };
            followed.1.insert(peer.partition, why);
        }
        followed
    }
}

/// Partitions that have followed, and those that have not.
type Followed = (BTreeMap<PartitionId, Offset>, BTreeMap<PartitionId, String>);
