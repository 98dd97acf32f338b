//! The sums of one keyed dimension in one pane: a small open-addressing table from key to [`Metrics`].
//!
//! Owns how keys are found and when they are too many. It must not know time or windows. The law: which keys have a
//! row of their own depends on the order of the calls and on the limits alone, and the rows and the overflow bucket
//! together are the sum of everything added.

use clickmill_schemas::partial::{Metrics, OVERFLOW_KEY};

use crate::metrics::Accumulate;
use crate::probe::{Key, Probe};

/// What a key costs beside its own bytes: its row and its share of the index.
pub const KEY_OVERHEAD_BYTES: u64 = 80;

/// Limits on the keys of a table, and what is left of the bytes that all tables share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBudget {
    pub max_keys: usize,
    /// Bytes of one table's keys, each with [`KEY_OVERHEAD_BYTES`].
    pub max_table_bytes: u64,
    /// The same over all tables; goes down as keys are added.
    pub left_bytes: u64,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Row number + 1, or 0 where empty; its length is a power of two, at least four times the rows, so that nearly
    /// every look-up ends where it begins: a processor cannot foresee the others.
    index: Vec<u32>,
    rows: Vec<Row>,
    /// The keys' text, one after the other.
    text: Vec<u8>,
    overflow: Option<Metrics>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    probe: Probe,
    /// Place of the key in `text`.
    start: u32,
    len: u32,
    sums: Metrics,
}

const INDEX_MIN: usize = 32;

impl Table {
    /// Adds a record's metrics to its key's row, or to the overflow bucket where there is no room for its key.
    #[inline]
    pub fn add(&mut self, key: Key<'_>, metrics: &Metrics, budget: &mut KeyBudget) {
        match self.row(key, budget) {
            Some(row) => self.add_at(row, metrics),
            None => self.add_overflow(metrics),
        }
    }

    /// The number of a key's row, made (with nothing in it) where it is new; `None` where there is no room for it.
    #[inline]
    pub fn row(&mut self, key: Key<'_>, budget: &mut KeyBudget) -> Option<usize> {
        let probe = Probe::new(key);
        self.find(probe, key).or_else(|| self.new_row(probe, key, budget))
    }

    /// Adds to a row, by its number.
    #[inline]
    pub fn add_at(&mut self, row: usize, metrics: &Metrics) {
        self.rows[row].sums.accumulate(metrics);
    }

    /// Adds to the overflow bucket.
    #[cold]
    pub fn add_overflow(&mut self, metrics: &Metrics) {
        self.overflow.get_or_insert_default().accumulate(metrics);
    }

    #[cold]
    #[inline(never)]
    fn new_row(&mut self, probe: Probe, key: Key<'_>, budget: &mut KeyBudget) -> Option<usize> {
        let digits;
        let text = match key {
            Key::Text(text) => text,
            Key::Integer(value) => {
                digits = value.to_string();
                digits.as_bytes()
            }
        };
        let bytes = key_bytes(text.len());
        // A user's key that is spelt like the bucket is counted in it, and the flag says so.
        let room = text != OVERFLOW_KEY.as_bytes()
            && self.rows.len() < budget.max_keys
            && self.key_bytes() + bytes <= budget.max_table_bytes
            && bytes <= budget.left_bytes;
        if !room {
            return None;
        }
        budget.left_bytes -= bytes;
        self.insert(probe, text, Metrics::default());
        Some(self.rows.len() - 1)
    }

    /// Adds all rows and the overflow bucket of another table of the same dimension, without limits.
    pub fn merge(&mut self, other: &Self) {
        for row in &other.rows {
            let text = other.text_of(row);
            match self.find(row.probe, Key::Text(text)) {
                Some(found) => self.add_at(found, &row.sums),
                None => self.insert(row.probe, text, row.sums),
            }
        }
        if let Some(overflow) = &other.overflow {
            self.overflow.get_or_insert_default().accumulate(overflow);
        }
    }

    /// Puts a stored row back; `false` where the key is there already.
    #[must_use]
    pub fn restore_row(&mut self, key: Key<'_>, text: &[u8], sums: Metrics) -> bool {
        let probe = Probe::new(key);
        let new = self.find(probe, key).is_none();
        if new {
            self.insert(probe, text, sums);
        }
        new
    }

