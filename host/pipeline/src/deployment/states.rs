//! The state that the partitions have, as of their newest checkpoints: what a new chain must be able to read.

use std::path::Path;

use clickmill_engine::ChainState;
use clickmill_schemas::PartitionId;

use crate::checkpoint::resolve::newest_first;
use crate::checkpoint::{Checkpoint, CheckpointStore, DirectoryStore, StoreError};

/// The newest checkpoint of each partition that has a sound one, in a run's folder of checkpoints. Works while workers write others.
pub(crate) fn newest(checkpoints: &Path, partitions: u32) -> Result<Vec<(PartitionId, Checkpoint)>, StoreError> {
    let mut out = Vec::new();
    for partition in (0..partitions).map(PartitionId) {
        let Some(store) = DirectoryStore::open_to_read(&checkpoints.join(partition.to_string()))? else {
            continue;
        };
        for name in newest_first(&store.list()?) {
            // One that is gone was made superfluous by a newer one; a damaged one is passed over, as recovery does.
            if let Some(Ok(checkpoint)) = store.read(&name.file())?.map(|bytes| Checkpoint::decode(&bytes)) {
                out.push((partition, checkpoint));
                break;
            }
        }
    }
    Ok(out)
}

/// Version and size of a stage's state.
pub(crate) fn stage_state(state: &ChainState, stage: &str) -> Option<(i32, usize)> {
    state.stages().find(|(name, ..)| *name == stage).map(|(_, version, bytes)| (version, bytes))
}
