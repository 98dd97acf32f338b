//! What the server asks of the process that it runs in.

use std::sync::Arc;

use clickmill_pipeline::deployment::control::Deployer;
use serde_json::Value;

/// What only a running host knows. But for [`Host::partitions_added`], all calls are quick and never block.
pub trait Host: Send + Sync + 'static {
    /// The sinks, as they describe themselves.
    fn sinks(&self) -> Vec<Value>;

    /// Whether the host does its work.
    ///
    /// # Errors
    /// Why not, in words for an operator.
    fn ready(&self) -> Result<(), String>;

    /// What changes the modules; none where this process has no workers.
    fn deployer(&self) -> Option<Arc<Deployer>>;

    /// Starts workers for the partitions that the input topic has got; returns once they run.
    ///
    /// # Errors
    /// Why one does not, in words for an operator.
    fn partitions_added(&self) -> Result<(), String>;

    /// Metrics of workers and sinks, shown beside the server's own.
    fn registry(&self) -> prometheus::Registry;
}
