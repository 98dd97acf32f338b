//! Sinks: what copies topics into PostgreSQL, Redis, Parquet files and HTTP endpoints, and the private servers that
//! clickmill runs for them.
//!
//! This crate owns the tables, the hashes and the sinks' offsets. It knows the records of the topics (`schemas`) and
//! the broker's trait, but neither how a broker stores nor how a window came about.
//! Read `sink.rs` for the contract, `runner.rs` for how a sink is driven, then `postgres/`, `redis/`, `parquet/`
//! and `http/`.

mod backoff;
mod before;
pub mod connector;
pub mod endpoint;
pub mod file;
mod hidden;
pub mod http;
pub mod latency;
mod letters;
mod numbers;
mod own;
pub mod parquet;
pub mod postgres;
mod progress;
pub mod reader;
pub mod redis;
mod replace;
pub mod runner;
mod running;
pub mod servers;
pub mod set;
pub mod sink;
pub mod stopped;
mod tls;
pub mod transform;
pub mod verify;
mod windows;

use std::sync::Arc;

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_schemas::{Offset, RunId};

pub use connector::Connector;
pub use endpoint::{Endpoint, ServerUrl};
pub use hidden::{Hidden, percent_encoded};
pub use http::HttpOptions;
pub use latency::{Latency, SinkFigures};
pub use parquet::ParquetOptions;
pub use postgres::PostgresOptions;
pub use redis::RedisOptions;
pub use replace::replace_file;
pub use runner::{BatchOptions, SinkHandle, SinkService};
pub use servers::{ServerError, Servers};
pub use set::{Connectors, RetryError};
pub use sink::{OnOtherRun, Refusal, RetryOutcome, SinkError, SinkState, SinkStatus};
pub use stopped::Stopped;

/// The run whose windows are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    pub id: RunId,
    /// The input topic.
    pub topic: String,
    /// Its partitions now: a window is final when all of them, and those that are added, have closed it.
    pub partitions: u32,
    /// The runs in whose place it has come: their rows are ours to replace.
    pub replaced: Vec<RunId>,
    /// Once a sink has applied the log up to here, it holds what those held: readers may change over.
    pub complete_at: Offset,
}

impl RunInfo {
    /// A run that replaces none.
    #[must_use]
    pub const fn first(id: RunId, topic: String, partitions: u32) -> Self {
        Self { id, topic, partitions, replaced: Vec::new(), complete_at: Offset(0) }
    }

    /// Whether it is the one that readers are to take now.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] where another is, which opens a sink anew; those of the broker.
    fn check(&self, runs: &Runs) -> Result<(), SinkError> {
        match runs()?.id == self.id {
            true => Ok(()),
            false => Err(SinkError::unavailable("go on", "another run has taken the place of the one that was copied")),
        }
    }
}

/// Tells which run readers are to take now.
pub type Runs = Arc<dyn Fn() -> Result<RunInfo, BrokerError> + Send + Sync>;

/// What sinks read from.
#[derive(Clone)]
pub struct SinkSource {
    pub broker: Arc<dyn Broker>,
    /// The run as it was when the sinks were made.
    pub run: RunInfo,
    pub runs: Runs,
    /// What has become of the dead letters.
    pub letters: TopicPartition,
    /// The partition of window partials and commits.
    pub windows: TopicPartition,
    /// The partition of dead letters.
    pub errors: TopicPartition,
}
