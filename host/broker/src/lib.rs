//! Topics of record batches: the [`Broker`] trait, and the embedded log that implements it on one machine.
//!
//! This crate owns how batches are stored, found, made durable, trimmed and compacted. It knows nothing of wasm and
//! nothing of what records mean: a batch is a record set in the encoding that modules take, a key is bytes.
//! Read [`api`] for the contract, [`log`] for the embedded log, [`error`] for what can go wrong.

pub mod api;
pub mod batch;
pub mod error;
pub mod log;
pub mod partitioner;
pub mod topic;

pub use api::{Appended, Broker};
pub use batch::{Codec, StoredBatch};
pub use error::BrokerError;
pub use log::{EmbeddedLog, LockHolder, LogOptions};
pub use topic::{Ends, Retention, TopicInfo, TopicPartition, TopicSpec};
