//! Which run readers take: the topic's first one, or the one that has replaced it.
//!
//! A run's id is that of the input topic until somebody judges the topic again; that run has an id of its own, and readers
//! take it from the record in [`RUNS`] on which says so. One append is the whole switch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clickmill_broker::{Broker, BrokerError, Retention, TopicPartition, TopicSpec};
use clickmill_schemas::output::Decision;
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{DeploymentId, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointStore, DirectoryStore, StoreError};
use crate::reprocess::Plan;
use crate::topics::{AD_EVENTS_RAW, CTR_WINDOWS, RUNS};

/// A run that has replaced the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub run: RunId,
    /// The deployment that it was begun with.
    pub of: DeploymentId,
    /// All that it had to say by then lies below this offset of `ctr_windows`.
    pub windows: Offset,
    /// Wall clock, epoch milliseconds, for people.
    pub at_ms: i64,
}

/// The runs of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The run that readers take.
    pub current: RunId,
    /// Those that it has replaced, oldest first.
    pub replaced: Vec<RunId>,
    /// How it came to be; none of the topic's first one.
    pub switch: Option<Switch>,
}

fn place() -> TopicPartition {
    TopicPartition::new(RUNS, PartitionId(0))
}

/// The runs of the input topic; none where there is no such topic yet.
///
/// # Errors
/// Where a topic cannot be read.
pub fn runs(broker: &dyn Broker) -> Result<Option<Runs>, BrokerError> {
    let Some(input) = broker.topic(AD_EVENTS_RAW)? else { return Ok(None) };
    let mut runs = Runs { current: input.id, replaced: Vec::new(), switch: None };
    if broker.topic(RUNS)?.is_none() {
        return Ok(Some(runs));
    }
    let (at, mut next) = (place(), Offset(0));
    let end = broker.ends(&at)?.end;
    while next < end {
        let batches = broker.fetch(&at, next, 1 << 20, std::time::Duration::ZERO)?;
        for batch in &batches {
            // Records that cannot be read were written by no version of this program, and switch nothing.
            let bytes = batch.records()?;
            let records = Records::new(&bytes).into_iter().flatten();
            for record in records.flatten() {
                if let Ok(switch) = serde_json::from_slice::<Switch>(record.value) {
                    runs.replaced.push(std::mem::replace(&mut runs.current, switch.run));
                    runs.switch = Some(switch);
                }
            }
            next = batch.next_offset();
        }
        if batches.is_empty() {
            break;
        }
    }
    Ok(Some(runs))
}

/// The run that readers take; none before there is a topic.
///
/// # Errors
/// As [`runs`].
pub fn current(broker: &dyn Broker) -> Result<Option<RunId>, BrokerError> {
    Ok(runs(broker)?.map(|runs| runs.current))
}

/// Lets readers take another run from now on.
pub(crate) fn switch_to(broker: &dyn Broker, run: RunId, of: DeploymentId, at_ms: i64) -> Result<Switch, BrokerError> {
    let retention = Retention { max_age: None, max_bytes: None };
    broker.create_topic(&TopicSpec { name: RUNS.to_owned(), partitions: 1, retention, compact: false })?;
    let windows = broker.ends(&TopicPartition::new(CTR_WINDOWS, PartitionId(0)))?.end;
    let switch = Switch { run, of, windows, at_ms };
    let mut set = RecordSetBuilder::default();
    // A plain struct: serialization has no failing case.
    set.push(None, &serde_json::to_vec(&switch).unwrap_or_default(), at_ms);
    broker.append(&place(), &set)?.wait()?;
    Ok(switch)
}

/// Folder of the checkpoints of a run; each partition has one of its own in it.
#[must_use]
pub fn folder(data_dir: &Path, topic: RunId, run: RunId) -> PathBuf {
    let name = if run == topic { AD_EVENTS_RAW.to_owned() } else { format!("{AD_EVENTS_RAW}@{run}") };
    data_dir.join("checkpoints").join(name)
}

/// That of the run that readers take.
///
/// # Errors
/// As [`runs`].
pub fn current_folder(broker: &dyn Broker, data_dir: &Path) -> Result<PathBuf, BrokerError> {
    let (Some(input), Some(current)) = (broker.topic(AD_EVENTS_RAW)?, current(broker)?) else {
        return Ok(data_dir.join("checkpoints").join(AD_EVENTS_RAW));
    };
    Ok(folder(data_dir, input.id, current))
}

/// Name of a file in the folder of a run that no reader takes yet.
pub(crate) const CANDIDATE: &str = "candidate";

/// Name of a file in a run's folder that says that everything was taken over: the decisions that it obeys, by partition.
pub(crate) const INHERITED: &str = "inherited";

/// What a run has taken over for a partition: what its checkpoints do not hold.
///
/// # Errors
/// Where the file cannot be read.
pub(crate) fn inherited(folder: &Path, partition: PartitionId) -> Result<Vec<(Offset, Decision)>, StoreError> {
    let Some(store) = DirectoryStore::open_to_read(folder)? else { return Ok(Vec::new()) };
    let Some(bytes) = store.read(INHERITED)? else { return Ok(Vec::new()) };
    let read = serde_json::from_slice::<BTreeMap<PartitionId, Vec<(Offset, Decision)>>>(&bytes);
    let unreadable = |e| StoreError { doing: "read", path: folder.join(INHERITED), source: std::io::Error::other(e) };
    Ok(read.map_err(unreadable)?.remove(&partition).unwrap_or_default())
}

/// Folders of checkpoints in a data directory.
fn folders(data_dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(data_dir.join("checkpoints")) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_runs = name.strip_prefix(AD_EVENTS_RAW).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'));
        if of_runs && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The folder of the run that readers take as the files tell it, for whoever cannot read the topics.
///
/// # Errors
/// Where the data directory cannot be read.
pub fn folder_in(data_dir: &Path) -> std::io::Result<PathBuf> {
    let taken = folders(data_dir)?.into_iter().find(|folder| !folder.join(CANDIDATE).exists());
    Ok(taken.unwrap_or_else(|| data_dir.join("checkpoints").join(AD_EVENTS_RAW)))
}

/// Whether a run is being filled.
///
/// # Errors
/// Where the data directory cannot be read.
pub fn is_filling(data_dir: &Path) -> std::io::Result<bool> {
    Ok(candidate(data_dir)?.is_some())
}

/// The same, with what is to be done.
///
/// # Errors
/// Where the data directory cannot be read.
pub(crate) fn candidate(data_dir: &Path) -> std::io::Result<Option<Plan>> {
    for folder in folders(data_dir)? {
        match std::fs::read(folder.join(CANDIDATE)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            plan => return serde_json::from_slice(&plan?).map(Some).map_err(std::io::Error::other),
        }
    }
    Ok(None)
}

/// After a switch: no run is being filled, and the checkpoints of those that were replaced go.
///
/// # Errors
/// Where a file cannot be removed; it may be done again.
pub(crate) fn settle(data_dir: &Path, kept: &[PathBuf]) -> std::io::Result<()> {
    for folder in kept {
        match std::fs::remove_file(folder.join(CANDIDATE)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    for folder in folders(data_dir)?.into_iter().filter(|folder| !kept.contains(folder)) {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}
