//! Values to record batches: rounds of consecutive rows, one batch per partition, each with its source position.
//!
//! Rows are numbered in the order of sending. The last record of a batch carries the number of its row, so what is in
//! a topic tells how far its producer came, partition by partition; rows at or below that are left out here.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{PartitionId, SourceId};

use super::event::Value;
use super::pace::Pace;

/// A round is sent when a partition has this many bytes: with one more row still within a single block of zstd...
const BATCH_BYTES: usize = 120 * 1024;
/// ...or this many records...
const BATCH_RECORDS: u32 = 1_000;
/// ...or before the next record, where it would have more than this with it: long records go by themselves.
const MAX_JOINED_BYTES: usize = 1 << 20;
/// Longest time that a row waits in a round for others, where rows do not come as fast as they can.
pub const LINGER: Duration = Duration::from_millis(20);

/// A batch on its way.
#[derive(Debug)]
pub struct Batch {
    pub partition: PartitionId,
    pub set: RecordSetBuilder,
    /// Number of its last row.
    pub last_row: u64,
}

/// What is sent at a time.
#[derive(Debug, Default)]
pub struct Round {
    /// For the topic of events, at most one per partition.
    pub events: Vec<Batch>,
    /// For the topic of dead letters.
    pub dead_letters: Vec<Batch>,
}

/// Collects the records of one partition of one topic.
#[derive(Debug, Default)]
struct Slot {
    set: RecordSetBuilder,
    /// The newest record: it waits, since the last one of a batch gets a key.
    held: Option<u64>,
    value: Value,
}

impl Slot {
    fn bytes(&self) -> usize {
        self.set.bytes().len() + self.value.as_slice().len()
    }

    fn push(&mut self, row: u64, value: &mut Value, timestamp_ms: i64) {
        if self.held.is_some() {
            self.set.push(None, self.value.as_slice(), timestamp_ms);
        }
        self.held = Some(row);
        std::mem::swap(&mut self.value, value);
    }

    fn take(
        &mut self,
        source: u64,
        timestamp_ms: i64,
        spare: &Receiver<RecordSetBuilder>,
    ) -> Option<(RecordSetBuilder, u64)> {
        let row = self.held.take()?;
        let key = SourcePosition { source, row }.encode();
        self.set.push(Some(&key), self.value.as_slice(), timestamp_ms);
        let mut next = spare.try_recv().unwrap_or_default();
        next.clear();
        Some((std::mem::replace(&mut self.set, next), row))
    }
}

/// Where rows and dead letters are that were sent before: by partition, the number of the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub events: Vec<Option<u64>>,
    pub dead_letters: Vec<Option<u64>>,
}

/// What was done with the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By partition.
    pub sent: Vec<u64>,
    /// Left out: they were there already.
    pub already_there: u64,
    pub dead_letters: u64,
    pub dead_letters_already_there: u64,
}

/// Makes rounds and hands them over.
pub struct Rounds {
    source: u64,
    positions: Positions,
    slots: Vec<Slot>,
    errors: Slot,
    next_row: u64,
    next_dead_letter: u64,
    pace: Option<Pace>,
    sender: SyncSender<Round>,
    spare: Receiver<RecordSetBuilder>,
    /// When the first record of the open round came, where that matters.
    opened: Option<Instant>,
    timestamp_ms: i64,
    pub counts: Counts,
}

impl Rounds {
    /// `positions` has an entry for every partition.
    pub fn new(
        source: u64,
        positions: Positions,
        pace: Option<Pace>,
        sender: SyncSender<Round>,
        spare: Receiver<RecordSetBuilder>,
    ) -> Self {
        let partitions = positions.events.len();
        Self {
            source,
            positions,
            slots: (0..partitions).map(|_| Slot::default()).collect(),
            errors: Slot::default(),
            next_row: 0,
            next_dead_letter: 0,
            pace,
            sender,
            spare,
            opened: None,
            timestamp_ms: wall_clock_ms(),
            counts: Counts { sent: vec![0; partitions], ..Counts::default() },
        }
    }

