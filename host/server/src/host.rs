//! What the server asks of the process that it runs in.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::dlq::Dlq;
use clickmill_pipeline::reprocess::Reprocessing;
use clickmill_pipeline::savepoint::{Manifest, SavepointError};
use clickmill_pipeline::views::reports::{Cells, Scope};
use serde_json::Value;

/// What a connector is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectorChange {
    Start,
    Stop,
    Restart,
    /// Emptied, and filled anew from the topic.
    Rebuild,
}

/// Why connectors were not changed; all of them go on as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectorRefusal {
    /// There is none of that name.
    Unknown(String),
    /// A file cannot be used.
    BadFile(String),
    /// The process is about to end.
    Closed(String),
    /// Its server does not let itself be emptied.
    NotEmptied(String),
    /// It could not be written down that one is stopped, or is not any more.
    Unwritten(String),
}

/// What [`Hours`] answers.
pub type HoursAnswer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Cells>, String>> + Send + 'a>>;

/// A database that keeps sums of hours.
pub trait Hours: Send + Sync {
    /// All that it has of the scope, in any order.
    ///
    /// # Errors
    /// Why not, in words for an operator.
    fn cells<'a>(&'a self, scope: &'a Scope) -> HoursAnswer<'a>;
}

/// What only a running host knows. But for [`Host::partitions_added`], [`Host::save`] and the changes of connectors, all calls
/// are quick and never block.
pub trait Host: Send + Sync + 'static {
    /// The sinks, as they describe themselves.
    fn sinks(&self) -> Vec<Value>;

    /// The connectors that sinks belong to, as they describe themselves.
    fn connectors(&self) -> Vec<Value>;

    /// Starts, stops or restarts one; returns once that is done.
    ///
    /// # Errors
    /// [`ConnectorRefusal::Unknown`].
    fn change_connector(&self, name: &str, change: ConnectorChange) -> Result<(), ConnectorRefusal>;

    /// Reads the connector files again, and makes the connectors those that they describe; says what was done.
    ///
    /// # Errors
    /// [`ConnectorRefusal::BadFile`], and nothing was changed.
    fn apply_connectors(&self) -> Result<Value, ConnectorRefusal>;

    /// Whether the host does its work.
    ///
    /// # Errors
    /// Why not, in words for an operator.
    fn ready(&self) -> Result<(), String>;

    /// What changes the modules; none where this process has no workers.
    fn deployer(&self) -> Option<Arc<Deployer>>;

    /// Judges the topic again; none where no workers run.
    fn reprocessing(&self) -> Option<Arc<Reprocessing>>;

    /// The dead letters; none where no workers run.
    fn dlq(&self) -> Option<Arc<Dlq>>;

    /// What reports are made of quickly; none where nothing keeps hours.
    ///
    /// # Errors
    /// Why it cannot be asked now, in words for an operator.
    fn hours(&self) -> Result<Option<Arc<dyn Hours>>, String>;

    /// Starts workers for the partitions that the input topic has got; returns once they run.
    ///
    /// # Errors
    /// Why one does not, in words for an operator.
    fn partitions_added(&self) -> Result<(), String>;

    /// Makes a savepoint of what has been processed by now; may wait for the workers' commits.
    ///
    /// # Errors
    /// [`SavepointError`], and there is none.
    fn save(&self, name: &str) -> Result<Manifest, SavepointError>;

    /// Metrics of workers and sinks, shown beside the server's own.
    fn registry(&self) -> prometheus::Registry;
}
