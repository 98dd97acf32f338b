//! The sections `server`, `broker`, `pipeline`, `engine`, `dlq`, `slack` and `log`. Units are in the names; ranges are in check.rs.

use std::net::SocketAddr;

use clickmill_pipeline::OnModuleFailure;
use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// Does `clickmill run` serve HTTP at all? Default: true.
    pub enabled: bool,
    /// Address and port to listen on; beyond loopback a token is required. Default: `127.0.0.1:8088`.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
    /// What clients must send as `Authorization: Bearer <token>`: at least 16 visible ASCII characters.
    /// Default: none is asked for.
    pub token: Option<Secret>,
    /// Longest body of a request. Default: 8 MiB.
    pub max_body_bytes: usize,
    /// Longest line of a body of records. Default: 4 MiB.
    pub max_record_bytes: usize,
    /// Bodies that may be in memory at once; further requests get 429. Default: 48 MiB.
    pub max_body_bytes_in_flight: usize,
    /// A request that takes longer is ended; live streams are not. Default: 30000.
    pub request_timeout_ms: u64,
    /// A request whose head takes longer to come in is ended. Default: 10000.
    pub header_timeout_ms: u64,
    /// Requests at work at once; further ones get 503. Default: 64.
    pub max_in_flight_requests: usize,
    /// Open connections; further ones wait to be accepted. Default: 768.
    pub max_connections: usize,
    /// Listeners of the live stream at once; three quarters of the connections at most. Default: 512.
    pub max_live_clients: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 8088)),
            token: None,
            max_body_bytes: 8 << 20,
            max_record_bytes: 4 << 20,
            max_body_bytes_in_flight: 48 << 20,
            request_timeout_ms: 30_000,
            header_timeout_ms: 10_000,
            max_in_flight_requests: 64,
            max_connections: 768,
            max_live_clients: 512,
        }
    }
}

/// Parses an address as `server.listen` holds it; the error says what it looks like.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IP address with a port, as in 127.0.0.1:8088 or [::1]:8088"))
}

fn listen_address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_listen(&text).map_err(serde::de::Error::custom)
}

/// The broker and its topics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerOptions {
    /// Which broker holds the topics. Default: `embedded`, a log under `data_dir`.
    pub kind: BrokerKind,
    /// Least time between two fsyncs of a disk, which appends in between share: 0 to 10. Default: 5.
    pub sync_interval_ms: u64,
    /// A log's file is closed and the next begun at this size. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Appends block (and HTTP answers 429) while this much waits for its fsync. Default: 32 MiB.
    pub max_in_flight_bytes: usize,
    /// Longest set of records in one append: 8 MiB at least. Default: 64 MiB.
    pub max_batch_bytes: usize,
    /// Compression of the log: zstd's level, 1 (fast) to 19 (small). Default: 1.
    pub zstd_level: i32,
    /// Retention and compaction look for work this often. Default: 5000.
    pub maintenance_interval_ms: u64,
    /// Distinct keys that one pass of compaction remembers, about 40 bytes each. Default: 262144.
    pub compaction_keys: usize,
    /// The topics' own settings.
    pub topics: Topics,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            kind: BrokerKind::Embedded,
            sync_interval_ms: 5,
            segment_bytes: 64 << 20,
            max_in_flight_bytes: 32 << 20,
            max_batch_bytes: 64 << 20,
            zstd_level: 1,
            maintenance_interval_ms: 5_000,
            compaction_keys: 1 << 18,
            topics: Topics::default(),
        }
    }
}

/// The brokers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerKind {
    /// A log of our own, in the same process, under `data_dir`.
    Embedded,
}

/// Settings of single topics. `ctr_windows` and `deployments` have none: the first is compacted, the second kept whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// The events as they came in.
    pub ad_events_raw: TopicOptions,
    /// Rejected and late records, and CSV rows that were none.
    pub ad_events_error: Retention,
}

