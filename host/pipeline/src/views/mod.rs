//! The reading side: what people and the server ask of the topics, answered from the topics alone.
//!
//! [`windows`](windows()) merges partials into rows, [`reports`] sums them, [`status`](status()) finds the newest commits,
//! [`records`] shows single records. Nothing here writes, and nothing here knows workers, HTTP or how answers are printed.

pub mod derived;
pub mod modules;
pub mod records;
pub mod render;
pub mod report_rows;
pub mod reports;
pub mod scan;
pub mod status;
pub mod time;
pub mod wilson;
pub mod windows;

use clickmill_broker::BrokerError;
use clickmill_schemas::merge::Unreadable;
use clickmill_schemas::partial::NotAPartial;
use clickmill_schemas::record::Malformed;
use clickmill_schemas::{Offset, PartitionId};

use crate::checkpoint::StoreError;

pub use records::{RecordPage, RecordView};
pub use status::{RunState, Status, status};
pub use windows::{WindowQuery, WindowRow, Windows, windows};

/// Why a view cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The log is sound and holds something that this version does not read.
    #[error("topic {topic}, partition {partition}, offset {offset}: {source}")]
    Record { topic: String, partition: PartitionId, offset: Offset, source: BadRecord },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answer would not fit the memory set aside for it.
    #[error("one window takes more than {limit_bytes} bytes; narrow the query: name a dimension")]
    TooLarge { limit_bytes: usize },
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Partial(#[from] NotAPartial),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("not the state of a dead letter: {0}")]
    Letter(#[source] serde_json::Error),
    #[error("not a deployment: {0}")]
    Deployment(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests;
