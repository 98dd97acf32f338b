//! The connectors of a host: each can be started, stopped and changed while the others go on.
//!
//! Knows how one is run, but neither files nor HTTP: what is wanted comes as [`Connector`]s that have been checked.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clickmill_broker::{BrokerError, TopicPartition};
use clickmill_schemas::Offset;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::endpoint::{Endpoint, ServerUrl};
use crate::file::Type;
use crate::letters::Letters;
use crate::postgres::Reports;
use crate::reader::single;
use crate::runner::Before;
use crate::sink::RetryOutcome;
use crate::stopped::Stopped;
use crate::transform::{MakeTransform, TransformSpec};
use crate::{
    Hidden, HttpOptions, ParquetOptions, PostgresOptions, RedisOptions, Servers, SinkError, SinkHandle, SinkSource,
    SinkState, SinkStatus,
};

/// The topic of windows.
const CTR_WINDOWS: &str = "ctr_windows";
/// Longest wait for what a connector is doing when it is stopped: a transaction in flight is taken back.
const STOP_TIME: Duration = Duration::from_secs(1);
/// Records that a sink may be behind and still be asked what there is: a live stream is always some behind, and one that fills
/// an empty database has only a part.
const MOST_BEHIND: u64 = 2_000;

/// One connector, as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    Postgres(PostgresOptions),
    Redis(RedisOptions),
    Parquet(ParquetOptions),
    Http(HttpOptions),
}

impl Connector {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Postgres(options) => &options.name,
            Self::Redis(options) => &options.name,
            Self::Parquet(options) => &options.name,
            Self::Http(options) => &options.name,
        }
    }

    #[must_use]
    pub const fn r#type(&self) -> Type {
        match self {
            Self::Postgres(_) => Type::PostgresSink,
            Self::Redis(_) => Type::RedisSink,
            Self::Parquet(_) => Type::ParquetSink,
            Self::Http(_) => Type::HttpSink,
        }
    }

    /// Why it runs nothing, where nothing is set for it to do.
    #[must_use]
    pub const fn off(&self) -> Option<&'static str> {
        match self {
            Self::Http(HttpOptions { endpoint: None, .. }) => {
                Some("no endpoint: set http.endpoint in its file, or sinks.http.url in the config")
            }
            _ => None,
        }
    }

    /// Where it writes to; none where that is a private server, a folder of the data directory, or nowhere.
    #[must_use]
    pub const fn url(&self) -> Option<&ServerUrl> {
        match self {
            Self::Postgres(options) => options.url.as_ref(),
            Self::Redis(options) => options.url.as_ref(),
            Self::Parquet(options) => options.url.as_ref(),
            Self::Http(options) => options.endpoint.as_ref(),
        }
    }

    /// What must not be printed of it.
    #[must_use]
    pub const fn hidden(&self) -> &Hidden {
        match self {
            Self::Postgres(options) => &options.hidden,
            Self::Redis(options) => &options.hidden,
            Self::Parquet(options) => &options.hidden,
            Self::Http(options) => &options.hidden,
        }
    }

    /// What the records of a topic go through on their way to the server.
    #[must_use]
    pub fn transforms(&self, topic: &str) -> &[TransformSpec] {
        match self {
            // Partials are for those who merge them: no module has a place there.
            Self::Postgres(options) if topic != CTR_WINDOWS => &options.transforms,
            Self::Http(options) if topic != CTR_WINDOWS => &options.transforms,
            Self::Postgres(_) | Self::Redis(_) | Self::Parquet(_) | Self::Http(_) => &[],
        }
    }

    /// Whether its server takes us in; the server, without secrets. A private one is not asked: it is started when it is
    /// needed.
    ///
    /// # Errors
    /// [`SinkError`].
    pub async fn answers(&self) -> Result<String, SinkError> {
        let Some(url) = self.url() else {
            return Ok(match self {
                Self::Postgres(_) | Self::Redis(_) => "a private server".to_owned(),
                Self::Parquet(_) => "a folder of the data directory".to_owned(),
                Self::Http(_) => "off".to_owned(),
            });
        };
        match self {
            Self::Postgres(options) => crate::postgres::answers(url, &options.reach()).await?,
            Self::Redis(options) => crate::redis::answers(url, options).await?,
            Self::Parquet(options) => options.answers(url).await?,
            Self::Http(options) => options.answers(url).await?,
        }
        Ok(url.masked())
    }
}

