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

/// Builds everything that a user runs; returns the program's path.
pub fn everything(root: &Path, steps: &mut Steps) -> Result<PathBuf> {
    modules(root, steps)?;
    steps.run("build target/release/clickmill", || program(root, &["build", "--bin", "clickmill"]))
}

/// The same with all tests, in one go: what tests need has features that the program alone would not have, and would else be
/// compiled twice.
pub fn everything_with_tests(root: &Path, steps: &mut Steps) -> Result<PathBuf> {
    modules(root, steps)?;
    steps.run("build target/release/clickmill and all tests", || program(root, &["test", "--no-run"]))
}

fn modules(root: &Path, steps: &mut Steps) -> Result<()> {
    setup::ensure_compiler()?;
    steps.run("build the SmartModules", || smartmodules(root))
}

fn program(root: &Path, how: &[&str]) -> Result<PathBuf> {
    tools::run(cargo(root).args(how).args(["--release", "--workspace"]))?;
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

/// Puts fixed names in the place of this machine's folders, which panic messages would carry.
pub fn path_flags(root: &Path) -> String {
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
pub fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
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
