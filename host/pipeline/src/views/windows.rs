//! Merged windows, read from `ctr_windows` from its start.
//!
//! Memory is bounded: partials outside the query are skipped by their key, and those inside are held encoded, newest
//! version of each owner, until their row is asked for. Where they are too many, the later windows are left to another
//! pass over the topic, which begins when the rows before them have been taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::merge::{Fence, Progress, WindowRecord};
use clickmill_schemas::partial::{self, Head, Metrics, Owner, Version, WindowKey};
use clickmill_schemas::record::Record;
use clickmill_schemas::{Offset, PartitionId, RunId};

use super::derived::Derived;
use super::scan::scan;
use super::{BadRecord, ViewError};
use crate::runs;
use crate::topics::{AD_EVENTS_RAW, CTR_WINDOWS};

/// Bytes of partials that a pass may hold.
const LIMIT_BYTES: usize = 64 << 20;
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

/// Sizes of windows, milliseconds, the panes that make them up first.
pub const SIZES_MS: [i64; 2] = [60_000, 300_000];

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
    let size = SIZES_MS.into_iter().find(|size_ms| size_name(*size_ms) == name);
    size.ok_or_else(|| format!("{name:?} is not a window size; there are {}", SIZES_MS.map(size_name).join(" and ")))
}

/// A partial as it lies in the topic.
#[derive(Debug)]
struct Encoded {
    version: Version,
    lower_bound: bool,
    entries: Arc<[u8]>,
    partition: PartitionId,
    offset: Offset,
}

/// The answer to a [`WindowQuery`]; rows are made as they are asked for.
pub struct Windows<'a> {
    broker: &'a dyn Broker,
    query: WindowQuery,
    limit_bytes: usize,
    pass: Pass,
}

/// What one reading of the topic gave.
#[derive(Debug, Default)]
struct Pass {
    table: BTreeMap<WindowKey, BTreeMap<Owner, Encoded>>,
    final_before_ms: Option<i64>,
    /// Windows that start here or later had no room.
    rest_from_ms: Option<i64>,
}

/// Reads the windows that `query` asks for.
///
/// # Errors
/// [`ViewError`] where a topic cannot be read, or a single window is too large.
pub fn windows<'a>(broker: &'a dyn Broker, query: &WindowQuery) -> Result<Windows<'a>, ViewError> {
    Windows::read(broker, query.clone(), LIMIT_BYTES)
}

/// The newest partials of one window in one dimension, as they lie in the topic.
#[derive(Clone, Debug)]
pub struct Slice {
    pub start_ms: i64,
    /// Some of a key's events may be in the overflow bucket.
    pub lower_bound: bool,
    /// Entries as [`partial::visit_entries`] reads them.
    pub partials: Vec<Arc<[u8]>>,
}

/// Reads the windows of one dimension without decoding them, by start: for who adds keys up over windows.
///
/// # Errors
/// As [`windows`](windows()), and [`ViewError::LongRange`] where they do not fit one pass.
pub fn slices(broker: &dyn Broker, query: &WindowQuery) -> Result<Vec<Slice>, ViewError> {
    let pass = Pass::read(broker, query, LIMIT_BYTES)?;
    if pass.rest_from_ms.is_some() {
        return Err(ViewError::LongRange { limit_bytes: LIMIT_BYTES });
    }
    let slice = |(window, owners): (WindowKey, BTreeMap<Owner, Encoded>)| Slice {
        start_ms: window.start_ms,
        lower_bound: owners.values().any(|e| e.lower_bound),
        partials: owners.into_values().map(|e| e.entries).collect(),
    };
    Ok(pass.table.into_iter().map(slice).collect())
}

impl Pass {
    fn read(broker: &dyn Broker, query: &WindowQuery, limit_bytes: usize) -> Result<Self, ViewError> {
        let (Some(input), Some(output)) = (broker.topic(AD_EVENTS_RAW)?, broker.topic(CTR_WINDOWS)?) else {
            return Ok(Self::default());
        };
        let run = runs::current(broker)?.unwrap_or(input.id);
        let mut reading = Reading::new(query, run, limit_bytes);
        for partition in (0..output.spec.partitions).map(PartitionId) {
            let at = TopicPartition::new(CTR_WINDOWS, partition);
            scan(broker, &at, Offset(0), &mut |offset, record| reading.take(partition, offset, record))?;
            if reading.held_bytes > limit_bytes {
                return Err(ViewError::TooLarge { limit_bytes });
            }
        }
        // Asked for behind the reading: a partition that was added meanwhile holds back what was committed since.
        let partitions = broker.topic(AD_EVENTS_RAW)?.map_or(0, |input| input.spec.partitions);
        Ok(Self {
            table: reading.table,
            final_before_ms: reading.progress.final_before_ms(partitions),
            rest_from_ms: reading.rest_from_ms,
        })
    }

