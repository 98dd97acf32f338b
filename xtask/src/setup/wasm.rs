//! The compiler for WebAssembly: rustup's target where it is or can be added, else Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{apt, tools};

/// What the SmartModules are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// A rustup that has not answered by then will not.
pub const RUSTUP_LIMIT: Duration = Duration::from_secs(180);

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld-19"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";

/// How to compile for [`TARGET`] on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmToolchain {
    /// The active toolchain has the target's standard library.
    Active,
    /// Debian's rustc compiles the standard library from its source.
    Debian,
}

impl WasmToolchain {
    /// Adds what a `cargo build` for the target needs.
    pub fn apply(self, cargo: &mut Command) {
        cargo.args(["--target", TARGET]);
        if self == Self::Debian {
            cargo
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
        }
    }
}

/// Finds a way to compile for the target, installing one where there is none.
pub fn ensure() -> Result<WasmToolchain> {
    if active_has(TARGET)? {
        return Ok(WasmToolchain::Active);
    }
    if tools::on_path("rustup").is_some() {
        let added = tools::run_within(RUSTUP_LIMIT, Command::new("rustup").args(["target", "add", TARGET]));
        match added {
            Ok(()) if active_has(TARGET)? => return Ok(WasmToolchain::Active),
            Ok(()) => eprintln!("    rustup added {TARGET}, but not to the active toolchain: trying Debian's packages"),
            Err(error) => eprintln!("    {error}: trying Debian's packages"),
        }
    }
    if !debian_is_complete() {
        apt::install(&DEBIAN_PACKAGES, &format!("a Rust compiler for {TARGET} (`rustup target add {TARGET}`)"))?;
        if !debian_is_complete() {
            bail!(
                "apt installed {}, but {DEBIAN_RUSTC} has no source of the standard library or {DEBIAN_LINKER} is missing.\n\
                 Install rustup (https://rustup.rs) and run `rustup target add {TARGET}`, then run this again.",
                DEBIAN_PACKAGES.join(", ")
            );
        }
    }
    Ok(WasmToolchain::Debian)
}

/// Does the active toolchain's sysroot hold the standard library for a target?
pub fn active_has(target: &str) -> Result<bool> {
    let sysroot = tools::output(Command::new("rustc").args(["--print", "sysroot"]))
        .context("no working Rust toolchain: install one from https://rustup.rs")?;
    Ok(has_std(Path::new(&sysroot), target))
}

fn has_std(sysroot: &Path, target: &str) -> bool {
    let folder = sysroot.join("lib/rustlib").join(target).join("lib");
    let Ok(files) = fs::read_dir(folder) else {
        return false;
    };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

fn debian_is_complete() -> bool {
    let sysroot = tools::output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]));
    let has_source = sysroot.is_ok_and(|root| PathBuf::from(root).join("lib/rustlib/src/rust/library/std").is_dir());
    has_source && tools::is_executable(Path::new(DEBIAN_LINKER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_compiler_gets_its_variables_and_the_active_one_none() {
        let mut plain = Command::new("cargo");
        WasmToolchain::Active.apply(&mut plain);
        assert_eq!(plain.get_envs().count(), 0);
        let mut debian = Command::new("cargo");
        WasmToolchain::Debian.apply(&mut debian);
        assert!(debian.get_envs().any(|(name, value)| name == "RUSTC" && value == Some(DEBIAN_RUSTC.as_ref())));
        assert!(debian.get_args().any(|arg| arg == "build-std=std,panic_abort"));
    }

    #[test]
    fn a_sysroot_without_the_target_is_seen() {
        assert!(!has_std(Path::new("/nowhere"), TARGET));
    }
}
