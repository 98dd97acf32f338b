//! A sparse index of one segment: where in the file some of its frames begin.
//!
//! In memory only, filled as frames are appended or walked over; about 16 bytes per 256 KiB of log.

use clickmill_schemas::Offset;

use super::segment;

/// Bytes of log between two entries.
const STRIDE: u64 = 256 << 10;

/// Some frames of a segment, by offset; always the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SparseIndex {
    entries: Vec<(Offset, u64)>,
}

impl SparseIndex {
    pub(super) fn new(base: Offset) -> Self {
        Self { entries: vec![(base, segment::HEADER_LEN)] }
    }

    /// A frame begins at `position`; kept if far enough from the last one kept.
    pub(super) fn note(&mut self, base: Offset, position: u64) {
        if self.entries.last().is_none_or(|(_, last)| position >= last + STRIDE) {
            self.entries.push((base, position));
        }
    }

    /// The last known frame that begins at or below `offset`: its base and position.
    pub(super) fn at_or_below(&self, offset: Offset) -> (Offset, u64) {
        let after = self.entries.partition_point(|(base, _)| *base <= offset);
        self.entries.get(after.saturating_sub(1)).copied().unwrap_or((offset, segment::HEADER_LEN))
    }

    /// Forgets frames at or behind `position`, but for the first.
    pub(super) fn cut(&mut self, position: u64) {
        let keep = self.entries.partition_point(|(_, p)| *p < position).max(1);
        self.entries.truncate(keep);
    }

    /// Stretches of the file from entry to entry, in order, up to `limit`: base, from, to.
    pub(super) fn stretches(&self, limit: u64) -> Vec<(Offset, u64, u64)> {
        let ends = self.entries.iter().skip(1).map(|(_, position)| *position).chain([limit]);
        let pairs = self.entries.iter().zip(ends).filter(|((_, from), _)| *from < limit);
        pairs.map(|((base, from), to)| (*base, *from, to.min(limit))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_found_at_the_last_entry_at_or_below_it() {
        let mut index = SparseIndex::new(Offset(100));
        for n in 1..100u64 {
            index.note(Offset(100 + n * 10), segment::HEADER_LEN + n * 50_000);
        }
        assert_eq!(index.at_or_below(Offset(100)), (Offset(100), segment::HEADER_LEN));
        assert_eq!(index.at_or_below(Offset(159)), (Offset(100), segment::HEADER_LEN));
        assert_eq!(index.at_or_below(Offset(160)), (Offset(160), segment::HEADER_LEN + 300_000));
        index.cut(segment::HEADER_LEN + 300_000);
        assert_eq!(index.at_or_below(Offset(1_000)), (Offset(100), segment::HEADER_LEN));
        index.cut(0);
        assert_eq!(index.at_or_below(Offset(1_000)), (Offset(100), segment::HEADER_LEN));
    }

    #[test]
    fn stretches_cover_the_file_up_to_the_limit_without_gaps() {
        let mut index = SparseIndex::new(Offset(0));
        for n in 1..50u64 {
            index.note(Offset(n), segment::HEADER_LEN + n * 100_000);
        }
        for limit in [segment::HEADER_LEN, 70_000, 1_000_000, 9_000_000] {
            let mut at = segment::HEADER_LEN;
            for (_, from, to) in index.stretches(limit) {
                assert_eq!(from, at);
                at = to;
            }
            assert_eq!(at, limit.max(segment::HEADER_LEN));
        }
    }
}
