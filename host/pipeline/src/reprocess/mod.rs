//! Judging the topic again: a new run fills beside the one that readers take, and replaces it when it has caught up.
//!
//! The new run has workers, checkpoints and records of its own. Below the offsets at which it is to differ it obeys what
//! was decided for the run before it, so its windows there are the same; from there on another deployment judges. When it
//! has come to where the others are, those end, one record says that readers take the new run ([`crate::runs`]), and its
//! workers go on in their place. A host that is killed meanwhile goes on with it at the next start.

mod begin;
mod coordinate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_schemas::{DeploymentId, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use crate::checkpoint::StoreError;
use crate::clock::Clock;
use crate::crew::Crew;
use crate::deployment::ask::RequestError;
use crate::deployment::body::DeployBody;
use crate::deployment::control::{DeployError, Deployer};
use crate::host::StartError;
use crate::runs;
use crate::topics::AD_EVENTS_RAW;
use crate::views::ViewError;

/// From where the topic is judged again, with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    pub from: From,
    /// The module that judges from there on, as in a deploy; without it, the chain in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<DeployBody>,
    /// State begins empty there, in a new generation, as with a deploy that says so.
    #[serde(default)]
    pub reset_state: bool,
    #[serde(default)]
    pub message: String,
}

/// Where the new run begins to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// This offset, in each partition.
    Offset(Offset),
    /// The first event at or behind this event time, epoch milliseconds, in each partition.
    TimeMs(i64),
}

/// A run that is being filled: what its folder says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub run: RunId,
    /// The run that it is to replace.
    pub inherits: RunId,
    /// What judges from `from` on.
    pub of: DeploymentId,
    pub from: BTreeMap<PartitionId, Offset>,
    /// It begins a generation there.
    #[serde(default)]
    pub reset_state: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    CatchingUp,
    /// Readers take it.
    Switched,
    Failed,
}

/// What is known of a run that is being filled, or of the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub state: State,
    pub run: RunId,
    pub deployment: DeploymentId,
    pub partitions: Vec<Progress>,
    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub partition: PartitionId,
    /// From here on it may differ.
    pub from: Offset,
    /// Everything below has been judged.
    pub position: Offset,
    pub end: Offset,
}

/// Why nothing is judged again.
#[derive(Debug, thiserror::Error)]
pub enum ReprocessError {
    #[error(
        "a run is being filled already: look at `clickmill reprocess status`, or end it with `clickmill reprocess stop`"
    )]
    Running,
    #[error("no run is being filled: begin one with `clickmill reprocess --from OFFSET`")]
    None,
    #[error(
        "partition {partition} begins only at offset {start}: what retention has taken cannot be judged again, and a run \
         without it would lack what it counted; `clickmill run --from SAVEPOINT` goes back without a new run"
    )]
    Trimmed { partition: PartitionId, start: Offset },
    #[error(
        "a generation with empty state has begun in partition {partition} at offset {offset}, since the chain could not read \
         the state before it, nor can it at --from: begin behind that offset, or let a generation begin at --from too with \
         --reset-state (what was counted before stays and adds up)"
    )]
    Reset { partition: PartitionId, offset: Offset },
    #[error("`with` says which module judges; `plan`, `reset_state`, `partitions` and `message` have no place in it")]
    With,
    #[error(
        "partitions were added since the run was begun, and it lacks them: end it with `clickmill reprocess stop`, and begin \
         another"
    )]
    Partitions,
    #[error(
        "the new run could not commit what it had judged: end it with `clickmill reprocess stop`, and begin another"
    )]
    NotCommitted,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot remove the run's checkpoints: {0}")]
    Io(#[from] std::io::Error),
}

