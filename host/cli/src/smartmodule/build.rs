//! `clickmill smartmodule build`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clickmill_engine::{Engine, EngineOptions};
use serde::{Deserialize, Serialize};

use super::project::manifest_in;
use super::toolchain;
use crate::TextOrJson;
use crate::exit::mistake;
use crate::output::{print, write_json};

/// Compiles a project to a .wasm, and checks that it can be a stage
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule build
  clickmill smartmodule build mask-devices --output json

Runs cargo for wasm32-unknown-unknown in release mode and copies the module to DIR/NAME.wasm; the same sources give the same
bytes, wherever they lie. Projects on Fluvio's own crate build too.

Exit codes: 0 built, 1 it does not compile or cannot be a stage, 2 no project, or no compiler for WebAssembly.")]
pub struct Args {
    /// Folder with the project's Cargo.toml
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[arg(long, value_enum, default_value = "text")]
    output: TextOrJson,
}

/// What came out.
#[derive(Serialize)]
struct Built {
    file: PathBuf,
    bytes: usize,
    sha256: String,
}

pub fn run(args: &Args) -> Result<()> {
    let built = build(&args.dir)?;
    if args.output == TextOrJson::Json {
        let mut out = Vec::new();
        write_json(&mut out, &built)?;
        return print(String::from_utf8_lossy(&out));
    }
    let size = indicatif::HumanBytes(built.bytes as u64);
    print(format_args!("{}  {size}  sha256 {}\n", built.file.display(), built.sha256))
}

fn build(dir: &Path) -> Result<Built> {
    let project = fs::canonicalize(dir).map_err(|e| mistake(format!("{}: {e}", dir.display())))?;
    if !project.join("Cargo.toml").is_file() {
        return Err(mistake(format!(
            "{} has no Cargo.toml: `clickmill smartmodule new NAME --kind filter` makes a project",
            dir.display()
        )));
    }
    // Before the compiler runs: a manifest that is wrong is told at once.
    manifest_in(&project)?;
    let mut cargo = toolchain::cargo_build(&project)?;
    cargo.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let done = cargo.spawn().and_then(std::process::Child::wait_with_output).context("cargo cannot be run")?;
    if !done.status.success() {
        bail!("cargo could not build {}", dir.display());
    }
    let (name, wasm) = artifact(&String::from_utf8_lossy(&done.stdout), &project).with_context(|| {
        format!("{} makes no .wasm: its Cargo.toml needs [lib] crate-type = [\"cdylib\"]", dir.display())
    })?;
    let bytes = fs::read(&wasm).with_context(|| wasm.display().to_string())?;
    let module =
        Engine::new(&EngineOptions::default())?.compile(&bytes).context("it is built, and cannot be a stage")?;
    let file = dir.join(format!("{name}.wasm"));
    fs::write(&file, &bytes).with_context(|| file.display().to_string())?;
    Ok(Built { file, bytes: bytes.len(), sha256: module.digest().to_string() })
}

/// A line of cargo's messages.
#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The library of the project: its package's name as cargo has it for a file, and the file.
fn artifact(messages: &str, project: &Path) -> Option<(String, PathBuf)> {
    let own = project.join("Cargo.toml");
    messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()).find_map(|message| {
        let wasm = message.filenames.into_iter().find(|file| file.extension().is_some_and(|e| e == "wasm"))?;
        let name = message.target?.name.replace('_', "-");
        (message.manifest_path? == own).then_some((name, wasm))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_library_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/p/vendor/x/Cargo.toml","target":{"name":"x"},"filenames":["/t/libx.rlib"]}
not json
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"my_mask"},"filenames":["/t/my_mask.wasm","/t/libmy_mask.rlib"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(messages, Path::new("/p")), Some(("my-mask".into(), "/t/my_mask.wasm".into())));
        assert_eq!(artifact(messages, Path::new("/q")), None);
    }
}
