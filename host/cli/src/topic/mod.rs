//! `clickmill topic`: one file a verb; from a running host or a stopped data directory.

mod list;
mod read;
mod through;

use anyhow::Result;

use crate::config::Config;

/// Lists topics and reads their records
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  clickmill topic list
  clickmill topic read ad_events_error --limit 5
  clickmill topic read ctr_windows --offset end --follow
  clickmill topic read ad_events_raw --through mask.wasm --limit 1000"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::Args),
    Read(read::Args),
}

/// # Errors
/// A mistake for a topic, partition or offset that does not exist; otherwise where the place cannot be had.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    match &args.verb {
        Verb::List(args) => list::run(args, config),
        Verb::Read(args) => read::run(args, config),
    }
}
