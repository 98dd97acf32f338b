//! What the server asks of the process that it runs in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clickmill_pipeline::NewestCommit;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::dlq::Dlq;
use clickmill_pipeline::reprocess::Reprocessing;
use clickmill_pipeline::savepoint::{Manifest, SavepointError};
use serde::Serialize;
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

/// A number that something must not exceed, and what of it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The key of the configuration.
    pub name: String,
    /// None where it is switched off.
    pub limit: Option<u64>,
    /// None where nobody counts.
    #[serde(rename = "use")]
    pub used: Option<u64>,
    /// `bytes`, `ms`, `hours`, or what is counted.
    pub unit: &'static str,
    /// What it bounds.
    pub what: &'static str,
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

    /// Why the host does not do its work, in words for an operator; nothing where it does.
    fn not_ready(&self) -> Vec<String>;

    /// The configuration in force, its secrets masked.
    fn config(&self) -> Value;

    /// The limits of the configuration, with their use where this process knows it. The server's own uses are not among what
    /// it knows.
    fn limits(&self) -> Vec<Limit>;

    /// Versions of the program and of what it is built with, by name.
    fn versions(&self) -> BTreeMap<String, String>;

    /// Where checkpoints lie.
    fn data_dir(&self) -> PathBuf;

    /// What changes the modules; none where this process has no workers.
    fn deployer(&self) -> Option<Arc<Deployer>>;

    /// Judges the topic again; none where no workers run.
    fn reprocessing(&self) -> Option<Arc<Reprocessing>>;

    /// The dead letters; none where no workers run.
    fn dlq(&self) -> Option<Arc<Dlq>>;

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

    /// What this process's workers have committed last; none where no workers run, and others may write into the log.
    fn newest_commits(&self) -> Option<Vec<Arc<NewestCommit>>> {
        None
    }

    /// Metrics of workers and sinks, shown beside the server's own.
    fn registry(&self) -> prometheus::Registry;
}
