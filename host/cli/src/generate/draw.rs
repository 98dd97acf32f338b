//! Drawing a value of a column: by its published share, and beyond the published values from a long tail.
//!
//! A draw maps a uniform 32-bit number to a value in order of rank. Columns that belong together (a site's id, domain
//! and category) are drawn with the same number, so their common values go together and each keeps its own shares.

use super::figures::{Share, Wide};
use super::rng::mix32;

/// Text of a value; copied as 16 bytes, used for its length.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; 16],
    len: u8,
}

impl Text {
    /// Values of the figures are short; what is longer than 16 bytes is cut.
    pub fn new(text: &str) -> Self {
        let len = text.len().min(16);
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { bytes, len: len as u8 }
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Picks an index by weight.
#[derive(Debug)]
pub struct Picker {
    /// `ends[i]` is where index `i` ends in the 32-bit numbers.
    ends: Vec<u64>,
    /// Where to begin the search, by the top 10 bits.
    guide: Vec<u16>,
}

const GUIDE_BITS: u32 = 10;

impl Picker {
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.into_iter().map(u64::from).collect();
        let total: u64 = weights.iter().sum::<u64>().max(1);
        let mut sum = 0;
        let mut ends: Vec<u64> = Vec::with_capacity(weights.len());
        for weight in weights {
            sum += weight;
            ends.push(((u128::from(sum) << 32) / u128::from(total)) as u64);
        }
        let first_past = |low: u64| ends.iter().position(|end| *end > low).unwrap_or(0) as u16;
        let guide = (0..1u64 << GUIDE_BITS).map(|top| first_past(top << (32 - GUIDE_BITS))).collect();
        Self { ends, guide }
    }

    #[inline]
    pub fn pick(&self, u: u32) -> usize {
        let mut index = usize::from(self.guide[(u >> (32 - GUIDE_BITS)) as usize]);
        while self.ends[index] <= u64::from(u) {
            index += 1;
        }
        index
    }

    /// How far `u` is through the range of `index`, from 0 to 1.
    #[inline]
    fn fraction(&self, index: usize, u: u32) -> f64 {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        (u64::from(u) - start) as f64 / (self.ends[index] - start) as f64
    }
}

/// A column whose values and click-through rates are all published.
#[derive(Debug)]
pub struct Known {
    picker: Picker,
    values: Vec<(Text, f64)>,
}

impl Known {
    /// The second part of each value is its click-through rate over `divisor`.
    pub fn new(shares: &[Share], divisor: f64) -> Self {
        let ctr = |s: &Share| f64::from(s.2) / f64::from(s.1.max(1)) / divisor;
        Self {
            picker: Picker::new(shares.iter().map(|s| s.1)),
            values: shares.iter().map(|s| (Text::new(s.0), ctr(s))).collect(),
        }
    }

    #[inline]
    pub fn draw(&self, u: u32) -> (Text, f64) {
        self.values[self.picker.pick(u)]
    }

    #[inline]
    pub fn draw_index(&self, u: u32) -> (usize, f64) {
        let index = self.picker.pick(u);
        (index, self.values[index].1)
    }

    pub fn text(&self, index: usize) -> Text {
        self.values[index].0
    }
}

/// How the values of a tail are written.
#[derive(Clone, Copy, Debug)]
pub enum Tail {
    /// Eight hex digits, another sequence for every salt.
    Hex { salt: u32 },
    /// `first`, `first + step`, …
    Number { first: u32, step: u32 },
}

/// A column with published common values and a long tail of made-up ones.
#[derive(Debug)]
pub struct Tailed {
    picker: Picker,
    head: Vec<Text>,
    tail: Tail,
    tail_values: u32,
    /// 0: the tail's values are equally common; n: the one at rank x is as common as x^(-n/(n+1)).
    steepness: u32,
}

impl Tailed {
    pub fn new(column: &Wide, tail: Tail, steepness: u32) -> Self {
        let head_rows: u32 = column.head.iter().map(|h| h.1).sum();
        let weights = column.head.iter().map(|h| h.1).chain([column.rows.saturating_sub(head_rows)]);
        let tail_values = column.cardinality.saturating_sub(column.head.len() as u32).max(1);
        let head = column.head.iter().map(|h| Text::new(h.0)).collect();
        Self { picker: Picker::new(weights), head, tail, tail_values, steepness }
    }

    /// The value that `u` falls on.
    #[inline]
    pub fn draw(&self, u: u32) -> Text {
        let index = self.picker.pick(u);
        if let Some(text) = self.head.get(index) {
            return *text;
        }
        let fraction = self.picker.fraction(index, u);
        let mut skewed = fraction;
        for _ in 0..self.steepness {
            skewed *= fraction;
        }
        let rank = (skewed * f64::from(self.tail_values)) as u32;
        match self.tail {
            Tail::Hex { salt } => hex(mix32(rank ^ salt)),
            Tail::Number { first, step } => number(first + rank * step),
        }
    }
}

#[inline]
fn hex(n: u32) -> Text {
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().take(8).enumerate() {
        *byte = b"0123456789abcdef"[((n >> (28 - 4 * i)) & 15) as usize];
    }
    Text { bytes, len: 8 }
}

#[inline]
fn number(mut n: u32) -> Text {
    let mut digits = [0; 10];
    let mut at = 10;
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    let mut bytes = [0; 16];
    bytes[..10 - at].copy_from_slice(&digits[at..]);
    Text { bytes, len: (10 - at) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_picked_as_often_as_its_weight_says() {
        let picker = Picker::new([1, 0, 6, 3]);
        let mut counts = [0u32; 4];
        for i in 0..1_000_000u32 {
            counts[picker.pick(i * 4294)] += 1;
        }
        for (count, expected) in counts.iter().zip([100_000, 0, 600_000, 300_000]) {
            assert!(count.abs_diff(expected) < 300, "{counts:?}");
        }
        assert_eq!((picker.pick(0), picker.pick(u32::MAX)), (0, 3));
    }

    #[test]
    fn a_tail_stays_within_its_cardinality() {
        let column = Wide { rows: 100, cardinality: 12, head: &[("a", 40), ("b", 10)] };
        let tailed = Tailed::new(&column, Tail::Number { first: 7, step: 3 }, 2);
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..100_000u32 {
            seen.insert(String::from_utf8(tailed.draw(i * 42_949).as_bytes().to_vec()).unwrap());
        }
        let tail: Vec<String> = (0..10).map(|i| (7 + i * 3).to_string()).collect();
        assert_eq!(seen.len(), 12);
        assert!(tail.iter().all(|t| seen.contains(t)));
        assert_eq!(number(0).as_bytes(), b"0");
        assert_eq!(hex(0x00ab_cdef).as_bytes(), b"00abcdef");
    }
}
