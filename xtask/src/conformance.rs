//! `cargo xtask conformance`: builds the modules and the program of conformance/, and runs it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo::{cargo, target};
use crate::steps::Steps;
use crate::{build, setup, tools};

/// The program's own exit code, which says whether there were differences.
pub fn run(root: &Path, steps: &mut Steps, args: &[String]) -> Result<ExitCode> {
    setup::ensure_compiler()?;
    let modules = steps.run("build the stock modules", || build::stock_modules(root))?;
    steps.run("build the comparison (Fluvio's engine the first time: minutes)", || {
        let manifest = root.join("conformance/Cargo.toml");
        let mut command = cargo(root);
        tools::run(command.args(["build", "--release", "-p", "clickmill-conformance", "--manifest-path"]).arg(manifest))
    })?;
    let program = target(root).join("release/clickmill-conformance");
    let mut command = Command::new(&program);
    command.arg("--modules").arg(&modules).arg("--examples").arg(modules.with_file_name("examples")).args(args);
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
