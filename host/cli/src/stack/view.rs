//! What the HTTP server may ask of this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clickmill_broker::EmbeddedLog;
use clickmill_connectors::set::SetError;
use clickmill_connectors::{Connectors, SinkHandle, SinkState};
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::dlq::Dlq;
use clickmill_pipeline::reprocess::Reprocessing;
use clickmill_pipeline::savepoint::{Manifest, SavepointError};
use clickmill_pipeline::views::checkpoints;
use clickmill_pipeline::{Crew, NewestCommit, Peers, WorkerState};
use clickmill_server::{ConnectorChange, ConnectorRefusal, Host, Limit};
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
    pub log: Arc<EmbeddedLog>,
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

    fn not_ready(&self) -> Vec<String> {
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
        reasons
    }

    fn config(&self) -> Value {
        // Secrets mask themselves.
        serde_json::to_value(&self.config).unwrap_or_default()
    }

    fn limits(&self) -> Vec<Limit> {
        let mut limits = self.config.all_limits();
        // A folder that cannot be read is told of by `GET /api/checkpoints`.
        let checkpoints = checkpoints::files(&self.config.data_dir).unwrap_or_default();
        let of = |partition| checkpoints.iter().filter(|file| file.partition == partition).count() as u64;
        let most = checkpoints.iter().map(|file| of(file.partition)).max().unwrap_or_default();
        for limit in &mut limits {
            limit.used = match limit.name.as_str() {
                "pipeline.checkpoints_kept" => Some(most),
                "broker.max_in_flight_bytes" => Some(self.log.in_flight_bytes() as u64),
                _ => None,
            };
        }
        limits
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let versions = [
            ("clickmill", Some(env!("CARGO_PKG_VERSION"))),
            ("wasmtime", option_env!("CLICKMILL_WASMTIME_VERSION")),
            ("rustc", option_env!("CLICKMILL_RUSTC_VERSION")),
        ];
        versions.into_iter().filter_map(|(name, version)| Some((name.to_owned(), version?.to_owned()))).collect()
    }

    fn data_dir(&self) -> PathBuf {
        self.config.data_dir.clone()
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
