//! Where each letter stands: a fold over `ad_events_dlq`, small enough for millions of letters. Pure.
//!
//! Most letters were given up at once, and nobody has touched them since: of these only the origin's offset is kept.

use std::collections::BTreeMap;

use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::dlq::{DlqRecord, Letter, LetterId, LetterState};
use clickmill_schemas::{Epoch, Offset, PartitionId, RunId};
use roaring::RoaringTreemap;

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
    untouched: BTreeMap<PartitionId, Untouched>,
    /// By their offset in `ad_events_dlq`.
    rewinds: BTreeMap<Offset, (PartitionId, Offset)>,
}

/// A letter that something has been done about, or is to be.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its newest record.
    pub at: Offset,
    pub state: LetterState,
    pub due_at_ms: Option<i64>,
    /// The judged record that it began with.
    origin: Option<(PartitionId, Offset)>,
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
fn place_in(id: &LetterId) -> Option<(PartitionId, Offset)> {
    let (partition, offset) = id.0.split_once('-')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

fn is_untouched(letter: &Letter) -> bool {
    letter.state == LetterState::Dead && letter.attempts.is_empty() && letter.edited.is_none()
}

impl Book {
    pub(super) const fn new(run: RunId) -> Self {
        Self {
            run,
            taken: Offset(0),
            epochs: Vec::new(),
            next: Offset(0),
            touched: BTreeMap::new(),
            untouched: BTreeMap::new(),
            rewinds: BTreeMap::new(),
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
                let void = |(p, offset)| p == *partition && offset >= *as_of_offset;
                self.touched.retain(|_, entry| !entry.origin.is_some_and(void));
            }
            DlqRecord::Purged { run, id } if *run == self.run => {
                self.touched.remove(id);
                if let Some((partition, offset)) = place_in(id)
                    && let Some(untouched) = self.untouched.get_mut(&partition)
                {
                    untouched.offsets.remove(offset.0);
                }
            }
            DlqRecord::Letter(_) | DlqRecord::Purged { .. } | DlqRecord::Taken { .. } | DlqRecord::Rewound { .. } => {}
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
                let entry = Entry { at, state: letter.state, due_at_ms: letter.due_at_ms, origin };
                self.touched.insert(letter.id.clone(), entry);
            }
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
    pub(super) fn knows(&self, id: &LetterId, origin: &Origin) -> bool {
        let untouched = match origin {
            Origin::Record { partition, offset, .. } => self.is_untouched(*partition, *offset),
            Origin::Line { .. } => false,
        };
        untouched || self.touched.contains_key(id)
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

    /// Letters that are in one of these states and due by `now_ms`.
    pub(super) fn due(&self, state: LetterState, now_ms: i64) -> Vec<LetterId> {
        let due = |entry: &Entry| entry.state == state && entry.due_at_ms.is_none_or(|due| due <= now_ms);
        self.touched.iter().filter(|(_, entry)| due(entry)).map(|(id, _)| id.clone()).collect()
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
