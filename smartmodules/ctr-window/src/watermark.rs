//! The watermark of one partition: how far event time has come, and which records may move it.
//!
//! Owns the far-future rule (in full in the README of this folder). It sees nothing but the records' timestamps, in
//! their order; it must not know windows, the clock, or batches. The law: its state is a function of the sequence of
//! calls of [`Watermark::observe`] and [`Watermark::advance`], and the watermark never falls.

use crate::pane::{END_MS, FIRST_MS};

/// What decides how the watermark moves. All times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The watermark stays this much behind the greatest timestamp.
    pub out_of_orderness_ms: i64,
    /// A window closes once the watermark is this much past its end.
    pub allowed_lateness_ms: i64,
    /// A record that is more than this ahead of the watermark is *far* and does not move it alone.
    pub future_limit_ms: i64,
    /// So many remembered records near a far one let it move the watermark.
    pub future_quorum: usize,
    /// So many records are remembered.
    pub future_window: usize,
}

/// No watermark yet.
const NONE: i64 = i64::MIN;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    rule: Rule,
    value: i64,
    /// `value` less the lateness: what ends at or before is closed.
    closed_before: i64,
    /// `value` plus the limit: what is greater is far ahead.
    far_after: i64,
    recent: Recent,
}

impl Watermark {
    /// Before the first record.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { rule, value: NONE, closed_before: NONE, far_after: NONE, recent: Recent::new(rule.future_window) }
    }

    /// As it was, from what [`Watermark::get`] and [`Watermark::recent`] said then; `None` where they cannot have.
    #[must_use]
    pub fn restore(rule: Rule, value: Option<i64>, recent: &[i64]) -> Option<Self> {
        let mut restored = Self::new(rule);
        for ts_ms in recent {
            restored.recent.push(*ts_ms);
        }
        if let Some(value) = value {
            let least = FIRST_MS - rule.out_of_orderness_ms;
            restored.raise(Some(value).filter(|v| (least..=END_MS).contains(v))?);
        }
        let in_time = recent.iter().all(|ts_ms| (FIRST_MS..END_MS).contains(ts_ms));
        (in_time && recent.len() <= rule.future_window).then_some(restored)
    }

    /// Epoch milliseconds; none yet before the first two records that agree.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        (self.value != NONE).then_some(self.value)
    }

    /// What ends at or before this is closed, epoch milliseconds; `i64::MIN` while there is no watermark.
    #[must_use]
    #[inline]
    pub const fn closed_before(&self) -> i64 {
        self.closed_before
    }

    /// What is greater than this is far ahead, epoch milliseconds; everything is, while there is no watermark.
    #[must_use]
    #[inline]
    pub const fn far_after(&self) -> i64 {
        self.far_after
    }

    /// The timestamps that are remembered, oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = i64> + '_ {
        self.recent.iter()
    }

    /// The next record of the partition, whatever its fate, from [`FIRST_MS`] on and before [`END_MS`]. Says whether the
    /// watermark moved.
    #[inline]
    pub fn observe(&mut self, ts_ms: i64) -> bool {
        self.recent.push(ts_ms);
        if ts_ms > self.far_after {
            return self.weigh(ts_ms);
        }
        self.raise_behind(ts_ms)
    }

    /// From now on the watermark is at least this, up to [`END_MS`]; what is before [`FIRST_MS`] is no watermark. Says
    /// whether it moved.
    pub fn advance(&mut self, watermark_ms: i64) -> bool {
        let watermark_ms = watermark_ms.min(END_MS);
        let moves = watermark_ms > self.value && watermark_ms >= FIRST_MS;
        if moves {
            self.raise(watermark_ms);
        }
        moves
    }

    #[inline]
    fn raise_behind(&mut self, ts_ms: i64) -> bool {
        let value = ts_ms - self.rule.out_of_orderness_ms;
        let moves = value > self.value;
        if moves {
            self.raise(value);
        }
        moves
    }

    #[inline]
    fn raise(&mut self, value: i64) {
        self.value = value;
        self.closed_before = value - self.rule.allowed_lateness_ms;
        self.far_after = value + self.rule.future_limit_ms;
    }

    /// A far record: whether what is remembered speaks for it, or else for the stream's having moved on.
    #[cold]
    #[inline(never)]
    fn weigh(&mut self, ts_ms: i64) -> bool {
        let Some(target) = self.agreed(ts_ms).or_else(|| self.moved_on()) else {
            return false;
        };
        let moved = self.raise_behind(target);
        // Remembered records that are in range by now count as if they came now: the same watermark as if the stream
        // had been in range all along.
        while let Some(next) = self.recent.iter().filter(|r| *r <= self.far_after).max() {
            if !self.raise_behind(next) {
                break;
            }
        }
        moved
    }

    /// `ts_ms` itself, where enough remembered records lie within the limit of it. While there is no watermark one
    /// other record is enough, but not a copy: a producer that retries sends the same bad record twice.
    fn agreed(&self, ts_ms: i64) -> Option<i64> {
        let limit = self.rule.future_limit_ms.unsigned_abs();
        let near = self.recent.iter().filter(|r| r.abs_diff(ts_ms) <= limit);
        let agreed = near.clone().count() >= self.rule.future_quorum
            || (self.value == NONE && near.into_iter().any(|r| r != ts_ms));
        agreed.then_some(ts_ms)
    }

    /// The least far timestamp among the newest `2 * future_quorum`, where half of these are far: a stream too thin to
    /// have a quorum within the limit of one record.
    fn moved_on(&self) -> Option<i64> {
        let newest = self.rule.future_quorum.saturating_mul(2);
        let far = self.recent.iter().rev().take(newest).filter(|r| *r > self.far_after);
        let enough = far.clone().count() >= self.rule.future_quorum;
        far.min().filter(|_| enough)
    }
}

