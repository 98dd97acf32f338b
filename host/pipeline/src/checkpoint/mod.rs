//! Checkpoints: where a partition's worker can start again.
//!
//! [`format`] is the file, [`store`] the four operations a place for them must have, [`kept`] what retention must leave
//! for those that are kept, [`resolve`] the pure decision
//! which one to start from. None of them knows topics or modules: the state inside is bytes.

pub mod format;
pub mod kept;
pub mod resolve;
pub mod store;

pub use format::{Checkpoint, Damaged, OutputEnds};
pub use kept::Kept;
pub use resolve::{CheckpointName, Choice};
pub use store::{CheckpointStore, DirectoryStore, StoreError};
