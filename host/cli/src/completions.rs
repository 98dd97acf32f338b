//! `clickmill completions`: what a shell needs to complete the verbs and flags.

use std::io::{self, Write};

use anyhow::Result;
use clap_complete::Shell;

use crate::output::unless_gone;

/// Prints a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill completions bash > ~/.local/share/bash-completion/completions/clickmill
  clickmill completions zsh > \"${fpath[1]}/_clickmill\"
  clickmill completions fish > ~/.config/fish/completions/clickmill.fish")]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// # Errors
/// Where standard output cannot be written.
pub fn run(args: &Args, command: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "clickmill", &mut script);
    unless_gone(io::stdout().write_all(&script))
}