/// The one run that may be filled beside the live one.
pub struct Reprocessing {
    live: Arc<Crew>,
    deployer: Arc<Deployer>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    data_dir: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    plan: Plan,
    crew: Arc<Crew>,
    outcome: Arc<Mutex<Option<Result<(), String>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reprocessing {
    pub(crate) fn new(
        live: Arc<Crew>,
        deployer: Arc<Deployer>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        data_dir: PathBuf,
    ) -> Self {
        Self { live, deployer, broker, clock, data_dir, running: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run; it fills, and replaces the live one, by itself.
    ///
    /// # Errors
    /// [`ReprocessError`], and nothing has changed.
    pub fn start(&self, body: Body) -> Result<Status, ReprocessError> {
        let mut running = self.lock();
        if running.as_ref().is_some_and(Running::is_under_way) || runs::candidate(&self.data_dir)?.is_some() {
            return Err(ReprocessError::Running);
        }
        let plan = self.plan(body)?;
        let run = plan.run;
        let begun = self.begin(plan).inspect_err(|_| self.forget(run))?;
        let status = self.status_of(&begun)?;
        *running = Some(begun);
        Ok(status)
    }

    /// Goes on with what an earlier process has begun.
    pub(crate) fn resume(&self) -> Result<(), ReprocessError> {
        if let Some(plan) = runs::candidate(&self.data_dir)? {
            tracing::info!(run = %plan.run, "filling a run beside the live one goes on");
            let (run, begun) = (plan.run, self.begin(plan));
            match begun {
                Err(why @ (ReprocessError::Trimmed { .. } | ReprocessError::Partitions)) => {
                    tracing::error!(%run, %why, "the run beside the live one is given up");
                    self.forget(run);
                }
                begun => *self.lock() = Some(begun?),
            }
        }
        Ok(())
    }

    /// Whether readers are to take another run soon.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.lock().as_ref().is_some_and(Running::is_under_way)
    }

    /// Whether there is one that no reader takes, under way or failed: partitions are not added then.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.lock().as_ref().is_some_and(Running::is_unfinished)
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`ReprocessError::None`], or where the log cannot be asked.
    pub fn status(&self) -> Result<Status, ReprocessError> {
        self.lock().as_ref().ok_or(ReprocessError::None).and_then(|running| self.status_of(running))
    }

    /// Ends it and forgets what it has counted. The live run is as it was.
    ///
    /// # Errors
    /// [`ReprocessError::None`] where there is nothing to end, or where its checkpoints cannot be removed.
    pub fn stop(&self) -> Result<Status, ReprocessError> {
        let mut slot = self.lock();
        let running = slot.as_mut().filter(|running| running.is_unfinished()).ok_or(ReprocessError::None)?;
        running.end();
        // It may just have switched; then it stays.
        let status = self.status_of(running)?;
        if status.state != State::Switched {
            self.forget(status.run);
            *slot = None;
        }
        Ok(status)
    }

    /// Forgets a run that no reader takes. What cannot be removed now is found and removed by a later stop or start.
    fn forget(&self, run: RunId) {
        self.live.shared.peers.floors.forget(run);
        let folder = runs::folder(&self.data_dir, self.live.topic, run);
        // Without this file nobody goes on with it.
        let removed = std::fs::remove_file(folder.join(runs::CANDIDATE)).and_then(|()| std::fs::remove_dir_all(folder));
        if let Err(error) = removed {
            tracing::error!(%run, %error, "the checkpoints of a run that was given up cannot be removed");
        }
    }

    /// Ends the threads; the next start goes on.
    pub(crate) fn close(&self) {
        if let Some(running) = self.lock().as_mut() {
            running.end();
        }
    }

    fn status_of(&self, running: &Running) -> Result<Status, ReprocessError> {
        let outcome = running.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (state, why) = match outcome {
            None => (State::CatchingUp, None),
            Some(Ok(())) => (State::Switched, None),
            Some(Err(why)) => (State::Failed, Some(why)),
        };
        let mut partitions = Vec::new();
        for peer in running.crew.shared.peers.snapshot() {
            let partition = peer.partition;
            let end = self.broker.ends(&TopicPartition::new(AD_EVENTS_RAW, partition))?.end;
            let from = running.plan.from.get(&partition).copied().unwrap_or_default();
            partitions.push(Progress { partition, from, position: peer.position, end });
        }
        Ok(Status { state, run: running.plan.run, deployment: running.plan.of, partitions, why })
    }
}

impl Running {
    fn is_under_way(&self) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Not replaced the live one, whether it still tries or has failed.
    fn is_unfinished(&self) -> bool {
        !matches!(*self.outcome.lock().unwrap_or_else(PoisonError::into_inner), Some(Ok(())))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported by then.
            let _ = thread.join();
        }
        self.crew.stop();
    }
}
