//! `clickmill dlq purge|export`: letters that nobody wants any more, and those that somebody wants elsewhere.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clickmill_pipeline::dlq::{Shape, Which};
use clickmill_schemas::dead_letter::RawPayload;
use clickmill_schemas::dlq::LetterId;

use super::FilterArgs;
use super::source::Source;
use crate::config::Config;
use crate::exit::mistake;
use crate::output::{counted, print, say, unless_gone};

/// Forgets dead letters: they are not listed any more, and cannot be retried
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq purge 0-1234
  clickmill dlq purge --all --state resolved
  clickmill dlq export letters.jsonl && clickmill dlq purge --all

The counts of rejected records stay what they are. Letters on their way are left alone.")]
pub struct PurgeArgs {
    /// As `clickmill dlq list` names them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that the filter means
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

pub fn purge(args: &PurgeArgs, config: &Config) -> Result<()> {
    if args.ids.is_empty() && !args.all {
        return Err(mistake("say which: IDs, or --all (with --type, --rule, --since, --state)"));
    }
    if !args.ids.is_empty() && args.filter.is_given() {
        return Err(mistake("IDs are all that is meant: a filter goes with --all"));
    }
    let ids = args.ids.iter().cloned().map(LetterId).collect();
    let purged = Source::to_change(config)?.purge(&Which { ids, filter: args.filter.filter() })?;
    print(format_args!("{} purged\n", counted(purged, "dead letter")))
}

/// Writes dead letters to a file, one JSON object a line
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq export letters.jsonl
  clickmill dlq export --rule json --payloads broken.jsonl      only what was rejected, as it came
  clickmill dlq export | gzip > letters.jsonl.gz")]
pub struct ExportArgs {
    /// Where to [default: standard output]
    file: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the payloads, one a line, byte for byte
    #[arg(long)]
    payloads: bool,
}

pub fn export(args: &ExportArgs, config: &Config) -> Result<()> {
    let source = Source::to_read(config)?;
    let Some(path) = &args.file else {
        return unless_gone(write(args, &source, &mut BufWriter::new(io::stdout().lock()))?.1);
    };
    let failed = || format!("writing {}", path.display());
    let file = File::create(path).with_context(failed)?;
    let mut out = BufWriter::new(file);
    let (letters, written) = write(args, &source, &mut out)?;
    written.with_context(failed)?;
    out.get_ref().sync_all().with_context(failed)?;
    say(format_args!("{} in {}", counted(letters, "dead letter"), path.display()));
    Ok(())
}

/// How many there were, and whether they could be written.
fn write(args: &ExportArgs, source: &Source, out: &mut dyn Write) -> Result<(u64, io::Result<()>)> {
    let (mut written, mut letters) = (Ok(()), 0);
    source.each(&args.filter.filter(), Shape::Whole, &mut |letter| {
        letters += 1;
        written = match args.payloads {
            true => {
                let payload = serde_json::from_str::<RawPayload>(letter)?.bytes().unwrap_or_default();
                out.write_all(&payload).and_then(|()| out.write_all(b"\n"))
            }
            false => writeln!(out, "{letter}"),
        };
        Ok(written.is_ok())
    })?;
    let written = written.and_then(|()| out.flush());
    Ok((letters, written))
}
