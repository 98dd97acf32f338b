//! The pipeline as a component: options in, workers running, a handle to watch them, a clean stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_engine::{Engine, Limits};
use clickmill_schemas::{PartitionId, RunId};

use crate::chains::{ChainError, Chains};
use crate::checkpoint::StoreError;
use crate::clock::Clock;
use crate::crew::Crew;
use crate::deployment::control::{DeployError, Deployer, Workers};
use crate::deployment::registry::Registry;
use crate::deployment::{self, DeploymentError, LookBack, ModuleStore};
use crate::dlq::{Dlq, Retrier, RetryPolicy};
use crate::fuel::FuelSampler;
use crate::metrics::Metrics;
use crate::module_log::ModuleLog;
use crate::peers::{Peer, Peers, WorkerState};
use crate::reprocess::{ReprocessError, Reprocessing};
use crate::runs;
use crate::savepoint::SavepointError;
use crate::savepoint::rewind::{Place, rewind};
use crate::topics::{self, AD_EVENTS_RAW, TopicsOptions};
use crate::views::ViewError;
use crate::worker::{Shared, WorkerError, WorkerOptions};

/// A module to put into the chain, by its bytes.
#[derive(Clone, Debug)]
pub struct StageModule {
    pub stage: String,
    pub name: String,
    pub version: String,
    /// Its SmartModule.toml.
    pub manifest: Option<String>,
    pub wasm: Vec<u8>,
    pub params: BTreeMap<String, String>,
    pub lookback: LookBack,
}

/// What the pipeline is made of.
pub struct PipelineParts {
    pub broker: Arc<dyn Broker>,
    pub engine: Engine,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub registry: prometheus::Registry,
    /// Holds `checkpoints/` and `modules/`.
    pub data_dir: PathBuf,
    pub topics: TopicsOptions,
    pub stages: Vec<StageModule>,
    pub options: WorkerOptions,
    pub retries: RetryPolicy,
    /// The savepoint to go back to first.
    pub from: Option<String>,
}

