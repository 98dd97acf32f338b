//! Which letters wait for their next attempt, by who is asked about them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::dlq::LetterId;

use super::letter::RetryPolicy;

/// Who is asked about a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Modules,
    /// The server of this connector.
    Connector(String),
}

impl Lane {
    pub(super) fn of(connector: Option<&str>) -> Self {
        connector.map_or(Self::Modules, |name| Self::Connector(name.to_owned()))
    }
}

/// Waiting letters, in each lane by when they are due: a lane that cannot be asked keeps no other one waiting.
#[derive(Debug, Default)]
pub(super) struct Due(BTreeMap<Lane, BTreeSet<(i64, LetterId)>>);

impl Due {
    pub(super) fn insert(&mut self, lane: Lane, due_at_ms: i64, id: LetterId) {
        self.0.entry(lane).or_default().insert((due_at_ms, id));
    }

    pub(super) fn remove(&mut self, lane: &Lane, due_at_ms: i64, id: &LetterId) {
        if let Some(letters) = self.0.get_mut(lane) {
            letters.remove(&(due_at_ms, id.clone()));
            if letters.is_empty() {
                self.0.remove(lane);
            }
        }
    }

    /// Lanes in which letters wait.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.0.keys()
    }

    /// At most `most` of a lane that are due.
    pub(super) fn by(&self, lane: &Lane, now_ms: i64, most: usize) -> Vec<LetterId> {
        let due = self.0.get(lane).into_iter().flatten().take_while(|(at, _)| *at <= now_ms);
        due.take(most).map(|(_, id)| id.clone()).collect()
    }
}

/// Lanes that could not be asked lately: each is left alone for longer, the more often that was so.
#[derive(Debug, Default)]
pub(super) struct Rests(BTreeMap<Lane, Rest>);

#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    until_ms: i64,
    times: u32,
}

impl Rests {
    /// Whether it is left alone now.
    pub(super) fn has(&self, lane: &Lane, now_ms: i64) -> bool {
        self.0.get(lane).is_some_and(|rest| now_ms < rest.until_ms)
    }

    /// It could not be asked.
    pub(super) fn begin(&mut self, lane: Lane, policy: &RetryPolicy, now_ms: i64) {
        let rest = self.0.entry(lane).or_default();
        rest.times = rest.times.saturating_add(1);
        rest.until_ms = now_ms.saturating_add(policy.wait_ms(rest.times));
    }

    /// It has answered.
    pub(super) fn end(&mut self, lane: &Lane) {
        self.0.remove(lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> LetterId {
        LetterId(text.to_owned())
    }

    #[test]
    fn a_lane_that_rests_keeps_no_other_one_waiting_and_rests_longer_each_time() {
        let (mut due, mut rests, policy) = (Due::default(), Rests::default(), RetryPolicy::default());
        let (stopped, postgres) = (Lane::of(Some("a")), Lane::of(Some("postgres")));
        for n in 0..100 {
            due.insert(stopped.clone(), 0, id(&format!("a:{n:03}")));
        }
        due.insert(postgres.clone(), 5, id("postgres:1"));
        due.insert(Lane::Modules, 9, id("0-1"));
        assert_eq!(due.by(&stopped, 8, 2), [id("a:000"), id("a:001")]);
        assert_eq!(due.by(&postgres, 8, 2), [id("postgres:1")]);
        assert_eq!((due.by(&Lane::Modules, 8, 2), due.by(&Lane::Modules, 9, 2)), (vec![], vec![id("0-1")]));
        rests.begin(stopped.clone(), &policy, 8);
        assert!(rests.has(&stopped, 9) && !rests.has(&postgres, 9) && !rests.has(&stopped, 1_008));
        rests.begin(stopped.clone(), &policy, 1_008);
        assert!(rests.has(&stopped, 3_007));
        rests.end(&stopped);
        assert!(!rests.has(&stopped, 3_007));
        due.remove(&Lane::Modules, 9, &id("0-1"));
        assert_eq!(due.lanes().collect::<Vec<_>>(), [&stopped, &postgres]);
    }
}
