//! The host process, put together from its config: log, workers, sinks, private servers, HTTP.
//!
//! [`Stack::start`] brings the workers up first (nothing waits for a database), [`Stack::stop`] takes all down within
//! five seconds, the workers with a last commit. What each part does is its own crate's matter.

pub mod chain;
pub mod connectors;
mod open_files;
pub mod place;
mod refused_rows;
mod sink_metrics;
pub mod transforms;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clickmill_broker::{Broker, BrokerError, EmbeddedLog, TopicPartition};
use clickmill_connectors::{Connectors, RunInfo, Servers, SinkHandle, SinkSource, SinkStatus, Stopped};
use clickmill_engine::{Engine, EngineOptions};
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::runs;
use clickmill_pipeline::topics::{AD_EVENTS_DLQ, AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_pipeline::{Pipeline, PipelineParts, views};
use clickmill_schemas::PartitionId;
use clickmill_schemas::output::Ledger;
use clickmill_server::Server;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::exit::mistake;
use crate::slack::{self, Slack};
use refused_rows::RefusedRows;
use sink_metrics::SinkMetrics;
use view::View;

/// Longest time that the sinks get to write what the last commit brought, at a clean stop.
const SINK_GRACE: Duration = Duration::from_millis(1_500);

/// Longest time for a stop, whatever hangs.
const STOP_TIME: Duration = Duration::from_millis(4_500);
/// What of it the private servers have at least.
const SERVERS_TIME: Duration = Duration::from_millis(1_300);
/// Time for the log to close after that, where everything else took its time.
const CLOSE_TIME: Duration = Duration::from_millis(200);

/// A running host.
pub struct Stack {
    broker: Arc<EmbeddedLog>,
    pipeline: Pipeline,
    connectors: Arc<Connectors>,
    config: Config,
    servers: Servers,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// Ends with the stack.
    _slack: Option<Slack>,
    /// Where HTTP answers, if it does.
    pub address: Option<std::net::SocketAddr>,
}

/// What `until_end` saw when it ended well.
pub struct Drained {
    pub events: u64,
}

impl Stack {
    /// Brings everything up. Workers recover before this returns; sinks and private servers come up by themselves.
    pub async fn start(config: &Config) -> Result<Self> {
        Self::start_from(config, None).await
    }

    /// [`Stack::start`], after going back to a savepoint.
    pub async fn start_from(config: &Config, from: Option<String>) -> Result<Self> {
        open_files::take_all();
        let data_dir = config.data_dir.clone();
        std::fs::create_dir_all(&data_dir)
            .map_err(|e| mistake(format!("cannot make the data directory {}: {e}", data_dir.display())))?;
        let registry = prometheus::Registry::new();
        let wanted = connectors::wanted(config)?;
        connectors::warn_of_unused_settings(config, &wanted);
        let broker = Arc::new(place::open_log(config)?);
        let server = match config.server.enabled {
            true => Some(Server::bind(config.server_options())?),
            false => None,
        };
        let address = server.as_ref().map(Server::local_addr);
        broker.set_holder(&address.map_or_else(String::new, |a| format!("http://{a}")))?;

        let engine = engine(config, &data_dir)?;
        let transforms = transforms::maker(engine.clone(), config.limits());
        let parts = PipelineParts {
            broker: broker.clone(),
            engine,
            limits: config.limits(),
            clock: Arc::new(SystemClock),
            registry: registry.clone(),
            data_dir: data_dir.clone(),
            topics: config.topics_options(),
            stages: chain::stages(config)?,
            options: config.worker_options(),
            retries: config.retry_policy(),
            from,
        };
        let pipeline = tokio::task::spawn_blocking(move || Pipeline::start(parts)).await??;

        let (servers, partitions) = (Servers::new(&data_dir), u32::try_from(pipeline.workers().len())?);
        let source = sink_source(&broker, partitions)?;
        let (runtime, stopped) = (tokio::runtime::Handle::current(), Stopped::of(&data_dir)?);
        let connectors = Connectors::new(source, servers.clone(), runtime).with_stopped(stopped);
        let connectors = Arc::new(connectors.with_transforms(transforms));
        pipeline.dlq().offer_rows_to(Arc::new(RefusedRows::new(&connectors, tokio::runtime::Handle::current())));
        let slack = slack::start(
            &config.slack,
            slack::Parts {
                broker: broker.clone(),
                deployer: pipeline.deployer(),
                registry: registry.clone(),
                data_dir: data_dir.clone(),
            },
        )?;
        let mut stack = Self {
            broker,
            pipeline,
            connectors,
            config: config.clone(),
            servers,
            tasks: Vec::new(),
            stop: watch::Sender::new(false),
            _slack: slack,
            address,
        };
        stack.connectors.apply(|| anyhow::Ok(wanted)).await?;
        if let Some(server) = server {
            registry.register(Box::new(SinkMetrics::new(stack.connectors.clone())?))?;
            stack.serve(server, registry);
        }
        Ok(stack)
    }

    /// Waits until every record of the log is committed and every sink has confirmed it.
    pub async fn until_end(&self) -> Result<Drained> {
        let mut seen = tokio::time::interval(Duration::from_millis(20));
        loop {
            seen.tick().await;
            if let Some(reason) = self.pipeline.deployer().paused()? {
                let what = "the pipeline is paused, and will not come to the end";
                return Err(mistake(format!("{what} ({reason}): `clickmill smartmodule resume` lets it go on")));
            }
            if self.pipeline.caught_up()? && self.sinks_confirmed()? {
                let events = self.pipeline.workers().iter().map(|w| w.committed.0).sum();
                return Ok(Drained { events });
            }
        }
    }

    /// Takes everything down, the workers with a last commit, within [`STOP_TIME`] of when that was asked for. What hangs
    /// is cut off: the next start goes on as after a kill.
    pub async fn stop(self, asked: Instant) -> Result<()> {
        let deadline = asked + STOP_TIME;
        let before_servers = deadline - SERVERS_TIME;
        let pipeline = self.pipeline;
        let stopping = tokio::task::spawn_blocking(move || pipeline.stop());
        let stopped = match timeout_at(before_servers, stopping).await {
            Ok(Ok(stopped)) => stopped.map_err(anyhow::Error::from),
            Ok(Err(panicked)) => Err(panicked.into()),
            Err(_) => Err(anyhow!("the workers do not end; the next start goes on from their last commit")),
        };
        let drained = async {
            while !sinks_confirmed(&*self.broker, &self.connectors.wanted()).unwrap_or(true) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout_at((Instant::now() + SINK_GRACE).min(before_servers), drained).await.is_err() {
            tracing::info!("a sink has not confirmed everything: it goes on from its own offset at the next start");
        }
        self.stop.send_replace(true);
        self.connectors.close(before_servers).await;
        for mut task in self.tasks {
            // A task that panicked has printed why; there is nothing left for it to do.
            if timeout_at(before_servers, &mut task).await.is_err() {
                task.abort();
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.servers.stop(left).await.context("stopping the private servers")?;
        let broker = self.broker;
        let closing = tokio::task::spawn_blocking(move || broker.close());
        if timeout_at(deadline + CLOSE_TIME, closing).await.is_err() {
            bail!("the log cannot be closed, since its disk does not answer; what was acknowledged is safe");
        }
        stopped
    }

    /// The fates of everything that is committed.
    pub fn ledger(&self) -> Result<Ledger> {
        Ok(views::status(&*self.broker, views::RunState::Running, Vec::new())?.ledger.fates)
    }

    pub const fn servers(&self) -> &Servers {
        &self.servers
    }

    pub fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    /// Applies the connector files as they are now; where one is wrong, all go on as they are.
    pub async fn reload(&self) {
        match self.connectors.apply(|| connectors::wanted(&self.config)).await {
            Err(error) => tracing::error!("connector files are not applied: {error:#}"),
            Ok(applied) => tracing::info!(?applied, "connector files applied"),
        }
    }

    fn serve(&mut self, server: Server, registry: prometheus::Registry) {
        let deployer = self.pipeline.deployer();
        let (peers, crew, connectors) = (self.pipeline.peers(), self.pipeline.crew(), self.connectors.clone());
        let (reprocessing, dlq, config) = (self.pipeline.reprocessing(), self.pipeline.dlq(), self.config.clone());
        let runtime = tokio::runtime::Handle::current();
        let log = self.broker.clone();
        let view =
            Arc::new(View { peers, crew, deployer, reprocessing, dlq, connectors, log, config, runtime, registry });
        let (broker, stop) = (self.broker.clone(), stopped(&self.stop));
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = server.serve(broker, view, stop).await {
                tracing::error!(%error, "HTTP has ended; workers and sinks go on");
            }
        }));
    }

    fn sinks_confirmed(&self) -> Result<bool> {
        sinks_confirmed(&*self.broker, &self.connectors.wanted())
    }
}

/// What connectors copy.
fn sink_source(broker: &Arc<EmbeddedLog>, partitions: u32) -> Result<SinkSource> {
    let runs = broker.clone();
    Ok(SinkSource {
        broker: broker.clone(),
        run: run_info(&**broker, partitions)?,
        runs: Arc::new(move || run_info(&*runs, partitions)),
        windows: TopicPartition::new(CTR_WINDOWS, PartitionId(0)),
        errors: TopicPartition::new(AD_EVENTS_ERROR, PartitionId(0)),
        letters: TopicPartition::new(AD_EVENTS_DLQ, PartitionId(0)),
    })
}

/// The run that sinks copy.
pub fn run_info(broker: &dyn Broker, partitions: u32) -> Result<RunInfo, BrokerError> {
    let runs = runs::runs(broker)?.ok_or(BrokerError::UnknownTopic { topic: AD_EVENTS_RAW.to_owned() })?;
    Ok(RunInfo {
        id: runs.current,
        topic: AD_EVENTS_RAW.to_owned(),
        partitions,
        replaced: runs.replaced,
        complete_at: runs.switch.map(|switch| switch.windows).unwrap_or_default(),
    })
}

fn sinks_confirmed(broker: &dyn Broker, sinks: &[SinkHandle]) -> Result<bool> {
    let mut all = true;
    for sink in sinks {
        let confirmed = sink.confirmed() >= broker.ends(sink.source())?.end;
        if !confirmed && sink.has_ended() {
            let SinkStatus { name, last_error, .. } = sink.status();
            bail!("sink {name} has stopped: {}", last_error.unwrap_or_default());
        }
        all &= confirmed;
    }
    Ok(all)
}

/// Compiles the stages' modules, so that the next start finds machine code in the cache.
pub fn compile(config: &Config) -> Result<()> {
    let engine = engine(config, &config.data_dir)?;
    for stage in chain::stages(config)? {
        engine.compile(&stage.wasm)?;
    }
    Ok(())
}

pub fn engine(config: &Config, data_dir: &Path) -> Result<Engine> {
    let cache_dir = config.engine.cache.then(|| data_dir.join("cache"));
    Engine::new(&EngineOptions { cache_dir, fuel: config.engine.call_fuel_limit.is_some(), ..Default::default() })
        .context("setting up WebAssembly")
}

async fn wait(mut stop: watch::Receiver<bool>) {
    // An error says that the stack is gone: stopped as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    wait(stop.subscribe())
}