    /// Puts a stored overflow bucket back.
    pub fn restore_overflow(&mut self, sums: Metrics) {
        self.overflow = Some(sums);
    }

    /// The keys that have a row, with their sums, in order of their first record.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[u8], &Metrics)> {
        self.rows.iter().map(|row| (self.text_of(row), &row.sums))
    }

    /// What had no row of its own; present where the rows are lower bounds.
    #[must_use]
    pub const fn overflow(&self) -> Option<&Metrics> {
        self.overflow.as_ref()
    }

    /// Everything that was added.
    #[must_use]
    pub fn total(&self) -> Metrics {
        let mut total = self.overflow.unwrap_or_default();
        self.rows.iter().for_each(|row| total.accumulate(&row.sums));
        total
    }

    /// Bytes of the keys, each with [`KEY_OVERHEAD_BYTES`].
    #[must_use]
    pub const fn key_bytes(&self) -> u64 {
        self.text.len() as u64 + self.rows.len() as u64 * KEY_OVERHEAD_BYTES
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.index.fill(0);
        self.rows.clear();
        self.text.clear();
        self.overflow = None;
    }

    /// The number of a key's row. `key` is looked at for long texts only.
    #[inline]
    fn find(&self, probe: Probe, key: Key<'_>) -> Option<usize> {
        if self.index.is_empty() {
            return None;
        }
        let mut place = probe.place(self.index.len());
        loop {
            let number = (self.index[place] as usize).checked_sub(1)?;
            let row = &self.rows[number];
            if row.probe == probe && (probe.is_exact() || Key::Text(self.text_of(row)) == key) {
                return Some(number);
            }
            place = (place + 1) & (self.index.len() - 1);
        }
    }

    fn insert(&mut self, probe: Probe, text: &[u8], sums: Metrics) {
        // The byte limits of a table are under 4 GiB (`Config` sees to it), and so is a merge of five.
        let (start, len) = (self.text.len() as u32, text.len() as u32);
        self.text.extend_from_slice(text);
        self.rows.push(Row { probe, start, len, sums });
        if self.rows.len() * 4 > self.index.len() {
            let places = (self.rows.len() * 8).next_power_of_two().max(INDEX_MIN);
            self.index.clear();
            self.index.resize(places, 0);
            for number in 0..self.rows.len() {
                self.link(number);
            }
        } else {
            self.link(self.rows.len() - 1);
        }
    }

    fn link(&mut self, number: usize) {
        let mask = self.index.len() - 1;
        let mut place = self.rows[number].probe.place(self.index.len());
        while self.index[place] != 0 {
            place = (place + 1) & mask;
        }
        self.index[place] = number as u32 + 1;
    }

    #[inline]
    fn text_of(&self, row: &Row) -> &[u8] {
        &self.text[row.start as usize..][..row.len as usize]
    }
}

