//! A pane: one minute's sums of one partition, in all dimensions.
//!
//! Owns what a record adds to, and the arithmetic of panes and spans (the five-minute windows). It must not know the
//! watermark; whether a pane is open is its holder's business.

use clickmill_schemas::partial::Metrics;

use crate::column::Column;
use crate::config::{PANE_MS, SPAN_MS};
use crate::metrics::Accumulate;
use crate::probe::Key;
use crate::table::{KeyBudget, Table};

/// The least timestamp that is counted, epoch milliseconds: far enough from the end of `i64` (which is 146 million years
/// further) that no sum of a timestamp and the parameters overflows.
pub const FIRST_MS: i64 = -END_MS;
/// The end of the last window, epoch milliseconds.
pub const END_MS: i64 = (1 << 62) / SPAN_MS * SPAN_MS;

/// The start of the pane of a timestamp from [`FIRST_MS`] on and before [`END_MS`].
#[must_use]
pub const fn pane_start(ts_ms: i64) -> i64 {
    ts_ms - ts_ms.rem_euclid(PANE_MS)
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Pane {
    /// Epoch milliseconds, a multiple of [`PANE_MS`].
    pub start_ms: i64,
    /// Whether it was added to since the last emission.
    pub changed: bool,
    /// Sums of all records, where there is no keyed dimension to derive them from.
    pub(crate) lone_total: Metrics,
    /// One a keyed dimension.
    pub tables: Vec<Table>,
}

impl Pane {
    /// With nothing counted.
    #[must_use]
    pub fn new(start_ms: i64, dimensions: usize) -> Self {
        Self { start_ms, changed: false, lone_total: Metrics::default(), tables: vec![Table::default(); dimensions] }
    }

    /// Makes another pane of it, keeping its memory.
    pub fn reset(&mut self, start_ms: i64) {
        self.start_ms = start_ms;
        self.changed = false;
        self.lone_total = Metrics::default();
        self.tables.iter_mut().for_each(Table::clear);
    }

    /// Exclusive end, epoch milliseconds.
    #[must_use]
    pub const fn end_ms(&self) -> i64 {
        self.start_ms + PANE_MS
    }

    /// Start of its span, epoch milliseconds.
    #[must_use]
    pub const fn span_start_ms(&self) -> i64 {
        self.start_ms - self.start_ms.rem_euclid(SPAN_MS)
    }

    /// Exclusive end of its span, epoch milliseconds.
    #[must_use]
    pub const fn span_end_ms(&self) -> i64 {
        self.span_start_ms() + SPAN_MS
    }

    /// Counts a record.
    #[inline]
    pub fn add<'a>(
        &mut self,
        columns: &[Column],
        metrics: &Metrics,
        key: impl Fn(Column) -> Key<'a>,
        budget: &mut KeyBudget,
    ) {
        self.changed = true;
        if columns.is_empty() {
            self.lone_total.accumulate(metrics);
        }
        for (table, column) in self.tables.iter_mut().zip(columns) {
            table.add(key(*column), metrics, budget);
        }
    }

    /// Adds another pane of the same span.
    pub fn merge(&mut self, other: &Self) {
        self.lone_total.accumulate(&other.lone_total);
        for (table, other) in self.tables.iter_mut().zip(&other.tables) {
            table.merge(other);
        }
    }

    /// Sums of all records. Any dimension adds up to them.
    #[must_use]
    pub fn total(&self) -> Metrics {
        self.tables.first().map_or(self.lone_total, Table::total)
    }

    /// What its keys take of the budget.
    #[must_use]
    pub fn key_bytes(&self) -> u64 {
        self.tables.iter().map(Table::key_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_and_spans_are_aligned_to_the_epoch_on_both_sides_of_it() {
        for (ts_ms, pane, span) in [
            (0, 0, 0),
            (59_999, 0, 0),
            (60_000, 60_000, 0),
            (299_999, 240_000, 0),
            (300_000, 300_000, 300_000),
            (-1, -60_000, -300_000),
            (-60_000, -60_000, -300_000),
            (-60_001, -120_000, -300_000),
            (-300_001, -360_000, -600_000),
        ] {
            let held = Pane::new(pane_start(ts_ms), 0);
            assert_eq!((held.start_ms, held.span_start_ms()), (pane, span), "{ts_ms}");
        }
    }

    #[test]
    fn the_first_and_the_last_pane_lie_with_their_spans_within_time() {
        let first = Pane::new(pane_start(FIRST_MS), 0);
        assert_eq!((first.start_ms, first.span_start_ms()), (FIRST_MS, FIRST_MS));
        let last = Pane::new(pane_start(END_MS - 1), 0);
        assert_eq!((last.end_ms(), last.span_end_ms()), (END_MS, END_MS));
    }
}
