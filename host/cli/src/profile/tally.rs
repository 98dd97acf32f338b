//! What is counted while the file goes by.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::sketch::Sketch;
use crate::produce::input::columns::{CLICK, HOUR, WIDTH};
use crate::produce::input::rows::Row;

/// Distinct values of a column that are counted one by one. Later ones are only counted together.
pub const COUNTED_VALUES: usize = 1 << 16;
/// Bad lines that are named.
pub const NAMED_BAD_LINES: usize = 10;

/// Rows and clicks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub rows: u64,
    pub clicks: u64,
}

impl Count {
    fn add(&mut self, clicked: bool) {
        self.rows += 1;
        self.clicks += u64::from(clicked);
    }

    /// Clicks over rows; 0 without rows.
    pub fn ctr(self) -> f64 {
        self.clicks as f64 / self.rows.max(1) as f64
    }
}

/// Takes a 64-bit hash for itself.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// One column.
#[derive(Default)]
pub struct Column {
    /// By the value's hash: 65,536 of 2^64 collide once in eight billion files.
    values: HashMap<u64, (Box<[u8]>, Count), BuildHasherDefault<Identity>>,
    /// Rows of values that are not in `values`.
    pub others: Count,
    pub empty: u64,
    sketch: Sketch,
}

impl Column {
    #[inline]
    fn add(&mut self, value: &[u8], clicked: bool) {
        self.empty += u64::from(value.is_empty());
        let hash = twox_hash::XxHash3_64::oneshot(value);
        if let Some((_, count)) = self.values.get_mut(&hash) {
            count.add(clicked);
        } else if self.values.len() < COUNTED_VALUES {
            self.sketch.add(hash);
            self.values.insert(hash, (value.into(), Count { rows: 1, clicks: u64::from(clicked) }));
        } else {
            self.sketch.add(hash);
            self.others.add(clicked);
        }
    }

    /// Distinct values, and whether that is exact.
    pub fn distinct(&self) -> (u64, bool) {
        if self.others.rows == 0 { (self.values.len() as u64, true) } else { (self.sketch.estimate(), false) }
    }

    /// The counted values, the most common first, then by value.
    pub fn by_rows(&self) -> Vec<(&[u8], Count)> {
        let mut values: Vec<(&[u8], Count)> = self.values.values().map(|(value, count)| (&**value, *count)).collect();
        values.sort_unstable_by(|a, b| b.1.rows.cmp(&a.1.rows).then(a.0.cmp(b.0)));
        values
    }

    /// Rows of one value, where it is counted.
    pub fn rows_of(&self, value: &[u8]) -> u64 {
        self.values.get(&twox_hash::XxHash3_64::oneshot(value)).map_or(0, |(_, count)| count.rows)
    }
}

/// The whole file.
#[derive(Default)]
pub struct Tally {
    pub total: Count,
    pub columns: [Column; WIDTH],
    pub bad_lines: u64,
    /// The first of them: line and reason.
    pub named_bad_lines: Vec<(u64, String)>,
    pub blank_lines: u64,
    /// Rows whose `click` is neither 0 nor 1.
    pub odd_clicks: u64,
    pub cut: Option<String>,
}

impl Tally {
    pub fn row(&mut self, row: &Row<'_>) {
        let click = row.field(CLICK);
        let clicked = click == b"1";
        self.odd_clicks += u64::from(!clicked && click != b"0");
        self.total.add(clicked);
        for (place, column) in self.columns.iter_mut().enumerate() {
            column.add(row.field(place), clicked);
        }
    }

    pub fn bad(&mut self, line: u64, why: &str) {
        self.bad_lines += 1;
        if self.named_bad_lines.len() < NAMED_BAD_LINES {
            self.named_bad_lines.push((line, why.to_owned()));
        }
    }

    /// Counts of the hours, in order of time where they are hours.
    pub fn hours(&self) -> BTreeMap<String, Count> {
        let named = |(value, count): (&[u8], Count)| (String::from_utf8_lossy(value).into_owned(), count);
        self.columns[HOUR].by_rows().into_iter().map(named).collect()
    }
}
