//! `clickmill dlq list`: one letter a line.

use std::io::{self, Write};

use anyhow::Result;
use clickmill_pipeline::dlq::Shape;
use clickmill_schemas::dlq::{LetterId, LetterState};
use clickmill_schemas::envelope::ErrorType;
use serde::Deserialize;

use super::FilterArgs;
use super::source::Source;
use crate::TextOrJson;
use crate::config::Config;
use crate::output::{printable, say, unless_gone};

/// Characters of a message that are shown.
const SHOWN_CHARS: usize = 80;

/// Lists dead letters, in the order of their last change
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq list --state dead --type schema
  clickmill dlq list --rule ts_within_hour --since 2026-11-22T08:00:00Z
  clickmill dlq list --output json | jq -r .raw_payload

With --output json, one object a line: the envelope's fields, and id, state, reason, attempts.")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// No more than so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let source = Source::to_read(config)?;
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut written, mut letters, most) = (Ok(()), 0, args.limit.unwrap_or(usize::MAX));
    let shape = if args.output == TextOrJson::Json { Shape::Whole } else { Shape::Brief };
    source.each(&args.filter.filter(), shape, &mut |letter| {
        if letters == most {
            return Ok(false);
        }
        letters += 1;
        written = match args.output {
            TextOrJson::Json => writeln!(out, "{letter}"),
            TextOrJson::Text => line(&serde_json::from_str(letter)?, &mut out),
        };
        Ok(written.is_ok() && letters < most)
    })?;
    if letters == 0 && args.output == TextOrJson::Text {
        say("no dead letters");
    }
    unless_gone(written.and_then(|()| out.flush()))
}

/// What a line says of a letter.
#[derive(Deserialize)]
struct Line {
    id: LetterId,
    state: LetterState,
    error_timestamp: String,
    error_type: ErrorType,
    rule: String,
    message: String,
}

fn line(letter: &Line, out: &mut dyn Write) -> io::Result<()> {
    let Line { id, state, error_timestamp, error_type, rule, message } = letter;
    let message: String = printable(message).chars().take(SHOWN_CHARS).collect();
    let (id, rule, state) = (printable(&id.0), printable(rule), state.name());
    let kind = error_type.name();
    writeln!(out, "{id:<14} {state:<8} {error_timestamp}  {kind}:{rule}  {message}")
}
