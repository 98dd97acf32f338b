//! `clickmill smartmodule build`.

use anyhow::{Result, bail};

/// Compiles a project to a .wasm
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    bail!("`smartmodule build` is not there yet")
}
