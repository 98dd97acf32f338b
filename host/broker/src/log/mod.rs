//! The embedded log: topics as folders of segment files, for one machine and one process.

mod lock;
mod options;

pub use lock::LockHolder;
pub use options::{LogOptions, MAX_SYNC_INTERVAL};
