//! The second reading of CSV files: rows in the order of sending, whatever their order in the files.
//!
//! Order: by hour, within an hour as in the files, which is the order of event time; rows without an hour last. Files
//! in hour order are passed through. Others are dealt out to buckets of neighbouring hours on disk, so that each
//! bucket fits in memory or has a single hour, which needs no sorting; a bucket that does neither is dealt out again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use clickmill_schemas::record::{put_varint, take_varint};

use super::hour::{EpochHour, HourCache};
use super::input::chunks::PADDING;
use super::input::columns::{HOUR, WIDTH};
use super::input::rows::{Fault, Item, Place, Row, RowReader};
use super::survey::{HourRows, Survey};

/// Buckets that are open at a time.
const MAX_BUCKETS: usize = 128;
const BUCKET_BUFFER_BYTES: usize = 64 * 1024;

/// Takes what comes out, in order. Breaking stops the reading.
pub trait Outlet {
    /// A row with the hour that it belongs to.
    ///
    /// # Errors
    /// As the implementation has it.
    fn row(&mut self, row: &Row<'_>, hour: Option<EpochHour>) -> anyhow::Result<ControlFlow<()>>;

    /// A line that is no row; these come in the order of the files, before or among the rows.
    ///
    /// # Errors
    /// As the implementation has it.
    fn bad(&mut self, place: Place, raw: &[u8], fault: Fault) -> anyhow::Result<ControlFlow<()>>;
}

/// Rows that are kept until their turn comes.
pub struct Limits<'a> {
    /// Bytes of rows that are sorted in memory at a time.
    pub memory_bytes: u64,
    /// Where buckets go.
    pub spill_dir: &'a Path,
}

