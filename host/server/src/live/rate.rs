//! [`Rates`]: how fast the partitions go on, from their commits.

use std::collections::{BTreeMap, VecDeque};

use clickmill_schemas::PartitionId;
use clickmill_schemas::output::Commit;

/// Commits of this age at most make the rate.
const SPAN_MS: i64 = 10_000;
/// Commits of a partition that are remembered: two hundred a second would be.
const MAX_SAMPLES: usize = 2_000;

/// Wall clock and offset of the newest commits.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<PartitionId, VecDeque<(i64, u64)>>);

impl Rates {
    pub(super) fn commit(&mut self, partition: PartitionId, commit: &Commit) {
        let samples = self.0.entry(partition).or_default();
        samples.push_back((commit.committed_at_ms, commit.as_of_offset.0));
        let oldest_ms = commit.committed_at_ms.saturating_sub(SPAN_MS);
        while samples.len() > MAX_SAMPLES || samples.front().is_some_and(|(at, _)| *at < oldest_ms) {
            samples.pop_front();
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn events_per_second(&self, now_ms: i64) -> f64 {
        let rate = |samples: &VecDeque<(i64, u64)>| {
            let (first, last) = (samples.front()?, samples.back()?);
            let fresh = now_ms.saturating_sub(last.0) < SPAN_MS && last.0 > first.0;
            fresh.then(|| last.1.saturating_sub(first.1) as f64 * 1_000.0 / (last.0 - first.0) as f64)
        };
        // Not `sum`: of nothing, it is -0.
        self.0.values().filter_map(rate).fold(0.0, |sum, rate| sum + rate)
    }
}
