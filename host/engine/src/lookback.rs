//! Looking back: the records that a module is shown before the first one that it transforms.
//!
//! Fluvio shows them once, when a stream begins. Here an instance may also be renewed or restored, and nothing may come of
//! that: so the newest records are kept, are part of the stage's state, and every fresh instance is shown them. What a
//! module makes of them is its own; that nothing before them matters is for the canary to find out.

use std::collections::VecDeque;
use std::time::Duration;

use clickmill_schemas::Offset;
use clickmill_schemas::record::{COUNT_LEN, Record, Records, put_record};

use crate::PassedRecord;
use crate::abi::{self, Frame};
use crate::source::{BatchSource, Entry, Unpacked};

/// Most records that a stage may look back on: they are in each of its saved states.
pub(crate) const MOST: u64 = 10_000;

/// How far a stage looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookback {
    /// Newest records; 0, where there is an age, for as many as are of it.
    pub last: u64,
    /// Not those that are older than this, against the newest record's timestamp: no clock has a say.
    pub age: Option<Duration>,
}

impl Lookback {
    /// Records to keep; `None` where that is none or too many.
    pub(crate) fn most(&self) -> Option<usize> {
        match self.last {
            0 if self.age.is_some() => Some(MOST as usize),
            last @ 1..=MOST => Some(last as usize),
            _ => None,
        }
    }
}

/// The newest records of the input, as a stage will see them when it looks back.
#[derive(Debug)]
pub(crate) struct Recent {
    most: usize,
    age_ms: Option<i64>,
    records: VecDeque<PassedRecord>,
}

impl Recent {
    pub(crate) fn new(lookback: &Lookback, most: usize) -> Self {
        let age_ms = lookback.age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        Self { most, age_ms, records: VecDeque::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes in these records of a batch, the next ones.
    pub(crate) fn push(&mut self, source: &dyn BatchSource, batch: &Unpacked, entries: &[Entry]) {
        let set = batch.pack(&entries[entries.len().saturating_sub(self.most)..]);
        // They were read when the batch was taken apart.
        for record in Records::new(&set).into_iter().flatten().flatten() {
            self.push_record(source.base_offset(), source.base_timestamp_ms(), &record);
        }
        self.forget_old();
    }

    fn push_record(&mut self, base: Offset, base_timestamp_ms: i64, record: &Record<'_>) {
        if self.records.len() == self.most {
            self.records.pop_front();
        }
        self.records.push_back(PassedRecord {
            offset: base.plus(record.offset_delta.unsigned_abs()),
            timestamp_ms: base_timestamp_ms.wrapping_add(record.timestamp_delta_ms),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
        });
    }

    fn forget_old(&mut self) {
        let Some((age, newest)) = self.age_ms.zip(self.records.back().map(|record| record.timestamp_ms)) else {
            return;
        };
        self.records.retain(|record| record.timestamp_ms >= newest.saturating_sub(age));
    }

    /// The records as the input of a call, which is also how they are saved.
    pub(crate) fn input(&self) -> Option<Vec<u8>> {
        let (base, base_timestamp_ms) = self.records.front().map_or((0, 0), |r| (r.offset.0, r.timestamp_ms));
        let mut set = (self.records.len() as u32).to_be_bytes().to_vec();
        for record in &self.records {
            put_record(
                &mut set,
                &Record {
                    offset_delta: record.offset.0.wrapping_sub(base).cast_signed(),
                    timestamp_delta_ms: record.timestamp_ms.wrapping_sub(base_timestamp_ms),
                    key: record.key.as_deref(),
                    value: &record.value,
                },
            );
        }
        let mut input = vec![0; abi::HEAD_LEN + set.len() + abi::TAIL_LEN];
        let frame = Frame { base_offset: base.cast_signed(), base_timestamp_ms };
        frame.write(&mut input)?.copy_from_slice(&set);
        Some(input)
    }

    /// Puts back what [`Recent::input`] gave; `None` where it did not.
    pub(crate) fn load(&mut self, input: &[u8]) -> Option<()> {
        self.records.clear();
        let (base, rest) = input.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (set, base_timestamp_ms) = rest.split_last_chunk::<{ abi::TAIL_LEN }>()?;
        if set.len() < COUNT_LEN || set.len() != u32::from_be_bytes(*len) as usize {
            return None;
        }
        for record in Records::new(set).ok()? {
            self.push_record(Offset(u64::from_be_bytes(*base)), i64::from_be_bytes(*base_timestamp_ms), &record.ok()?);
        }
        self.forget_old();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(most: usize, age: Option<u64>) -> Recent {
        let lookback = Lookback { last: most as u64, age: age.map(Duration::from_millis) };
        Recent::new(&lookback, lookback.most().unwrap())
    }

    fn push(recent: &mut Recent, offset: u64, timestamp_ms: i64) {
        let record = Record { offset_delta: 0, timestamp_delta_ms: 0, key: Some(b"k"), value: b"v" };
        recent.push_record(Offset(offset), timestamp_ms, &record);
        recent.forget_old();
    }

    fn offsets(recent: &Recent) -> Vec<u64> {
        recent.records.iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn the_newest_records_are_kept_and_read_back() {
        let mut kept = recent(3, None);
        [5, 6, 9, 11].into_iter().for_each(|offset| push(&mut kept, offset, 7 - offset as i64));
        assert_eq!(offsets(&kept), [6, 9, 11]);
        let mut read = recent(3, None);
        read.load(&kept.input().unwrap()).unwrap();
        assert_eq!(read.records, kept.records);
        let mut fewer = recent(2, None);
        fewer.load(&kept.input().unwrap()).unwrap();
        assert_eq!(offsets(&fewer), [9, 11]);
        let empty = recent(3, None).input().unwrap();
        assert_eq!(empty[8..16], [0, 0, 0, 4, 0, 0, 0, 0]);
        read.load(&empty).unwrap();
        assert!(read.is_empty());
    }

    #[test]
    fn age_counts_from_the_newest_record_and_not_from_a_clock() {
        let mut kept = recent(0, Some(10));
        [(1, 100), (2, 105), (3, 111), (4, 90)].into_iter().for_each(|(offset, ts)| push(&mut kept, offset, ts));
        assert_eq!(offsets(&kept), [2, 3, 4], "what the newest by offset allows");
        push(&mut kept, 5, 112);
        assert_eq!(offsets(&kept), [2, 3, 5]);
    }

    #[test]
    fn no_cut_of_a_saved_lookback_reads() {
        let mut kept = recent(3, None);
        [5, 6].into_iter().for_each(|offset| push(&mut kept, offset, 1));
        let input = kept.input().unwrap();
        for cut in 0..input.len() {
            assert_eq!(recent(3, None).load(&input[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_and_too_much_are_no_lookback() {
        for (last, age, most) in [
            (0, None, None),
            (1, None, Some(1)),
            (MOST, None, Some(10_000)),
            (MOST + 1, None, None),
            (0, Some(Duration::ZERO), Some(10_000)),
            (7, Some(Duration::ZERO), Some(7)),
        ] {
            assert_eq!(Lookback { last, age }.most(), most);
        }
    }
}