    /// The rows of the next window.
    fn next_window(&mut self) -> Option<Vec<Result<WindowRow, ViewError>>> {
        let (window, owners) = self.table.pop_first()?;
        let final_ = self.final_before_ms.is_some_and(|before| window.end_ms() <= before);
        Some(match merge(&owners) {
            Err(e) => vec![Err(e)],
            Ok((sums, lower_bound)) => sums
                .into_iter()
                .filter(|(_, metrics)| metrics.impressions > 0)
                .map(|(key, metrics)| Ok(WindowRow { window: window.clone(), key, metrics, lower_bound, final_ }))
                .collect(),
        })
    }
}

struct Reading<'a> {
    query: &'a WindowQuery,
    run: RunId,
    fence: Fence,
    progress: Progress,
    table: BTreeMap<WindowKey, BTreeMap<Owner, Encoded>>,
    held_bytes: usize,
    limit_bytes: usize,
    /// As in [`Pass`].
    rest_from_ms: Option<i64>,
}

impl<'a> Reading<'a> {
    fn new(query: &'a WindowQuery, run: RunId, limit_bytes: usize) -> Self {
        Self {
            query,
            run,
            fence: Fence::default(),
            progress: Progress::default(),
            table: BTreeMap::new(),
            held_bytes: 0,
            limit_bytes,
            rest_from_ms: None,
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
        if head.owner.run != self.run || !self.fence.admits(term) || !self.wants(&head.window) {
            return Ok(());
        }
        let entries = record.value.get(head.entries_at..).unwrap_or_default();
        let owners = self.table.entry(head.window).or_default();
        let old = owners.get(&head.owner);
        if old.is_some_and(|old| old.version >= head.version) {
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
        if self.held_bytes > self.limit_bytes {
            self.make_room();
        }
        Ok(())
    }

    fn wants(&self, window: &WindowKey) -> bool {
        self.query.wants(window) && self.rest_from_ms.is_none_or(|rest| window.start_ms < rest)
    }

    /// Leaves the latest windows to another pass. The earliest always stays: without it no pass would get anywhere.
    fn make_room(&mut self) {
        let Some(first_ms) = self.table.first_key_value().map(|(window, _)| window.start_ms) else { return };
        while self.held_bytes > self.limit_bytes || self.rest_from_ms == self.last_ms() {
            match self.table.pop_last() {
                Some((window, owners)) if window.start_ms > first_ms => {
                    self.rest_from_ms = Some(window.start_ms);
                    self.held_bytes -= owners.values().map(|e| e.entries.len() + ENTRY_OVERHEAD_BYTES).sum::<usize>();
                }
                Some((window, owners)) => {
                    self.table.insert(window, owners);
                    return;
                }
                None => return,
            }
        }
    }

    fn last_ms(&self) -> Option<i64> {
        self.table.last_key_value().map(|(window, _)| window.start_ms)
    }
}

impl<'a> Windows<'a> {
    /// Reads the first of them; a pass takes about `limit_bytes`.
    pub(super) fn read(broker: &'a dyn Broker, query: WindowQuery, limit_bytes: usize) -> Result<Self, ViewError> {
        let pass = Pass::read(broker, &query, limit_bytes)?;
        Ok(Self { broker, query, limit_bytes, pass })
    }

    /// The rows with at least one event, by start, dimension and key (bytewise). May read the topic again.
    pub fn into_rows(mut self) -> impl Iterator<Item = Result<WindowRow, ViewError>> + 'a {
        std::iter::from_fn(move || self.next_window()).flatten()
    }

    fn next_window(&mut self) -> Option<Vec<Result<WindowRow, ViewError>>> {
        loop {
            if let Some(rows) = self.pass.next_window() {
                return Some(rows);
            }
            self.query.from_ms = Some(self.pass.rest_from_ms.take()?);
            match Pass::read(self.broker, &self.query, self.limit_bytes) {
                Ok(pass) => self.pass = pass,
                Err(e) => return Some(vec![Err(e)]),
            }
        }
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