/// What a key of this length takes of a [`KeyBudget`].
#[must_use]
pub const fn key_bytes(text_len: usize) -> u64 {
    text_len as u64 + KEY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ONE: Metrics = Metrics { impressions: 1, clicks: 0, conversions: 0, cost_micros: 3, revenue_micros: 0 };
    const WIDE: KeyBudget = KeyBudget { max_keys: 10_000, max_table_bytes: 1 << 20, left_bytes: 1 << 30 };

    fn impressions(table: &Table) -> BTreeMap<String, i64> {
        table.rows().map(|(key, sums)| (String::from_utf8(key.to_vec()).unwrap(), sums.impressions)).collect()
    }

    #[test]
    fn a_table_at_its_limit_of_keys_counts_known_keys_and_overflows_new_ones() {
        let mut table = Table::default();
        let mut budget = KeyBudget { max_keys: 2, ..WIDE };
        for key in ["a", "b", "c", "a", "c", "b"] {
            table.add(Key::Text(key.as_bytes()), &ONE, &mut budget);
        }
        assert_eq!(impressions(&table), BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 2)]));
        assert_eq!(table.overflow().unwrap().impressions, 2);
    }

    #[test]
    fn a_key_that_would_break_a_byte_budget_overflows_and_a_shorter_one_still_fits() {
        for (table_bytes, all_bytes) in [(key_bytes(10), 1 << 20), (1 << 20, key_bytes(10))] {
            let mut table = Table::default();
            let mut budget = KeyBudget { max_keys: 9, max_table_bytes: table_bytes, left_bytes: all_bytes };
            table.add(Key::Text(b"eleven byte"), &ONE, &mut budget);
            table.add(Key::Text(b"ten bytes!"), &ONE, &mut budget);
            table.add(Key::Text(b""), &ONE, &mut budget);
            assert_eq!(impressions(&table), BTreeMap::from([("ten bytes!".to_owned(), 1)]));
            assert_eq!(table.overflow().unwrap().impressions, 2);
            assert_eq!(budget.left_bytes, all_bytes - key_bytes(10));
        }
    }

    #[test]
    fn a_users_key_spelt_like_the_overflow_bucket_is_counted_in_it_and_flags() {
        let mut table = Table::default();
        table.add(Key::Text(OVERFLOW_KEY.as_bytes()), &ONE, &mut WIDE.clone());
        assert_eq!(table.rows().len(), 0);
        assert_eq!(table.overflow(), Some(&ONE));
    }

    #[test]
    fn keys_that_differ_in_length_or_padding_only_are_different() {
        let mut table = Table::default();
        let keys = ["", "\0", "\0\0", "a", "a\0", "12345678", "12345678\0", "123456789012345678"];
        for key in keys {
            table.add(Key::Text(key.as_bytes()), &ONE, &mut WIDE.clone());
        }
        assert_eq!(impressions(&table).len(), keys.len());
    }

    #[test]
    fn long_keys_with_the_same_hash_are_told_apart_by_their_text() {
        // The last, partial word is XORed in: once the hashes of two heads agree in their top byte, seven bytes of
        // tail make them equal.
        let with_head = |n: u64| [n.to_le_bytes().as_slice(), &[0; 7]].concat();
        let mut x = with_head(0);
        let differs = |y: &[u8]| Probe::new(Key::Text(&with_head(0))).word ^ Probe::new(Key::Text(y)).word;
        let y = (1..).map(with_head).find(|y| differs(y) >> 56 == 0).unwrap();
        x[8..].copy_from_slice(&differs(&y).to_le_bytes()[..7]);
        assert_eq!(Probe::new(Key::Text(&x)), Probe::new(Key::Text(&y)));
        let mut table = Table::default();
        for key in [&x, &y, &x] {
            table.add(Key::Text(key), &ONE, &mut WIDE.clone());
        }
        assert_eq!(table.rows().map(|(_, sums)| sums.impressions).collect::<Vec<_>>(), [2, 1]);
    }

    proptest! {
        #[test]
        fn texts_count_as_a_map_does(keys in prop::collection::vec("[a-c]{0,3}|[a-b]{8}|[ab]{9,20}", 0..300)) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for key in &keys {
                table.add(Key::Text(key.as_bytes()), &ONE, &mut WIDE.clone());
                *model.entry(key.clone()).or_default() += 1;
            }
            prop_assert_eq!(impressions(&table), model);
        }

        #[test]
        fn integers_count_as_a_map_does(keys in prop::collection::vec(prop_oneof![-3i64..3, any::<i64>()], 0..300)) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for key in &keys {
                table.add(Key::Integer(*key), &ONE, &mut WIDE.clone());
                *model.entry(key.to_string()).or_default() += 1;
            }
            prop_assert_eq!(impressions(&table), model);
        }

        #[test]
        fn a_merge_equals_counting_in_one_table(
            keys in prop::collection::vec(("[a-d]{0,2}|[ab]{9}", 0usize..5), 0..200),
        ) {
            let mut parts: Vec<Table> = vec![Table::default(); 5];
            let mut whole = Table::default();
            for (key, part) in &keys {
                parts[*part].add(Key::Text(key.as_bytes()), &ONE, &mut WIDE.clone());
                whole.add(Key::Text(key.as_bytes()), &ONE, &mut WIDE.clone());
            }
            let mut merged = Table::default();
            parts.iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(impressions(&merged), impressions(&whole));
        }
    }
}
