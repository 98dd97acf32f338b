//! `clickmill smartmodule pause|resume`: lets the workers stand still, and go on.

use anyhow::Result;

use super::control::Control;
use crate::config::Config;
use crate::output::print;

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
pub struct ResumeArgs {}

pub fn pause(args: &PauseArgs, config: &Config) -> Result<()> {
    Control::of(config)?.pause(&args.message)?;
    print("paused\n")
}

pub fn resume(_: &ResumeArgs, config: &Config) -> Result<()> {
    Control::of(config)?.resume()?;
    print("resumed\n")
}
