//! The first reading of CSV files: what has to be known before the first row can be sent.
//!
//! Event time needs the number of rows of each hour, and the order of sending needs to know whether the hours rise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;

use super::hour::{EpochHour, HourCache};
use super::input::chunks::{self, Damage};
use super::input::columns::HOUR;
use super::input::files::{Print, Source};
use super::input::rows::{Item, Place, RowReader};

/// What an hour has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HourRows {
    pub rows: u64,
    /// Of the rows as they stand in the files.
    pub bytes: u64,
}

/// Where a file could not be read any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub place: Place,
    pub damage: Damage,
}

/// What is in the files, up to the end or to the first cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Of the files that were read, up to the one that was cut.
    pub prints: Vec<Print>,
    pub hours: BTreeMap<EpochHour, HourRows>,
    /// Rows in an hour.
    pub dated: u64,
    /// Rows whose hour cannot be read; they are sent last.
    pub undated: u64,
    pub bad_lines: u64,
    pub blank_lines: u64,
    /// No hour is before the one of the row before it.
    pub in_order: bool,
    pub cut: Option<Cut>,
}

impl Survey {
    /// Rows to send.
    pub const fn rows(&self) -> u64 {
        self.dated + self.undated
    }
}

/// Reads all of `sources`; `read` counts their bytes on disk meanwhile. What is in a corrupt file, and behind it, is
/// left out.
///
/// # Errors
/// A mistake where a file is missing or has other columns.
pub fn survey(sources: &[Source], max_line_bytes: usize, read: &Arc<AtomicU64>) -> anyhow::Result<Survey> {
    let found = survey_all(sources, max_line_bytes, read)?;
    match found.cut {
        Some(cut) if cut.damage.corrupt => {
            let sound = survey_all(&sources[..cut.place.file], max_line_bytes, read)?;
            Ok(Survey { cut: Some(cut), ..sound })
        }
        _ => Ok(found),
    }
}

fn survey_all(sources: &[Source], max_line_bytes: usize, read: &Arc<AtomicU64>) -> anyhow::Result<Survey> {
    std::thread::scope(|scope| {
        let (chunks, reader) = chunks::read(scope, sources.to_vec(), max_line_bytes, Arc::clone(read));
        let mut rows = RowReader::new(chunks, sources, max_line_bytes);
        let counted = count(&mut rows);
        let blank_lines = rows.blank_lines;
        // A reader that waits for room is told to stop.
        drop(rows);
        let prints = reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))?;
        let mut survey = counted?;
        survey.blank_lines = blank_lines;
        survey.prints = prints?.context("the files were not read to their end")?;
        Ok(survey)
    })
}

fn count(rows: &mut RowReader<'_>) -> anyhow::Result<Survey> {
    let mut survey = Survey { in_order: true, ..Survey::default() };
    let mut hours = HourCache::default();
    // The hour that is being counted, kept out of the map.
    let mut current: Option<(EpochHour, HourRows)> = None;
    while let Some(item) = rows.next()? {
        match item {
            Item::Row(row) => {
                let Some(hour) = hours.parse(row.field(HOUR)) else {
                    survey.undated += 1;
                    continue;
                };
                survey.dated += 1;
                let bytes = row.raw.len() as u64;
                match &mut current {
                    Some((at, counted)) if *at == hour => {
                        counted.rows += 1;
                        counted.bytes += bytes;
                    }
                    _ => {
                        survey.in_order &= current.is_none_or(|(at, _)| at < hour);
                        if let Some((at, counted)) = current.replace((hour, HourRows { rows: 1, bytes })) {
                            add(&mut survey.hours, at, counted);
                        }
                    }
                }
            }
            Item::Bad { .. } => survey.bad_lines += 1,
            Item::Cut { place, damage } => {
                survey.cut = Some(Cut { place, damage });
                break;
            }
        }
    }
    if let Some((at, counted)) = current {
        add(&mut survey.hours, at, counted);
    }
    Ok(survey)
}

fn add(hours: &mut BTreeMap<EpochHour, HourRows>, at: EpochHour, counted: HourRows) {
    let entry = hours.entry(at).or_default();
    entry.rows += counted.rows;
    entry.bytes += counted.bytes;
}
