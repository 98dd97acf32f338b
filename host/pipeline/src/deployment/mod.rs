//! Deployments: which modules with which parameters judge, as records of the `deployments` topic.
//!
//! A deployment's id is the offset of its record; it holds the whole chain. [`store`] keeps the modules' bytes, [`change`]
//! makes one chain of another (pure), [`registry`] writes a deployment down and hands it to the workers, [`control`] is
//! what deploys, plans and rolls back, [`ask`] what it can be asked besides.

pub mod ask;
pub mod body;
pub mod canary;
pub mod change;
mod config;
pub mod control;
pub mod plan;
pub(crate) mod registry;
pub mod request;
pub(crate) mod states;
pub mod store;
pub(crate) mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_engine::Lookback;
use clickmill_schemas::record::{Malformed, RecordSetBuilder, Records};
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};
use serde::{Deserialize, Serialize};

use crate::checkpoint::StoreError;
use crate::topics::DEPLOYMENTS;

pub use registry::paused_in;
pub use store::{ModuleStore, digest};

/// Folder of a data directory for what people have asked for: a pause, a savepoint to go back to.
pub(crate) const CONTROL: &str = "control";

/// One stage of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub stage: String,
    /// Name and version as the module's manifest has them.
    pub name: String,
    pub version: String,
    pub sha256: ModuleDigest,
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// What it is shown before the first record that it transforms.
    #[serde(default, skip_serializing_if = "LookBack::is_none")]
    pub lookback: LookBack,
}

/// How far a stage looks back, as Fluvio's transforms have it; not at all where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookBack {
    /// Newest records; 0, where there is an age, for as many as are of it.
    pub last: u64,
    /// Not those that are older than this against the newest, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

impl LookBack {
    /// Whether it does not look back.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn of_engine(self) -> Option<Lookback> {
        (!self.is_none()).then(|| Lookback { last: self.last, age: self.age_ms.map(Duration::from_millis) })
    }
}

impl fmt::Display for LookBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.last, self.age_ms) {
            (0, None) => f.write_str("none"),
            (0, Some(age_ms)) => write!(f, "{age_ms} ms"),
            (last, None) => write!(f, "{last}"),
            (last, Some(age_ms)) => write!(f, "{last}, {age_ms} ms"),
        }
    }
}

/// The whole chain, as it is in force from each partition's activation on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub message: String,
    /// Wall clock, epoch milliseconds, for people.
    pub created_at_ms: i64,
    #[serde(default)]
    pub cause: Cause,
    /// Where it is rolled out; none: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<BTreeSet<PartitionId>>,
    /// All state begins empty where it is activated: a new generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset_state: bool,
    /// The chain of clickmill.yaml as it was then: what tells a change of the file from a change by a deploy. None in the
    /// records of versions that had no other source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Vec<Stage>>,
}

/// The newest deployment that is for all partitions.
#[must_use]
pub fn newest_everywhere(history: &BTreeMap<DeploymentId, Deployment>) -> Option<(DeploymentId, &Deployment)> {
    history.iter().rev().find(|(_, d)| d.partitions.is_none()).map(|(id, d)| (*id, d))
}

/// What a deployment came of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// The stages of clickmill.yaml.
    #[default]
    Config,
    Deploy,
    Remove,
    Rollback {
        to: DeploymentId,
    },
    /// The rollout of another one, to the partitions that had not seen it.
    Promote {
        of: DeploymentId,
    },
    /// What a run is filled with beside the live one.
    Reprocess,
    /// A run that was filled with `of` has taken the live one's place.
    Switch {
        of: DeploymentId,
    },
    /// A stage that failed on every record was put back to what it was before `undoes`.
    Breaker {
        undoes: DeploymentId,
    },
}

impl Deployment {
    /// Whether this partition is to run it.
    #[must_use]
    pub fn applies_to(&self, partition: PartitionId) -> bool {
        self.partitions.as_ref().is_none_or(|only| only.contains(&partition))
    }

    /// The stages of clickmill.yaml when it was written.
    #[must_use]
    pub fn config_stages(&self) -> &[Stage] {
        self.config.as_deref().unwrap_or(&self.stages)
    }
}

/// Why deployments or modules cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("topic {DEPLOYMENTS}: {0}")]
    Records(#[from] Malformed),
    #[error("topic {DEPLOYMENTS}, offset {offset}: not a deployment: {source}")]
    Unreadable { offset: Offset, source: serde_json::Error },
    #[error("deployment {0} is not in the topic {DEPLOYMENTS}")]
    Unknown(DeploymentId),
    #[error(
        "module {expected} is not in {}: restore that folder from a backup, or deploy the same file again, which puts it there",
        folder.display()
    )]
    NoModule { expected: ModuleDigest, folder: PathBuf },
    #[error(
        "module {expected} in {} has the digest {found}: the file was changed; restore it from a backup, or deploy the same \
         file again, which puts it right",
        folder.display()
    )]
    Tampered { expected: ModuleDigest, found: ModuleDigest, folder: PathBuf },
}

fn place() -> TopicPartition {
    TopicPartition::new(DEPLOYMENTS, PartitionId(0))
}

/// Reads every deployment, oldest first.
///
/// # Errors
/// [`DeploymentError`] where the topic cannot be read.
pub fn read_all(broker: &dyn Broker) -> Result<Vec<(DeploymentId, Deployment)>, DeploymentError> {
    let at = place();
    let ends = broker.ends(&at)?;
    let mut next = ends.start;
    let mut out = Vec::new();
    while next < ends.end {
        for batch in broker.fetch(&at, next, 1 << 20, Duration::ZERO)? {
            for record in Records::new(&batch.records()?)? {
                let record = record?;
                let offset = batch.base_offset.plus(record.offset_delta.unsigned_abs());
                let deployment = serde_json::from_slice(record.value)
                    .map_err(|source| DeploymentError::Unreadable { offset, source })?;
                out.push((DeploymentId(offset.0), deployment));
            }
            next = batch.next_offset();
        }
    }
    Ok(out)
}

/// Appends a deployment, durably.
///
/// # Errors
/// [`DeploymentError`] where the append fails.
pub fn append(broker: &dyn Broker, deployment: &Deployment) -> Result<DeploymentId, DeploymentError> {
    let mut set = RecordSetBuilder::default();
    // Plain structs: serialization has no failing case.
    set.push(None, &serde_json::to_vec(deployment).unwrap_or_default(), deployment.created_at_ms);
    Ok(DeploymentId(broker.append(&place(), &set)?.wait()?.0))
}
