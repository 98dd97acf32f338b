//! Making a savepoint: the newest checkpoint of every partition, copied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use clickmill_broker::Broker;
use clickmill_schemas::{PartitionId, RunId};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{FORMAT, MANIFEST, Manifest, SUMS, SavedPartition, SavepointError, checked_name, folder, io, sum_of};
use crate::deployment::{ModuleStore, read_all, states};
use crate::runs;

/// Saves the newest checkpoints of a run. Works while workers write others.
///
/// # Errors
/// [`SavepointError`], and there is no such savepoint, or the one that there was.
pub fn save(
    broker: &dyn Broker,
    data_dir: &Path,
    (run, partitions): (RunId, u32),
    name: &str,
    now_ms: i64,
) -> Result<Manifest, SavepointError> {
    let all = folder(data_dir);
    let target = all.join(checked_name(name)?);
    if target.exists() {
        return Err(SavepointError::Exists(name.to_owned()));
    }
    let checkpoints: BTreeMap<_, _> =
        states::newest(&runs::current_folder(broker, data_dir)?, partitions)?.into_iter().collect();
    if let Some(partition) = (0..partitions).map(PartitionId).find(|p| !checkpoints.contains_key(p)) {
        return Err(SavepointError::Nothing { partition });
    }
    // Read after the checkpoints: it holds whatever they name.
    let deployments: BTreeMap<_, _> = read_all(broker)?.into_iter().collect();
    let modules = ModuleStore::open(&data_dir.join("modules"))?;
    let mut manifest = Manifest {
        format: FORMAT,
        name: name.to_owned(),
        run,
        created_at_ms: now_ms,
        partitions: Vec::new(),
        deployments,
        modules: BTreeMap::new(),
    };
    let mut files = Vec::new();
    for (partition, checkpoint) in checkpoints {
        let file = format!("{partition}.ckpt");
        files.push((file.clone(), checkpoint.encode()));
        let stages = manifest.deployments.get(&checkpoint.deployment).map(|d| d.stages.as_slice()).unwrap_or_default();
        for digest in stages.iter().map(|stage| stage.sha256).collect::<BTreeSet<_>>() {
            if manifest.modules.insert(digest, format!("{digest}.wasm")).is_none() {
                files.push((format!("{digest}.wasm"), modules.get(digest)?));
            }
        }
        manifest.partitions.push(SavedPartition {
            partition,
            offset: checkpoint.offset,
            epoch: checkpoint.epoch,
            generation: checkpoint.generation,
            deployment: checkpoint.deployment,
            outputs: checkpoint.outputs,
            file,
        });
    }
    // Plain structs with string keys: serialization has no failing case.
    files.push((MANIFEST.to_owned(), serde_json::to_vec_pretty(&manifest).unwrap_or_default()));
    let sums: String = files.iter().map(|(file, bytes)| format!("{}  {file}\n", sum_of(bytes))).collect();
    files.push((SUMS.to_owned(), sums.into_bytes()));

    let unfinished = all.join(format!(".unfinished-{name}-{}", std::process::id()));
    fs::create_dir_all(&unfinished).map_err(io("make", &unfinished))?;
    let written = write(&unfinished, &files).and_then(|()| {
        // A rename that replaces nothing: of two savepoints of one name there is one.
        match renameat_with(CWD, &unfinished, CWD, &target, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => Err(SavepointError::Exists(name.to_owned())),
            renamed => renamed.map_err(|e| io("write", &target)(e.into())),
        }
    });
    if let Err(error) = written {
        // What is left has no name that a savepoint may have.
        let _ = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    File::open(&all).and_then(|dir| dir.sync_all()).map_err(io("make durable", &all))?;
    Ok(manifest)
}

fn write(into: &Path, files: &[(String, Vec<u8>)]) -> Result<(), SavepointError> {
    for (file, bytes) in files {
        let path = into.join(file);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(io("write", &path))?;
    }
    File::open(into).and_then(|dir| dir.sync_all()).map_err(io("make durable", into))
}
