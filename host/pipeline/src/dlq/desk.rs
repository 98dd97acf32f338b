//! Reads and writes `ad_events_dlq`: the one writer's side of it. What is written is in the book once it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clickmill_broker::Broker;
use clickmill_schemas::dead_letter::DeadLetter;
use clickmill_schemas::dlq::{DlqRecord, Letter, LetterId};
use clickmill_schemas::merge::Fence;
use clickmill_schemas::output::{Body, Output};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId, RunId};

use super::book::Book;
use super::glance::Glance;
use super::letter::{self, RetryPolicy};
use super::{DlqError, SCAN_BYTES, dlq_topic, errors_topic};
use crate::clock::Clock;
use crate::runs;
use crate::topics::AD_EVENTS_DLQ;
use crate::views::scan::{scan, visit_batch};
use crate::views::{BadRecord, ViewError};

/// Bytes of dead letters taken in at once.
const FETCH_BYTES: usize = 1 << 20;
/// A batch has no more bytes than this, or a single record.
const BATCH_BYTES: usize = 1 << 20;
/// Of a data directory without topics: no letter is of it.
const NO_RUN: RunId = RunId([0; 16]);
/// Offsets between two letters that are rather read over than sought.
const NEAR: u64 = 1_000;
/// Most that a record has besides its key and value.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Whether somebody wants more values after this one.
type TakeValue<'a> = dyn FnMut(Offset, &[u8]) -> Result<bool, BadRecord> + 'a;

/// The letters of the run that readers take.
pub(super) struct Desk {
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub policy: RetryPolicy,
    pub book: Book,
    /// What would be written, where nothing may be.
    ahead: Option<Ahead>,
}

/// Records behind the end of the topic.
struct Ahead {
    base: Offset,
    records: Vec<DlqRecord>,
}

impl Desk {
    /// Knows nothing before [`Desk::follow_run`]: a host starts without reading letters.
    pub(super) fn new(broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, policy: RetryPolicy) -> Self {
        Self { broker, clock, policy, book: Book::new(NO_RUN), ahead: None }
    }

    /// To look only: takes in what has come to `ad_events_error` and writes nothing of it down.
    pub(super) fn open_to_read(
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        policy: RetryPolicy,
    ) -> Result<Self, DlqError> {
        let mut desk = Self::new(broker, clock, policy);
        desk.follow_run()?;
        desk.ahead = Some(Ahead { base: desk.book.next, records: Vec::new() });
        while desk.take_in()? {}
        Ok(desk)
    }

    /// Reads where each letter stands; anew where readers take another run by now.
    pub(super) fn follow_run(&mut self) -> Result<(), DlqError> {
        let run = current_run(&*self.broker)?;
        if run != self.book.run {
            self.book = read_book(&*self.broker, run)?;
        }
        Ok(())
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Appends records, durably, and takes them into the book. Each batch is written whole or not at all.
    pub(super) fn write(&mut self, records: &[DlqRecord]) -> Result<(), DlqError> {
        if let Some(ahead) = &mut self.ahead {
            for record in records {
                self.book.take(self.book.next, record);
                ahead.records.push(record.clone());
            }
            return Ok(());
        }
        let now_ms = self.now_ms();
        let (mut set, mut first) = (RecordSetBuilder::default(), 0);
        for (index, record) in records.iter().enumerate() {
            let (key, value) = (record.key(), record.encode());
            if !set.is_empty() && set.bytes().len() + key.len() + value.len() + RECORD_OVERHEAD_BYTES > BATCH_BYTES {
                self.append(&set, &records[first..index])?;
                set.clear();
                first = index;
            }
            set.push(Some(key.as_bytes()), &value, now_ms);
        }
        self.append(&set, &records[first..])
    }

    fn append(&mut self, set: &RecordSetBuilder, records: &[DlqRecord]) -> Result<(), DlqError> {
        if set.is_empty() {
            return Ok(());
        }
        let base = self.broker.append(&dlq_topic(), set)?.wait()?;
        for (record, delta) in records.iter().zip(0..) {
            self.book.take(base.plus(delta), record);
        }
        Ok(())
    }

    pub(super) fn write_letters(&mut self, letters: Vec<Letter>) -> Result<(), DlqError> {
        let records: Vec<DlqRecord> = letters.into_iter().map(|letter| DlqRecord::Letter(Box::new(letter))).collect();
        self.write(&records)
    }

    /// A letter as it is now.
    pub(super) fn find(&self, id: &LetterId) -> Result<Option<Letter>, DlqError> {
        let Some(from) = self.book.place(id) else { return Ok(None) };
        let mut found = None;
        // The batch that holds it, mostly, and not more.
        self.each(from, 1, &mut |_, letter| {
            found = Some(letter).filter(|letter| letter.id == *id);
            found.is_none()
        })?;
        Ok(found)
    }

    /// The letters of these names as they are now, of which those that lie together are read together.
    pub(super) fn find_all<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a LetterId>,
    ) -> Result<BTreeMap<LetterId, Letter>, DlqError> {
        let mut places: Vec<(Offset, &LetterId)> =
            ids.into_iter().filter_map(|id| Some((self.book.place(id)?, id))).collect();
        places.sort_unstable();
        places.dedup();
        let wanted: BTreeSet<&LetterId> = places.iter().map(|(_, id)| *id).collect();
        let mut found = BTreeMap::new();
        let mut next = 0;
        while let Some((from, _)) = places.get(next).copied() {
            self.each(from, 1, &mut |at, letter| {
                if wanted.contains(&letter.id) {
                    found.insert(letter.id.clone(), letter);
                }
                while places.get(next).is_some_and(|(_, id)| found.contains_key(*id)) {
                    next += 1;
                }
                places.get(next).is_some_and(|(place, _)| place.0 <= at.0.saturating_add(NEAR))
            })?;
            // One that is not where it should be is not looked for again.
            if places.get(next).is_some_and(|(place, _)| *place == from) {
                next += 1;
            }
        }
        Ok(found)
    }

