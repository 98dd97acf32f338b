//! `clickmill connector`: the files that say what is copied where, and the connectors that run.

mod check;
mod control;
mod followed;
mod run;
mod tap;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::config::Config;
use crate::output::print;

/// Check and change connectors: what copies topics into servers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill connector check connectors/*.yaml
  clickmill connector status
  clickmill connector restart postgres

Connectors are the YAML files of the folder `connectors` (config key `connectors`); where it has none, PostgreSQL and Redis
on private servers.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Args),
    List(control::ListArgs),
    Status(control::StatusArgs),
    /// Starts a connector that was stopped
    #[command(after_help = "Examples:
  clickmill connector start redis

It goes on from the offset in its server.")]
    Start(control::NameArgs),
    /// Stops a connector until it is started again
    #[command(after_help = "Examples:
  clickmill connector stop redis

A transaction in flight is taken back. The others go on, and so do the counts. It stays stopped when the host is started anew:
`clickmill connector start` lets it go on.")]
    Stop(control::NameArgs),
    /// Stops and starts a connector, with new connections
    #[command(after_help = "Examples:
  clickmill connector restart postgres")]
    Restart(control::NameArgs),
    /// Empties a connector's server, and fills it anew from the topic
    #[command(after_help = "Examples:
  clickmill connector rebuild redis && clickmill connector verify redis

Windows that the connector has written are removed, and written again from the topic's beginning; readers see them come back.
Raw events in PostgreSQL stay. A connector that was stopped is started. An HTTP endpoint cannot be emptied. A Redis that was flushed, or a schema that was dropped, is filled again without this.")]
    Rebuild(control::NameArgs),
    Apply(control::ApplyArgs),
    Verify(verify::Args),
    Run(run::Args),
    Tap(tap::Args),
    /// Prints the JSON Schema of connector files
    #[command(after_help = "Examples:
  clickmill connector schema > connector.schema.json
  # yaml-language-server: $schema=connector.schema.json      the first line of a file, for editors")]
    Schema,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    match &args.verb {
        Verb::Check(args) => check::run(args, config),
        Verb::List(args) => control::list(args, config),
        Verb::Status(args) => control::status(args, config),
        Verb::Start(args) => control::change(args, "start", "started", config),
        Verb::Stop(args) => control::change(args, "stop", "stopped", config),
        Verb::Restart(args) => control::change(args, "restart", "restarted", config),
        Verb::Rebuild(args) => control::change(args, "rebuild", "emptied, and is filled anew", config),
        Verb::Apply(args) => control::apply(args, config),
        Verb::Verify(args) => verify::run(args, config),
        Verb::Run(args) => run::run(args, config),
        Verb::Tap(args) => tap::run(args, config),
        Verb::Schema => print(format_args!("{:#}\n", clickmill_connectors::file::json_schema())),
    }
}