/// Why the pipeline did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error(
        "the modules or parameters in the configuration are refused: {0}; mend them, put them \
         back as they were, or begin with a new data directory"
    )]
    Refused(#[source] DeployError),
    #[error(transparent)]
    Savepoint(#[from] SavepointError),
    #[error(transparent)]
    View(ViewError),
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    #[error("{topic}/{partition}: {source}", topic = AD_EVENTS_RAW)]
    Worker { partition: PartitionId, source: WorkerError },
    #[error("cannot start a worker's thread: {0}")]
    Thread(std::io::Error),
    #[error("cannot go on with the run that is being filled: {0}")]
    Reprocess(Box<ReprocessError>),
    #[error("cannot put the checkpoints in order: {0}")]
    Io(#[from] std::io::Error),
}

/// Running workers. Dropping it stops them without waiting; [`Pipeline::stop`] waits.
pub struct Pipeline {
    crew: Arc<Crew>,
    deployer: Arc<Deployer>,
    reprocessing: Arc<Reprocessing>,
    dlq: Arc<Dlq>,
    retrier: Retrier,
    /// Ends with the pipeline.
    _fuel: FuelSampler,
}

impl Pipeline {
    /// Recovers every partition and starts a worker thread for each.
    ///
    /// # Errors
    /// [`StartError`] where a topic, a module or a checkpoint is not as it must be. Nothing runs then.
    pub fn start(parts: PipelineParts) -> Result<Self, StartError> {
        let broker = parts.broker;
        let raw = topics::create_all(&*broker, &parts.topics)?;
        let partitions = raw.spec.partitions;
        let modules = ModuleStore::open(&parts.data_dir.join("modules"))?;
        let deployments = deployment::read_all(&*broker)?.into_iter().collect();
        let chains = Arc::new(Chains::new(parts.engine, parts.limits, modules, deployments));
        let (now_ms, data_dir) = (parts.clock.now_ms(), &parts.data_dir);
        let runs = runs::runs(&*broker)?;
        let run = runs.as_ref().map_or(raw.id, |runs| runs.current);
        let checkpoints = runs::folder(data_dir, raw.id, run);
        let switched = runs.and_then(|runs| runs.switch);
        if switched.is_some() {
            // A process that was killed in the middle of a switch has not come to it.
            let filling = runs::candidate(data_dir)?.map(|plan| plan.run).filter(|other| *other != run);
            let filling = filling.map(|other| runs::folder(data_dir, raw.id, other));
            if filling.is_none() {
                runs::settle(data_dir, std::slice::from_ref(&checkpoints))?;
            }
        }
        let place =
            Place { broker: &*broker, chains: &chains, data_dir, checkpoints: &checkpoints, run, partitions, now_ms };
        rewind(&place, parts.from.as_deref())?;
        let registry = Arc::new(Registry::open(broker.clone(), chains, &parts.data_dir, partitions)?);
        if let (Some(switch), Some(turn)) = (&switched, registry.try_turn()) {
            registry.take_up(&turn, switch.of, now_ms).map_err(|e| StartError::Refused(DeployError::Refused(e)))?;
        }
        let peers = Arc::new(Peers::new(partitions, Arc::default()));
        let log = Arc::new(ModuleLog::default());
        let deployer = Arc::new(Deployer::new(
            registry.clone(),
            broker.clone(),
            parts.clock.clone(),
            parts.data_dir.clone(),
            Some(Workers { peers: peers.clone(), log: log.clone() }),
        ));
        // What is deployed while a run is being filled would be lost with the one that it replaces.
        let filling = runs::candidate(&parts.data_dir)?.filter(|plan| plan.run != run);
        let followed = match &filling {
            Some(plan) => {
                tracing::warn!("a run is being filled: clickmill.yaml's chain is looked at again at the next start");
                peers.floors.hold(&*broker, plan.run, 0..partitions);
                Ok(())
            }
            None => deployer.follow_config(&parts.stages),
        };
        followed.map_err(|e| match e {
            DeployError::Store(e) => e.into(),
            DeployError::Deployment(e) | DeployError::Refused(ChainError::Deployment(e)) => e.into(),
            e => StartError::Refused(e),
        })?;
        registry.want_newest();
        let shared = Arc::new(Shared {
            registry,
            broker: broker.clone(),
            clock: parts.clock.clone(),
            peers,
            stop: AtomicBool::new(false),
            options: parts.options,
            gives_up: false,
            metrics: Metrics::register(&parts.registry)?,
            log,
        });
        let stages = shared.metrics.stages.clone();
        let fuel = FuelSampler::start(&parts.registry, stages, &shared.registry, &broker)?;
        let crew = Arc::new(Crew::new(shared, parts.data_dir.clone(), raw.id, run));
        crew.start(&mut crew.threads(), 0..partitions)?;
        let reprocessing = Reprocessing::new(crew.clone(), deployer.clone(), broker, parts.clock, parts.data_dir);
        let reprocessing = Arc::new(reprocessing);
        reprocessing.resume().map_err(|e| StartError::Reprocess(Box::new(e)))?;
        let dlq = Arc::new(Dlq::open(deployer.clone(), parts.retries));
        let retrier = Retrier::start(dlq.clone()).map_err(StartError::Thread)?;
        Ok(Self { crew, deployer, reprocessing, dlq, retrier, _fuel: fuel })
    }

    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.crew.run()
    }

    /// All workers as they are now.
    #[must_use]
    pub fn workers(&self) -> Vec<Peer> {
        self.crew.shared.peers.snapshot()
    }

    /// Watches the workers, also after the pipeline is gone.
    #[must_use]
    pub fn peers(&self) -> Arc<Peers> {
        self.crew.shared.peers.clone()
    }

    /// Takes in partitions that are added while it runs.
    #[must_use]
    pub fn crew(&self) -> Arc<Crew> {
        self.crew.clone()
    }

    /// Changes what judges, while it runs.
    #[must_use]
    pub fn deployer(&self) -> Arc<Deployer> {
        self.deployer.clone()
    }

    /// What is rejected, and what becomes of it.
    #[must_use]
    pub fn dlq(&self) -> Arc<Dlq> {
        self.dlq.clone()
    }

    /// Judges the topic again, beside what runs.
    #[must_use]
    pub fn reprocessing(&self) -> Arc<Reprocessing> {
        self.reprocessing.clone()
    }

    /// Whether every partition has committed what its log holds now, under the deployment that it is to have.
    ///
    /// # Errors
    /// Where the broker cannot tell the ends, or a worker has failed (its message).
    pub fn caught_up(&self) -> Result<bool, CatchUpError> {
        if self.reprocessing.is_under_way() {
            return Ok(false);
        }
        for peer in self.workers() {
            if let WorkerState::Failed(message) = peer.state {
                return Err(CatchUpError::Failed { partition: peer.partition, message });
            }
            let end = self.crew.shared.broker.ends(&TopicPartition::new(AD_EVENTS_RAW, peer.partition))?.end;
            // What is deployed has to have reached it too: the records that come next are that one's.
            let wanted = self.crew.shared.registry.targets.of(peer.partition).wanted();
            let refused = peer.refused.is_some_and(|(refused, _)| Some(refused) == wanted);
            if peer.committed < end || (peer.deployment < wanted && !refused) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stops the workers after a last commit, and waits for them.
    ///
    /// # Errors
    /// The message of the first worker that failed, now or before.
    pub fn stop(self) -> Result<(), CatchUpError> {
        self.reprocessing.close();
        self.retrier.stop();
        self.crew.stop();
        for peer in self.workers() {
            if let WorkerState::Failed(message) = peer.state {
                return Err(CatchUpError::Failed { partition: peer.partition, message });
            }
        }
        Ok(())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.crew.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Why the pipeline will not catch up.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    #[error("{topic}/{partition} has stopped: {message}", topic = AD_EVENTS_RAW)]
    Failed { partition: PartitionId, message: String },
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
