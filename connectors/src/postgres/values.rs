//! How our values become PostgreSQL's: run ids, times, keys, counters. Pure.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::{BufMut, BytesMut};
use clickmill_schemas::RunId;
use clickmill_schemas::partial::{self, Metrics, NotAPartial, Owner, WindowKey};
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

pub use crate::numbers::{bigint, integer};
use crate::windows::Newest;

/// A run as `uuid`.
#[derive(Clone, Copy, Debug)]
pub struct PgRun(pub RunId);

impl ToSql for PgRun {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

/// A `timestamptz`: microseconds since 2000-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgTime(i64);

/// 2000-01-01 UTC, epoch milliseconds.
const PG_EPOCH_MS: i64 = 946_684_800_000;
/// What PostgreSQL takes, less a year on both sides so that adding a window's size never leaves it.
const LEAST_US: i64 = -211_813_488_000_000_000 + 31_536_000_000_000;
const GREATEST_US: i64 = 9_223_371_331_200_000_000 - 31_536_000_000_000;

impl PgTime {
    /// None beyond what PostgreSQL can hold (years −4713 to 294275).
    #[must_use]
    pub fn exact(epoch_ms: i64) -> Option<Self> {
        let us = epoch_ms.checked_sub(PG_EPOCH_MS)?.checked_mul(1_000)?;
        (LEAST_US..=GREATEST_US).contains(&us).then_some(Self(us))
    }

    /// Beyond what PostgreSQL can hold: `infinity` or `-infinity`.
    #[must_use]
    pub fn clamped(epoch_ms: i64) -> Self {
        Self::exact(epoch_ms).unwrap_or(Self(if epoch_ms > 0 { i64::MAX } else { i64::MIN }))
    }
}

impl ToSql for PgTime {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// Longest dimension that is stored, bytes: it is part of an index.
const MAX_DIMENSION_LEN: usize = 500;

/// A row of `realtime.window_partials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialRow {
    pub partition: i32,
    pub generation: i32,
    pub window_size_ms: i64,
    pub start_ms: i64,
    pub window_start: PgTime,
    pub dimension: String,
    pub epoch: i64,
    pub as_of_offset: i64,
    pub lower_bound: bool,
    pub keys: Vec<String>,
    /// Impressions, clicks, conversions, cost, revenue, each in the order of the keys.
    pub metrics: [Vec<i64>; 5],
}

/// Why a partial has no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRow {
    #[error(transparent)]
    Malformed(#[from] NotAPartial),
    #[error("a window at {start_ms} ms of {size_ms} ms is beyond what timestamptz can hold")]
    BeyondTime { start_ms: i64, size_ms: i64 },
    #[error("a dimension name of {len} bytes is longer than {MAX_DIMENSION_LEN}")]
    LongDimension { len: usize },
}

impl PartialRow {
    /// # Errors
    /// [`NoRow`] where PostgreSQL cannot hold it.
    pub fn new(owner: &Owner, window: &WindowKey, newest: &Newest<'_>) -> Result<Self, NoRow> {
        let WindowKey { size_ms, start_ms, dimension } = window;
        let (size_ms, start_ms) = (*size_ms, *start_ms);
        let beyond = NoRow::BeyondTime { start_ms, size_ms };
        let window_start = PgTime::exact(start_ms).ok_or_else(|| beyond.clone())?;
        PgTime::exact(window.end_ms()).ok_or(beyond)?;
        if dimension.len() > MAX_DIMENSION_LEN {
            return Err(NoRow::LongDimension { len: dimension.len() });
        }
        let (keys, metrics) = columns(storable(partial::take_entries(newest.entries)?));
        Ok(Self {
            partition: integer(owner.partition.0),
            generation: integer(owner.generation.0),
            window_size_ms: size_ms,
            start_ms,
            window_start,
            dimension: dimension.replace('\0', "\u{fffd}"),
            epoch: bigint(newest.version.epoch.0),
            as_of_offset: bigint(newest.version.as_of.0),
            lower_bound: newest.lower_bound,
            keys,
            metrics,
        })
    }
}

impl PartialRow {
    /// Rows are written in this order, so that two writers cannot wait for each other.
    #[must_use]
    pub fn key(&self) -> (i64, i64, &str, i32, i32) {
        (self.window_size_ms, self.start_ms, &self.dimension, self.partition, self.generation)
    }
}

/// U+0000, which `text` cannot hold, becomes U+FFFD; keys that become equal are summed.
fn storable(entries: Vec<(String, Metrics)>) -> Vec<(String, Metrics)> {
    if !entries.iter().any(|(key, _)| key.contains('\0')) {
        return entries;
    }
    let mut sums = BTreeMap::<String, Metrics>::new();
    for (key, metrics) in entries {
        sums.entry(key.replace('\0', "\u{fffd}")).or_default().add(&metrics);
    }
    sums.into_iter().collect()
}

fn columns(entries: Vec<(String, Metrics)>) -> (Vec<String>, [Vec<i64>; 5]) {
    let mut keys = Vec::with_capacity(entries.len());
    let mut columns = std::array::from_fn(|_| Vec::with_capacity(entries.len()));
    for (key, m) in entries {
        keys.push(key);
        let values = [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros];
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    (keys, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_timestamptz_are_told_apart_from_those_within() {
        assert_eq!(PgTime::exact(PG_EPOCH_MS), Some(PgTime(0)));
        assert!(PgTime::exact(4_102_444_800_000).is_some(), "the year 2100");
        for beyond in [i64::MIN, i64::MAX, 9_300_000_000_000_000, -300_000_000_000_000] {
            assert_eq!(PgTime::exact(beyond), None, "{beyond}");
        }
        assert_eq!(PgTime::clamped(i64::MAX), PgTime(i64::MAX));
        assert_eq!(PgTime::clamped(i64::MIN), PgTime(i64::MIN));
    }

    #[test]
    fn keys_that_differ_only_in_nul_are_summed_and_not_lost() {
        let m = |impressions| Metrics { impressions, clicks: 1, ..Metrics::default() };
        let entries = vec![("a\0".to_owned(), m(1)), ("a\u{fffd}".to_owned(), m(2)), ("b".to_owned(), m(4))];
        let stored = storable(entries);
        assert_eq!(
            stored,
            [
                ("a\u{fffd}".to_owned(), Metrics { impressions: 3, clicks: 2, ..Metrics::default() }),
                ("b".to_owned(), m(4)),
            ]
        );
    }
}
