//! Savepoints: checkpoints of all partitions under a name, kept until deleted, with the modules that judged.
//!
//! A folder `savepoints/NAME` of the data directory: `manifest.json`, a checkpoint a partition (in its own format, as it was),
//! the modules, and `SHA256SUMS`, which `sha256sum -c` checks too. It is made under another name and renamed. [`save`] makes
//! one, [`rewind`] lets the run go back to it.

pub(crate) mod rewind;
mod save;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clickmill_broker::BrokerError;
use clickmill_schemas::{DeploymentId, Epoch, Generation, ModuleDigest, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::{Checkpoint, Damaged, OutputEnds, StoreError};
use crate::deployment::{Deployment, DeploymentError};

pub use save::save;

/// Version of the format of a savepoint's folder.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
/// Longest name.
const MAX_NAME: usize = 100;

/// What a savepoint's manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub run: RunId,
    pub created_at_ms: i64,
    pub partitions: Vec<SavedPartition>,
    /// All up to the newest one.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// Files of the modules that the partitions' deployments name.
    pub modules: BTreeMap<ModuleDigest, String>,
}

/// Where a partition was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPartition {
    pub partition: PartitionId,
    pub offset: Offset,
    pub epoch: Epoch,
    pub generation: Generation,
    pub deployment: DeploymentId,
    pub outputs: OutputEnds,
    /// The checkpoint.
    pub file: String,
}

/// A savepoint, read and checked.
#[derive(Clone, Debug)]
pub struct Savepoint {
    pub manifest: Manifest,
    pub checkpoints: BTreeMap<PartitionId, Checkpoint>,
    pub folder: PathBuf,
}

/// Why there is no savepoint, or none to go back to.
#[derive(Debug, thiserror::Error)]
pub enum SavepointError {
    #[error(
        "a savepoint's name has letters, digits, `-`, `_` and `.`, no dot first, {MAX_NAME} at most; {0:?} is none"
    )]
    Name(String),
    #[error("there is no savepoint {name}; there are {there}")]
    Unknown { name: String, there: String },
    #[error("there is a savepoint {0} already; take another name, or delete it with `clickmill checkpoint delete {0}`")]
    Exists(String),
    #[error("partition {partition} has no checkpoint yet: there is nothing to save before it has committed")]
    Nothing { partition: PartitionId },
    #[error("partition {partition} has not committed: {why}")]
    NoCommit { partition: PartitionId, why: String },
    #[error("savepoint {name} is damaged: {why}; restore it from a copy")]
    Damaged { name: String, why: String },
    #[error("savepoint {name} has format {found}, and this program reads up to {FORMAT}: use the newer clickmill")]
    Newer { name: String, found: u32 },
    #[error(
        "savepoint {name} is of run {found}, and this data directory's run is {ours}: it belongs to another log, or was made before `reprocess` replaced that run"
    )]
    OtherRun { name: String, found: RunId, ours: RunId },
    #[error(
        "savepoint {name} has {saved} partitions, and the topic {now}: partitions were added since, and it cannot be gone \
         back to"
    )]
    Partitions { name: String, saved: usize, now: u32 },
    #[error(
        "savepoint {name} needs {partition} from offset {offset} on, and the log holds {start} to {end}: retention has taken \
         what would have to be judged again, or the log has lost records"
    )]
    OutOfLog { name: String, partition: PartitionId, offset: Offset, start: Offset, end: Offset },
    #[error(
        "savepoint {name} is at offset {offset} of partition {partition}, and since it was made the run has gone back to \
         {back}, before it: what came between is no longer what it was"
    )]
    Behind { name: String, partition: PartitionId, offset: Offset, back: Offset },
    #[error(
        "the run is going back to savepoint {0}, which was interrupted: start it once with `clickmill run`, then delete it"
    )]
    Needed(String),
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl SavepointError {
    /// Whether only the user can put it right, by another name or place.
    #[must_use]
    pub const fn is_a_mistake(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Unknown { .. }
                | Self::Newer { .. }
                | Self::OtherRun { .. }
                | Self::Partitions { .. }
                | Self::Behind { .. }
        )
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SavepointError {
    let path = path.to_owned();
    move |source| SavepointError::Io { doing, path, source }
}

/// Where the savepoints of a data directory lie.
#[must_use]
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("savepoints")
}

