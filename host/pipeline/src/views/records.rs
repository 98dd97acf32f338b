//! Single records as people look at them: text as it is, partials decoded, other bytes in base64.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::partial::{self, Partial};
use clickmill_schemas::record::{Record, Records};
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};

use super::time::iso8601;
use super::windows::size_name;
use super::{BadRecord, ViewError};

/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 256 << 10;

/// A key or a value.
///
/// Shown to people, partials and source positions are decoded; the exact bytes are in the other two alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "encoding", content = "data", rename_all = "snake_case")]
pub enum Content {
    /// UTF-8, as it is in the log.
    Utf8(String),
    /// Anything that is not UTF-8.
    Base64(String),
    /// A window partial of `ctr_windows`.
    Partial(PartialView),
    /// The key that `clickmill produce` gives to the last record of a batch.
    SourcePosition { source: String, row: u64 },
}

impl Content {
    /// Text, or else base64.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// A key: as [`Content::of`], and a source position decoded.
    #[must_use]
    pub fn of_key(bytes: &[u8]) -> Self {
        match SourcePosition::decode(bytes) {
            // In hex: a JSON number of 64 bits is not safe in every reader.
            Some(SourcePosition { source, row }) => Self::SourcePosition { source: format!("{source:016x}"), row },
            None => Self::of(bytes),
        }
    }

    /// The bytes that it was made of; none where it was decoded, or is no base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Utf8(text) => Some(text.clone().into_bytes()),
            Self::Base64(text) => STANDARD.decode(text).ok(),
            Self::Partial(_) | Self::SourcePosition { .. } => None,
        }
    }
}

/// A window partial, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialView {
    pub run: RunId,
    pub partition: PartitionId,
    pub generation: Generation,
    pub window_size: String,
    pub window_start: String,
    pub dimension: String,
    pub epoch: Epoch,
    pub as_of_offset: Offset,
    pub lower_bound: bool,
    pub entries: Vec<EntryView>,
}

/// One key of a partial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    pub key: String,
    pub impressions: i64,
    pub clicks: i64,
    pub conversions: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Epoch milliseconds, as its producer set it.
    pub timestamp_ms: i64,
    pub key: Option<Content>,
    pub value: Content,
}

/// Some records of a partition, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPage {
    pub records: Vec<RecordView>,
    pub next_offset: Offset,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
}

/// How much one page may hold.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    pub records: usize,
    /// Bytes of keys and values; the first record is given whatever its size.
    pub bytes: usize,
    /// How long to wait for a record at the partition's end.
    pub wait: Duration,
}

/// Reads records from `from` on, or from the log's start where that is later.
///
/// # Errors
/// [`ViewError`] where the partition is unknown or cannot be read.
pub fn read_page(
    broker: &dyn Broker,
    at: &TopicPartition,
    from: Offset,
    limits: PageLimits,
) -> Result<RecordPage, ViewError> {
    read(broker, at, from, limits, view)
}

/// [`read_page`] with nothing decoded: every key and value gives its bytes back.
///
/// # Errors
/// As [`read_page`].
pub fn read_exact_page(
    broker: &dyn Broker,
    at: &TopicPartition,
    from: Offset,
    limits: PageLimits,
) -> Result<RecordPage, ViewError> {
    read(broker, at, from, limits, |partition, offset, timestamp_ms, record| RecordView {
        partition,
        offset,
        timestamp_ms,
        key: record.key.map(Content::of),
        value: Content::of(record.value),
    })
}

fn read(
    broker: &dyn Broker,
    at: &TopicPartition,
    from: Offset,
    limits: PageLimits,
    view: impl Fn(PartitionId, Offset, i64, &Record<'_>) -> RecordView,
) -> Result<RecordPage, ViewError> {
    let mut ends = broker.ends(at)?;
    let mut page = RecordPage {
        records: Vec::new(),
        next_offset: from.max(ends.start),
        log_start_offset: ends.start,
        log_end_offset: ends.end,
    };
    let mut bytes = 0;
    let mut wait = limits.wait;
    loop {
        let batches = broker.fetch(at, page.next_offset, FETCH_BYTES, wait)?;
        if batches.is_empty() {
            break;
        }
        wait = Duration::ZERO;
        for batch in &batches {
            let set = batch.records()?;
            let bad = |e| ViewError::Record {
                topic: at.topic.to_string(),
                partition: at.partition,
                offset: batch.base_offset,
                source: BadRecord::Malformed(e),
            };
            for record in Records::new(&set).map_err(bad)? {
                let record = record.map_err(bad)?;
                let offset = batch.base_offset.plus(record.offset_delta.unsigned_abs());
                if offset < page.next_offset {
                    continue;
                }
                let size = record.value.len() + record.key.map_or(0, <[u8]>::len);
                if page.records.len() >= limits.records || (bytes + size > limits.bytes && bytes > 0) {
                    return Ok(page);
                }
                bytes += size.max(1);
                let timestamp_ms = batch.base_timestamp_ms.saturating_add(record.timestamp_delta_ms);
                page.records.push(view(at.partition, offset, timestamp_ms, &record));
                page.next_offset = offset.plus(1);
            }
            page.next_offset = page.next_offset.max(batch.next_offset());
        }
        ends = broker.ends(at)?;
        page.log_end_offset = ends.end;
    }
    Ok(page)
}

fn view(partition: PartitionId, offset: Offset, timestamp_ms: i64, record: &Record<'_>) -> RecordView {
    let decoded = partial::is_partial(record.value).then(|| Partial::decode(record.key?, record.value).ok()).flatten();
    let value = decoded.map_or_else(|| Content::of(record.value), |p| Content::Partial(partial_view(p)));
    RecordView { partition, offset, timestamp_ms, key: record.key.map(Content::of_key), value }
}

fn partial_view(p: Partial) -> PartialView {
    let entry = |(key, m): (String, partial::Metrics)| EntryView {
        key,
        impressions: m.impressions,
        clicks: m.clicks,
        conversions: m.conversions,
        cost_micros: m.cost_micros,
        revenue_micros: m.revenue_micros,
    };
    PartialView {
        run: p.owner.run,
        partition: p.owner.partition,
        generation: p.owner.generation,
        window_size: size_name(p.window.size_ms),
        window_start: iso8601(p.window.start_ms),
        dimension: p.window.dimension,
        epoch: p.version.epoch,
        as_of_offset: p.version.as_of,
        lower_bound: p.lower_bound,
        entries: p.entries.into_iter().map(entry).collect(),
    }
}
