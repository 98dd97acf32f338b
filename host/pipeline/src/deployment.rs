//! Deployments: which modules with which parameters judge, as records of the `deployments` topic.
//!
//! A deployment's id is the offset of its record. Module bytes lie beside the checkpoints by SHA-256 and are checked
//! whenever they are loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_schemas::record::{Malformed, RecordSetBuilder, Records};
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::{CheckpointStore, DirectoryStore, StoreError};
use crate::topics::DEPLOYMENTS;

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
}

/// The whole chain, as it is in force from each partition's activation on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub message: String,
    /// Wall clock, epoch milliseconds, for people.
    pub created_at_ms: i64,
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
    #[error("module {expected} is not in {}: restore that folder from a backup, or deploy again", folder.display())]
    NoModule { expected: ModuleDigest, folder: PathBuf },
    #[error("module {expected} in {} has the digest {found}: the file was changed; restore it from a backup", folder.display())]
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

/// The modules that deployments name.
#[derive(Debug)]
pub struct ModuleStore {
    folder: PathBuf,
    store: DirectoryStore,
}

impl ModuleStore {
    /// # Errors
    /// [`StoreError`] where the folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { folder: folder.to_owned(), store: DirectoryStore::open(folder)? })
    }

    /// Keeps a module; one that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written.
    pub fn put(&self, wasm: &[u8]) -> Result<ModuleDigest, StoreError> {
        let digest = digest(wasm);
        self.store.create(&file(digest), wasm)?;
        Ok(digest)
    }

    /// # Errors
    /// [`DeploymentError::NoModule`], [`DeploymentError::Tampered`].
    pub fn get(&self, expected: ModuleDigest) -> Result<Vec<u8>, DeploymentError> {
        let bytes = self.store.read(&file(expected))?;
        let bytes = bytes.ok_or_else(|| DeploymentError::NoModule { expected, folder: self.folder.clone() })?;
        let found = digest(&bytes);
        if found != expected {
            return Err(DeploymentError::Tampered { expected, found, folder: self.folder.clone() });
        }
        Ok(bytes)
    }
}

/// SHA-256 of a module's bytes.
#[must_use]
pub fn digest(wasm: &[u8]) -> ModuleDigest {
    ModuleDigest(Sha256::digest(wasm).into())
}

fn file(digest: ModuleDigest) -> String {
    format!("{digest}.wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_kept_by_its_digest_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(folder.path()).unwrap();
        let digest = store.put(b"\0asm").unwrap();
        assert_eq!(store.put(b"\0asm").unwrap(), digest);
        assert_eq!(store.get(digest).unwrap(), b"\0asm");
        std::fs::write(folder.path().join(file(digest)), b"other").unwrap();
        assert!(matches!(store.get(digest), Err(DeploymentError::Tampered { .. })));
        assert!(matches!(store.get(ModuleDigest([0; 32])), Err(DeploymentError::NoModule { .. })));
    }
}