    /// Gives the letters as they are now, from this offset of the topic on, in the order of their last change, until `take`
    /// wants no more. `fetch_bytes`: how much is read at once.
    pub(super) fn each(
        &self,
        from: Offset,
        fetch_bytes: usize,
        take: &mut dyn FnMut(Offset, Letter) -> bool,
    ) -> Result<(), DlqError> {
        self.values(from, fetch_bytes, &mut |at, value| match decode(value)? {
            DlqRecord::Letter(letter) => Ok(!self.book.is_current(at, &letter) || take(at, *letter)),
            _ => Ok(true),
        })
    }

    /// The same, without reading all of them.
    pub(super) fn glance(
        &self,
        from: Offset,
        take: &mut dyn FnMut(Offset, &Glance<'_>) -> Result<bool, serde_json::Error>,
    ) -> Result<(), DlqError> {
        self.values(from, SCAN_BYTES, &mut |at, value| {
            let Some(glance) = Glance::read(value).map_err(BadRecord::Letter)? else { return Ok(true) };
            let judged = glance.run().zip(glance.place());
            let newest = self.book.is_newest(at, glance.id(), judged);
            Ok(!newest || take(at, &glance).map_err(BadRecord::Letter)?)
        })
    }

    /// Gives the records from this offset on until `take` wants no more.
    fn values(&self, from: Offset, fetch_bytes: usize, take: &mut TakeValue<'_>) -> Result<(), DlqError> {
        let (at, mut next, mut goes_on) = (dlq_topic(), from, true);
        let end = self.ahead.as_ref().map_or(self.book.next, |ahead| ahead.base);
        if next < end {
            next = next.max(self.broker.ends(&at)?.start);
        }
        while next < end && goes_on {
            let batches = self.broker.fetch(&at, next, fetch_bytes, Duration::ZERO)?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                visit_batch(&at, batch, next, &mut |at, record| {
                    goes_on = goes_on && take(at, record.value)?;
                    Ok(())
                })?;
                next = batch.next_offset();
            }
        }
        for (at, record) in self.ahead.iter().flat_map(|ahead| (ahead.base.0..).map(Offset).zip(&ahead.records)) {
            if goes_on && at >= from {
                let place = |source| ViewError::Record {
                    topic: AD_EVENTS_DLQ.to_owned(),
                    partition: PartitionId(0),
                    offset: at,
                    source,
                };
                goes_on = take(at, &record.encode()).map_err(place)?;
            }
        }
        Ok(())
    }

    /// Takes in some of what has come to `ad_events_error`; whether there may be more.
    pub(super) fn take_in(&mut self) -> Result<bool, DlqError> {
        let at = errors_topic();
        if self.broker.topic(&at.topic)?.is_none() {
            return Ok(false);
        }
        let ends = self.broker.ends(&at)?;
        let from = self.book.taken.max(ends.start);
        if from >= ends.end {
            return Ok(false);
        }
        let batches = self.broker.fetch(&at, from, FETCH_BYTES, Duration::ZERO)?;
        let (mut items, mut next) = (Vec::new(), from);
        for batch in &batches {
            visit_batch(&at, batch, from, &mut |_, record| {
                items.extend(Item::read(record.value));
                Ok(())
            })?;
            next = batch.next_offset();
        }
        let mut fence = Fence::default();
        for (partition, epoch) in &self.book.epochs {
            fence.admits((self.book.run, *partition, *epoch));
        }
        let known: BTreeSet<LetterId> = items.iter().filter_map(Item::known).collect();
        let mut changed = Changed { before: self.find_all(&known)?, ..Changed::default() };
        for item in items {
            match item {
                Item::Letter(letter) => self.letter(*letter, &mut fence, &mut changed)?,
                Item::Output(Output { stamp, body }) if stamp.run == self.book.run => {
                    if fence.admits((stamp.run, stamp.partition, stamp.epoch)) {
                        self.told(stamp.partition, body, &mut changed)?;
                    }
                }
                Item::Output(_) => {}
            }
        }
        let mut records = changed.take();
        let (run, epochs) = (self.book.run, fence.epochs(self.book.run));
        records.push(DlqRecord::Taken { run, next, epochs });
        // Where this is cut off behind some of the letters, they are found again, and known by then.
        self.write(&records)?;
        Ok(next < ends.end)
    }

