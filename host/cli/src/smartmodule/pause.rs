//! `clickmill smartmodule pause|resume`: lets the workers stand still, and go on.

use anyhow::Result;

use super::control::Control;
use crate::config::Config;
use crate::output::{print, printable};

/// Lets the pipeline stand still: events are taken in and wait, what was processed is committed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule pause --message 'the new rule is wrong'
  clickmill smartmodule resume

It stays paused over a restart. Deployments take effect all the same.")]
pub struct PauseArgs {
    /// Why, for those who find it so
    #[arg(long, default_value = "paused by hand", hide_default_value = true)]
    message: String,
}

/// Lets a paused pipeline go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule resume
  clickmill --data-dir /var/lib/clickmill smartmodule resume

It goes on where it stood. One that runs is left as it is.")]
pub struct ResumeArgs {}

pub fn pause(args: &PauseArgs, config: &Config) -> Result<()> {
    let reason = Control::of(config)?.pause(&args.message)?;
    match reason == args.message {
        true => print("paused\n"),
        false => print(format!("paused already: {}\n", printable(&reason))),
    }
}

pub fn resume(_: &ResumeArgs, config: &Config) -> Result<()> {
    Control::of(config)?.resume()?;
    print("resumed\n")
}