/// The newest timestamps, in a ring.
#[derive(Clone, Debug)]
struct Recent {
    ring: Vec<i64>,
    capacity: usize,
    /// Where the next one goes; the oldest one's place once the ring is full.
    next: usize,
}

impl Recent {
    fn new(capacity: usize) -> Self {
        Self { ring: Vec::with_capacity(capacity), capacity, next: 0 }
    }

    #[inline]
    fn push(&mut self, ts_ms: i64) {
        match self.ring.get_mut(self.next) {
            Some(oldest) => *oldest = ts_ms,
            None => self.ring.push(ts_ms),
        }
        self.next += 1;
        if self.next == self.capacity {
            self.next = 0;
        }
    }

    /// Oldest first.
    fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        // While it fills, `next` is its length and the first half is empty.
        let n = self.ring.len();
        (0..n).map(move |i| {
            let at = self.next + i;
            self.ring[if at < n { at } else { at - n }]
        })
    }
}

impl PartialEq for Recent {
    fn eq(&self, other: &Self) -> bool {
        self.capacity == other.capacity && self.iter().eq(other.iter())
    }
}

impl Eq for Recent {}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        out_of_orderness_ms: 10_000,
        allowed_lateness_ms: 60_000,
        future_limit_ms: HOUR,
        future_quorum: 100,
        future_window: 1_000,
    };
    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    const START: i64 = 1_413_849_600_000;
    const YEAR_2100: i64 = 4_102_444_800_000;

    fn fed(timestamps: impl IntoIterator<Item = i64>) -> Watermark {
        let mut watermark = Watermark::new(RULE);
        for ts_ms in timestamps {
            watermark.observe(ts_ms);
        }
        watermark
    }

    /// `n` records, a second apart.
    fn seconds(from: i64, n: i64) -> impl Iterator<Item = i64> + Clone {
        (0..n).map(move |i| from + i * SECOND)
    }

    #[test]
    fn the_second_record_of_a_usual_stream_sets_the_watermark_to_the_greater_of_the_two() {
        assert_eq!(fed([START]).get(), None);
        assert_eq!(fed([START, START + 5 * SECOND]).get(), Some(START - 5 * SECOND));
        assert_eq!(fed([START + 5 * SECOND, START]).get(), Some(START - 5 * SECOND));
    }

    #[test]
    fn one_event_from_2100_moves_nothing_wherever_it_stands() {
        let clean = fed(seconds(START, 50)).get();
        for place in 0..=50 {
            let mut stream: Vec<i64> = seconds(START, 50).collect();
            stream.insert(place, YEAR_2100);
            assert_eq!(fed(stream).get(), clean, "at {place}");
        }
    }

    #[test]
    fn a_first_record_from_2100_that_its_producer_sends_again_and_again_moves_nothing() {
        let copies = std::iter::repeat_n(YEAR_2100, 60);
        assert_eq!(fed(copies.chain(seconds(START, 3))).get(), Some(START - 8 * SECOND));
    }

    #[test]
    fn ninety_nine_events_from_2100_among_a_thousand_move_nothing() {
        let usual = seconds(START, 3_000).enumerate();
        let one_in_eleven =
            usual.flat_map(|(i, ts)| [ts].into_iter().chain((i % 10 == 7).then_some(YEAR_2100 + i as i64)));
        assert_eq!(fed(one_in_eleven).get(), Some(START + 2_989 * SECOND));
        let burst = seconds(START, 901).chain(seconds(YEAR_2100, 99));
        assert_eq!(fed(burst).get(), Some(START + 890 * SECOND));
    }

    #[test]
    fn a_hundred_events_from_2100_among_a_thousand_are_believed() {
        let burst = seconds(START, 900).chain(seconds(YEAR_2100, 100));
        assert_eq!(fed(burst).get(), Some(YEAR_2100 + 89 * SECOND));
    }

    #[test]
    fn after_a_gap_of_two_days_the_hundredth_record_moves_the_watermark_as_if_there_had_been_no_gap() {
        let mut watermark = fed(seconds(START, 500));
        let before = watermark.get();
        let after_gap = START + 2 * DAY;
        for ts_ms in seconds(after_gap, 99) {
            assert!(!watermark.observe(ts_ms));
        }
        assert_eq!(watermark.get(), before);
        assert!(watermark.observe(after_gap + 99 * SECOND));
        assert_eq!(watermark.get(), Some(after_gap + 89 * SECOND));
        assert!(watermark.observe(after_gap + 100 * SECOND));
    }

    #[test]
    fn a_gap_that_ends_in_an_eighth_of_the_stream_is_crossed_too() {
        let stream = (0..900).map(|i| if i % 8 == 0 { START + DAY + i * SECOND } else { START + i * SECOND });
        assert_eq!(fed(stream).get(), Some(START + DAY + 886 * SECOND), "by the last of the eighth, no. 896");
    }

    #[test]
    fn a_stream_too_thin_for_a_quorum_crosses_a_gap_and_catches_up() {
        // 28 an hour: never 100 within an hour of a record.
        let every = HOUR / 28;
        let before = (0..200).map(|i| START + i * every);
        let after = (0..100).map(|i| START + 10 * DAY + i * every);
        let watermark = fed(before.clone().chain(after.clone().take(99)));
        assert_eq!(watermark.get(), Some(START + 199 * every - 10 * SECOND));
        let watermark = fed(before.chain(after));
        assert_eq!(watermark.get(), Some(START + 10 * DAY + 99 * every - 10 * SECOND));
    }

    #[test]
    fn where_every_gap_is_beyond_the_limit_the_watermark_follows_a_hundred_records_behind() {
        for n in [100, 101, 500, 3_000] {
            let watermark = fed((0..n).map(|i| START + i * DAY));
            assert_eq!(watermark.get(), Some(START + (n - 100) * DAY - 10 * SECOND), "after {n}");
        }
    }

    #[test]
    fn an_advance_raises_and_never_lowers() {
        let mut watermark = Watermark::new(RULE);
        assert!(watermark.advance(START));
        assert!(!watermark.advance(START - 1));
        assert_eq!((watermark.get(), watermark.closed_before()), (Some(START), START - 60_000));
        assert!(!watermark.observe(START + DAY), "far ahead of it");
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let ends = [FIRST_MS, FIRST_MS + 1, END_MS - 1, END_MS - 2];
        let mut watermark = fed(ends.into_iter().cycle().take(1_000));
        assert_eq!(watermark.get(), Some(END_MS - 1 - 10 * SECOND));
        assert!(watermark.advance(i64::MAX));
        assert_eq!(watermark.get(), Some(END_MS));
        assert!(!watermark.advance(i64::MIN));
        assert!(!Watermark::new(RULE).advance(i64::MIN));
    }
}
