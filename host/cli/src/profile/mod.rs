//! `clickmill profile`: what is in a CSV of Avazu's columns, as a Markdown report.
//!
//! One pass, bounded memory: [`tally`] counts, [`sketch`] estimates what is too much to count, [`report`] and
//! [`plots`] show it. Reads through `produce`'s reader, so it takes and refuses the same files and lines.

mod plots;
mod report;
mod sketch;
mod tally;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

use crate::output::say;
use crate::produce::Progress;
use crate::produce::input::chunks;
use crate::produce::input::files::Source;
use crate::produce::input::rows::{Item, RowReader};
use tally::Tally;

/// Longer lines are bad lines.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Says what is in a CSV: rows, hours, CTR, distinct and missing values, distributions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill profile data/raw/train.gz
  clickmill profile sample.csv --out report.md     the plots go beside it, as SVG")]
pub struct Args {
    /// A CSV of Avazu's 24 columns, also compressed (.gz)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the report here and plots beside it, instead of the report to standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// # Errors
/// A mistake where the file is missing or has other columns; otherwise where the report cannot be written, or the file
/// is cut short, after the report on what is before the cut.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let source = Source::file(&args.file);
    let tally = read(&source)?;
    match &args.out {
        None => match std::io::stdout().lock().write_all(report::markdown(&source.name, &tally, &[]).as_bytes()) {
            // The reader has had enough, as `head` does.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.context("standard output cannot be written")?,
        },
        Some(out) => {
            let plots =
                plots::draw(&tally, out).with_context(|| format!("cannot draw plots beside {}", out.display()))?;
            std::fs::write(out, report::markdown(&source.name, &tally, &plots))
                .with_context(|| format!("cannot write {}", out.display()))?;
            let names: Vec<String> = plots.iter().map(|p| p.display().to_string()).collect();
            say(format_args!("wrote {} and {}", out.display(), names.join(", ")));
        }
    }
    match tally.cut {
        Some(why) => anyhow::bail!("{}: {why}; the report is on what comes before", source.name),
        None => Ok(()),
    }
}

fn read(source: &Source) -> anyhow::Result<Tally> {
    let bytes = source.bytes()?;
    let read = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&read);
    let _shown = Progress::new("profiling", "bytes", Some(bytes), move || shown.load(Ordering::Relaxed));
    let sources = [source.clone()];
    std::thread::scope(|scope| {
        let (chunks, reader) = chunks::read(scope, sources.to_vec(), MAX_LINE_BYTES, read);
        let mut rows = RowReader::new(chunks, &sources, MAX_LINE_BYTES);
        let tally = count(&mut rows);
        drop(rows);
        let ended = reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))?;
        let tally = tally?;
        ended?;
        Ok(tally)
    })
}

fn count(rows: &mut RowReader<'_>) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    while let Some(item) = rows.next()? {
        match item {
            Item::Row(row) => tally.row(&row),
            Item::Bad { place, fault, .. } => tally.bad(place.line, &fault.to_string()),
            Item::Cut { place, damage } => {
                tally.cut =
                    Some(format!("cannot be read past line {}, byte {}: {}", place.line, place.byte, damage.why));
            }
        }
    }
    tally.blank_lines = rows.blank_lines;
    Ok(tally)
}

/// A file beside `out` with `suffix` instead of its extension.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{suffix}"))
}

#[cfg(test)]
mod tests;
