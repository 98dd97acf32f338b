//! Topics as folders: `<dir>/<topic>/topic.json` and a folder per partition.
//!
//! A topic is made under another name and renamed, so it is there whole or not at all; so is a partition that is added,
//! which belongs to the topic once `topic.json` says so. A topic that is deleted is renamed to a name of the unfinished
//! first. What a crash leaves of any of these is empty or unfinished, and is taken up or removed later.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clickmill_schemas::{Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use super::disk;
use super::frame::Seed;
use super::guard;
use super::partition::Partition;
use super::place::Place;
use crate::error::BrokerError;
use crate::topic::{TopicInfo, TopicPartition, TopicSpec};

/// Version of the format of everything in a topic's folder.
const FORMAT: u32 = 1;
const FILE_NAME: &str = "topic.json";
/// Folders of topics that were not finished.
const UNFINISHED_PREFIX: &str = ".unfinished-";

#[derive(Serialize, Deserialize)]
struct TopicFile {
    format: u32,
    id: RunId,
    spec: TopicSpec,
}

/// Only what every version has.
#[derive(Deserialize)]
struct AnyVersion {
    format: u32,
}

/// A topic and its open partitions.
#[derive(Debug)]
pub(super) struct Topic {
    info: Mutex<TopicInfo>,
    dir: PathBuf,
    pub(super) partitions: Vec<Arc<Partition>>,
}

impl Topic {
    pub(super) fn info(&self) -> TopicInfo {
        guard(&self.info).clone()
    }

    /// Makes a new topic in the log's folder and opens it.
    pub(super) fn create(log: &Path, spec: &TopicSpec, segment_bytes: u64) -> Result<Self, BrokerError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|e| BrokerError::io("make a random id for", log, std::io::Error::other(e.to_string())))?;
        let id = RunId(id);
        let dir = log.join(&spec.name);
        let unfinished = unfinished(log, &spec.name);
        remove_folder(&unfinished)?;
        let made = fs::create_dir(&unfinished).map_err(|e| BrokerError::io("create", &unfinished, e)).and_then(|()| {
            for partition in 0..spec.partitions {
                Partition::create(&place(&unfinished, &spec.name, id, partition))?;
            }
            write(&unfinished, &TopicFile { format: FORMAT, id, spec: spec.clone() })?;
            disk::replace(&unfinished, &dir)
        });
        if let Err(e) = made {
            let _ = fs::remove_dir_all(&unfinished); // removed at the next open otherwise
            return Err(e);
        }
        Self::open(log, &spec.name, segment_bytes, true)
    }

    /// Opens a topic that is there.
    pub(super) fn open(log: &Path, name: &str, segment_bytes: u64, writable: bool) -> Result<Self, BrokerError> {
        let dir = log.join(name);
        let file = read(&dir)?;
        if file.spec.name != name || file.spec.fault().is_some() {
            let what = format!("it describes topic {:?} with {} partitions", file.spec.name, file.spec.partitions);
            return Err(BrokerError::BadFile { file: dir.join(FILE_NAME), what });
        }
        let places: Vec<Place> = (0..file.spec.partitions).map(|p| place(&dir, name, file.id, p)).collect();
        let partitions = open_all(&places, segment_bytes, writable)?;
        Ok(Self { info: Mutex::new(TopicInfo { spec: file.spec, id: file.id }), dir, partitions })
    }

    /// Gives the topic another retention and compaction.
    pub(super) fn update(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        let mut info = guard(&self.info);
        if info.spec != *spec {
            write(&self.dir, &TopicFile { format: FORMAT, id: info.id, spec: spec.clone() })?;
            info.spec = spec.clone();
        }
        Ok(info.clone())
    }
}

impl Topic {
    /// The same topic with more partitions; this one, with those that it had, goes on.
    pub(super) fn with_partitions(&self, partitions: u32, segment_bytes: u64) -> Result<Self, BrokerError> {
        let info = guard(&self.info);
        let (name, had) = (info.spec.name.as_str(), self.partitions.len() as u32);
        let mut all = self.partitions.clone();
        for partition in had..partitions {
            let place = place(&self.dir, name, info.id, partition);
            if !place.dir.exists() {
                make_partition(&self.dir, name, info.id, partition)?;
            }
            let dir = place.dir.clone();
            let opened = Partition::open(place, segment_bytes, true)?;
            if opened.ends().end > Offset(0) {
                let what = format!("it has {had} partitions, and partition {partition} has records all the same");
                return Err(BrokerError::BadFile { file: dir, what });
            }
            all.push(Arc::new(opened));
        }
        let spec = TopicSpec { partitions, ..info.spec.clone() };
        write(&self.dir, &TopicFile { format: FORMAT, id: info.id, spec: spec.clone() })?;
        let info = Mutex::new(TopicInfo { spec, id: info.id });
        Ok(Self { info, dir: self.dir.clone(), partitions: all })
    }

