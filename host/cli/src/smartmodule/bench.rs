//! `clickmill smartmodule bench`.

use anyhow::{Result, bail};

use crate::config::Config;

/// Measures records per second and fuel per record
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _config: &Config) -> Result<()> {
    bail!("`smartmodule bench` is not there yet")
}
