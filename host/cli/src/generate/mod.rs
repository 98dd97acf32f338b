//! `clickmill generate`: a CSV with Avazu's 24 columns, its distributions and its hours, exact for a seed.
//!
//! Owns what the rows look like; knows nothing of topics. [`figures`] has the published figures, [`model`] says how
//! columns are drawn from them, [`rng`] is the generator that makes a seed mean the same file for good.

mod draw;
mod figures;
mod model;
mod rng;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::exit::mistake;
use crate::output::{counted, say};
use model::{Model, Plan};
use rng::Rng;

/// Avazu's header.
pub const HEADER: &str = "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,\
app_category,device_id,device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n";

/// Hours that there are figures for.
const ALL_HOURS: u16 = 240;
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a CSV with Avazu's columns, distributions and hours, exact for a seed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill generate --rows 1000000 --seed 7 --out data/raw/sample.csv.gz
  clickmill generate --rows 50000 --seed 1 --hours 3 --out - | clickmill produce -

The rows are drawn from published figures of the Avazu data set; none of its rows is copied. The same rows, seed
and hours give the same bytes on every machine (a .gz the same rows).")]
pub struct Args {
    /// Rows to write
    #[arg(long, value_name = "N")]
    pub rows: u64,
    /// Which of the possible files to write
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Where to; compressed if it ends in .gz; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Spread the rows over the first H hours of the ten days
    #[arg(long, value_name = "H", default_value_t = ALL_HOURS, value_parser = clap::value_parser!(u16).range(1..=i64::from(ALL_HOURS)))]
    pub hours: u16,
    /// Overwrite FILE
    #[arg(long)]
    pub force: bool,
}

/// # Errors
/// A mistake where FILE exists; otherwise where it cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let progress = progress_bar(args.rows);
    if args.out.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        match write_rows(args.rows, args.seed, args.hours, &mut out, &progress) {
            // The reader has had enough, as `head` does.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("standard output cannot be written")?,
        }
    } else {
        write_file(args, &progress)?;
    }
    progress.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);
    let (rows, hours) = (counted(args.rows, "row"), counted(args.hours.into(), "hour"));
    say(format_args!(
        "generated {rows} of {hours} in {seconds:.1} s ({} rows/s): {}",
        HumanCount((args.rows as f64 / seconds) as u64),
        args.out.display()
    ));
    Ok(())
}

fn write_file(args: &Args, progress: &ProgressBar) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", args.out.display());
    let special = args.out.metadata().is_ok_and(|m| !m.is_file());
    if special {
        // A pipe or a device is written to, never replaced.
        return write_part(args, &args.out, progress).with_context(failed);
    }
    if args.out.exists() && !args.force {
        return Err(mistake(format!("{} exists; --force overwrites it", args.out.display())));
    }
    // Written beside its place and moved there when whole, so that nobody takes half a file for one.
    let part = beside(&args.out);
    let written = write_part(args, &part, progress).and_then(|()| std::fs::rename(&part, &args.out));
    if written.is_err() {
        // The first error is the one to report; what is left of the file is of no use.
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(failed)
}

fn write_part(args: &Args, part: &Path, progress: &ProgressBar) -> io::Result<()> {
    let file = File::create(part)?;
    if args.out.extension().is_some_and(|e| e == "gz") {
        let mut gz = GzEncoder::new(file, Compression::new(4));
        write_rows(args.rows, args.seed, args.hours, &mut gz, progress)?;
        gz.finish()?.flush()
    } else {
        let mut file = file;
        write_rows(args.rows, args.seed, args.hours, &mut file, progress)?;
        file.flush()
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Writes header and rows.
///
/// # Errors
/// Where `out` fails.
pub fn write_rows(rows: u64, seed: u64, hours: u16, out: &mut dyn Write, progress: &ProgressBar) -> io::Result<()> {
    let model = Model::new();
    let mut rng = Rng::new(seed);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + 1024);
    buffer.extend_from_slice(HEADER.as_bytes());
    for (hour, ordinals) in Plan::new(rows, usize::from(hours)).hours() {
        let text = model::hour_text(hour);
        let ratio = model.hour_ratio(hour);
        for row in ordinals {
            model.write_row(seed, row, text, ratio, &mut rng, &mut buffer);
            if buffer.len() >= BUFFER_BYTES {
                out.write_all(&buffer)?;
                buffer.clear();
                progress.set_position(row);
            }
        }
    }
    out.write_all(&buffer)?;
    out.flush()
}

fn progress_bar(rows: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {percent:>3}% {human_pos} of {human_len} rows, {per_sec}, {eta} left";
    let bar = ProgressBar::new(rows);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests;
