//! From the append of a record until a sink's server has confirmed what came of it: one observation a commit.
//!
//! A commit says when the oldest record in it was appended, so what is observed is an upper bound for its other records. The
//! clocks are those of who appended and of this host; a negative age counts as none.

use std::collections::VecDeque;
use std::time::Duration;

use clickmill_broker::TopicPartition;
use clickmill_schemas::Offset;
use clickmill_schemas::output::{Body, Commit, Output};
use clickmill_schemas::partial::is_partial;

use crate::reader::Chunk;
use crate::connector::CTR_WINDOWS;
use crate::sink::Opened;

/// Upper bounds of the buckets, seconds.
pub const BOUNDS_SECONDS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 600.0];

/// A histogram of ages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    counts: [u64; BOUNDS_SECONDS.len()],
    pub observations: u64,
    pub sum_seconds: f64,
}

impl Latency {
    fn observe(&mut self, age: Duration) {
        let seconds = age.as_secs_f64();
        self.observations += 1;
        self.sum_seconds += seconds;
        let bucket = BOUNDS_SECONDS.iter().zip(&mut self.counts).find(|(bound, _)| seconds <= **bound);
        if let Some((_, count)) = bucket {
            *count += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.observations += other.observations;
        self.sum_seconds += other.sum_seconds;
    }

    /// Each bound with the observations up to it.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BOUNDS_SECONDS.into_iter().zip(sums)
    }
}

/// What a sink counts beside its status, for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkFigures {
    /// Rows or records that the server refused.
    pub refused: u64,
    /// None of a sink that copies no windows.
    pub latency: Option<Latency>,
}

impl SinkFigures {
    /// Of a sink that copies `at`.
    pub(crate) fn of(at: &TopicPartition) -> Self {
        Self { refused: 0, latency: (*at.topic == *CTR_WINDOWS).then(Latency::default) }
    }

    pub(crate) fn observe(&mut self, age: Duration) {
        if let Some(latency) = &mut self.latency {
            latency.observe(age);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.refused += other.refused;
        if let (Some(latency), Some(other)) = (&mut self.latency, &other.latency) {
            latency.add(other);
        }
    }
}

/// Commits that a sink has been given and its server has not confirmed.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// Below, they were confirmed before this session.
    from: Offset,
    /// Those of before are not told of: a sink that begins anew copies them late, and late for nobody.
    since_ms: i64,
    waiting: VecDeque<(Offset, i64)>,
}

impl Unconfirmed {
    /// Of a session; the sink was made at `made_ms`.
    pub(crate) fn of(opened: &Opened, made_ms: i64) -> Self {
        let since_ms = if opened.applied == Offset(0) { made_ms } else { i64::MIN };
        Self { from: opened.applied, since_ms, waiting: VecDeque::new() }
    }

    /// Takes in the commits among records of `ctr_windows`.
    pub(crate) fn take(&mut self, chunks: &[Chunk]) {
        // What cannot be read is told by the sink.
        for (offset, record) in chunks.iter().filter_map(|chunk| chunk.records().ok()).flatten().flatten() {
            let is_commit = record.key.is_some_and(|key| key.starts_with(b"commit|")) && !is_partial(record.value);
            if offset < self.from || !is_commit {
                continue;
            }
            if let Ok(Output { body: Body::Commit(commit), .. }) = Output::decode(record.value)
                && let Commit { oldest_append_ms: Some(oldest_ms), committed_at_ms, .. } = commit
                && committed_at_ms >= self.since_ms
            {
                self.waiting.push_back((offset, oldest_ms));
            }
        }
    }

