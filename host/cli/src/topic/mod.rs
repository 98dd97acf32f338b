//! `clickmill topic`: one file a verb; from a running host or a stopped data directory.

mod change;
mod list;
mod read;
mod through;

use anyhow::Result;

pub use read::write_record;

use crate::config::Config;

/// Lists, reads and changes topics
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  clickmill topic list
  clickmill topic read ad_events_error --limit 5
  clickmill topic read ctr_windows --offset end --follow
  clickmill topic read ad_events_raw --through mask.wasm --limit 1000
  clickmill topic alter ad_events_raw --partitions 6"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::Args),
    Read(read::Args),
    Create(change::CreateArgs),
    Alter(change::AlterArgs),
    Delete(change::DeleteArgs),
}

/// # Errors
/// A mistake for a topic, partition or offset that does not exist, or for a change that cannot be; otherwise where the place
/// cannot be had.
pub fn run(args: &Args, config: &Config) -> Result<()> {
    match &args.verb {
        Verb::List(args) => list::run(args, config),
        Verb::Read(args) => read::run(args, config),
        Verb::Create(args) => change::create(args, config),
        Verb::Alter(args) => change::alter(args, config),
        Verb::Delete(args) => change::delete(args, config),
    }
}
