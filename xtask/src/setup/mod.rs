//! Makes sure that what the tasks need is on this machine. Quick when it all is; installs what is missing otherwise.

mod compiler;
mod monitoring;
mod python;
mod servers;
pub mod wasm;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::tools;

pub use compiler::ensure as ensure_compiler;
pub use python::recount_python;

/// What a task needs beyond a Rust toolchain.
#[derive(Clone, Copy)]
pub struct Needs {
    /// The servers that the sinks write to, unless the environment names some.
    pub servers: Servers,
    /// Python with DuckDB, for the recount; clippy and rustfmt; Prometheus and what else checks the files of the operation.
    pub checks: bool,
}

/// When PostgreSQL and Redis servers have to be here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// A server that `DATABASE_URL` or `REDIS_URL` names need not be here.
    UnlessNamed,
    /// Tests start their own, whatever the environment says.
    Always,
}

impl Needs {
    /// What `cargo xtask test` needs.
    pub fn everything() -> Self {
        Self { servers: Servers::Always, checks: true }
    }

    /// What `cargo xtask demo` needs.
    pub fn demo() -> Self {
        Self { servers: Servers::UnlessNamed, checks: false }
    }
}

/// Makes sure of the compilers and of what `needs` names.
pub fn ensure(root: &Path, steps: &mut Steps, needs: Needs) -> Result<()> {
    steps.run("set-up: compilers", || {
        compiler::ensure()?;
        wasm::ensure().map(drop)
    })?;
    steps.run("set-up: PostgreSQL and Redis servers", || servers::ensure(needs.servers))?;
    if needs.checks {
        steps.run("set-up: rustfmt, clippy, Python with DuckDB and Kubernetes' schemas", || {
            component("rustfmt", "cargo-fmt")?;
            component("clippy", "cargo-clippy")?;
            python::ensure(root)
        })?;
        steps.run("set-up: Prometheus, Alertmanager, exporters, Compose", monitoring::ensure)?;
    }
    Ok(())
}

/// Makes sure of a part of the Rust toolchain that minimal installations lack.
pub fn component(name: &str, program: &str) -> Result<()> {
    let works = |program: &str| tools::succeeds(Command::new(program).arg("--version"));
    if works(program) {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(["component", "add", name]);
    tools::run_within(wasm::RUSTUP_LIMIT, &mut add)
        .with_context(|| format!("{name} is missing: install it (`rustup component add {name}`), then run this again"))
}
