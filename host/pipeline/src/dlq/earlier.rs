//! What was known of a letter in the runs before this one: a topic that is judged again loses nothing that people did.
//!
//! Attempts are not handed down: what became of each is told anew, since their records are in the topic. Pure.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::PartitionId;
use clickmill_schemas::dead_letter::RawPayload;
use clickmill_schemas::dlq::{Letter, LetterId};
use roaring::RoaringTreemap;

use super::book::place_in;
use super::letter;

/// Letters of earlier runs.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    known: Ids,
    /// What was put in a payload's place, and when.
    edited: BTreeMap<LetterId, (RawPayload, i64)>,
    purged: Ids,
}

/// Names of letters, those of records as bits.
#[derive(Debug, Default)]
struct Ids {
    places: BTreeMap<PartitionId, RoaringTreemap>,
    others: BTreeSet<LetterId>,
}

impl Ids {
    fn insert(&mut self, id: &LetterId) {
        match place_in(id) {
            Some((partition, offset)) => drop(self.places.entry(partition).or_default().insert(offset.0)),
            None => drop(self.others.insert(id.clone())),
        }
    }

    fn remove(&mut self, id: &LetterId) {
        match place_in(id) {
            Some((partition, offset)) => drop(self.places.get_mut(&partition).map(|bits| bits.remove(offset.0))),
            None => drop(self.others.remove(id)),
        }
    }

    fn contains(&self, id: &LetterId) -> bool {
        match place_in(id) {
            Some((partition, offset)) => self.places.get(&partition).is_some_and(|bits| bits.contains(offset.0)),
            None => self.others.contains(id),
        }
    }
}

impl Earlier {
    /// Takes in a letter of an earlier run.
    pub(super) fn take(&mut self, letter: &Letter) {
        self.purged.remove(&letter.id);
        match &letter.edited {
            Some(payload) => drop(self.edited.insert(letter.id.clone(), (payload.clone(), letter.changed_at_ms))),
            None => drop(self.edited.remove(&letter.id)),
        }
        self.known.insert(&letter.id);
    }

    /// Somebody wanted no more of it.
    pub(super) fn purge(&mut self, id: &LetterId) {
        self.edited.remove(id);
        self.known.remove(id);
        self.purged.insert(id);
    }

    /// A letter that this run has found, with what was known of it; none where somebody wanted no more of it.
    pub(super) fn hand_down(&self, mut found: Letter) -> Option<Letter> {
        if self.purged.contains(&found.id) {
            return None;
        }
        if let Some((payload, at_ms)) = self.edited.get(&found.id) {
            letter::edited(&mut found, payload.clone(), *at_ms);
        }
        if self.known.contains(&found.id) {
            // Told of then.
            found.given_up_at_ms = None;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::envelope::ErrorType;

    use super::super::RetryPolicy;
    use super::super::letter::tests::letter;
    use super::super::letter::{edited, found};
    use super::*;

    #[test]
    fn what_people_did_outlives_a_run() {
        let new = |offset| found(letter(ErrorType::Schema, offset), &RetryPolicy::default());
        let mut earlier = Earlier::default();
        let mut mended = new(1);
        edited(&mut mended, RawPayload::new(b"mended"), 9);
        earlier.take(&mended);
        earlier.take(&new(2));
        earlier.take(&new(3));
        earlier.purge(&new(3).id);
        let again = earlier.hand_down(new(1)).unwrap();
        assert_eq!((again.edited, again.given_up_at_ms), (Some(RawPayload::new(b"mended")), None));
        assert_eq!(earlier.hand_down(new(2)).unwrap().given_up_at_ms, None);
        assert_eq!(earlier.hand_down(new(3)), None);
        assert_eq!(earlier.hand_down(new(4)), Some(new(4)));
    }
}
