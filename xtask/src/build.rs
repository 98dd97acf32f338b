//! Compiles the SmartModules, then the program that embeds them (host/cli/build.rs).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{cargo, target};
use crate::setup::{self, wasm};
use crate::steps::Steps;
use crate::tools;

/// The modules, as target/smartmodules/ and smartmodules/ call them.
const MODULES: [&str; 3] = ["validate", "enrich", "ctr-window"];

/// What Fluvio's tool builds modules with.
const STOCK_PROFILE: &str = "release-lto";

/// Builds everything that a user runs; returns the program's path.
pub fn everything(root: &Path, steps: &mut Steps) -> Result<PathBuf> {
    setup::ensure_compiler()?;
    steps.run("build the SmartModules", || smartmodules(root))?;
    steps.run("build target/release/clickmill", || program(root))
}

/// With the workspace's features, not the one package's: `cargo test --workspace` then finds it all compiled.
fn program(root: &Path) -> Result<PathBuf> {
    tools::run(cargo(root).args(["build", "--release", "--workspace", "--bin", "clickmill"]))?;
    Ok(target(root).join("release/clickmill"))
}

fn smartmodules(root: &Path) -> Result<()> {
    let toolchain = wasm::ensure()?;
    // Beside target/: Debian's compiler would else invalidate what the active one built.
    let built = target(root).join("guests");
    let mut command = cargo(root);
    command.args(["build", "--profile", "guest", "--target-dir"]).arg(&built);
    toolchain.apply(&mut command);
    for module in MODULES {
        command.args(["-p", &format!("clickmill-{module}")]);
    }
    // The bytes, and with them the digest, must not depend on this machine's settings or on where the checkout lies.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", path_flags(root));
    tools::run(&mut command)?;

    let folder = target(root).join("smartmodules");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for module in MODULES {
        let file = format!("clickmill_{}.wasm", module.replace('-', "_"));
        let from = built.join(wasm::TARGET).join("guest").join(file);
        copy_if_changed(&from, &folder.join(format!("{module}.wasm")))?;
    }
    Ok(())
}

/// Builds the modules that are written with Fluvio's stock crate, each in a workspace of its own, into
/// target/smartmodules/examples/ and target/smartmodules/conformance/; returns the latter.
pub fn stock_modules(root: &Path) -> Result<PathBuf> {
    stock_workspace(root, "smartmodules/examples", "examples", &[], "")?;
    stock_workspace(root, "conformance", "conformance", &["-p", "conformance-modules", "--examples"], "examples")
}

/// The two examples alone.
pub fn examples(root: &Path) -> Result<PathBuf> {
    stock_workspace(root, "smartmodules/examples", "examples", &[], "")
}

fn stock_workspace(root: &Path, workspace: &str, name: &str, what: &[&str], within: &str) -> Result<PathBuf> {
    let toolchain = wasm::ensure()?;
    // Not that of our own modules: each build removes what is in another's way.
    let built = target(root).join("guests").join(name);
    let mut command = cargo(root);
    command.args(["build", "--profile", STOCK_PROFILE, "--manifest-path"]).arg(root.join(workspace).join("Cargo.toml"));
    command.args(what).arg("--target-dir").arg(&built);
    toolchain.apply(&mut command);
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    // The stock crate does not say where copy_records comes from; newer compilers do not guess.
    let flags = format!("{} -C link-arg=--allow-undefined", path_flags(root));
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags.trim_start());
    tools::run(&mut command)?;

    let folder = target(root).join("smartmodules").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let out = built.join(wasm::TARGET).join(STOCK_PROFILE).join(within);
    for file in fs::read_dir(&out).with_context(|| format!("cannot read {}", out.display()))? {
        let from = file?.path();
        let Some(stem) = from.file_stem().and_then(|stem| stem.to_str()) else { continue };
        // Cargo leaves each twice, once with a hash behind its name.
        let hashed =
            stem.rsplit_once('-').is_some_and(|(_, end)| end.len() == 16 && end.bytes().all(|b| b.is_ascii_hexdigit()));
        if from.extension().is_some_and(|extension| extension == "wasm") && !hashed {
            copy_if_changed(&from, &folder.join(format!("{}.wasm", stem.replace('_', "-"))))?;
        }
    }
    Ok(folder)
}

/// Puts fixed names in the place of this machine's folders, which panic messages would carry.
fn path_flags(root: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = format!("--remap-path-prefix={}=/clickmill", root.display());
    if let Some(home) = home {
        flags.push_str(&format!(" --remap-path-prefix={}=/cargo", home.display()));
    }
    // Flags are split at blanks: with one in a path, do without.
    if flags.matches(' ').count() > 1 { String::new() } else { flags }
}

/// Leaves the file and its time alone when nothing changed, so that nothing that embeds it is rebuilt.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let written = to.with_extension("wasm.new");
    fs::write(&written, new).with_context(|| format!("cannot write {}", written.display()))?;
    fs::rename(&written, to).with_context(|| format!("cannot rename {} to {}", written.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_module_keeps_its_file_time() {
        let folder = std::env::temp_dir().join(format!("clickmill-xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a scratch folder");
        let (from, to) = (folder.join("from.wasm"), folder.join("to.wasm"));
        fs::write(&from, b"one").expect("writes");
        copy_if_changed(&from, &to).expect("copies");
        let past = std::time::SystemTime::UNIX_EPOCH;
        fs::File::open(&to).and_then(|file| file.set_modified(past)).expect("sets the time");
        copy_if_changed(&from, &to).expect("has nothing to do");
        assert_eq!(fs::metadata(&to).and_then(|meta| meta.modified()).expect("a time"), past);
        fs::write(&from, b"two").expect("writes");
        copy_if_changed(&from, &to).expect("copies");
        assert_eq!(fs::read(&to).expect("reads"), b"two");
        fs::remove_dir_all(&folder).expect("the scratch folder goes again");
    }
}
