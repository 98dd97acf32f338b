//! The PostgreSQL sinks: windows and watermarks into schema `realtime`, and, where switched on, the raw events.
//!
//! Tables and views are in `schemas/postgres/`. Each sink's offset lies in the transaction of its rows.

mod claim;
mod days;
mod link;
mod migrate;
mod position;
mod raw;
mod values;
mod verify;
mod windows;

use clickmill_broker::TopicPartition;
use clickmill_schemas::PartitionId;
use serde::{Deserialize, Serialize};

pub(crate) use link::answers;
pub use raw::RawSink;
pub(crate) use verify::held;
pub use windows::WindowSink;

use crate::endpoint::{Endpoint, ServerUrl};
use crate::hidden::Hidden;
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
            batch: BatchOptions::default(),
            transforms: Vec::new(),
            hidden: Hidden::default(),
        }
    }
}

/// What the sinks of one database share.
#[derive(Clone)]
struct PostgresSettings {
    endpoint: Endpoint,
    run: RunInfo,
    runs: Runs,
    on_other_run: OnOtherRun,
}

impl PostgresOptions {
    fn settings(&self, endpoint: Endpoint, source: &SinkSource) -> PostgresSettings {
        PostgresSettings {
            endpoint,
            run: source.run.clone(),
            runs: source.runs.clone(),
            on_other_run: self.on_other_run,
        }
    }

    /// The sink of windows; `endpoint` says where, `source` from where.
    #[must_use]
    pub fn windows(&self, endpoint: Endpoint, source: &SinkSource) -> (SinkService<WindowSink>, SinkHandle) {
        let at = source.windows.clone();
        let position = Position { connector: self.name.clone(), run: source.run.id, at: at.clone() };
        let sink = WindowSink::new(self.settings(endpoint, source), position);
        SinkService::new(self.name.clone(), sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
    }

    /// A sink of raw events for each partition of the input topic; none where that is switched off.
    #[must_use]
    pub fn raw(&self, endpoint: &Endpoint, source: &SinkSource) -> Vec<(SinkService<RawSink>, SinkHandle)> {
        let partitions = if self.raw_events { source.run.partitions } else { 0 };
        (0..partitions)
            .map(|partition| {
                let at = TopicPartition::new(source.run.topic.as_str(), PartitionId(partition));
                let position = Position { connector: self.name.clone(), run: source.run.id, at: at.clone() };
                let sink = RawSink::new(self.settings(endpoint.clone(), source), position);
                let name = format!("{}-raw-{partition}", self.name);
                SinkService::new(name, sink, source.broker.clone(), at, (self.batch.clone(), self.hidden.clone()))
            })
            .collect()
    }
}
