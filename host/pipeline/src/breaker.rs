//! When a module that fails on one record after the other is to be stopped: by the number of convictions, or by the time
//! that it took for each of them. What it says is a decision, and is written down: replay does not ask it.

use std::collections::VecDeque;
use std::time::Duration;

use clickmill_schemas::{DeploymentId, Offset};
use serde::{Deserialize, Serialize};

/// So few convictions are enough where they took long, as of a module that never ends.
const LEAST: usize = 5;
/// What is long, over all of them.
const LONG: Duration = Duration::from_secs(2);

/// What happens when a stage fails on every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnModuleFailure {
    /// The stage goes back to the module before.
    #[default]
    Rollback,
    /// The pipeline stands still until somebody resumes it.
    Pause,
    /// Each record goes to the dead letters, for as long as it takes.
    Dlq,
}

/// Convictions of one stage under one deployment.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    of: Option<(DeploymentId, String)>,
    /// With the time that each of them took alone.
    convictions: VecDeque<(Offset, Duration)>,
    after_last: Offset,
    tripped: bool,
}

impl Breaker {
    /// Counts a conviction of a record that took so long. `true`, once: at least half of the newest records, `limit` of them or
    /// fewer that took long, were convicted. The others may never have come to the stage.
    pub(crate) fn convicted(
        &mut self,
        deployment: DeploymentId,
        stage: &str,
        (offset, took): (Offset, Duration),
        limit: usize,
    ) -> bool {
        let of = (deployment, stage.to_owned());
        if self.of.as_ref() != Some(&of) {
            *self = Self { of: Some(of), ..Self::default() };
        }
        self.after_last = offset.plus(1);
        self.convictions.push_back((offset, took));
        while self.convictions.len() > limit.max(1) {
            self.convictions.pop_front();
        }
        let span = |n: usize| {
            let first = self.convictions.len().checked_sub(n).and_then(|at| self.convictions.get(at));
            first.map(|(first, _)| offset.0.saturating_sub(first.0))
        };
        let dense = |n: usize| span(n).is_some_and(|span| span < 2 * n as u64);
        let long = || self.convictions.iter().rev().take(LEAST).map(|(_, took)| *took).sum::<Duration>() >= LONG;
        let trips = !self.tripped && (dense(limit.max(1)) || dense(LEAST) && long());
        self.tripped |= trips;
        trips
    }

    /// The offset after the newest conviction; 0 before the first.
    pub(crate) const fn after_last(&self) -> Offset {
        self.after_last
    }

    /// Counts anew, and may trip again.
    pub(crate) fn rearm(&mut self) {
        self.convictions.clear();
        self.tripped = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(offset: u64) -> (Offset, Duration) {
        (Offset(offset), Duration::ZERO)
    }

    fn trips(offsets: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut breaker = Breaker::default();
        let mut convicted = |offset: &u64| breaker.convicted(DeploymentId(1), "validate", at_once(*offset), 10);
        offsets.into_iter().filter(|offset| convicted(offset)).collect()
    }

    #[test]
    fn it_trips_once_when_every_record_fails_and_never_on_single_ones() {
        assert_eq!(trips(0..100), [9]);
        assert_eq!(trips((0..100).map(|n| n * 2)), [18], "every other record never came to the stage");
        assert!(trips((0..100).map(|n| n * 200)).is_empty(), "one in two hundred is poison");
    }

    #[test]
    fn few_convictions_that_took_long_are_enough_where_nothing_passes_between_them() {
        let mut breaker = Breaker::default();
        let mut convicted = |n: u64| breaker.convicted(DeploymentId(1), "a", (Offset(n), Duration::from_secs(2)), 20);
        assert_eq!(
            (0..9).map(&mut convicted).collect::<Vec<_>>(),
            [false, false, false, false, true, false, false, false, false]
        );
        let mut breaker = Breaker::default();
        let mut convicted = |n: u64| breaker.convicted(DeploymentId(1), "a", (Offset(n), Duration::from_secs(2)), 20);
        assert!((0..9).all(|n| !convicted(n * 100)), "one in a hundred never ends");
    }

    #[test]
    fn another_deployment_or_stage_is_counted_anew() {
        let mut breaker = Breaker::default();
        for offset in 0..9 {
            assert!(!breaker.convicted(DeploymentId(1), "a", at_once(offset), 10));
        }
        assert_eq!(breaker.after_last(), Offset(9));
        assert!(!breaker.convicted(DeploymentId(2), "a", at_once(9), 10));
        assert!(!breaker.convicted(DeploymentId(2), "b", at_once(10), 10));
        assert!((11..20).any(|offset| breaker.convicted(DeploymentId(2), "b", at_once(offset), 10)));
    }
}
