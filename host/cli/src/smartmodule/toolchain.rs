//! How to compile for WebAssembly on this machine, or what to install.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::exit::mistake;

/// What modules are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's compiler for the web, which compiles the standard library from its source.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";

/// A `cargo build` for the target, run in `project`.
///
/// # Errors
/// A mistake that says what to install.
pub fn cargo_build(project: &Path) -> Result<Command> {
    let debian = match sysroot(Path::new("rustc"), project) {
        Some(sysroot) if has_std(&sysroot) => false,
        _ if debian_is_complete(project) => true,
        Some(sysroot) => {
            return Err(mistake(format!(
                "{} has no standard library for {TARGET}: run `rustup target add {TARGET}`, or, where Rust is Debian's, \
                 `apt install rustc-web rust-web-src lld-19`",
                sysroot.display()
            )));
        }
        None => {
            return Err(mistake(format!(
                "there is no Rust here: install it from https://rustup.rs, then run `rustup target add {TARGET}`"
            )));
        }
    };
    let mut cargo = Command::new("cargo");
    cargo.current_dir(project).args(["build", "--release", "--lib", "--target", TARGET]);
    if debian {
        cargo
            .args(["-Z", "build-std=std,panic_abort"])
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
    }
    cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags(project));
    Ok(cargo)
}

/// Rust 1.96 and later do not allow the import that Fluvio's crate declares without its module's name; what it is not
/// allowed to import is refused by name when it is loaded. The bytes must not depend on where the project lies.
fn flags(project: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec!["-Clink-arg=--allow-undefined".to_owned()];
    flags.push(format!("--remap-path-prefix={}=/module", project.display()));
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.join("\u{1f}")
}

fn sysroot(rustc: &Path, project: &Path) -> Option<PathBuf> {
    let said = Command::new(rustc).current_dir(project).args(["--print", "sysroot"]).output().ok()?;
    said.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()))
}

fn has_std(sysroot: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(sysroot.join("lib/rustlib").join(TARGET).join("lib")) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

fn debian_is_complete(project: &Path) -> bool {
    let source = |root: PathBuf| root.join("lib/rustlib/src/rust/library/std").is_dir();
    Path::new(DEBIAN_LINKER).exists() && sysroot(Path::new(DEBIAN_RUSTC), project).is_some_and(source)
}
