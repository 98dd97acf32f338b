//! When a module that fails on one record after the other is to be stopped: a pure count of convictions.

use std::collections::VecDeque;

use clickmill_schemas::{DeploymentId, Offset};
use serde::{Deserialize, Serialize};

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
    offsets: VecDeque<Offset>,
    tripped: bool,
}

impl Breaker {
    /// Counts a conviction. `true`, once: at least half of the newest records, `limit` of them, were convicted. The others
    /// may never have come to the stage.
    pub(crate) fn convicted(&mut self, deployment: DeploymentId, stage: &str, offset: Offset, limit: usize) -> bool {
        let of = (deployment, stage.to_owned());
        if self.of.as_ref() != Some(&of) {
            *self = Self { of: Some(of), ..Self::default() };
        }
        self.offsets.push_back(offset);
        while self.offsets.len() > limit.max(1) {
            self.offsets.pop_front();
        }
        let span = self.offsets.front().map_or(0, |first| offset.0.saturating_sub(first.0));
        let trips = !self.tripped && self.offsets.len() >= limit.max(1) && span < 2 * limit.max(1) as u64;
        self.tripped |= trips;
        trips
    }

    /// The offset after the newest conviction; 0 before the first.
    pub(crate) fn after_last(&self) -> Offset {
        self.offsets.back().map_or(Offset(0), |offset| offset.plus(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(offsets: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut breaker = Breaker::default();
        let mut convicted = |offset: &u64| breaker.convicted(DeploymentId(1), "validate", Offset(*offset), 10);
        offsets.into_iter().filter(|offset| convicted(offset)).collect()
    }

    #[test]
    fn it_trips_once_when_every_record_fails_and_never_on_single_ones() {
        assert_eq!(trips(0..100), [9]);
        assert_eq!(trips((0..100).map(|n| n * 2)), [18], "every other record never came to the stage");
        assert!(trips((0..100).map(|n| n * 200)).is_empty(), "one in two hundred is poison");
    }

    #[test]
    fn another_deployment_or_stage_is_counted_anew() {
        let mut breaker = Breaker::default();
        for offset in 0..9 {
            assert!(!breaker.convicted(DeploymentId(1), "a", Offset(offset), 10));
        }
        assert_eq!(breaker.after_last(), Offset(9));
        assert!(!breaker.convicted(DeploymentId(2), "a", Offset(9), 10));
        assert!(!breaker.convicted(DeploymentId(2), "b", Offset(10), 10));
        assert!((11..20).any(|offset| breaker.convicted(DeploymentId(2), "b", Offset(offset), 10)));
    }
}
