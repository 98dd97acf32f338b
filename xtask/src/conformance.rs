//! `cargo xtask conformance`: builds the modules and the program of conformance/, and runs it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo::{cargo, target};
use crate::steps::Steps;
use crate::{setup, stock, tools};

/// The program's own exit code, which says whether there were differences.
pub fn run(root: &Path, steps: &mut Steps, args: &[String]) -> Result<ExitCode> {
    setup::ensure_compiler()?;
    let examples = steps.run("build smartmodules/examples", || stock::examples(root))?;
    let for_wasi = steps.run("build them for WASI", || stock::examples_for_wasi(root))?;
    if for_wasi.is_none() {
        eprintln!("    skipped: the compiler has no wasm32-wasip1 (`rustup target add wasm32-wasip1`)");
    }
    let modules = steps.run("build conformance/modules", || stock::of_conformance(root))?;
    steps.run("build the comparison (Fluvio's engine the first time: minutes)", || {
        let manifest = root.join("conformance/Cargo.toml");
        let mut command = cargo(root);
        tools::run(command.args(["build", "--release", "-p", "clickmill-conformance", "--manifest-path"]).arg(manifest))
    })?;
    let program = target(root).join("release/clickmill-conformance");
    let mut command = Command::new(&program);
    command.arg("--modules").arg(&modules).arg("--examples").arg(&examples);
    if let Some(folder) = &for_wasi {
        command.arg("--examples-for-wasi").arg(folder);
    }
    command.args(args);
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
