//! `clickmill smartmodule new`.

use anyhow::{Result, bail};

/// Makes a project that builds and passes its own tests
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    bail!("`smartmodule new` is not there yet")
}
