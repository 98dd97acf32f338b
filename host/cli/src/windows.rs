//! `clickmill windows`: merged windows, from a running host or a stopped data directory.

use std::collections::VecDeque;
use std::io::{self, Write};

use anyhow::Result;
use clickmill_pipeline::views::derived::{Decimal6, Derived};
use clickmill_pipeline::views::render::{CSV_HEADER, put_csv, put_json};
use clickmill_pipeline::views::time::{iso8601, parse_time};
use clickmill_pipeline::views::windows::parse_size;
use clickmill_pipeline::views::{WindowQuery, WindowRow};

use crate::config::Config;
use crate::context::Place;
use crate::exit::mistake;
use crate::output::{Output, Rows, say, unless_gone};

/// Rows that the table for people shows.
const SHOWN_ROWS: usize = 200;

/// Prints CTR, CPC, CPA and ROAS by window
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill windows --size 1m --dimension total
  clickmill windows --size 5m --dimension device_type --from 2014-10-21T00:00:00Z --to 2014-10-21T06:00:00Z
  clickmill windows --size 1m --dimension site_category --output csv > windows.csv

Only windows with at least one event. A window that is not final may still change. Cost, conversions and revenue are
modelled from the pricing table. ctr and roas are ratios, cpc and cpa are in units of the currency, rounded half away
from zero to 6 digits.")]
pub struct Args {
    /// Length of the windows: 1m or 5m
    #[arg(long, value_name = "SIZE", default_value = "1m", value_parser = parse_size)]
    pub size: i64,
    /// total, site_category, app_category, device_type, banner_pos, or another that ctr-window is told to count
    /// [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub dimension: Option<String>,
    /// Windows that start at this time or later: 2014-10-21T00:00:00Z, 2014-10-21 or epoch milliseconds
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    pub from: Option<i64>,
    /// Windows that start before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    pub to: Option<i64>,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// # Errors
/// A mistake for a data directory that is not one; otherwise where it, or the host, cannot be read.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(mistake(format!("--from {} is not before --to {}", iso8601(from), iso8601(to))));
    }
    let query =
        WindowQuery { size_ms: args.size, dimension: args.dimension.clone(), from_ms: args.from, to_ms: args.to };
    let place = Place::of(config)?;
    let mut rows = place.windows(&query)?;
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match args.output {
        Output::Text => text(&mut rows, &mut out),
        Output::Csv => lines(&mut rows, &mut out, Some(CSV_HEADER), put_csv),
        Output::Json => json(&mut rows, &mut out),
    }
}

type RowsOf<'a> = dyn Iterator<Item = Result<WindowRow>> + 'a;

fn lines(
    rows: &mut RowsOf<'_>,
    out: &mut dyn Write,
    header: Option<&str>,
    put: fn(&mut String, &WindowRow),
) -> Result<()> {
    let mut line = String::new();
    let mut written = header.map_or(Ok(()), |header| writeln!(out, "{header}"));
    for row in rows {
        line.clear();
        put(&mut line, &row?);
        written = written.and_then(|()| out.write_all(line.as_bytes()));
        if written.is_err() {
            break;
        }
    }
    unless_gone(written.and_then(|()| out.flush()))
}

fn json(rows: &mut RowsOf<'_>, out: &mut dyn Write) -> Result<()> {
    let mut line = String::new();
    let mut written = write!(out, "{{\"windows\":[");
    for (i, row) in rows.enumerate() {
        line.clear();
        line.push_str(if i == 0 { "\n" } else { ",\n" });
        put_json(&mut line, &row?);
        written = written.and_then(|()| out.write_all(line.as_bytes()));
        if written.is_err() {
            break;
        }
    }
    unless_gone(written.and_then(|()| writeln!(out, "]}}")).and_then(|()| out.flush()))
}

fn text(rows: &mut RowsOf<'_>, out: &mut dyn Write) -> Result<()> {
    let mut shown = VecDeque::with_capacity(SHOWN_ROWS);
    let mut count = 0usize;
    for row in rows {
        if shown.len() == SHOWN_ROWS {
            shown.pop_front();
        }
        shown.push_back(row?);
        count += 1;
    }
    let mut table = Rows::new(&[
        "start",
        "dimension",
        "key",
        "impressions>",
        "clicks>",
        "conversions>",
        "ctr>",
        "cpc>",
        "cpa>",
        "roas>",
        "state",
    ]);
    for row in &shown {
        table.push(cells(row));
    }
    unless_gone(table.write_text(out).and_then(|()| out.flush()))?;
    if count > shown.len() {
        say(format_args!("the last {} of {count} rows; --output csv prints all", shown.len()));
    } else if count == 0 {
        say("no such windows yet");
    }
    Ok(())
}

fn cells(row: &WindowRow) -> Vec<String> {
    let Derived { ctr, cpc, cpa, roas } = row.derived();
    let decimal = |d: Option<Decimal6>| d.map_or_else(|| "-".to_owned(), |d| d.to_string());
    let state = match (row.final_, row.lower_bound) {
        (true, false) => "final",
        (false, false) => "provisional",
        (true, true) => "final, lower bound",
        (false, true) => "provisional, lower bound",
    };
    vec![
        iso8601(row.window.start_ms),
        row.window.dimension.clone(),
        row.key.clone(),
        row.metrics.impressions.to_string(),
        row.metrics.clicks.to_string(),
        row.metrics.conversions.to_string(),
        decimal(ctr),
        decimal(cpc),
        decimal(cpa),
        decimal(roas),
        state.to_owned(),
    ]
}
