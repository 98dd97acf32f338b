//! `clickmill dlq`: rejected records, looked at, repaired, tried against modules, and counted after all.

mod change;
mod edit;
mod list;
mod retry;
mod show;
mod source;
mod stats;

use anyhow::Result;
use clap::Subcommand;
use clickmill_pipeline::dlq::Filter;
use clickmill_pipeline::views::time::parse_time;
use clickmill_schemas::dlq::LetterState;
use clickmill_schemas::envelope::ErrorType;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use crate::config::Config;

/// Look at rejected records, repair them, and have them counted after all
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq list --rule device_type_known
  clickmill dlq show 0-1234
  clickmill dlq edit 0-1234 --set device_type=1
  clickmill dlq retry 0-1234
  clickmill dlq retry --all --dry-run --with validate.wasm
  clickmill dlq list --since 1h
  clickmill dlq stats

A letter is waiting (for its next attempt), retrying (sent again, not judged yet), resolved or dead (given up: it waits for a
deployment or an edit). An id is PARTITION-OFFSET of the rejected record, FILE:LINE@CONTENTS of a line that `produce` could not read, or
CONNECTOR:TOPIC-PARTITION-OFFSET of a row that a server has refused.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::Args),
    Show(show::Args),
    Retry(retry::Args),
    Edit(edit::Args),
    Purge(change::PurgeArgs),
    Export(change::ExportArgs),
    Stats(stats::Args),
}

/// Which letters.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// Only those of this kind: parsing, schema, smartmodule, sink
    #[arg(long = "type", value_name = "TYPE", value_parser = word::<ErrorType>)]
    error_type: Option<ErrorType>,
    /// Only those that this rule has rejected
    #[arg(long)]
    rule: Option<String>,
    /// Only those rejected since then: a time, epoch milliseconds, or so long ago: 90s, 30m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// Only those in this state: waiting, retrying, resolved, dead
    #[arg(long, value_parser = word::<LetterState>)]
    state: Option<LetterState>,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        let Self { error_type, rule, since, state } = self;
        Filter { error_type: *error_type, rule: rule.clone(), since_ms: *since, state: *state }
    }

    fn is_given(&self) -> bool {
        self.filter() != Filter::default()
    }
}

/// A time, or how long ago it was.
fn since(text: &str) -> Result<i64, String> {
    let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let ago = units.into_iter().find_map(|(unit, ms)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(i64::from(number) * ms)
    });
    ago.map_or_else(|| parse_time(text), |ago_ms| Ok(Timestamp::now().as_millisecond() - ago_ms))
}

/// A word of an enum, with those that there are in the error.
fn word<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<Error>::new(text)).map_err(|e| e.to_string())
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    match &args.verb {
        Verb::List(args) => list::run(args, config),
        Verb::Show(args) => show::run(args, config),
        Verb::Retry(args) => retry::run(args, config),
        Verb::Edit(args) => edit::run(args, config),
        Verb::Purge(args) => change::purge(args, config),
        Verb::Export(args) => change::export(args, config),
        Verb::Stats(args) => stats::run(args, config),
    }
}
