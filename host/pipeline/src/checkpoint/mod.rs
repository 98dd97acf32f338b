//! Checkpoints: where a partition's worker can start again.
//!
//! [`format`] is the file, [`store`] the four operations a place for them must have, [`kept`] what retention must leave
//! for those that are kept, [`resolve`] the pure decision
//! which one to start from. None of them knows topics or modules: the state inside is bytes.

pub mod format;
pub mod kept;
pub mod resolve;
pub mod store;

use clickmill_schemas::Epoch;

pub use format::{Checkpoint, Damaged, OutputEnds};
pub use kept::Kept;
pub use resolve::{CheckpointName, Choice};
pub use store::{CheckpointStore, DirectoryStore, StoreError};

/// Takes the next epoch of a partition: nobody else has it, nor a lower one later.
///
/// # Errors
/// [`StoreError`].
pub fn take_epoch(store: &DirectoryStore) -> Result<Epoch, StoreError> {
    loop {
        let epoch = resolve::next_epoch(&store.list()?);
        if store.create(&resolve::epoch_file(epoch), &[])? == store::Created::New {
            return Ok(epoch);
        }
    }
}
