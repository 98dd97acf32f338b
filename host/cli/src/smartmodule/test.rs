//! `clickmill smartmodule test`.

use anyhow::{Result, bail};

use crate::config::Config;

/// Runs a module against cases with expected outputs
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _config: &Config) -> Result<()> {
    bail!("`smartmodule test` is not there yet")
}
