//! Batches through a chain in which a record may become several: whatever becomes of those, the record keeps one fate.
//!
//! It is rejected if any of them is, else counted if any reached the end, else late if any was, else dropped. A chain
//! without such a stage never comes here. A stage that makes records anew is called with one at a time, and what it makes
//! gets the offset and the timestamp of the record it was made of.

use clickmill_schemas::Offset;
use clickmill_schemas::envelope::Route;
use clickmill_schemas::record::{COUNT_LEN, Record, Records, put_record};

use crate::abi::Frame;
use crate::outcome::{BatchOutcome, PassedRecord, Routed};
use crate::output::{Inputs, RoutedRecord};
use crate::source::{BatchSource, Entry, Unpacked};
use crate::stage::Stage;
use crate::{Chain, ProcessError};

/// Records on their way, several of which may be made of the same one.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    of: Vec<Piece>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Of the record it was made of.
    delta: u32,
    timestamp_delta_ms: i64,
    /// Where its encoding ends.
    end: usize,
}

impl Pieces {
    fn clear(&mut self) {
        self.bytes.clear();
        self.of.clear();
    }

    fn push(&mut self, delta: u32, record: &Record<'_>) {
        put_record(&mut self.bytes, record);
        let (timestamp_delta_ms, end) = (record.timestamp_delta_ms, self.bytes.len());
        self.of.push(Piece { delta, timestamp_delta_ms, end });
    }

    /// Each with its encoding.
    fn iter(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        let mut start = 0;
        self.of.iter().map(move |piece| (*piece, &self.bytes[std::mem::replace(&mut start, piece.end)..piece.end]))
    }

    fn set(&self, dst: &mut [u8]) {
        let (count, records) = dst.split_at_mut(COUNT_LEN);
        count.copy_from_slice(&(self.of.len() as u32).to_be_bytes());
        records.copy_from_slice(&self.bytes);
    }
}

/// A stage that hands on each record at most once gets these; what it keeps is noted.
struct Pending<'a> {
    left: std::slice::Iter<'a, Piece>,
    kept: Vec<u32>,
}

impl Inputs for Pending<'_> {
    fn admit(&mut self, delta: i64) -> Result<(), &'static str> {
        for piece in self.left.by_ref() {
            if i64::from(piece.delta) == delta {
                return Ok(());
            }
            self.kept.push(piece.delta);
        }
        Err("was not in its input, is repeated or out of order")
    }

    fn goes_on(&mut self, _delta: i64) {}
}

/// What became so far of a record.
#[derive(Clone, Debug, Default)]
struct Fate {
    rejected: Option<Routed>,
    reached_the_end: bool,
    late: Option<Routed>,
    /// Where the last of it was dropped.
    dropped_at: usize,
}

/// Fates by offset delta, from the first record on.
struct Fates {
    base: Offset,
    first: u32,
    of: Vec<Fate>,
}

impl Fates {
    fn new(base: Offset, entries: &[Entry]) -> Self {
        let first = entries.first().map_or(0, |entry| entry.delta);
        let count = entries.last().map_or(0, |entry| entry.delta - first + 1);
        Self { base, first, of: vec![Fate::default(); count as usize] }
    }

    fn at(&mut self, delta: u32) -> &mut Fate {
        &mut self.of[(delta - self.first) as usize]
    }

    fn route(&mut self, stage: usize, record: &RoutedRecord<'_>) {
        let offset = self.base.plus(record.delta.unsigned_abs());
        // It was admitted, so it is one of these.
        let fate = self.at(record.delta as u32);
        let place = if matches!(record.route, Route::Late { .. }) { &mut fate.late } else { &mut fate.rejected };
        place.get_or_insert_with(|| {
            let (route, value) = (record.route.into(), record.value.to_vec());
            Routed { offset, stage, route, value }
        });
    }

    /// A stage kept these: that is the end of the chain for them where it counts what it keeps.
    fn keep(&mut self, stage: usize, counts: bool, deltas: &[u32]) {
        for delta in deltas {
            let fate = self.at(*delta);
            if counts { fate.reached_the_end = true } else { fate.dropped_at = stage }
        }
    }

