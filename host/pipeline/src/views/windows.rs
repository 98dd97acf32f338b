//! Merged windows, read from `ctr_windows` from its start.
//!
//! Memory is bounded by the answer, not by the topic: partials outside the query are skipped by their key, and those
//! inside are held encoded, newest version of each owner, until their row is asked for.

use std::collections::BTreeMap;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::merge::{Fence, Progress, WindowRecord};
use clickmill_schemas::partial::{self, Head, Metrics, Owner, Version, WindowKey};
use clickmill_schemas::record::Record;
use clickmill_schemas::{Offset, PartitionId, RunId};

use super::derived::Derived;
use super::scan::scan;
use super::{BadRecord, ViewError};
use crate::topics::{AD_EVENTS_RAW, CTR_WINDOWS};

/// Bytes of partials that one answer may hold.
const LIMIT_BYTES: usize = 128 << 20;
/// What an entry of the table takes beside its bytes, about.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// Which windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowQuery {
    /// 60,000 or 300,000.
    pub size_ms: i64,
    /// All of them where none is named.
    pub dimension: Option<String>,
    /// Least window start, inclusive, epoch milliseconds.
    pub from_ms: Option<i64>,
    /// Greatest window start, exclusive.
    pub to_ms: Option<i64>,
}

impl WindowQuery {
    fn wants(&self, window: &WindowKey) -> bool {
        window.size_ms == self.size_ms
            && self.dimension.as_ref().is_none_or(|d| *d == window.dimension)
            && self.from_ms.is_none_or(|from| window.start_ms >= from)
            && self.to_ms.is_none_or(|to| window.start_ms < to)
    }
}

/// One key of one dimension of one window, summed over partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    pub window: WindowKey,
    /// Empty for the dimension `total`.
    pub key: String,
    pub metrics: Metrics,
    /// Some of this key's events may be in the overflow bucket.
    pub lower_bound: bool,
    /// No partition changes it any more.
    pub final_: bool,
}

impl WindowRow {
    /// CTR, CPC, CPA, ROAS.
    #[must_use]
    pub fn derived(&self) -> Derived {
        Derived::from(&self.metrics)
    }
}

/// The name of a window size in queries and answers: `1m`, `5m`.
#[must_use]
pub fn size_name(size_ms: i64) -> String {
    match size_ms {
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms => format!("{ms}ms"),
    }
}

/// Reads the name of a window size.
///
/// # Errors
/// A sentence that names the sizes.
pub fn parse_size(name: &str) -> Result<i64, String> {
    match name {
        "1m" => Ok(60_000),
        "5m" => Ok(300_000),
        _ => Err(format!("{name:?} is not a window size; there are 1m and 5m")),
    }
}

/// A partial as it lies in the topic.
#[derive(Debug)]
struct Encoded {
    version: Version,
    lower_bound: bool,
    entries: Box<[u8]>,
    partition: PartitionId,
    offset: Offset,
}

/// The answer to a [`WindowQuery`]; rows are made as they are asked for.
#[derive(Debug)]
pub struct Windows {
    table: BTreeMap<WindowKey, BTreeMap<Owner, Encoded>>,
    final_before_ms: Option<i64>,
}

/// Reads the windows that `query` asks for.
///
/// # Errors
/// [`ViewError`] where a topic cannot be read, or the answer is too large.
pub fn windows(broker: &dyn Broker, query: &WindowQuery) -> Result<Windows, ViewError> {
    let (Some(input), Some(output)) = (broker.topic(AD_EVENTS_RAW)?, broker.topic(CTR_WINDOWS)?) else {
        return Ok(Windows { table: BTreeMap::new(), final_before_ms: None });
    };
    let mut reading = Reading::new(query, input.id);
    for partition in (0..output.spec.partitions).map(PartitionId) {
        let at = TopicPartition::new(CTR_WINDOWS, partition);
        scan(broker, &at, Offset(0), &mut |offset, record| reading.take(partition, offset, record))?;
        if reading.held_bytes > LIMIT_BYTES {
            return Err(ViewError::TooLarge { limit_bytes: LIMIT_BYTES });
        }
    }
    Ok(Windows { table: reading.table, final_before_ms: reading.progress.final_before_ms(input.spec.partitions) })
}

struct Reading<'a> {
    query: &'a WindowQuery,
    run: RunId,
    fence: Fence,
    progress: Progress,
    table: BTreeMap<WindowKey, BTreeMap<Owner, Encoded>>,
    held_bytes: usize,
}

impl<'a> Reading<'a> {
    fn new(query: &'a WindowQuery, run: RunId) -> Self {
        Self {
            query,
            run,
            fence: Fence::default(),
            progress: Progress::default(),
            table: BTreeMap::new(),
            held_bytes: 0,
        }
    }

    fn take(&mut self, partition: PartitionId, offset: Offset, record: &Record<'_>) -> Result<(), BadRecord> {
        if !partial::is_partial(record.value) {
            let read = WindowRecord::decode(record.key, record.value)?;
            if let WindowRecord::Output(output) = &read
                && output.stamp.run == self.run
                && self.fence.admits(read.term())
            {
                self.progress.apply(output);
            }
            return Ok(());
        }
        let head = Head::decode(record.key.unwrap_or_default(), record.value)?;
        let term = (head.owner.run, head.owner.partition, head.version.epoch);
        if head.owner.run != self.run || !self.fence.admits(term) || !self.query.wants(&head.window) {
            return Ok(());
        }
        let entries = record.value.get(head.entries_at..).unwrap_or_default();
        let owners = self.table.entry(head.window).or_default();
        let old = owners.get(&head.owner);
        if old.is_some_and(|old| old.version >= head.version) || self.held_bytes > LIMIT_BYTES {
            return Ok(());
        }
        self.held_bytes -= old.map_or(0, |old| old.entries.len() + ENTRY_OVERHEAD_BYTES);
        self.held_bytes += entries.len() + ENTRY_OVERHEAD_BYTES;
        let encoded = Encoded {
            version: head.version,
            lower_bound: head.lower_bound,
            entries: entries.into(),
            partition,
            offset,
        };
        owners.insert(head.owner, encoded);
        Ok(())
    }
}

impl Windows {
    /// The rows with at least one event, by start, dimension and key (bytewise).
    pub fn into_rows(self) -> impl Iterator<Item = Result<WindowRow, ViewError>> + Send {
        let final_before_ms = self.final_before_ms;
        self.table.into_iter().flat_map(move |(window, owners)| {
            let final_ = final_before_ms.is_some_and(|before| window.end_ms() <= before);
            match merge(&owners) {
                Err(e) => vec![Err(e)],
                Ok((sums, lower_bound)) => sums
                    .into_iter()
                    .filter(|(_, metrics)| metrics.impressions > 0)
                    .map(|(key, metrics)| Ok(WindowRow { window: window.clone(), key, metrics, lower_bound, final_ }))
                    .collect(),
            }
        })
    }
}

fn merge(owners: &BTreeMap<Owner, Encoded>) -> Result<(BTreeMap<String, Metrics>, bool), ViewError> {
    let mut sums = BTreeMap::<String, Metrics>::new();
    let mut lower_bound = false;
    for encoded in owners.values() {
        lower_bound |= encoded.lower_bound;
        let entries = partial::take_entries(&encoded.entries).map_err(|e| ViewError::Record {
            topic: CTR_WINDOWS.to_owned(),
            partition: encoded.partition,
            offset: encoded.offset,
            source: e.into(),
        })?;
        for (key, metrics) in entries {
            sums.entry(key).or_default().add(&metrics);
        }
    }
    Ok((sums, lower_bound))
}
