//! Sinks: what copies `ctr_windows` into PostgreSQL and Redis, and the private servers that clickmill runs for them.
//!
//! This crate owns the tables, the hashes and the sinks' offsets. It knows the records of the topics (`schemas`) and
//! the broker's trait, but neither how a broker stores nor how a window came about.
//! Read `sink.rs` for the contract, `runner.rs` for how a sink is driven, then `postgres/` and `redis/`.

mod backoff;
pub mod endpoint;
pub mod postgres;
pub mod reader;
pub mod redis;
pub mod runner;
pub mod servers;
pub mod sink;
mod windows;

use std::sync::Arc;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::RunId;

pub use endpoint::{Endpoint, ServerUrl};
pub use postgres::PostgresOptions;
pub use redis::RedisOptions;
pub use runner::{BatchOptions, SinkHandle, SinkService};
pub use servers::{ServerError, Servers};
pub use sink::{OnOtherRun, Refusal, SinkError, SinkState, SinkStatus};

/// The run whose windows are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    pub id: RunId,
    /// The input topic.
    pub topic: String,
    /// Its partitions now: a window is final when all of them, and those that are added, have closed it.
    pub partitions: u32,
}

/// What sinks read from.
#[derive(Clone)]
pub struct SinkSource {
    pub broker: Arc<dyn Broker>,
    pub run: RunInfo,
    /// The partition of window partials and commits.
    pub windows: TopicPartition,
}
