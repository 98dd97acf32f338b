//! Windows on their way out: encoding, and the buffer of those that closed since the last emission.
//!
//! Owns the bytes of a partial (the guest's part of them, see `clickmill_schemas::partial`). It must not know why a
//! window is given out. The law: equal sums give equal bytes, whatever the order in which they came about.

use clickmill_schemas::partial::{self, Metrics, OVERFLOW_KEY};
use clickmill_schemas::record::{put_varint, take_varint};

use crate::config::{Config, TOTAL};
use crate::pane::Pane;
use crate::table::Table;

/// Partials of windows, one after the other, each a key and a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partials {
    bytes: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Partials {
    /// Appends a window: one partial a dimension, in byte order of the dimensions' names.
    ///
    /// `sums` are a pane's, or those of panes merged.
    pub fn push_window(&mut self, config: &Config, size_ms: i64, start_ms: i64, sums: &Pane) {
        let before_total = config.columns.partition_point(|column| column.name() < TOTAL);
        for (i, (column, table)) in config.columns.iter().zip(&sums.tables).enumerate() {
            if i == before_total && config.total {
                self.push_total(size_ms, start_ms, &sums.total());
            }
            self.push(size_ms, start_ms, column.name(), |value| put_table(value, table));
        }
        if before_total == config.columns.len() && config.total {
            self.push_total(size_ms, start_ms, &sums.total());
        }
    }

    fn push_total(&mut self, size_ms: i64, start_ms: i64, total: &Metrics) {
        self.push(size_ms, start_ms, TOTAL, |value| {
            partial::put_guest_head(value, false, 1);
            partial::put_entry(value, b"", total);
            partial::put_end(value);
        });
    }

    fn push(&mut self, size_ms: i64, start_ms: i64, dimension: &str, put_value: impl FnOnce(&mut Vec<u8>)) {
        partial::put_guest_key(&mut self.bytes, size_ms, start_ms, dimension);
        let key_end = self.bytes.len();
        put_value(&mut self.bytes);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(key_end, value_end)| {
            let pair = (&self.bytes[start..key_end], &self.bytes[key_end..value_end]);
            start = value_end;
            pair
        })
    }

    /// Bytes held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets everything but a moderate buffer.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 1 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.ends.clear();
    }

    /// Appends everything, for a state.
    pub fn save(&self, out: &mut Vec<u8>) {
        put_varint(out, self.ends.len() as i64);
        for (key, value) in self.iter() {
            for part in [key, value] {
                put_varint(out, part.len() as i64);
                out.extend_from_slice(part);
            }
        }
    }

    /// Reads what [`Partials::save`] wrote; `None` where it is malformed.
    #[must_use]
    pub fn load(bytes: &[u8], at: &mut usize) -> Option<Self> {
        let mut loaded = Self::default();
        for _ in 0..u64::try_from(take_varint(bytes, at)?).ok()? {
            let mut take_part = || {
                let len = usize::try_from(take_varint(bytes, at)?).ok()?;
                let part = bytes.get(*at..at.checked_add(len)?)?;
                *at += len;
                loaded.bytes.extend_from_slice(part);
                Some(loaded.bytes.len())
            };
            let ends = (take_part()?, take_part()?);
            loaded.ends.push(ends);
        }
        Some(loaded)
    }
}

/// Entries in byte order of their keys.
fn put_table(value: &mut Vec<u8>, table: &Table) {
    let mut entries: Vec<(&[u8], &Metrics)> = table.rows().collect();
    if let Some(overflow) = table.overflow() {
        entries.push((OVERFLOW_KEY.as_bytes(), overflow));
    }
    entries.sort_unstable_by_key(|(key, _)| *key);
    partial::put_guest_head(value, table.overflow().is_some(), entries.len());
    for (key, sums) in entries {
        partial::put_entry(value, key, sums);
    }
    partial::put_end(value);
}
