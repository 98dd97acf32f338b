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
    /// Most rows of one transaction. Default: 5000.
    pub batch_max_rows: u32,
    /// First wait after a failure; it doubles from failure to failure. Default: 100.
    pub retry_min_ms: u64,
    /// Longest wait after a failure. Default: 5000.
    pub retry_max_ms: u64,
    /// What to do when the database holds rows of another run: `refuse`, `replace` or `keep`. Default: `refuse`.
    pub on_other_run: OnOtherRun,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            url: None,
            raw_events: false,
            batch_max_rows: 5_000,
            retry_min_ms: 100,
            retry_max_ms: 5_000,
            on_other_run: OnOtherRun::Refuse,
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
    /// Most windows of one script call. Default: 500.
    pub batch_max_windows: u32,
    /// First wait after a failure; it doubles from failure to failure. Default: 100.
    pub retry_min_ms: u64,
    /// Longest wait after a failure. Default: 5000.
    pub retry_max_ms: u64,
    /// What to do when the server holds windows of another run: `refuse`, `replace` or `keep`. Default: `refuse`.
    pub on_other_run: OnOtherRun,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            url: None,
            batch_max_windows: 500,
            retry_min_ms: 100,
            retry_max_ms: 5_000,
            on_other_run: OnOtherRun::Refuse,
        }
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