/// Settings of a topic with more than one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicOptions {
    /// Number of partitions when the topic is made; a topic that exists keeps its own. Default: 3.
    pub partitions: u32,
    /// Segments older than this are removed; `null` keeps them. Default: null.
    pub retention_max_age_hours: Option<u64>,
    /// The oldest segments of a partition are removed beyond this; `null` keeps them. Default: null.
    pub retention_max_bytes: Option<u64>,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self { partitions: 3, retention_max_age_hours: None, retention_max_bytes: None }
    }
}

/// How long a topic's records are kept. Nothing that an unfinished checkpoint needs is ever removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Segments older than this are removed; `null` keeps them. Default: null.
    pub retention_max_age_hours: Option<u64>,
    /// The oldest segments are removed beyond this; `null` keeps them. Default: null.
    pub retention_max_bytes: Option<u64>,
}

/// The workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineOptions {
    /// Results appear this often. Default: 1000.
    pub commit_interval_ms: u64,
    /// Results appear sooner when this much of them waits. Default: 1 MiB.
    pub commit_pending_bytes: usize,
    /// Checkpoints kept for each partition. Default: 3.
    pub checkpoints_kept: usize,
    /// A partition without records for this long no longer holds the other partitions' final windows up. Default: 60000.
    pub idle_partition_after_ms: u64,
    /// Most bytes that a worker asks the broker for at once. Default: 1 MiB.
    pub fetch_max_bytes: usize,
    /// What becomes of a stage whose module fails on every record: `rollback` to the module before, `pause` the pipeline,
    /// or send each record to the dead letters (`dlq`). Default: rollback.
    pub on_module_failure: OnModuleFailure,
    /// So many records in a row that a module fails on are every record. Default: 20.
    pub breaker_records: usize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            commit_interval_ms: 1_000,
            commit_pending_bytes: 1 << 20,
            checkpoints_kept: 3,
            idle_partition_after_ms: 60_000,
            fetch_max_bytes: 1 << 20,
            on_module_failure: OnModuleFailure::default(),
            breaker_records: 20,
        }
    }
}

/// The sandbox, for each SmartModule instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineOptions {
    /// Most memory that an instance may have. Default: 256 MiB.
    pub memory_limit_bytes: usize,
    /// Most output of one call. Default: 64 MiB.
    pub output_limit_bytes: usize,
    /// Most CPU time of one call. Default: 500.
    pub call_time_limit_ms: u64,
    /// Most fuel of one call, a count of instructions that is the same on every machine; counting costs a part of the
    /// speed, and the time limit holds without it. Default: none.
    pub call_fuel_limit: Option<u64>,
    /// Keep compiled modules under `data_dir`, for quick starts? Default: true.
    pub cache: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 256 << 20,
            output_limit_bytes: 64 << 20,
            call_time_limit_ms: 500,
            call_fuel_limit: None,
            cache: true,
        }
    }
}

/// What becomes of rejected records by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DlqOptions {
    /// Attempts before a letter is given up. Default: 3.
    pub max_retries: u32,
    /// Wait before the first; each further one is twice as long. Default: 1000.
    pub backoff_ms: u64,
    /// The longest wait. Default: 60000.
    pub max_backoff_ms: u64,
}

impl Default for DlqOptions {
    fn default() -> Self {
        Self { max_retries: 3, backoff_ms: 1_000, max_backoff_ms: 60_000 }
    }
}

/// What is said in Slack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackOptions {
    /// Incoming webhook of a channel, also from `SLACK_WEBHOOK_URL`. Default: nothing is said.
    pub webhook_url: Option<Secret>,
    /// Least time between two messages about dead letters. Default: 60000.
    pub min_interval_ms: u64,
    /// When the daily summary is sent, HH:MM or HH:MM:SS in UTC; `null`: never. Default: 07:00.
    pub daily_summary_at: Option<String>,
}

impl Default for SlackOptions {
    fn default() -> Self {
        Self { webhook_url: None, min_interval_ms: 60_000, daily_summary_at: Some("07:00".to_owned()) }
    }
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// Level, or levels by crate as tracing's EnvFilter takes them: `info,clickmill_pipeline=debug`. Default: `info`.
    pub filter: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { filter: "info".to_owned() }
    }
}
