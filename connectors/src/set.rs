//! The connectors of a host: each can be started, stopped and changed while the others go on.
//!
//! Knows how they are run, but neither files nor HTTP: what is wanted comes as [`Connector`]s that have been checked.
//! `set/begin.rs` starts one, `set/rebuild.rs` empties its server before.

mod begin;
mod rebuild;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clickmill_broker::{BrokerError, TopicPartition};
use clickmill_schemas::Offset;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::connector::Connector;
use crate::file::Type;
use crate::reader::single;
use crate::running::Running;
use crate::sink::RetryOutcome;
use crate::stopped::Stopped;
use crate::transform::MakeTransform;
use crate::{Servers, SinkHandle, SinkSource, SinkStatus};
use begin::Starter;

/// Longest wait for what a connector is doing when it is stopped: a transaction in flight is taken back.
const STOP_TIME: Duration = Duration::from_secs(1);

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
    /// It goes on as it was, or stays stopped.
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
    starter: Starter,
    /// Held by who changes them: one after the other.
    changing: tokio::sync::Mutex<Stopped>,
    members: Arc<Mutex<Members>>,
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
    running: Option<Running>,
    /// Its server is being emptied: it is started after that, where nobody stops it or makes it another meanwhile.
    is_emptied: bool,
}

impl Member {
    /// At work, or about to be. Not where one of its sinks has ended: what it needs may be there now.
    fn runs(&self) -> bool {
        self.is_emptied || self.running.is_some() && !self.handles.iter().any(SinkHandle::has_ended)
    }
}

impl Connectors {
    /// None yet; tasks go to `runtime`.
    #[must_use]
    pub fn new(source: SinkSource, servers: Servers, runtime: Handle) -> Self {
        let transforms: MakeTransform = Arc::new(|_| Err("this process runs no modules".to_owned()));
        let starter = Starter { source, servers, runtime, transforms };
        Self { starter, changing: tokio::sync::Mutex::default(), members: Arc::default() }
    }

    /// The same, with what makes the modules of their `transforms`.
    #[must_use]
    pub fn with_transforms(mut self, transforms: MakeTransform) -> Self {
        self.starter.transforms = transforms;
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

    /// Makes the connectors those that `read` gives. What is as it was goes on; what is another or new, or has ended by itself, is
    /// started, unless somebody has stopped it; what is not among them any more is ended. Offsets lie in the servers.
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
            let of = |member: &Member| (member.connector.clone(), member.runs() || !member.wanted);
            let before = self.members().by_name.get(&name).map(of);
            match before {
                Some((before, is_as_wanted)) if before == connector && is_as_wanted => applied.unchanged.push(name),
                _ if stopped.contains(&name) => {
                    self.set_aside(connector);
                    applied.stopped.push(name);
                }
                Some(_) => {
                    self.end(&name).await;
                    self.begin(connector).await;
                    applied.restarted.push(name);
                }
                None => {
                    self.begin(connector).await;
                    applied.started.push(name);
                }
            }
        }
        Ok(applied)
    }

    /// Starts a connector that was stopped, or that has ended by itself; one that runs goes on.
    ///
    /// # Errors
    /// [`SetError`].
    pub async fn start(&self, name: &str) -> Result<(), SetError> {
        let mut stopped = self.changing.lock().await;
        let (connector, runs) = self.known(name)?;
        note(&mut stopped, name, false)?;
        if runs {
            if let Some(member) = self.members().by_name.get_mut(name) {
                member.wanted = true;
            }
            return Ok(());
        }
        self.end(name).await;
        if self.begin(connector).await { Ok(()) } else { Err(SetError::Closed) }
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
            (member.wanted, member.is_emptied) = (false, false);
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
        if self.begin(connector).await { Ok(()) } else { Err(SetError::Closed) }
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
        let (broker, from) = (self.starter.source.broker.clone(), at.clone());
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
        running.iter().for_each(Running::stop);
        for running in running {
            running.ended(deadline).await;
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        locked(&self.members)
    }

    /// The connector of that name, and whether it runs.
    fn known(&self, name: &str) -> Result<(Connector, bool), SetError> {
        let members = self.members();
        let unknown = || SetError::Unknown {
            name: name.to_owned(),
            known: members.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let member = members.by_name.get(name).ok_or_else(unknown)?;
        Ok((member.connector.clone(), member.runs()))
    }

    /// Knows it, and does not start it.
    fn set_aside(&self, connector: Connector) {
        let mut members = self.members();
        let name = connector.name().to_owned();
        let handles = members.by_name.remove(&name).map(|before| before.handles).unwrap_or_default();
        members.by_name.insert(name, Member { connector, wanted: false, handles, running: None, is_emptied: false });
    }

    async fn end(&self, name: &str) {
        let running = self.members().by_name.get_mut(name).and_then(|member| member.running.take());
        if let Some(running) = running {
            running.stop();
            running.ended(Instant::now() + STOP_TIME).await;
        }
    }
}

fn locked(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(stopped: &mut Stopped, name: &str, is_stopped: bool) -> Result<(), SetError> {
    stopped.set(name, is_stopped).map_err(|e| SetError::Unwritten(e.to_string()))
}