    /// Everything below `applied` is in the server now: how old the oldest record of each commit in it is.
    pub(crate) fn confirmed(&mut self, applied: Offset, now_ms: i64) -> impl Iterator<Item = Duration> {
        let confirmed = self.waiting.iter().take_while(|(offset, _)| *offset < applied).count();
        let age_ms = move |oldest_ms: i64| u64::try_from(now_ms.saturating_sub(oldest_ms)).unwrap_or(0);
        self.waiting.drain(..confirmed).map(move |(_, oldest_ms)| Duration::from_millis(age_ms(oldest_ms)))
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::output::{Ledger, Stamp};
    use clickmill_schemas::record::RecordSetBuilder;
    use clickmill_schemas::{Epoch, Generation, PartitionId, RunId};

    use super::*;

    const MADE: i64 = 1_000_000;

    /// A batch of one commit that was made at `committed_at_ms` and is `age_ms` old then.
    fn commit(offset: u64, committed_at_ms: i64, age_ms: Option<i64>) -> Chunk {
        let commit = Commit {
            generation: Generation(0),
            as_of_offset: Offset(offset),
            watermark_ms: None,
            closed_before_ms: None,
            ledger: Ledger::default(),
            committed_at_ms,
            oldest_append_ms: age_ms.map(|age| committed_at_ms - age),
        };
        let stamp = Stamp { run: RunId([1; 16]), partition: PartitionId(0), epoch: Epoch(1) };
        let output = Output { stamp, body: Body::Commit(commit) };
        let mut set = RecordSetBuilder::default();
        set.push(Some(output.key().as_bytes()), &output.encode(), 0);
        let (at, set) = (Offset(offset), set.bytes().to_vec());
        Chunk { from: at, base_offset: at, next_offset: at.plus(1), base_timestamp_ms: 0, set, failed: Vec::new() }
    }

    fn opened(applied: u64) -> Opened {
        Opened { applied: Offset(applied), read_from: Offset(0), server: String::new() }
    }

    fn ages(unconfirmed: &mut Unconfirmed, applied: u64, now_ms: i64) -> Vec<u128> {
        unconfirmed.confirmed(Offset(applied), now_ms).map(|age| age.as_millis()).collect()
    }

    #[test]
    fn a_commit_is_observed_once_it_is_confirmed_and_not_before() {
        let mut unconfirmed = Unconfirmed::of(&opened(5), MADE);
        unconfirmed.take(&[commit(3, MADE, Some(10)), commit(5, MADE, Some(100)), commit(6, MADE, None)]);
        unconfirmed.take(&[commit(9, MADE, Some(400))]);
        assert!(ages(&mut unconfirmed, 5, MADE + 1).is_empty(), "offset 3 was confirmed before this session");
        assert_eq!(ages(&mut unconfirmed, 9, MADE + 50), [150], "offset 6 holds no new record");
        assert_eq!(ages(&mut unconfirmed, 10, MADE - 1_000), [0], "the clock has gone back");
        assert!(ages(&mut unconfirmed, 10, MADE).is_empty());
    }

    #[test]
    fn a_sink_that_begins_anew_tells_nothing_of_what_was_committed_before_it() {
        let mut unconfirmed = Unconfirmed::of(&opened(0), MADE);
        unconfirmed.take(&[commit(1, MADE - 1, Some(5)), commit(2, MADE, Some(7))]);
        assert_eq!(ages(&mut unconfirmed, 3, MADE), [7]);
        let mut goes_on = Unconfirmed::of(&opened(1), MADE);
        goes_on.take(&[commit(1, MADE - 1, Some(5)), commit(2, MADE, Some(7))]);
        assert_eq!(ages(&mut goes_on, 3, MADE + 60_000), [60_006, 60_007], "it was away for a minute");
    }

    #[test]
    fn buckets_hold_what_is_up_to_their_bound_and_add_up() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        [50, 51, 700_000].into_iter().for_each(|ms| one.observe(Duration::from_millis(ms)));
        other.observe(Duration::from_millis(4_000));
        one.add(&other);
        let up_to: Vec<u64> = one.up_to().map(|(_, n)| n).collect();
        assert_eq!(up_to, [1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3], "one is beyond the last bound");
        assert_eq!(one.observations, 4);
        assert!((one.sum_seconds - 704.101).abs() < 1e-9);
    }
}
