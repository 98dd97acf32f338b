//! The independent recount: the generated CSV, counted natively by `bench::reference`, which no guest shares code with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use csv::{ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;

use crate::bench::reference::{Event, Reference, hour_start_ms};

/// Counts every row of the file; the rows, and the windows.
pub fn recount(file: &Path, pricing_json: &str) -> Result<(u64, Reference)> {
    let mut rows_of_hour: HashMap<String, i64> = HashMap::new();
    each_row(file, |row| {
        *rows_of_hour.entry(row[2].to_owned()).or_default() += 1;
        Ok(())
    })?;
    let mut seen: HashMap<String, i64> = HashMap::new();
    let mut reference = Reference::new(pricing_json)?;
    let mut rows = 0;
    each_row(file, |row| {
        let i = seen.entry(row[2].to_owned()).or_default();
        let hour_start = hour_start_ms(&row[2]).context("hour")?;
        let ts = hour_start + *i * 3_600_000 / rows_of_hour[&row[2]];
        *i += 1;
        rows += 1;
        reference.event(&event(row, ts)?)
    })?;
    Ok((rows, reference))
}

fn each_row(file: &Path, mut take: impl FnMut(&StringRecord) -> Result<()>) -> Result<()> {
    let open = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let bytes: Box<dyn Read> = match file.extension().is_some_and(|e| e == "gz") {
        true => Box::new(MultiGzDecoder::new(BufReader::new(open))),
        false => Box::new(open),
    };
    let mut reader = ReaderBuilder::new().from_reader(bytes);
    let mut row = StringRecord::new();
    while reader.read_record(&mut row)? {
        if row.len() != 24 {
            bail!("{}: line {}: {} columns", file.display(), row.position().map_or(0, csv::Position::line), row.len());
        }
        take(&row)?;
    }
    Ok(())
}

fn event(row: &StringRecord, ts: i64) -> Result<Event> {
    let text = |i: usize| row[i].to_owned();
    let number = |i: usize| row[i].parse::<i64>().with_context(|| format!("column {i}: {:?}", &row[i]));
    Ok(Event {
        id: text(0),
        click: number(1)?,
        hour: text(2),
        C1: number(3)?,
        banner_pos: number(4)?,
        site_id: text(5),
        site_domain: text(6),
        site_category: text(7),
        app_id: text(8),
        app_domain: text(9),
        app_category: text(10),
        device_id: text(11),
        device_ip: text(12),
        device_model: text(13),
        device_type: number(14)?,
        device_conn_type: number(15)?,
        C14: number(16)?,
        C15: number(17)?,
        C16: number(18)?,
        C17: number(19)?,
        C18: number(20)?,
        C19: number(21)?,
        C20: number(22)?,
        C21: number(23)?,
        ts,
    })
}
