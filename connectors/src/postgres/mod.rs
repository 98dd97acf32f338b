//! The PostgreSQL sinks: windows and watermarks into schema `realtime`, and, where switched on, the raw events.
//!
//! Tables and views are in `schemas/postgres/`. Each sink's offset lies in the transaction of its rows.

mod claim;
mod commits;
mod days;
mod empty;
mod halves;
mod hours;
mod letters;
mod link;
mod migrate;
mod partials;
mod pool;
mod position;
mod raw;
mod reports;
mod values;
mod verify;
mod windows;

use std::path::PathBuf;

use clickmill_broker::TopicPartition;
use clickmill_schemas::PartitionId;
use serde::{Deserialize, Serialize};

pub use letters::LetterSink;
pub(crate) use link::answers;
pub use pool::Pool;
pub use raw::RawSink;
pub use reports::{Hour, HoursQuery, Reports};
pub(crate) use verify::held;
pub use windows::WindowSink;

use crate::endpoint::{Endpoint, ServerUrl};
use crate::hidden::Hidden;
use crate::letters::Letters;
use crate::runner::{BatchOptions, SinkHandle, SinkService};
use crate::sink::OnOtherRun;
use crate::transform::TransformSpec;
use crate::{RunInfo, Runs, SinkSource};
use position::Position;

/// Most days of windows with a partition of their own.
const MOST_DAYS: usize = 800;

const RESET: &str = "DROP SCHEMA realtime CASCADE";

/// How windows get into PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresOptions {
    /// Name of this sink: its offset is kept under it. Default `postgres`. Since 0.1.
    pub name: String,
    /// `postgres://user:password@host:port/database`. Default: a private server. Since 0.1.
    pub url: Option<ServerUrl>,
    /// Where the database holds another run's rows: `refuse`, `replace` or `keep`. Default `refuse`. Since 0.1.
    pub on_other_run: OnOtherRun,
    /// Also copy the input topic into `realtime.raw_events`. Default false. Since 0.1.
    pub raw_events: bool,
    /// Authorities that the server's certificate must come from, PEM; without one, `sslmode=verify-full` in the address asks for one
    /// that the system knows, and any other encrypts, where the server can, without asking who it is. Since 0.1.
    pub tls_ca_file: Option<PathBuf>,
    /// Time that one statement of a transaction may take, milliseconds, before the server ends it and it is tried again; 0 for
    /// any. Default 30000. Since 0.1.
    pub statement_timeout_ms: u64,
    /// Most connections at once: the sinks of windows and of raw events take turns. Default 4. Since 0.1.
    pub pool_size: usize,
    /// Days that `errors.dlq_messages` and `errors.retry_history` keep. Default 90. Since 0.1.
    pub errors_retention_days: u32,
    pub batch: BatchOptions,
    /// What the raw events go through first. Default: nothing. Since 0.1.
    #[serde(skip)]
    pub transforms: Vec<TransformSpec>,
    /// What must not be printed.
    #[serde(skip)]
    pub hidden: Hidden,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            name: "postgres".to_owned(),
            url: None,
            on_other_run: OnOtherRun::default(),
            raw_events: false,
            tls_ca_file: None,
            statement_timeout_ms: 30_000,
            pool_size: 4,
            errors_retention_days: 90,
            batch: BatchOptions::default(),
            transforms: Vec::new(),
            hidden: Hidden::default(),
        }
    }
}

/// How a server is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub tls_ca_file: Option<PathBuf>,
    pub statement_timeout_ms: u64,
}

/// What a sink has been told.
#[derive(Clone)]
struct PostgresSettings {
    pool: Pool,
    letters: Letters,
    run: RunInfo,
    runs: Runs,
    on_other_run: OnOtherRun,
}

impl PostgresOptions {
    pub(crate) fn reach(&self) -> Reach {
        Reach { tls_ca_file: self.tls_ca_file.clone(), statement_timeout_ms: self.statement_timeout_ms }
    }

    /// The connections that its sinks share; `endpoint` says where to.
    #[must_use]
    pub fn pool(&self, endpoint: Endpoint) -> Pool {
        Pool::new(endpoint, self.reach(), self.pool_size)
    }

    fn settings(&self, pool: &Pool, source: &SinkSource, at: &TopicPartition) -> (PostgresSettings, Position) {
        let settings = PostgresSettings {
            pool: pool.clone(),
            letters: Letters::new(source, &self.name, at, &self.hidden),
            run: source.run.clone(),
            runs: source.runs.clone(),
            on_other_run: self.on_other_run,
        };
        (settings, Position { connector: self.name.clone(), run: source.run.id, at: at.clone() })
    }

    /// The sink of dead letters; `pool` says where to, `source` from where.
    #[must_use]
    pub fn letters(&self, pool: &Pool, source: &SinkSource) -> (SinkService<LetterSink>, SinkHandle) {
        let at = source.letters.clone();
        let (settings, position) = self.settings(pool, source, &at);
        let sink = LetterSink::new(settings, position, self.errors_retention_days);
        let name = format!("{}-dead-letters", self.name);
        SinkService::new(name, sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
    }

    /// The sink of windows; `pool` says where to, `source` from where.
    #[must_use]
    pub fn windows(&self, pool: &Pool, source: &SinkSource) -> (SinkService<WindowSink>, SinkHandle) {
        let at = source.windows.clone();
        let (settings, position) = self.settings(pool, source, &at);
        let sink = WindowSink::new(settings, position);
        SinkService::new(self.name.clone(), sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
    }

    /// A sink of raw events for each partition of the input topic; none where that is switched off.
    #[must_use]
    pub fn raw(&self, pool: &Pool, source: &SinkSource) -> Vec<(SinkService<RawSink>, SinkHandle)> {
        let partitions = if self.raw_events { source.run.partitions } else { 0 };
        (0..partitions)
            .map(|partition| {
                let at = TopicPartition::new(source.run.topic.as_str(), PartitionId(partition));
                let (settings, position) = self.settings(pool, source, &at);
                let sink = RawSink::new(settings, position);
                let name = format!("{}-raw-{partition}", self.name);
                SinkService::new(name, sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
            })
            .collect()
    }
}
