//! The section `sinks`: what is set over the connector files `postgres`, `redis`, `parquet` and `http`.

use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// Where windows are written to: values over those of the connectors of these names. `None` leaves theirs in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sinks {
    /// Schema `realtime`: windows as rows.
    pub postgres: PostgresSettings,
    /// Hashes `metrics:1min:*` and `metrics:5min:*`.
    pub redis: RedisSettings,
    /// Windows as files.
    pub parquet: UrlSettings,
    /// Records as JSON.
    pub http: UrlSettings,
}

/// The connector `parquet`, or `http`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UrlSettings {
    /// Run it at all? Default: where it has a file or an address. Files of windows cost time that not everybody has.
    pub enabled: Option<bool>,
    /// Where it writes to.
    pub url: Option<Secret>,
}

/// The connector `postgres`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// Write to PostgreSQL? Default: true.
    pub enabled: bool,
    /// The database, as in `postgres://user:password@host:5432/name`.
    pub url: Option<Secret>,
    /// Write every event to `realtime.raw_events` too?
    pub raw_events: Option<bool>,
    /// What to do when the database holds rows of another run: `refuse`, `replace` or `keep`.
    pub on_other_run: Option<OnOtherRun>,
    /// How much is written at once.
    pub batch: BatchSettings,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self { enabled: true, url: None, raw_events: None, on_other_run: None, batch: BatchSettings::default() }
    }
}

/// The connector `redis`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// Write to Redis? Default: true.
    pub enabled: bool,
    /// The server, as in `redis://:password@host:6379/0`.
    pub url: Option<Secret>,
    /// Most keys in memory, over all windows that are not final; beyond it the oldest windows are given up and taken
    /// out of Redis.
    pub max_keys: Option<usize>,
    /// What to do when the server holds windows of another run: `refuse`, `replace` or `keep`.
    pub on_other_run: Option<OnOtherRun>,
    /// How much is written at once.
    pub batch: BatchSettings,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { enabled: true, url: None, max_keys: None, on_other_run: None, batch: BatchSettings::default() }
    }
}

/// Batches of a sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Most bytes of records in one transaction, about.
    pub max_bytes: Option<usize>,
    /// A transaction waits this long for more records.
    pub linger_ms: Option<u64>,
    /// Where one answer of the server takes longer, the transaction is given up and tried again.
    pub timeout_ms: Option<u64>,
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
