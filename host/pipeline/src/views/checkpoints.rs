//! The checkpoints that workers start again from: which there are, and whether they can be used.
//!
//! Read straight from the data directory, also beside a running host: checkpoints are created whole and never changed.
//! One file is in memory at a time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clickmill_schemas::{Offset, PartitionId};
use serde::Serialize;

use super::status::{Status, TopicView};
use crate::checkpoint::{Checkpoint, CheckpointName, Damaged, StoreError};
use crate::runs;
use crate::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};

/// The file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    pub partition: PartitionId,
    pub name: CheckpointName,
    pub path: PathBuf,
}

/// What is known of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointState {
    /// Nobody has looked further than at its head.
    Unchecked,
    Sound,
    /// It cannot be used, by any version.
    Damaged,
    /// A newer version has written it.
    Newer,
    /// It is whole, and not of these logs.
    Foreign,
}

/// A checkpoint, as `GET /api/checkpoints` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointView {
    pub partition: PartitionId,
    pub epoch: u64,
    pub offset: Offset,
    /// Wall clock; none where the file does not tell.
    pub written_ms: Option<i64>,
    pub bytes: u64,
    pub state: CheckpointState,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// Every checkpoint of the current run, by partition, newest first.
///
/// # Errors
/// [`StoreError`] where a folder cannot be read.
pub fn files(data_dir: &Path) -> Result<Vec<CheckpointFile>, StoreError> {
    let looking = |source| StoreError { doing: "look for checkpoints in", path: data_dir.to_owned(), source };
    let all = runs::folder_in(data_dir).map_err(looking)?;
    let mut found = Vec::new();
    for partition in names(&all)?.iter().filter_map(|name| name.parse().ok()) {
        let folder = all.join(PartitionId::to_string(&partition));
        for name in names(&folder)?.iter().filter_map(|name| CheckpointName::parse(name)) {
            found.push(CheckpointFile { partition, name, path: folder.join(name.file()) });
        }
    }
    found.sort_by(|a, b| a.partition.cmp(&b.partition).then(b.name.cmp(&a.name)));
    Ok(found)
}

/// Names in a folder; none where it does not exist.
fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError { doing: "list", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Every checkpoint, unchecked.
///
/// # Errors
/// As [`files`].
pub fn list(data_dir: &Path) -> Result<Vec<CheckpointView>, StoreError> {
    let mut views = Vec::new();
    for file in files(data_dir)? {
        if let Some((written, bytes)) = gone_is_none(&file, file.head())? {
            views.push(file.view(bytes, written.map(|at| (at, None)), CheckpointState::Unchecked));
        }
    }
    Ok(views)
}

/// Every checkpoint, each checked against its checksum and against the logs that it builds on. The status is asked for
/// once the files are known: logs only grow, so their ends are not behind the files.
///
/// # Errors
/// As [`files`], and what `status` fails with.
pub fn verify<E: From<StoreError>>(
    data_dir: &Path,
    status: impl FnOnce() -> Result<Status, E>,
) -> Result<Vec<CheckpointView>, E> {
    let files = files(data_dir)?;
    let status = status()?;
    let mut views = Vec::new();
    for file in files {
        if let Some((content, bytes)) = gone_is_none(&file, file.read())? {
            let checked = content.map(|checkpoint| (checkpoint.written_at_ms, file.fault(&checkpoint, &status)));
            views.push(file.view(bytes, checked, CheckpointState::Sound));
        }
    }
    Ok(views)
}

/// A running host removes those that newer ones have made superfluous.
fn gone_is_none<T>(file: &CheckpointFile, read: io::Result<T>) -> Result<Option<T>, StoreError> {
    match read {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|source| StoreError { doing: "read", path: file.path.clone(), source }),
    }
}

impl CheckpointFile {
    /// When it was written, and how long it is.
    fn head(&self) -> io::Result<(Result<i64, Damaged>, u64)> {
        let file = File::open(&self.path)?;
        let bytes = file.metadata()?.len();
        Ok((Checkpoint::written_at(file)?, bytes))
    }

    /// The checkpoint, and how long its file is.
    ///
    /// # Errors
    /// Where it cannot be read; it may be gone by now.
    pub fn read(&self) -> io::Result<(Result<Checkpoint, Damaged>, u64)> {
        let bytes = fs::read(&self.path)?;
        Ok((Checkpoint::decode(&bytes), bytes.len() as u64))
    }

    fn view(
        &self,
        bytes: u64,
        content: Result<(i64, Option<String>), Damaged>,
        otherwise: CheckpointState,
    ) -> CheckpointView {
        let (written_ms, state, fault) = match content {
            Ok((at, None)) => (Some(at), otherwise, None),
            Ok((at, fault)) => (Some(at), CheckpointState::Foreign, fault),
            Err(newer @ Damaged::Newer { .. }) => (None, CheckpointState::Newer, Some(newer.to_string())),
            Err(damaged) => (None, CheckpointState::Damaged, Some(damaged.to_string())),
        };
        let CheckpointName { epoch, offset } = self.name;
        CheckpointView { partition: self.partition, epoch: epoch.0, offset, written_ms, bytes, state, fault }
    }

    /// What is wrong with a checkpoint that is whole, beside the logs that it builds on.
    #[must_use]
    pub fn fault(&self, checkpoint: &Checkpoint, status: &Status) -> Option<String> {
        if (checkpoint.epoch, checkpoint.offset) != (self.name.epoch, self.name.offset) {
            let (epoch, offset) = (checkpoint.epoch, checkpoint.offset);
            return Some(format!("it is of epoch {epoch}, offset {offset}: the file was renamed"));
        }
        if checkpoint.partition != self.partition {
            return Some(format!("it is of partition {}: the file was moved", checkpoint.partition));
        }
        if status.run.is_some_and(|run| run != checkpoint.run) {
            return Some(format!("it is of the run {}: the topic was made anew since", checkpoint.run));
        }
        let needs = checkpoint.needs();
        [
            (AD_EVENTS_RAW, checkpoint.partition, checkpoint.offset),
            (CTR_WINDOWS, PartitionId(0), needs.windows),
            (AD_EVENTS_ERROR, PartitionId(0), needs.errors),
        ]
        .into_iter()
        .find_map(|(topic, partition, needed)| ahead(&status.topics, topic, partition, needed))
    }
}

fn ahead(topics: &[TopicView], topic: &str, partition: PartitionId, needed: Offset) -> Option<String> {
    let view =
        topics.iter().find(|t| t.topic == topic).and_then(|t| t.partitions.iter().find(|p| p.partition == partition));
    let end = view.map_or(Offset(0), |p| p.log_end_offset);
    (end < needed).then(|| format!("it is ahead of {topic}/{partition}, which ends at {end}: it needs {needed}"))
}