    /// Takes the folder away under the name that it has; what is left of it is removed by [`Topic::remove_rest`].
    pub(super) fn unname(&self, log: &Path) -> Result<PathBuf, BrokerError> {
        let gone = unfinished(log, &self.info().spec.name);
        remove_folder(&gone)?;
        fs::rename(&self.dir, &gone).map_err(|e| BrokerError::io("rename", &self.dir, e))?;
        disk::sync_dir(log).inspect_err(|_| {
            // As before, or gone at the next open: the caller is told that it is still there.
            let _ = fs::rename(&gone, &self.dir);
        })?;
        Ok(gone)
    }

    /// Removes what [`Topic::unname`] left.
    pub(super) fn remove_rest(gone: &Path) {
        if let Err(error) = remove_folder(gone) {
            tracing::warn!(%error, "what is left of a deleted topic goes at the next start");
        }
    }
}

/// Makes the folder of an empty partition, whole or not at all.
fn make_partition(dir: &Path, name: &str, id: RunId, partition: u32) -> Result<(), BrokerError> {
    let place = place(dir, name, id, partition);
    let half = unfinished(dir, &partition.to_string());
    remove_folder(&half)?;
    Partition::create(&Place { dir: half.clone(), ..place.clone() })?;
    disk::replace(&half, &place.dir)
}

fn unfinished(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{UNFINISHED_PREFIX}{name}"))
}

/// Opens partitions, on as many threads as there are cores: each checks the whole of its last segment.
fn open_all(places: &[Place], segment_bytes: u64, writable: bool) -> Result<Vec<Arc<Partition>>, BrokerError> {
    let open = |place: &Place| Partition::open(place.clone(), segment_bytes, writable).map(Arc::new);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if places.len() == 1 || cores == 1 {
        return places.iter().map(open).collect();
    }
    std::thread::scope(|s| {
        let threads: Vec<_> = places
            .chunks(places.len().div_ceil(cores))
            .map(|chunk| s.spawn(move || chunk.iter().map(open).collect::<Vec<_>>()))
            .collect();
        let opened = threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| resume_unwind(panic)));
        opened.collect::<Vec<_>>().into_iter().flatten().collect()
    })
}

/// Names of the topics in a log's folder. With `writable`, unfinished ones are removed.
pub(super) fn list(log: &Path, writable: bool) -> Result<Vec<String>, BrokerError> {
    let fail = |e| BrokerError::io("list", log, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(log).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !entry.file_type().map_err(fail)?.is_dir() {
            continue;
        }
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with(UNFINISHED_PREFIX) && writable => remove_folder(&entry.path())?,
            Ok(name) if name.starts_with('.') || name == "lost+found" => {}
            Ok(_) if is_foreign(&entry.path())? => {
                tracing::warn!(folder = %entry.path().display(), "not a topic: ignored");
            }
            Ok(name) => names.push(name),
            Err(_) => {}
        }
    }
    Ok(names)
}

/// Whether a folder never was a topic's: a topic that has lost its file still has folders of partitions.
fn is_foreign(dir: &Path) -> Result<bool, BrokerError> {
    let fail = |e| BrokerError::io("list", dir, e);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if name == FILE_NAME || name.to_str().is_some_and(|name| name.parse::<u32>().is_ok()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn place(dir: &Path, name: &str, id: RunId, partition: u32) -> Place {
    let partition = PartitionId(partition);
    let at = TopicPartition::new(name, partition);
    Place { at, dir: dir.join(partition.to_string()), seed: Seed::of(id, partition) }
}

fn write(dir: &Path, file: &TopicFile) -> Result<(), BrokerError> {
    let path = dir.join(FILE_NAME);
    let mut json = serde_json::to_vec_pretty(file).map_err(|e| BrokerError::io("write", &path, e.into()))?;
    json.push(b'\n');
    disk::write_whole(&path, &json)
}

fn read(dir: &Path) -> Result<TopicFile, BrokerError> {
    let path = dir.join(FILE_NAME);
    let json = fs::read(&path).map_err(|e| BrokerError::io("read", &path, e))?;
    let bad = |e: serde_json::Error| BrokerError::BadFile { file: path.clone(), what: e.to_string() };
    let AnyVersion { format } = serde_json::from_slice(&json).map_err(bad)?;
    if format > FORMAT {
        return Err(BrokerError::NewerFormat { file: path, found: format, known: FORMAT });
    }
    serde_json::from_slice(&json).map_err(bad)
}

fn remove_folder(dir: &Path) -> Result<(), BrokerError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(BrokerError::io("remove", dir, e)),
        _ => Ok(()),
    }
}