/// Passes every row with an hour on, in the order of sending, and every bad line.
///
/// # Errors
/// Where the files or the buckets cannot be read, or `outlet` fails.
pub fn dated(
    rows: &mut RowReader<'_>,
    survey: &Survey,
    limits: &Limits<'_>,
    outlet: &mut dyn Outlet,
) -> anyhow::Result<ControlFlow<()>> {
    let mut hours = HourCache::default();
    if survey.in_order {
        return each(rows, outlet, &mut |row, outlet| match hours.parse(row.field(HOUR)) {
            Some(hour) => outlet.row(row, Some(hour)),
            None => Ok(ControlFlow::Continue(())),
        });
    }
    if memory_bytes(&survey.hours) <= limits.memory_bytes {
        let mut bucket = InMemory::default();
        let read = each(rows, outlet, &mut |row, _| {
            if let Some(hour) = hours.parse(row.field(HOUR)) {
                bucket.add(hour, row);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        return if read.is_break() { Ok(read) } else { bucket.pass_on(outlet) };
    }
    let mut deal = Deal::new(&survey.hours, limits)?;
    let read = each(rows, outlet, &mut |row, _| {
        if let Some(hour) = hours.parse(row.field(HOUR)) {
            deal.add(hour, row)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if read.is_break() { Ok(read) } else { deal.pass_on(limits, outlet) }
}

/// Passes every row without an hour on, in the order of the files.
///
/// # Errors
/// Where the files cannot be read, or `outlet` fails.
pub fn undated(rows: &mut RowReader<'_>, outlet: &mut dyn Outlet) -> anyhow::Result<ControlFlow<()>> {
    let mut hours = HourCache::default();
    while let Some(item) = rows.next()? {
        match item {
            Item::Row(row) if hours.parse(row.field(HOUR)).is_none() => {
                if outlet.row(&row, None)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Item::Row(_) | Item::Bad { .. } => {}
            Item::Cut { .. } => break,
        }
    }
    Ok(ControlFlow::Continue(()))
}

type OnRow<'a> = &'a mut dyn FnMut(&Row<'_>, &mut dyn Outlet) -> anyhow::Result<ControlFlow<()>>;

fn each(rows: &mut RowReader<'_>, outlet: &mut dyn Outlet, on_row: OnRow<'_>) -> anyhow::Result<ControlFlow<()>> {
    while let Some(item) = rows.next()? {
        let flow = match item {
            Item::Row(row) => on_row(&row, outlet)?,
            Item::Bad { place, raw, fault } => outlet.bad(place, raw, fault)?,
            // The survey reported it; what follows is not read.
            Item::Cut { .. } => break,
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Appends a row so that it can be read back without being split again: length of the rest, hour, whether it is
/// plain, the fields' lengths, the fields.
fn keep(hour: EpochHour, row: &Row<'_>, out: &mut Vec<u8>) {
    let begun = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&hour.0.to_le_bytes());
    out.push(u8::from(row.plain));
    for (start, end) in row.spans {
        put_varint(out, i64::from(end - start));
    }
    for column in 0..WIDTH {
        out.extend_from_slice(row.field(column));
    }
    // A row is at most as long as the limit on lines, so this is far from 4 GiB.
    let len = (out.len() - begun - 4) as u32;
    out[begun..begun + 4].copy_from_slice(&len.to_le_bytes());
}

/// A row that was kept.
struct Kept<'a> {
    hour: EpochHour,
    plain: bool,
    spans: [(u32, u32); WIDTH],
    /// The row without its length, and padding.
    text: &'a [u8],
}

impl<'a> Kept<'a> {
    /// Reads what [`keep`] wrote behind the length.
    fn read(text: &'a [u8]) -> anyhow::Result<Self> {
        Self::decode(text).context("a row kept for sorting is damaged: is the disk sound?")
    }

    fn decode(text: &'a [u8]) -> Option<Self> {
        let (head, _) = text.split_first_chunk::<5>()?;
        let [h0, h1, h2, h3, plain] = *head;
        let mut lengths = [0u32; WIDTH];
        let mut at = head.len();
        for length in &mut lengths {
            *length = u32::try_from(take_varint(text, &mut at)?).ok()?;
        }
        let mut start = u32::try_from(at).ok()?;
        let mut spans = [(0, 0); WIDTH];
        for (span, length) in spans.iter_mut().zip(lengths) {
            let end = start.checked_add(length)?;
            *span = (start, end);
            start = end;
        }
        let hour = EpochHour(u32::from_le_bytes([h0, h1, h2, h3]));
        (start as usize <= text.len()).then_some(Self { hour, plain: plain == 1, spans, text })
    }

    fn row(&self) -> Row<'_> {
        let (start, end) = (self.spans[0].0 as usize, self.spans[WIDTH - 1].1 as usize);
        Row { text: self.text, spans: &self.spans, plain: self.plain, raw: &self.text[start..end] }
    }
}

/// Rows in memory, sorted when they are all there.
#[derive(Default)]
struct InMemory {
    kept: Vec<u8>,
    /// Hour and place in `kept`; places rise, so sorting by both keeps the order within an hour.
    index: Vec<(EpochHour, u64)>,
}

impl InMemory {
    fn add(&mut self, hour: EpochHour, row: &Row<'_>) {
        self.index.push((hour, self.kept.len() as u64));
        keep(hour, row, &mut self.kept);
    }

    fn pass_on(mut self, outlet: &mut dyn Outlet) -> anyhow::Result<ControlFlow<()>> {
        self.kept.extend_from_slice(&[0; PADDING]);
        self.index.sort_unstable();
        for (hour, at) in &self.index {
            let kept = Kept::read(&self.kept[*at as usize + 4..])?;
            if outlet.row(&kept.row(), Some(*hour))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Bytes that rows take in memory.
fn memory_bytes(hours: &BTreeMap<EpochHour, HourRows>) -> u64 {
    const PER_ROW: u64 = 4 + 4 + 1 + 2 * WIDTH as u64 + size_of::<(EpochHour, u64)>() as u64;
    hours.values().map(|h| h.bytes + h.rows * PER_ROW).sum()
}

/// A bucket on disk. The file has no name, so it goes with the process.
struct Bucket {
    hours: BTreeMap<EpochHour, HourRows>,
    file: BufWriter<File>,
}

/// Rows dealt out to buckets.
struct Deal {
    /// By the first hour of each.
    buckets: BTreeMap<EpochHour, Bucket>,
    row: Vec<u8>,
}

impl Deal {
    fn new(hours: &BTreeMap<EpochHour, HourRows>, limits: &Limits<'_>) -> anyhow::Result<Self> {
        let target = limits.memory_bytes.max(memory_bytes(hours).div_ceil(MAX_BUCKETS as u64 / 2));
        let mut buckets: BTreeMap<EpochHour, Bucket> = BTreeMap::new();
        let mut room = 0;
        for (hour, rows) in hours {
            let bytes = memory_bytes(&BTreeMap::from([(*hour, *rows)]));
            match buckets.last_entry().filter(|_| bytes <= room) {
                Some(mut last) => {
                    last.get_mut().hours.insert(*hour, *rows);
                    room -= bytes;
                }
                None => {
                    let file = tempfile::tempfile_in(limits.spill_dir).with_context(|| {
                        format!("cannot create a file for sorting in {}", limits.spill_dir.display())
                    })?;
                    let file = BufWriter::with_capacity(BUCKET_BUFFER_BYTES, file);
                    buckets.insert(*hour, Bucket { hours: BTreeMap::from([(*hour, *rows)]), file });
                    room = target.saturating_sub(bytes);
                }
            }
        }
        Ok(Self { buckets, row: Vec::new() })
    }

    fn add(&mut self, hour: EpochHour, row: &Row<'_>) -> anyhow::Result<()> {
        self.row.clear();
        keep(hour, row, &mut self.row);
        let bucket = self.buckets.range_mut(..=hour).next_back().context(CHANGED)?.1;
        bucket.file.write_all(&self.row).context("cannot write a file for sorting")
    }

    fn pass_on(self, limits: &Limits<'_>, outlet: &mut dyn Outlet) -> anyhow::Result<ControlFlow<()>> {
        for bucket in self.buckets.into_values() {
            let file = bucket.file.into_inner().map_err(|e| e.into_error());
            let file = file.context("cannot write a file for sorting")?;
            if pass_bucket_on(&bucket.hours, file, limits, outlet)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What went wrong where the second reading finds other rows than the first.
pub const CHANGED: &str = "the files changed while they were read: run produce again";

fn pass_bucket_on(
    hours: &BTreeMap<EpochHour, HourRows>,
    mut file: File,
    limits: &Limits<'_>,
    outlet: &mut dyn Outlet,
) -> anyhow::Result<ControlFlow<()>> {
    file.rewind().context("cannot read a file for sorting")?;
    let mut kept = KeptRows { input: BufReader::with_capacity(BUCKET_BUFFER_BYTES, file), text: Vec::new() };
    if hours.len() == 1 {
        while let Some(kept) = kept.next()? {
            if outlet.row(&kept.row(), Some(kept.hour))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        return Ok(ControlFlow::Continue(()));
    }
    if memory_bytes(hours) <= limits.memory_bytes {
        let mut bucket = InMemory::default();
        while let Some(kept) = kept.next()? {
            bucket.add(kept.hour, &kept.row());
        }
        return bucket.pass_on(outlet);
    }
    let mut deal = Deal::new(hours, limits)?;
    while let Some(kept) = kept.next()? {
        deal.add(kept.hour, &kept.row())?;
    }
    deal.pass_on(limits, outlet)
}

/// The rows of a bucket, in the order that they were dealt.
struct KeptRows {
    input: BufReader<File>,
    text: Vec<u8>,
}

impl KeptRows {
    fn next(&mut self) -> anyhow::Result<Option<Kept<'_>>> {
        if self.input.fill_buf().context("cannot read a file for sorting")?.is_empty() {
            return Ok(None);
        }
        let mut len = [0; 4];
        self.input.read_exact(&mut len).context("cannot read a file for sorting")?;
        let len = u32::from_le_bytes(len) as usize;
        self.text.resize(len + PADDING, 0);
        self.input.read_exact(&mut self.text[..len]).context("cannot read a file for sorting")?;
        Kept::read(&self.text).map(Some)
    }
}

#[cfg(test)]
mod tests;
