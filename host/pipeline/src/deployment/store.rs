//! The modules that deployments name: their bytes beside the checkpoints, by SHA-256, checked whenever they are loaded.

use std::path::{Path, PathBuf};

use clickmill_schemas::ModuleDigest;
use sha2::{Digest, Sha256};

use super::DeploymentError;
use crate::checkpoint::{CheckpointStore, DirectoryStore, StoreError};

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

    /// Keeps a module, and its SmartModule.toml beside it. What is there already stays as it is; a module that is damaged
    /// is put right.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written.
    pub fn put(&self, wasm: &[u8], manifest: Option<&str>) -> Result<ModuleDigest, StoreError> {
        let digest = digest(wasm);
        if self.get(digest).is_err() {
            self.store.delete(&file(digest))?;
            self.store.create(&file(digest), wasm)?;
        }
        // A write that finds the name taken has synced for nothing, and workers' commits wait for the same disk.
        if let Some(manifest) = manifest
            && self.manifest(digest)?.is_none()
        {
            self.store.create(&manifest_file(digest), manifest.as_bytes())?;
        }
        Ok(digest)
    }

    /// A module's SmartModule.toml, where it came with one.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub fn manifest(&self, module: ModuleDigest) -> Result<Option<String>, StoreError> {
        let bytes = self.store.read(&manifest_file(module))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Where that would lie.
    #[must_use]
    pub fn manifest_path(&self, module: ModuleDigest) -> PathBuf {
        self.folder.join(manifest_file(module))
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

fn manifest_file(digest: ModuleDigest) -> String {
    format!("{digest}.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_kept_by_its_digest_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(folder.path()).unwrap();
        let digest = store.put(b"\0asm", None).unwrap();
        assert_eq!(store.put(b"\0asm", None).unwrap(), digest);
        assert_eq!(store.get(digest).unwrap(), b"\0asm");
        std::fs::write(folder.path().join(file(digest)), b"other").unwrap();
        assert!(matches!(store.get(digest), Err(DeploymentError::Tampered { .. })));
        store.put(b"\0asm", None).unwrap();
        assert_eq!(store.get(digest).unwrap(), b"\0asm", "whoever has the module puts it right");
        assert!(matches!(store.get(ModuleDigest([0; 32])), Err(DeploymentError::NoModule { .. })));
    }
}