/// How a connector is: one sink, or several where it copies more than one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorStatus {
    pub name: String,
    pub r#type: Type,
    /// `false`: somebody has stopped it.
    pub wanted: bool,
    /// Why it runs nothing although nobody has stopped it: see [`Connector::off`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
    /// As they were when it was stopped; none where it was not started since this process began.
    pub sinks: Vec<SinkStatus>,
}

/// What [`Connectors::apply`] did, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub started: Vec<String>,
    pub restarted: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: Vec<String>,
    /// New or another, and not started: somebody has stopped them.
    pub stopped: Vec<String>,
}

/// Why a connector was not started or stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("there is no connector {name}; there are: {known}")]
    Unknown { name: String, known: String },
    #[error("the host is about to end")]
    Closed,
    /// Everything is as it was.
    #[error("what is stopped cannot be written down: {0}")]
    Unwritten(String),
    /// It goes on as it was.
    #[error("{name} cannot be emptied: {why}")]
    NotEmptied { name: String, why: String },
}

/// Why a record was not tried again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    #[error(transparent)]
    Set(#[from] SetError),
    #[error("connector {name} copies nothing of {at} now")]
    NotCopied { name: String, at: TopicPartition },
    /// Passes, or somebody has to decide something: see its status.
    #[error("connector {0} is not running: `clickmill connector status {0}` tells why")]
    NotRunning(String),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// All connectors of a host.
pub struct Connectors {
    source: SinkSource,
    servers: Servers,
    runtime: Handle,
    transforms: MakeTransform,
    /// Held by who changes them: one after the other.
    changing: tokio::sync::Mutex<Stopped>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    by_name: BTreeMap<String, Member>,
    /// Nothing is started any more.
    closed: bool,
}

struct Member {
    connector: Connector,
    /// `false`: somebody has stopped it. One that is just being restarted is wanted all the while.
    wanted: bool,
    /// The last ones, where it is stopped.
    handles: Vec<SinkHandle>,
    /// Of one that writes to PostgreSQL, once it was started.
    reports: Option<Reports>,
    running: Option<Running>,
}

struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Connectors {
    /// None yet; tasks go to `runtime`.
    #[must_use]
    pub fn new(source: SinkSource, servers: Servers, runtime: Handle) -> Self {
        let transforms: MakeTransform = Arc::new(|_| Err("this process runs no modules".to_owned()));
        let (changing, members) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { source, servers, runtime, transforms, changing, members }
    }

    /// The same, with what makes the modules of their `transforms`.
    #[must_use]
    pub fn with_transforms(mut self, transforms: MakeTransform) -> Self {
        self.transforms = transforms;
        self
    }

    /// The same, of which those that are `stopped` are not started before somebody says so.
    #[must_use]
    pub fn with_stopped(mut self, stopped: Stopped) -> Self {
        self.changing = tokio::sync::Mutex::new(stopped);
        self
    }

    /// How each is, in order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<ConnectorStatus> {
        let of = |m: &Member| (m.connector.clone(), m.wanted, m.handles.clone());
        let all: Vec<_> = self.members().by_name.values().map(of).collect();
        // The broker is asked without the lock.
        let status = |(connector, wanted, handles): (Connector, _, Vec<SinkHandle>)| ConnectorStatus {
            name: connector.name().to_owned(),
            r#type: connector.r#type(),
            wanted,
            off: connector.off().map(str::to_owned),
            sinks: handles.iter().map(SinkHandle::status).collect(),
        };
        all.into_iter().map(status).collect()
    }

    /// What tells how each sink is, those of stopped connectors too.
    #[must_use]
    pub fn handles(&self) -> Vec<SinkHandle> {
        self.members().by_name.values().flat_map(|member| member.handles.clone()).collect()
    }

    /// Those that are to write: all that nobody has stopped.
    #[must_use]
    pub fn wanted(&self) -> Vec<SinkHandle> {
        let members = self.members();
        members.by_name.values().filter(|member| member.wanted).flat_map(|member| member.handles.clone()).collect()
    }

    /// What reads the hours in PostgreSQL, of the first connector that writes there; none where there is no such connector.
    ///
    /// # Errors
    /// Why it cannot be asked now, in words for an operator.
    pub fn reports(&self) -> Result<Option<Reports>, String> {
        let first = {
            let members = self.members();
            let of = |member: &Member| match &member.connector {
                Connector::Postgres(options) => {
                    Some((options.clone(), member.wanted, member.handles.clone(), member.reports.clone()))
                }
                _ => None,
            };
            members.by_name.values().find_map(of)
        };
        let Some((options, wanted, handles, reports)) = first else { return Ok(None) };
        let name = options.name;
        if !wanted {
            return Err(format!("connector {name} is stopped"));
        }
        // The sink of windows has its connector's name.
        let Some(status) = handles.iter().map(SinkHandle::status).find(|status| status.name == name) else {
            return Err(format!("connector {name} was not started"));
        };
        if status.state != SinkState::Running {
            let why = status.last_error.unwrap_or_else(|| "not connected yet".to_owned());
            return Err(format!("connector {name}: {why}"));
        }
        if status.lag > MOST_BEHIND {
            return Err(format!("connector {name} is {} records behind", status.lag));
        }
        Ok(reports)
    }

    /// Makes the connectors those that `read` gives. What is as it was goes on; what is another or new is started, unless
    /// somebody has stopped it; what is not among them any more is ended. Offsets lie in the servers.
    ///
    /// # Errors
    /// That of `read`, and nothing has changed.
    pub async fn apply<E>(&self, read: impl FnOnce() -> Result<Vec<Connector>, E>) -> Result<Applied, E> {
        // Read in one's turn: what was read first is not applied last.
        let stopped = self.changing.lock().await;
        let wanted: BTreeMap<String, Connector> = read()?.into_iter().map(|c| (c.name().to_owned(), c)).collect();
        let mut applied = Applied::default();
        let gone = |name: &&String| !wanted.contains_key(*name);
        let gone: Vec<String> = self.members().by_name.keys().filter(gone).cloned().collect();
        for name in gone {
            self.end(&name).await;
            self.members().by_name.remove(&name);
            applied.removed.push(name);
        }
        for (name, connector) in wanted {
            let before = self.members().by_name.get(&name).map(|member| member.connector.clone());
            match before {
                Some(before) if before == connector => applied.unchanged.push(name),
                _ if stopped.contains(&name) => {
                    self.set_aside(connector);
                    applied.stopped.push(name);
                }
                Some(_) => {
                    self.end(&name).await;
                    self.begin(connector);
                    applied.restarted.push(name);
                }
                None => {
                    self.begin(connector);
                    applied.started.push(name);
                }
            }
        }
        Ok(applied)
    }

    /// Starts a connector that was stopped; one that runs goes on.
    ///
    /// # Errors
    /// [`SetError`].
    pub async fn start(&self, name: &str) -> Result<(), SetError> {
        let mut stopped = self.changing.lock().await;
        let (connector, runs) = self.known(name)?;
        note(&mut stopped, name, false)?;
        if runs || self.begin(connector) { Ok(()) } else { Err(SetError::Closed) }
    }

    /// Stops a connector until it is started again, whatever the host does meanwhile.
    ///
    /// # Errors
    /// [`SetError::Unknown`], [`SetError::Unwritten`].
    pub async fn stop(&self, name: &str) -> Result<(), SetError> {
        let mut stopped = self.changing.lock().await;
        self.known(name)?;
        // First: one that is stopped now and runs after a crash would be no stop.
        note(&mut stopped, name, true)?;
        self.end(name).await;
        if let Some(member) = self.members().by_name.get_mut(name) {
            member.wanted = false;
        }
        Ok(())
    }

    /// Stops and starts a connector, with new connections and from the offset in its server.
    ///
    /// # Errors
    /// [`SetError`].
    pub async fn restart(&self, name: &str) -> Result<(), SetError> {
        let mut stopped = self.changing.lock().await;
        let (connector, _) = self.known(name)?;
        note(&mut stopped, name, false)?;
        self.end(name).await;
        if self.begin(connector) { Ok(()) } else { Err(SetError::Closed) }
    }

    /// Empties a connector's side of its server, as far as the topic holds it, and starts it from the topic's beginning. Raw
    /// events stay, and go on: the input topic may not have them any more.
    ///
    /// # Errors
    /// [`SetError`]; after [`SetError::NotEmptied`] it goes on from where it was.
    pub async fn rebuild(&self, name: &str) -> Result<(), SetError> {
        let mut stopped = self.changing.lock().await;
        let (connector, _) = self.known(name)?;
        note(&mut stopped, name, false)?;
        self.end(name).await;
        let emptied = self.empty(&connector).await;
        let why = |e: SinkError| connector.hidden().redact(&e.chain());
        let emptied = emptied.map_err(|e| SetError::NotEmptied { name: name.to_owned(), why: why(e) });
        if self.begin(connector.clone()) { emptied } else { Err(SetError::Closed) }
    }

    async fn empty(&self, connector: &Connector) -> Result<(), SinkError> {
        let runs = self.source.runs.clone();
        let run = tokio::task::spawn_blocking(move || runs()).await.unwrap_or(Err(BrokerError::Closed))?.id;
        let endpoint = self.endpoint(connector.url());
        match connector {
            Connector::Postgres(options) => options.empty(endpoint, run, &self.source.windows).await,
            Connector::Redis(options) => options.empty(endpoint, run).await,
            Connector::Parquet(options) => options.empty(endpoint, run, &self.source.windows).await,
            Connector::Http(_) => Err(SinkError::Config("an HTTP endpoint cannot be told to forget".to_owned())),
        }
    }

    /// Gives a running connector one record again that its server refused: the record at `offset` of `at`, as its dead letter's
    /// origin names it, in a transaction of its own between two batches. Can be asked again at will: what is in the server
    /// already, or superseded by a newer version, changes nothing.
    ///
    /// # Errors
    /// [`RetryError`]: the record was not tried, and may be later.
    pub async fn retry(&self, name: &str, at: &TopicPartition, offset: Offset) -> Result<RetryOutcome, RetryError> {
        self.known(name)?;
        let copies = |member: &Member| member.handles.iter().find(|handle| handle.source() == at).cloned();
        let handle = self.members().by_name.get(name).and_then(copies);
        let handle = handle.ok_or_else(|| RetryError::NotCopied { name: name.to_owned(), at: at.clone() })?;
        let (broker, from) = (self.source.broker.clone(), at.clone());
        let read = tokio::task::spawn_blocking(move || single(&*broker, &from, offset)).await;
        match read.unwrap_or(Err(BrokerError::Closed))? {
            Some(chunk) => handle.retry(chunk).await.ok_or_else(|| RetryError::NotRunning(name.to_owned())),
            None => Ok(RetryOutcome::Superseded),
        }
    }

    /// Stops all of them at once, for good; what has not ended by the `deadline` is cut off.
    pub async fn close(&self, deadline: Instant) {
        // Without a turn: whoever has one finds it closed.
        let running: Vec<Running> = {
            let mut members = self.members();
            members.closed = true;
            members.by_name.values_mut().filter_map(|member| member.running.take()).collect()
        };
        for running in &running {
            running.stop.send_replace(true);
        }
        for running in running {
            running.ended(deadline).await;
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connector of that name, and whether it runs.
    fn known(&self, name: &str) -> Result<(Connector, bool), SetError> {
        let members = self.members();
        let unknown = || SetError::Unknown {
            name: name.to_owned(),
            known: members.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let member = members.by_name.get(name).ok_or_else(unknown)?;
        Ok((member.connector.clone(), member.running.is_some()))
    }

    /// Knows it, and does not start it.
    fn set_aside(&self, connector: Connector) {
        let mut members = self.members();
        let name = connector.name().to_owned();
        let handles = members.by_name.remove(&name).map(|before| before.handles).unwrap_or_default();
        members.by_name.insert(name, Member { connector, wanted: false, handles, reports: None, running: None });
    }

    /// `false`: nothing is started any more.
    fn begin(&self, connector: Connector) -> bool {
        let mut members = self.members();
        if members.closed {
            return false;
        }
        let mut begun =
            Begun { stop: watch::Sender::new(false), runtime: &self.runtime, handles: vec![], tasks: vec![] };
        let mut reports = None;
        match &connector {
            Connector::Postgres(options) => {
                let pool = options.pool(self.endpoint(options.url.as_ref()));
                reports = Some(options.reports(self.endpoint(options.url.as_ref()), &self.source));
                for (service, handle) in options.raw(&pool, &self.source) {
                    let service = service.behind(self.before(&connector, handle.source()));
                    begun.spawn(|stopped| service.run(stopped), handle);
                }
                let (service, handle) = options.windows(&pool, &self.source);
                begun.spawn(|stopped| service.run(stopped), handle);
                let (service, handle) = options.letters(&pool, &self.source);
                begun.spawn(|stopped| service.run(stopped), handle);
            }
            Connector::Redis(options) => {
                let (service, handle) = options.windows(self.endpoint(options.url.as_ref()), &self.source);
                begun.spawn(|stopped| service.run(stopped), handle);
            }
            Connector::Parquet(options) => {
                let (service, handle) = options.windows(self.endpoint(options.url.as_ref()), &self.source);
                begun.spawn(|stopped| service.run(stopped), handle);
            }
            Connector::Http(options) => {
                for (service, handle) in options.sinks(self.servers.data_dir(), &self.source) {
                    let service = service.behind(self.before(&connector, handle.source()));
                    begun.spawn(|stopped| service.run(stopped), handle);
                }
            }
        }
        let Begun { stop, handles, tasks, .. } = begun;
        let running = Some(Running { stop, tasks });
        if let Some(before) = members.by_name.get(connector.name()) {
            handles.iter().for_each(|handle| before.handles.iter().for_each(|old| handle.count_on(old)));
        }
        let name = connector.name().to_owned();
        members.by_name.insert(name, Member { connector, wanted: true, handles, reports, running });
        true
    }

    async fn end(&self, name: &str) {
        let running = self.members().by_name.get_mut(name).and_then(|member| member.running.take());
        if let Some(running) = running {
            running.stop.send_replace(true);
            running.ended(Instant::now() + STOP_TIME).await;
        }
    }

    /// The modules between a topic and a sink of the connector, where there are some.
    fn before(&self, connector: &Connector, at: &TopicPartition) -> Option<Before> {
        let (make, specs) = (self.transforms.clone(), connector.transforms(&at.topic).to_vec());
        let letters = Letters::new(&self.source, connector.name(), at, connector.hidden());
        (!specs.is_empty()).then(|| Before::new(Arc::new(move || make(&specs)), letters))
    }

    /// The named server, or the private one.
    fn endpoint(&self, url: Option<&ServerUrl>) -> Endpoint {
        url.map_or_else(|| Endpoint::Private(self.servers.clone()), |url| Endpoint::Named(url.clone()))
    }
}

fn note(stopped: &mut Stopped, name: &str, is_stopped: bool) -> Result<(), SetError> {
    stopped.set(name, is_stopped).map_err(|e| SetError::Unwritten(e.to_string()))
}

/// What is being started.
struct Begun<'a> {
    stop: watch::Sender<bool>,
    runtime: &'a Handle,
    handles: Vec<SinkHandle>,
    tasks: Vec<JoinHandle<()>>,
}

impl Begun<'_> {
    fn spawn<F>(&mut self, run: impl FnOnce(StopAsked) -> F, handle: SinkHandle)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = self.stop.subscribe();
        let stopped: StopAsked = Box::pin(async move {
            // An error says that the set is gone: stopped as well.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        self.tasks.push(self.runtime.spawn(run(stopped)));
        self.handles.push(handle);
    }
}

type StopAsked = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Running {
    /// Waits for its end, and cuts off what hangs.
    async fn ended(self, deadline: Instant) {
        for mut task in self.tasks {
            // A task that panicked has printed why; there is nothing left for it to do.
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}
