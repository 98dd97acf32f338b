//! Where each letter stands: a fold over `ad_events_dlq`, small enough for millions of letters. Pure.
//!
//! Most letters were given up at once, and nobody has touched them since: of these only the origin's offset is kept.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::dlq::{DlqRecord, Letter, LetterId, LetterState, Outcome};
use clickmill_schemas::{Epoch, Offset, PartitionId, RunId};
use roaring::RoaringTreemap;

use super::due::{Due, Lane};
use super::earlier::Earlier;

/// Of so many untouched letters of a partition, one is remembered with its place in the topic.
const LANDMARK_EVERY: u64 = 256;

/// Where the letters of one run stand.
#[derive(Debug)]
pub(super) struct Book {
    pub run: RunId,
    /// Everything of `ad_events_error` below is in here.
    pub taken: Offset,
    /// The highest epochs seen there.
    pub epochs: Vec<(PartitionId, Epoch)>,
    /// The offset in `ad_events_dlq` after what has been read.
    pub next: Offset,
    touched: BTreeMap<LetterId, Entry>,
    /// Those of them that wait, and those that are on their way.
    waiting: Due,
    retrying: BTreeSet<LetterId>,
    untouched: BTreeMap<PartitionId, Untouched>,
    /// By their offset in `ad_events_dlq`.
    rewinds: BTreeMap<Offset, (PartitionId, Offset)>,
    /// What people did about letters of the runs in whose place this one has come.
    pub earlier: Earlier,
}

/// A letter that something has been done about, or is to be.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its newest record.
    pub at: Offset,
    pub state: LetterState,
    /// What the newest attempt has come to.
    pub outcome: Option<Outcome>,
    /// Where it is among those that wait.
    due: Option<(Lane, i64)>,
    /// The judged record that it began with.
    origin: Option<(PartitionId, Offset)>,
}

impl Entry {
    fn new(at: Offset, letter: &Letter) -> Self {
        let waits = letter.state == LetterState::Waiting;
        let due = waits.then(|| (Lane::of(letter.letter.connector.as_deref()), letter.due_at_ms.unwrap_or_default()));
        let outcome = letter.attempts.last().map(|attempt| attempt.outcome);
        Self { at, state: letter.state, outcome, due, origin: origin(letter) }
    }
}

#[derive(Debug, Default)]
struct Untouched {
    offsets: RoaringTreemap,
    /// Places in the topic: whoever looks for a letter begins at the one before it.
    landmarks: BTreeMap<u64, Offset>,
    since: u64,
}

/// The record of the input topic that a letter began with; none of lines and of sinks' rows.
fn origin(letter: &Letter) -> Option<(PartitionId, Offset)> {
    match (&letter.letter.judged, &letter.letter.origin) {
        (Some(_), Origin::Record { partition, offset, .. }) => Some((*partition, *offset)),
        _ => None,
    }
}