fn checked_name(name: &str) -> Result<&str, SavepointError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.') && name.chars().all(sound) {
        true => Ok(name),
        false => Err(SavepointError::Name(name.to_owned())),
    }
}

/// Names of the savepoints that there are.
///
/// # Errors
/// [`SavepointError::Io`].
pub fn names(data_dir: &Path) -> Result<Vec<String>, SavepointError> {
    let folder = folder(data_dir);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("list", &folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io("list", &folder))?.file_name().to_string_lossy().into_owned();
        if checked_name(&name).is_ok() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a savepoint; every file of it is what it was.
///
/// # Errors
/// [`SavepointError`].
pub fn load(data_dir: &Path, name: &str) -> Result<Savepoint, SavepointError> {
    #[derive(Deserialize)]
    struct AnyVersion {
        format: u32,
    }
    let folder = folder(data_dir).join(checked_name(name)?);
    if !folder.is_dir() {
        let there = names(data_dir)?;
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(SavepointError::Unknown { name: name.to_owned(), there });
    }
    let damaged = |why: String| SavepointError::Damaged { name: name.to_owned(), why };
    let read = |file: &str| match fs::read(folder.join(file)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(damaged(format!("{file} is not there"))),
        bytes => bytes.map_err(io("read", &folder.join(file))),
    };
    let sums = String::from_utf8_lossy(&read(SUMS)?).into_owned();
    let sums: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, file)| (file, sum)).collect();
    let checked = |file: &str| {
        let bytes = read(file)?;
        match sums.get(file) {
            Some(sum) if *sum == sum_of(&bytes) => Ok(bytes),
            Some(_) => Err(damaged(format!("{file} is not what it was"))),
            None => Err(damaged(format!("{SUMS} does not name {file}"))),
        }
    };
    let manifest = checked(MANIFEST)?;
    let json = |e: serde_json::Error| damaged(format!("{MANIFEST}: {e}"));
    let AnyVersion { format } = serde_json::from_slice(&manifest).map_err(json)?;
    if format > FORMAT {
        return Err(SavepointError::Newer { name: name.to_owned(), found: format });
    }
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(json)?;
    for file in manifest.modules.values() {
        checked(file)?;
    }
    let mut checkpoints = BTreeMap::new();
    for saved in &manifest.partitions {
        let checkpoint = match Checkpoint::decode(&checked(&saved.file)?) {
            Err(Damaged::Newer { found }) => {
                return Err(SavepointError::Newer { name: name.to_owned(), found: found.into() });
            }
            checkpoint => checkpoint.map_err(|why| damaged(format!("{}: {why}", saved.file)))?,
        };
        checkpoints.insert(saved.partition, checkpoint);
    }
    Ok(Savepoint { manifest, checkpoints, folder })
}

/// Deletes a savepoint.
///
/// # Errors
/// [`SavepointError`], and it is still there.
pub fn delete(data_dir: &Path, name: &str) -> Result<(), SavepointError> {
    let all = folder(data_dir);
    let there = all.join(checked_name(name)?);
    if rewind::pending(data_dir)?.as_deref() == Some(name) {
        return Err(SavepointError::Needed(name.to_owned()));
    }
    let gone = all.join(format!(".deleted-{name}-{}", std::process::id()));
    match fs::rename(&there, &gone) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let there = names(data_dir)?.join(", ");
            return Err(SavepointError::Unknown { name: name.to_owned(), there });
        }
        renamed => renamed.map_err(io("delete", &there))?,
    }
    fs::remove_dir_all(&gone).map_err(io("remove", &gone))
}

fn sum_of(bytes: &[u8]) -> String {
    ModuleDigest(Sha256::digest(bytes).into()).to_string()
}
