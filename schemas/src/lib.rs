//! What is on the wire: record batches, key envelopes, window partials, commit records, dead letters.
//!
//! This crate owns encodings and the newtypes that name positions in a stream. It does no I/O and knows
//! neither wasm nor topics' storage. Guests use it without the `host` feature (no serde).
//! The same formats are described for other languages in the files of this folder.

pub mod avro;
pub mod envelope;
pub mod ids;
pub mod partial;
pub mod record;
pub mod round;

#[cfg(feature = "host")]
pub mod dead_letter;
#[cfg(feature = "host")]
pub mod dlq;
#[cfg(feature = "host")]
pub mod merge;
#[cfg(feature = "host")]
pub mod output;

pub use ids::{DeploymentId, Epoch, Generation, ModuleDigest, Offset, PartitionId, RunId, SourceId};
