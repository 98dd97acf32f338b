//! The section `sinks`: PostgreSQL and Redis.

use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// Where windows are written to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sinks {
    /// Schema `realtime`: windows as rows.
    pub postgres: PostgresOptions,
    /// Hashes `metrics:1min:*` and `metrics:5min:*`.
    pub redis: RedisOptions,
}

/// The PostgreSQL sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresOptions {
    /// Write to PostgreSQL? Default: true.
    pub enabled: bool,
    /// The database, as in `postgres://user:password@host:5432/name`. Default: a private server under `data_dir`.
    pub url: Option<Secret>,
    /// Write every event to `realtime.raw_events` too? Default: false.
    pub raw_events: bool,
    /// What to do when the database holds rows of another run: `refuse`, `replace` or `keep`. Default: `refuse`.
    pub on_other_run: OnOtherRun,
    /// How much is written at once.
    pub batch: BatchOptions,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            url: None,
            raw_events: false,
            on_other_run: OnOtherRun::Refuse,
            batch: BatchOptions::default(),
        }
    }
}

/// The Redis sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisOptions {
    /// Write to Redis? Default: true.
    pub enabled: bool,
    /// The server, as in `redis://:password@host:6379/0`. Default: a private server under `data_dir`.
    pub url: Option<Secret>,
    /// Most keys in memory, over all windows that are not final; beyond it the oldest windows are given up and taken
    /// out of Redis. Default: 300000.
    pub max_keys: usize,
    /// What to do when the server holds windows of another run: `refuse`, `replace` or `keep`. Default: `refuse`.
    pub on_other_run: OnOtherRun,
    /// How much is written at once.
    pub batch: BatchOptions,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            url: None,
            max_keys: 300_000,
            on_other_run: OnOtherRun::Refuse,
            batch: BatchOptions::default(),
        }
    }
}

/// Batches of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// Most bytes of records in one transaction, about. Default: 2 MiB.
    pub max_bytes: usize,
    /// A transaction waits this long for more records. Default: 5.
    pub linger_ms: u64,
    /// A transaction that takes longer is given up and tried again. Default: 60000.
    pub timeout_ms: u64,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { max_bytes: 2 << 20, linger_ms: 5, timeout_ms: 60_000 }
    }
}

/// A run is made with its topics; a sink knows whose rows it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOtherRun {
    /// Write nothing and say so.
    Refuse,
    /// Remove the other run's rows first.
    Replace,
    /// Leave the other run's rows and write beside them.
    Keep,
}
