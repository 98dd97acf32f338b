//! What the HTTP server may ask of this process.

use std::sync::Arc;

use clickmill_connectors::postgres::{Hour, HoursQuery, Reports};
use clickmill_connectors::set::SetError;
use clickmill_connectors::{Connectors, SinkHandle, SinkState};
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::dlq::Dlq;
use clickmill_pipeline::reprocess::Reprocessing;
use clickmill_pipeline::savepoint::{Manifest, SavepointError};
use clickmill_pipeline::views::reports::{Cells, Scope};
use clickmill_pipeline::{Crew, Peers, WorkerState};
use clickmill_server::{ConnectorChange, ConnectorRefusal, Host, Hours, HoursAnswer};
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

/// Hours as the sink of windows keeps them.
struct InPostgres(Reports);

impl Hours for InPostgres {
    fn cells<'a>(&'a self, scope: &'a Scope) -> HoursAnswer<'a> {
        let Scope { dimension, key, from_ms, to_ms } = scope.clone();
        Box::pin(async move {
            let hours = self.0.hours(&HoursQuery { dimension, key, from_ms, to_ms }).await;
            let cells = |Hour { start_ms, keys, lower_bound }| Cells { start_ms, keys, lower_bound };
            hours.map(|hours| hours.into_iter().map(cells).collect()).map_err(|e| self.0.told(&e))
        })
    }
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

    fn hours(&self) -> Result<Option<Arc<dyn Hours>>, String> {
        let reports = self.connectors.reports()?;
        Ok(reports.map(|reports| Arc::new(InPostgres(reports)) as Arc<dyn Hours>))
    }

    fn partitions_added(&self) -> Result<(), String> {
        self.crew.follow_topic().map(drop).map_err(|e| e.to_string())
    }

    fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }
}