    fn told(&mut self, partition: PartitionId, body: Body, changed: &mut Changed) -> Result<(), DlqError> {
        match body {
            Body::Rewind { as_of_offset } => {
                // What came before it is void only if it is written before it.
                let mut records = changed.take();
                records.push(DlqRecord::Rewound { run: self.book.run, partition, as_of_offset });
                self.write(&records)
            }
            Body::Retried { offset, attempt, origin, fate } => {
                if let Some(mut known) = self.known(&LetterId::new(&origin, None), changed)? {
                    letter::judged(&mut known, (attempt, offset), fate, self.now_ms());
                    changed.put(known);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn letter(&self, found: DeadLetter, fence: &mut Fence, changed: &mut Changed) -> Result<(), DlqError> {
        let run = self.book.run;
        let term = found.judged.as_ref().zip(found.rejected()).map(|(j, at)| (j.run, at.partition, j.epoch));
        if term.is_some_and(|term| term.0 != run || !fence.admits(term)) {
            return Ok(());
        }
        let id = LetterId::of(&found);
        let letter = match found.retried_at {
            // Seen before: a line of a file that was produced again, or what was taken in before a crash.
            None if changed.letters.contains_key(&id) || self.book.knows(&id) => return Ok(()),
            None => match self.book.earlier.hand_down(letter::found(found, &self.policy)) {
                Some(letter) => letter,
                None => return Ok(()),
            },
            Some(_) => match self.known(&id, changed)? {
                Some(mut known) => {
                    letter::rejected_again(&mut known, found, &self.policy);
                    known
                }
                // The first one is gone: what is known of it is what this one says.
                None => letter::found(found, &self.policy),
            },
        };
        changed.put(letter);
        Ok(())
    }

    fn known(&self, id: &LetterId, changed: &Changed) -> Result<Option<Letter>, DlqError> {
        match changed.letters.get(id).or_else(|| changed.before.get(id)) {
            Some(letter) => Ok(Some(letter.clone())),
            None => self.find(id),
        }
    }
}

/// What is in a record of `ad_events_error`.
enum Item {
    Letter(Box<DeadLetter>),
    Output(Output),
}

impl Item {
    /// None for what no version of this program wrote.
    fn read(value: &[u8]) -> Option<Self> {
        match serde_json::from_slice(value) {
            Ok(letter) => Some(Self::Letter(letter)),
            Err(_) => Output::decode(value).ok().map(Self::Output),
        }
    }

    /// The letter that it tells more of.
    fn known(&self) -> Option<LetterId> {
        match self {
            Self::Letter(letter) => letter.retried_at.as_ref().map(|_| LetterId::of(letter)),
            Self::Output(Output { body: Body::Retried { origin, .. }, .. }) => Some(LetterId::new(origin, None)),
            Self::Output(_) => None,
        }
    }
}

/// Letters that have changed and are not written yet, in the order of their first change.
#[derive(Default)]
struct Changed {
    order: Vec<LetterId>,
    letters: BTreeMap<LetterId, Letter>,
    /// Letters as they are in the topic, read ahead.
    before: BTreeMap<LetterId, Letter>,
}

impl Changed {
    fn put(&mut self, letter: Letter) {
        let id = letter.id.clone();
        if self.letters.insert(id.clone(), letter).is_none() {
            self.order.push(id);
        }
    }

    fn take(&mut self) -> Vec<DlqRecord> {
        // What is written, and what it makes void, is not what was read ahead any more.
        let Self { order, mut letters, .. } = std::mem::take(self);
        order.iter().filter_map(|id| letters.remove(id)).map(|letter| DlqRecord::Letter(Box::new(letter))).collect()
    }
}

/// The run that readers take.
fn current_run(broker: &dyn Broker) -> Result<RunId, DlqError> {
    Ok(runs::current(broker)?.unwrap_or(NO_RUN))
}

/// Where the letters of a run stand.
fn read_book(broker: &dyn Broker, run: RunId) -> Result<Book, DlqError> {
    let mut book = Book::new(run);
    if broker.topic(AD_EVENTS_DLQ)?.is_some() {
        book.next = scan(broker, &dlq_topic(), Offset(0), &mut |at, record| {
            book.take(at, &decode(record.value)?);
            Ok(())
        })?;
    }
    Ok(book)
}

fn decode(value: &[u8]) -> Result<DlqRecord, BadRecord> {
    DlqRecord::decode(value).map_err(BadRecord::Letter)
}
