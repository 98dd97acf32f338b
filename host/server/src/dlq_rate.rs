//! The share of records that were rejected of late, for alerts: from one scrape to the next, over a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time that the share is of, about.
const SPAN: Duration = Duration::from_secs(60);
/// Scrapes that are remembered: one a second for a minute.
const MOST_SAMPLES: usize = 64;
/// Beyond this share somebody should look.
pub(crate) const THRESHOLD: f64 = 0.001;

/// What the ledger said at earlier scrapes.
#[derive(Debug, Default)]
pub(crate) struct DlqRate(VecDeque<Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    processed: u64,
    rejected: u64,
}

impl DlqRate {
    /// Takes in what the ledger says now; the share of the records since about a minute ago that were rejected, 0 where there
    /// were none. The first time it is that of all records.
    pub(crate) fn observe(&mut self, at: Instant, processed: u64, rejected: u64) -> f64 {
        let now = Sample { at, processed, rejected };
        while self.0.len() >= MOST_SAMPLES || self.0.get(1).is_some_and(|next| at.duration_since(next.at) >= SPAN) {
            self.0.pop_front();
        }
        let before = self.0.front().copied().unwrap_or(Sample { at, processed: 0, rejected: 0 });
        self.0.push_back(now);
        // Counts go back where a savepoint was gone back to.
        let processed = now.processed.saturating_sub(before.processed);
        let rejected = now.rejected.saturating_sub(before.rejected);
        if processed == 0 { 0.0 } else { rejected as f64 / processed as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_last_minute() {
        let (mut rate, begun) = (DlqRate::default(), Instant::now());
        let mut at =
            |seconds, processed, rejected| rate.observe(begun + Duration::from_secs(seconds), processed, rejected);
        assert_eq!(at(0, 1_000, 10), 0.01);
        assert_eq!(at(30, 2_000, 10), 0.0);
        assert_eq!(at(60, 3_000, 30), 0.01);
        // The first minute is over: what was rejected in its second half counts still.
        assert_eq!(at(90, 3_000, 30), 0.02);
        assert_eq!(at(200, 3_000, 30), 0.0);
        assert_eq!(at(201, 500, 5), 0.0);
    }
}
