//! What the HTTP server may ask of this process.

use std::sync::Arc;

use clickmill_connectors::set::SetError;
use clickmill_connectors::{Connectors, SinkHandle, SinkState};
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::dlq::Dlq;
use clickmill_pipeline::reprocess::Reprocessing;
use clickmill_pipeline::savepoint::{Manifest, SavepointError};
use clickmill_pipeline::{Crew, NewestCommit, Peers, WorkerState};
use clickmill_server::{ConnectorChange, ConnectorRefusal, Host};
use serde_json::Value;
use tokio::runtime::Handle;

use super::connectors::wanted;
use crate::config::Config;

/// What the server may ask of this process.
pub struct View {
    pub peers: Arc<Peers>,
    pub crew: Arc<Crew>,
    pub deployer: Arc<Deployer>,
    pub reprocessing: Arc<Reprocessing>,
    pub dlq: Arc<Dlq>,
    pub connectors: Arc<Connectors>,
    pub config: Config,
    pub runtime: Handle,
    pub registry: prometheus::Registry,
}

impl Host for View {
    fn sinks(&self) -> Vec<Value> {
        // Plain structs: serialization has no failing case.
        self.connectors.handles().iter().map(|s| serde_json::to_value(s.status()).unwrap_or_default()).collect()
    }

    fn connectors(&self) -> Vec<Value> {
        self.connectors.status().iter().map(|c| serde_json::to_value(c).unwrap_or_default()).collect()
    }

    fn change_connector(&self, name: &str, change: ConnectorChange) -> Result<(), ConnectorRefusal> {
        let connectors = &self.connectors;
        let changed = match change {
            ConnectorChange::Start => self.runtime.block_on(connectors.start(name)),
            ConnectorChange::Stop => self.runtime.block_on(connectors.stop(name)),
            ConnectorChange::Restart => self.runtime.block_on(connectors.restart(name)),
            ConnectorChange::Rebuild => self.runtime.block_on(connectors.rebuild(name)),
        };
        changed.map_err(|e| match e {
            SetError::Unknown { .. } => ConnectorRefusal::Unknown(e.to_string()),
            SetError::Closed => ConnectorRefusal::Closed(e.to_string()),
            SetError::NotEmptied { .. } => ConnectorRefusal::NotEmptied(e.to_string()),
            SetError::Unwritten(_) => ConnectorRefusal::Unwritten(e.to_string()),
        })
    }

    fn apply_connectors(&self) -> Result<Value, ConnectorRefusal> {
        let applied = self.runtime.block_on(self.connectors.apply(|| wanted(&self.config)));
        let applied = applied.map_err(|e| ConnectorRefusal::BadFile(format!("{e:#}")))?;
        Ok(serde_json::to_value(applied).unwrap_or_default())
    }

    fn ready(&self) -> Result<(), String> {
        let mut reasons: Vec<String> = Vec::new();
        for peer in self.peers.snapshot() {
            match peer.state {
                WorkerState::Failed(why) | WorkerState::Retrying(why) => {
                    reasons.push(format!("partition {}: {why}", peer.partition));
                }
                WorkerState::Recovering => reasons.push(format!("partition {} recovers", peer.partition)),
                WorkerState::Running | WorkerState::Paused | WorkerState::Stopped => {}
            }
        }
        for status in self.connectors.wanted().iter().map(SinkHandle::status) {
            if status.state != SinkState::Running {
                let why = status.last_error.unwrap_or_else(|| "not connected yet".into());
                reasons.push(format!("sink {}: {why}", status.name));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    fn deployer(&self) -> Option<Arc<Deployer>> {
        Some(self.deployer.clone())
    }

    fn reprocessing(&self) -> Option<Arc<Reprocessing>> {
        Some(self.reprocessing.clone())
    }

    fn dlq(&self) -> Option<Arc<Dlq>> {
        Some(self.dlq.clone())
    }

    fn save(&self, name: &str) -> Result<Manifest, SavepointError> {
        self.crew.save(name)
    }

    fn partitions_added(&self) -> Result<(), String> {
        self.crew.follow_topic().map(drop).map_err(|e| e.to_string())
    }

    fn newest_commits(&self) -> Option<Vec<Arc<NewestCommit>>> {
        Some(self.peers.newest_commits())
    }

    fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }
}