/// The record of the input topic that a letter is named by.
pub(super) fn place_in(id: &LetterId) -> Option<(PartitionId, Offset)> {
    let (partition, offset) = id.0.split_once('-')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

fn is_untouched(letter: &Letter) -> bool {
    letter.state == LetterState::Dead && letter.attempts.is_empty() && letter.edited.is_none()
}

impl Book {
    pub(super) fn new(run: RunId) -> Self {
        Self {
            run,
            taken: Offset(0),
            epochs: Vec::new(),
            next: Offset(0),
            touched: BTreeMap::new(),
            waiting: Due::default(),
            retrying: BTreeSet::new(),
            untouched: BTreeMap::new(),
            rewinds: BTreeMap::new(),
            earlier: Earlier::default(),
        }
    }

    /// Takes in the record at this offset of `ad_events_dlq`.
    pub(super) fn take(&mut self, at: Offset, record: &DlqRecord) {
        self.next = self.next.max(at.plus(1));
        match record {
            DlqRecord::Letter(letter) if self.is_of_run(letter) => self.take_letter(at, letter),
            DlqRecord::Taken { run, next, epochs } if *run == self.run => {
                self.taken = *next;
                self.epochs.clone_from(epochs);
            }
            DlqRecord::Rewound { run, partition, as_of_offset } if *run == self.run => {
                self.rewinds.insert(at, (*partition, *as_of_offset));
                if let Some(untouched) = self.untouched.get_mut(partition) {
                    untouched.offsets.remove_range(as_of_offset.0..);
                    drop(untouched.landmarks.split_off(&as_of_offset.0));
                }
                let is_void = |(p, offset)| p == *partition && offset >= *as_of_offset;
                let void = |(id, entry): (&LetterId, &Entry)| entry.origin.is_some_and(is_void).then(|| id.clone());
                let void: Vec<LetterId> = self.touched.iter().filter_map(void).collect();
                void.iter().for_each(|id| self.forget(id));
            }
            DlqRecord::Purged { run, id } if *run == self.run => {
                self.forget(id);
                if let Some((partition, offset)) = place_in(id)
                    && let Some(untouched) = self.untouched.get_mut(&partition)
                {
                    untouched.offsets.remove(offset.0);
                }
            }
            DlqRecord::Letter(letter) => self.earlier.take(letter),
            DlqRecord::Purged { id, .. } => self.earlier.purge(id),
            DlqRecord::Taken { .. } | DlqRecord::Rewound { .. } => {}
        }
    }

    fn take_letter(&mut self, at: Offset, letter: &Letter) {
        let origin = origin(letter);
        match origin {
            Some((partition, offset)) if is_untouched(letter) => {
                let Untouched { offsets, landmarks, since } = self.untouched.entry(partition).or_default();
                if offsets.insert(offset.0) {
                    if *since % LANDMARK_EVERY == 0 {
                        landmarks.insert(offset.0, at);
                    }
                    *since += 1;
                }
            }
            _ => {
                if let Some((partition, offset)) = origin
                    && let Some(untouched) = self.untouched.get_mut(&partition)
                {
                    untouched.offsets.remove(offset.0);
                }
                self.forget(&letter.id);
                let (id, entry) = (letter.id.clone(), Entry::new(at, letter));
                if let Some((lane, due_at_ms)) = entry.due.clone() {
                    self.waiting.insert(lane, due_at_ms, id.clone());
                }
                if entry.state == LetterState::Retrying {
                    self.retrying.insert(id.clone());
                }
                self.touched.insert(id, entry);
            }
        }
    }

    /// A letter that was touched is no more, or is about to be something else.
    fn forget(&mut self, id: &LetterId) {
        let Some(entry) = self.touched.remove(id) else { return };
        self.retrying.remove(id);
        if let Some((lane, due_at_ms)) = entry.due {
            self.waiting.remove(&lane, due_at_ms, id);
        }
    }

    fn is_of_run(&self, letter: &Letter) -> bool {
        letter.letter.judged.as_ref().is_none_or(|judged| judged.run == self.run)
    }

    /// Whether a letter that was read at this offset is the newest of its origin, and holds.
    pub(super) fn is_current(&self, at: Offset, letter: &Letter) -> bool {
        let run = letter.letter.judged.as_ref().map(|judged| judged.run);
        self.is_newest(at, &letter.id, run.zip(origin(letter)))
    }

    /// The same of a letter with this id, by the run that has judged it and the record that it began with, if there is one.
    pub(super) fn is_newest(&self, at: Offset, id: &LetterId, judged: Option<(RunId, (PartitionId, Offset))>) -> bool {
        if let Some(entry) = self.touched.get(id) {
            return entry.at == at;
        }
        let Some((_, (partition, offset))) = judged.filter(|(run, _)| *run == self.run) else {
            return false;
        };
        let void = |(p, as_of): &(PartitionId, Offset)| *p == partition && offset >= *as_of;
        self.is_untouched(partition, offset) && !self.rewinds.range(at..).any(|(_, rewind)| void(rewind))
    }

    fn is_untouched(&self, partition: PartitionId, offset: Offset) -> bool {
        self.untouched.get(&partition).is_some_and(|untouched| untouched.offsets.contains(offset.0))
    }

    /// Whether there is such a letter.
    pub(super) fn knows(&self, id: &LetterId) -> bool {
        self.place(id).is_some()
    }

    /// Where to look for a letter: at this offset, or from it on.
    pub(super) fn place(&self, id: &LetterId) -> Option<Offset> {
        if let Some(entry) = self.touched.get(id) {
            return Some(entry.at);
        }
        let (partition, offset) = place_in(id)?;
        let untouched = self.untouched.get(&partition).filter(|untouched| untouched.offsets.contains(offset.0))?;
        Some(untouched.landmarks.range(..=offset.0).next_back().map_or(Offset(0), |(_, at)| *at))
    }

    pub(super) fn entry(&self, id: &LetterId) -> Option<&Entry> {
        self.touched.get(id)
    }

    /// Letters that wait for their next attempt.
    pub(super) const fn waiting(&self) -> &Due {
        &self.waiting
    }

    /// Letters whose fate is not known yet.
    pub(super) const fn retrying(&self) -> &BTreeSet<LetterId> {
        &self.retrying
    }

    /// How many letters are in each state.
    pub(super) fn count(&self) -> BTreeMap<LetterState, u64> {
        let mut count: BTreeMap<_, u64> = LetterState::ALL.into_iter().map(|state| (state, 0)).collect();
        for entry in self.touched.values() {
            *count.entry(entry.state).or_default() += 1;
        }
        let untouched: u64 = self.untouched.values().map(|untouched| untouched.offsets.len()).sum();
        *count.entry(LetterState::Dead).or_default() += untouched;
        count
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::dead_letter::{DeadLetter, Judged};
    use clickmill_schemas::envelope::ErrorType;
    use clickmill_schemas::{DeploymentId, ModuleDigest};

    use super::super::RetryPolicy;
    use super::super::letter::{found, sent, tests::letter};
    use super::*;

    const RUN: RunId = RunId([1; 16]);

    fn judged(error_type: ErrorType, offset: u64) -> DeadLetter {
        let judged = Judged {
            run: RUN,
            epoch: Epoch(1),
            stage: "validate".into(),
            sha256: ModuleDigest([2; 32]),
            deployment: DeploymentId(0),
        };
        DeadLetter { judged: Some(judged), ..letter(error_type, offset) }
    }

    fn take(book: &mut Book, at: u64, letter: &Letter) -> LetterId {
        book.take(Offset(at), &DlqRecord::Letter(Box::new(letter.clone())));
        letter.id.clone()
    }

    #[test]
    fn a_row_that_a_server_refuses_is_not_the_record_at_the_same_place() {
        let (mut book, policy) = (Book::new(RUN), RetryPolicy::default());
        take(&mut book, 0, &found(judged(ErrorType::Schema, 88), &policy));
        let row = found(DeadLetter { connector: Some("postgres".into()), ..letter(ErrorType::Sink, 88) }, &policy);
        assert!(!book.knows(&row.id));
        take(&mut book, 1, &row);
        assert!(book.knows(&row.id));
        assert_eq!(book.count()[&LetterState::Waiting], 1);
    }

    #[test]
    fn letters_wait_are_on_their_way_and_go_back_with_their_partition() {
        let (mut book, policy) = (Book::new(RUN), RetryPolicy::default());
        let mut trap = found(judged(ErrorType::Smartmodule, 5), &policy);
        let id = take(&mut book, 0, &trap);
        assert_eq!(book.waiting().by(&Lane::Modules, i64::MAX, 9), std::slice::from_ref(&id));
        sent(&mut trap, None, 9);
        take(&mut book, 1, &trap);
        assert_eq!(book.waiting().by(&Lane::Modules, i64::MAX, 9), []);
        assert_eq!(book.retrying().iter().collect::<Vec<_>>(), [&id]);
        book.take(Offset(2), &DlqRecord::Rewound { run: RUN, partition: PartitionId(0), as_of_offset: Offset(5) });
        assert!(!book.knows(&id) && book.retrying().is_empty());
    }
}
