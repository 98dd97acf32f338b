//! The HTTP sink: records of a topic as JSON, sent in batches to an endpoint.
//!
//! At least once: which offsets are being sent is written down before they are, so that whoever sends them again (after a
//! crash, too) sends the same batch under the same `Idempotency-Key`. `records.rs` says what is in a body, `position.rs`
//! what is written down, `client.rs` what an answer means, `sink.rs` which batches there are, `halving.rs` in which parts one is sent
//! that is refused.

mod client;
mod halving;
mod position;
mod records;
mod sink;

use std::fmt;
use std::ops::Range;
use std::path::Path;

use clickmill_broker::TopicPartition;
use clickmill_schemas::PartitionId;
use serde::{Deserialize, Serialize};

pub use sink::HttpSink;

use crate::SinkSource;
use crate::endpoint::ServerUrl;
use crate::hidden::Hidden;
use crate::runner::{BatchOptions, SinkHandle, SinkService};
use crate::sink::SinkError;
use crate::transform::TransformSpec;
use client::Client;
use position::PositionFile;

/// What may stand in a header as `{name}`: of each batch.
pub const PLACEHOLDERS: &[&str] = &["topic", "partition", "first_offset", "last_offset", "records", "connector"];

/// A batch has as many requests as it needs, each with a time limit of its own: this is only against what hangs for good.
const WRITE_TIME_MS: u64 = 24 * 3_600_000;

/// How records get to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpOptions {
    /// Name of this connector: its offset is kept under it. Default `http`. Since 0.1.
    pub name: String,
    /// The topic that it copies. Default `ctr_windows`. Since 0.1.
    pub topic: String,
    /// Where batches are sent. Default: nowhere, and nothing runs. Since 0.1.
    pub endpoint: Option<ServerUrl>,
    /// Default POST. Since 0.1.
    pub method: Method,
    /// As `Name: value`; [`PLACEHOLDERS`] in braces are filled in for each batch. Since 0.1.
    pub headers: Vec<HeaderLine>,
    /// Most records in one batch. Default 500. Since 0.1.
    pub max_records: usize,
    /// `max_bytes` of JSON in a batch, about; `timeout_ms` for one request.
    pub batch: BatchOptions,
    /// What records of topics other than `ctr_windows` go through first. Default: nothing. Since 0.1.
    #[serde(skip)]
    pub transforms: Vec<TransformSpec>,
    /// What must not be printed.
    #[serde(skip)]
    pub hidden: Hidden,
}

/// How a batch is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    #[default]
    #[serde(rename = "POST")]
    Post,
    #[serde(rename = "PUT")]
    Put,
}

/// `Name: value`, of which the value may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeaderLine(pub String);

impl fmt::Debug for HeaderLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.0.split(':').next().unwrap_or_default())
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            name: "http".to_owned(),
            topic: "ctr_windows".to_owned(),
            endpoint: None,
            method: Method::default(),
            headers: Vec::new(),
            max_records: 500,
            batch: BatchOptions::default(),
            transforms: Vec::new(),
            hidden: Hidden::default(),
        }
    }
}

impl HttpOptions {
    /// How many partitions its topic has; none where it is not there, or cannot be asked for now.
    pub(crate) async fn partitions(&self, source: &SinkSource) -> Option<u32> {
        if self.topic == source.run.topic {
            return Some(source.run.partitions);
        }
        let (broker, topic) = (source.broker.clone(), self.topic.clone());
        let found = tokio::task::spawn_blocking(move || broker.topic(&topic)).await;
        found.ok()?.ok()?.map(|topic| topic.spec.partitions)
    }

    /// A sink for each of these partitions of the topic, which keep their offsets below the data directory; none without an
    /// endpoint. One for a topic that is not there waits for it.
    #[must_use]
    pub fn sinks(
        &self,
        data_dir: &Path,
        source: &SinkSource,
        partitions: Range<u32>,
    ) -> Vec<(SinkService<HttpSink>, SinkHandle)> {
        let Some(endpoint) = &self.endpoint else {
            return Vec::new();
        };
        let is_alone = partitions == (0..1);
        let sink = |partition| {
            let at = TopicPartition::new(self.topic.as_str(), PartitionId(partition));
            let name = if is_alone { self.name.clone() } else { format!("{}-{partition}", self.name) };
            let file = PositionFile::new(data_dir, &self.name, &at);
            let sink = HttpSink::new(self.clone(), endpoint.clone(), source, at.clone(), file);
            let batch = BatchOptions { timeout_ms: WRITE_TIME_MS, ..self.batch.clone() };
            SinkService::new(name, sink, source.broker.clone(), at, (batch, self.hidden.clone()))
        };
        partitions.map(sink).collect()
    }

    /// Whether the endpoint's server is there and lets us in; nothing is sent to it.
    ///
    /// # Errors
    /// As a session's.
    pub(crate) async fn answers(&self, endpoint: &ServerUrl) -> Result<(), SinkError> {
        Client::new(self, endpoint)?.answers().await
    }
}