    /// Books one fate for each of the records.
    fn settle(mut self, entries: &[Entry], out: &mut BatchOutcome) {
        let (mut routed, mut dropped) = (Vec::new(), Vec::new());
        for entry in entries {
            let fate = std::mem::take(self.at(entry.delta));
            match fate {
                Fate { rejected: Some(rejected), .. } => routed.push(rejected),
                Fate { reached_the_end: true, .. } => out.counted += 1,
                Fate { late: Some(late), .. } => routed.push(late),
                Fate { dropped_at, .. } => dropped.push(dropped_at),
            }
        }
        out.records += entries.len() as u64;
        routed.sort_by_key(|record| record.stage);
        out.routed.append(&mut routed);
        dropped.sort_unstable();
        for of_stage in dropped.chunk_by(|a, b| a == b) {
            out.drop_at(of_stage[0], of_stage.len() as u32);
        }
    }
}

impl Chain {
    /// Runs some records of a batch through a chain with a stage that fans out.
    pub(crate) fn run_fanned(
        &mut self,
        source: &dyn BatchSource,
        batch: &Unpacked,
        entries: &[Entry],
        out: &mut BatchOutcome,
        passed: Option<&mut Vec<PassedRecord>>,
    ) -> Result<(), ProcessError> {
        let mut fates = Fates::new(source.base_offset(), entries);
        let (mut pieces, mut next) = (std::mem::take(&mut self.pieces), Pieces::default());
        pieces.clear();
        read_into(&mut pieces, &batch.pack(entries)).map_err(ProcessError::Source)?;
        let frame = Frame::of(source);
        for i in 0..self.stages.len() {
            if pieces.of.is_empty() {
                break;
            }
            next.clear();
            if self.stages[i].module().exports().fans_out() {
                fan_out(&mut self.stages[i], i, &frame, &pieces, &mut next, &mut fates)?;
            } else {
                self.hand_on(i, &frame, &pieces, &mut next, &mut fates)?;
            }
            std::mem::swap(&mut pieces, &mut next);
        }
        pieces.of.iter().for_each(|piece| fates.at(piece.delta).reached_the_end = true);
        if let Some(collected) = passed {
            let mut set = vec![0; COUNT_LEN + pieces.bytes.len()];
            pieces.set(&mut set);
            let records = Records::new(&set).into_iter().flatten().flatten();
            collected.extend(records.map(|record| PassedRecord::of(source, &record)));
        }
        self.pieces = pieces;
        fates.settle(entries, out);
        Ok(())
    }

    /// All pieces at once through a stage that makes at most one of each.
    fn hand_on(
        &mut self,
        i: usize,
        frame: &Frame,
        pieces: &Pieces,
        next: &mut Pieces,
        fates: &mut Fates,
    ) -> Result<(), ProcessError> {
        let (stage, passed) = (&mut self.stages[i], &mut self.passed);
        let len = COUNT_LEN + pieces.bytes.len();
        let output = stage.run(frame, len, Some(pieces.of.len() as u32), |set| {
            pieces.set(set);
            Ok(())
        })?;
        let mut pending = Pending { left: pieces.of.iter(), kept: Vec::new() };
        stage.walk(&output, &mut pending, passed, |record| fates.route(i, record))?;
        let Pending { left, mut kept } = pending;
        kept.extend(left.map(|piece| piece.delta));
        fates.keep(i, stage.counts_what_it_keeps(), &kept);
        let mut set = vec![0; COUNT_LEN + passed.bytes];
        stage.copy_passed(&output, passed, &mut set);
        read_into(next, &set).map_err(ProcessError::Source)
    }
}

/// Piece after piece through a stage whose output does not tell what it was made of.
fn fan_out(
    stage: &mut Stage,
    i: usize,
    frame: &Frame,
    pieces: &Pieces,
    next: &mut Pieces,
    fates: &mut Fates,
) -> Result<(), ProcessError> {
    let limit = stage.output_limit();
    for (Piece { delta, timestamp_delta_ms, .. }, bytes) in pieces.iter() {
        let before = next.of.len();
        let ran = stage.run_one(frame, bytes, |made| {
            let offset_delta = i64::from(delta);
            next.push(delta, &Record { offset_delta, timestamp_delta_ms, ..*made });
        });
        if let Err(error) = ran {
            stage.set_suspect(frame.base_offset.wrapping_add(delta.into()));
            return Err(error);
        }
        if next.of.len() == before {
            fates.keep(i, false, &[delta]);
        }
        if next.bytes.len() > limit {
            let len = next.bytes.len();
            return Err(stage
                .fault(format!("output of {len} bytes for one batch, over its limit of {limit}").into())
                .into());
        }
    }
    Ok(())
}

/// Reads a set whose deltas have been checked.
fn read_into(pieces: &mut Pieces, set: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for record in Records::new(set)? {
        let record = record?;
        pieces.push(u32::try_from(record.offset_delta)?, &record);
    }
    Ok(())
}
