//! `servers.json`: where the private servers are and how to get in. Read and written by us alone (mode 0600).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ServerError;

/// How to reach one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub port: u16,
    pub password: String,
    /// For people: the rest of this, as their client takes it.
    #[serde(default)]
    pub url: String,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Folder of the servers' files; for people, since it follows from the data directory and the account.
    pub home: Option<PathBuf>,
    /// User that the servers run as, where it is not ours.
    pub user: Option<String>,
    pub postgres: Option<Entry>,
    pub redis: Option<Entry>,
}

fn path(servers_dir: &Path) -> PathBuf {
    servers_dir.join("servers.json")
}

impl Record {
    /// What is recorded; nothing where there is no file.
    ///
    /// # Errors
    /// [`ServerError::BadRecord`] where the file is not ours, [`ServerError::Io`].
    pub fn load(servers_dir: &Path) -> Result<Self, ServerError> {
        let path = path(servers_dir);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| ServerError::BadRecord { path, source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(ServerError::io("read", &path, e)),
        }
    }

    /// Replaces the file at once.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn save(&self, servers_dir: &Path) -> Result<(), ServerError> {
        let path = path(servers_dir);
        let fault = |e| ServerError::io("write", &path, e);
        let new = path.with_extension("json.new");
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| fault(e.into()))?;
        text.push(b'\n');
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new).map_err(fault)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&new, &path).map_err(fault)
    }
}

/// 192 random bits as hex.
///
/// # Errors
/// [`ServerError::NoRandomness`] where the system gives none.
pub fn new_password() -> Result<String, ServerError> {
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|_| ServerError::NoRandomness)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