    /// Partitions of the topic of events.
    pub fn partitions(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Gives the next row its number. True: send it ([`push`](Self::push)). False: it is in `partition` already.
    pub fn next_row(&mut self, partition: PartitionId) -> bool {
        let row = self.next_row;
        self.next_row += 1;
        let is_new = self.positions.events[partition.0 as usize].is_none_or(|last| row > last);
        self.counts.already_there += u64::from(!is_new);
        is_new
    }

    /// Adds the row that was numbered last; `value` gets another buffer. Waits until the row is due, and while too
    /// many rounds are on their way. Breaks where nobody takes rounds any more.
    pub fn push(&mut self, partition: PartitionId, ts_ms: Option<i64>, value: &mut Value) -> ControlFlow<()> {
        if let Some(pace) = &mut self.pace {
            let due = pace.due(ts_ms);
            self.wait_until(due)?;
        }
        let slot = &self.slots[partition.0 as usize];
        if slot.held.is_some() && slot.bytes() + value.as_slice().len() > MAX_JOINED_BYTES {
            self.flush()?;
        }
        let slot = &mut self.slots[partition.0 as usize];
        slot.push(self.next_row - 1, value, self.timestamp_ms);
        self.counts.sent[partition.0 as usize] += 1;
        if slot.set.count() >= BATCH_RECORDS || slot.set.bytes().len() >= BATCH_BYTES {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Adds a dead letter, `make` of it only where it was not sent before; it is given what this is all from.
    pub fn push_dead_letter(&mut self, make: impl FnOnce(SourceId) -> Vec<u8>) -> ControlFlow<()> {
        let number = self.next_dead_letter;
        self.next_dead_letter += 1;
        if self.positions.dead_letters.first().copied().flatten().is_some_and(|last| number <= last) {
            self.counts.dead_letters_already_there += 1;
            return ControlFlow::Continue(());
        }
        let mut value = Value::default();
        value.set(&make(self.source.into()));
        self.errors.push(number, &mut value, self.timestamp_ms);
        self.counts.dead_letters += 1;
        if self.errors.set.count() >= BATCH_RECORDS || self.errors.set.bytes().len() >= BATCH_BYTES {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Sends what is there.
    pub fn flush(&mut self) -> ControlFlow<()> {
        let mut round = Round::default();
        let now = self.timestamp_ms;
        for (partition, slot) in self.slots.iter_mut().enumerate() {
            if let Some((set, last_row)) = slot.take(self.source, now, &self.spare) {
                round.events.push(Batch { partition: PartitionId(partition as u32), set, last_row });
            }
        }
        if let Some((set, last_row)) = self.errors.take(self.source, now, &self.spare) {
            round.dead_letters.push(Batch { partition: PartitionId(0), set, last_row });
        }
        self.opened = None;
        self.timestamp_ms = wall_clock_ms();
        if round.events.is_empty() && round.dead_letters.is_empty() {
            return ControlFlow::Continue(());
        }
        match self.sender.send(round) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn is_empty(&self) -> bool {
        self.errors.held.is_none() && self.slots.iter().all(|s| s.held.is_none())
    }

    /// Sleeps until `due`, but sends what waits longer than [`LINGER`].
    fn wait_until(&mut self, due: Instant) -> ControlFlow<()> {
        loop {
            let now = Instant::now();
            let flush_at = self.opened.map(|opened| opened + LINGER);
            if flush_at.is_some_and(|at| at <= now) {
                self.flush()?;
                continue;
            }
            if due <= now {
                if self.is_empty() {
                    // The time in the records is that of the first one of the round.
                    self.timestamp_ms = wall_clock_ms();
                }
                self.opened.get_or_insert(now);
                return ControlFlow::Continue(());
            }
            std::thread::sleep(flush_at.map_or(due, |at| at.min(due)) - now);
        }
    }
}

/// Now, epoch milliseconds.
pub fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
