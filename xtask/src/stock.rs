//! Compiles the modules that are written with Fluvio's stock crate, each workspace of them into a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::{copy_if_changed, path_flags};
use crate::cargo::{cargo, target};
use crate::setup::wasm::{self, WasmToolchain};
use crate::tools;

/// What Fluvio's tool, smdk, builds modules with.
const PROFILE: &str = "release-lto";
/// What newer versions of it build for.
const WASI_TARGET: &str = "wasm32-wasip1";

/// smartmodules/examples/ into target/smartmodules/examples/, which is returned.
pub fn examples(root: &Path) -> Result<PathBuf> {
    Workspace { folder: "smartmodules/examples", name: "examples", what: &[], within: "" }.build(root, &wasm::ensure()?)
}

/// The same for WASI, into target/smartmodules/examples-wasip1/; none where the compiler cannot.
pub fn examples_for_wasi(root: &Path) -> Result<Option<PathBuf>> {
    if !wasm::active_has(WASI_TARGET)? {
        return Ok(None);
    }
    let workspace = Workspace { folder: "smartmodules/examples", name: "examples-wasip1", what: &[], within: "" };
    workspace.build(root, &WASI_TARGET).map(Some)
}

/// The modules of conformance/ into target/smartmodules/conformance/, which is returned.
pub fn of_conformance(root: &Path) -> Result<PathBuf> {
    let what = &["-p", "conformance-modules", "--examples"];
    Workspace { folder: "conformance", name: "conformance", what, within: "examples" }.build(root, &wasm::ensure()?)
}

struct Workspace {
    folder: &'static str,
    name: &'static str,
    what: &'static [&'static str],
    /// Where cargo leaves the modules, in the profile's folder.
    within: &'static str,
}

/// Something to compile for.
trait Compiler {
    fn target(&self) -> &'static str;
    fn apply(&self, cargo: &mut std::process::Command);
}

impl Compiler for WasmToolchain {
    fn target(&self) -> &'static str {
        wasm::TARGET
    }
    fn apply(&self, cargo: &mut std::process::Command) {
        WasmToolchain::apply(*self, cargo);
    }
}

impl Compiler for &'static str {
    fn target(&self) -> &'static str {
        self
    }
    fn apply(&self, cargo: &mut std::process::Command) {
        cargo.args(["--target", self]);
    }
}

impl Workspace {
    fn build(&self, root: &Path, compiler: &impl Compiler) -> Result<PathBuf> {
        // Not the folder of our own modules: each build removes what is in another's way.
        let built = target(root).join("guests").join(self.name);
        let mut command = cargo(root);
        command.args(["build", "--profile", PROFILE, "--manifest-path"]).arg(root.join(self.folder).join("Cargo.toml"));
        command.args(self.what).arg("--target-dir").arg(&built);
        compiler.apply(&mut command);
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        // The stock crate does not say where copy_records comes from; newer compilers do not guess.
        let flags = format!("{} -C link-arg=--allow-undefined", path_flags(root));
        let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", compiler.target().to_uppercase().replace('-', "_"));
        tools::run(command.env(variable, flags.trim_start()))?;

        let folder = target(root).join("smartmodules").join(self.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let out = built.join(compiler.target()).join(PROFILE).join(self.within);
        for file in fs::read_dir(&out).with_context(|| format!("cannot read {}", out.display()))? {
            let from = file?.path();
            if let Some(name) = module_name(&from) {
                copy_if_changed(&from, &folder.join(name))?;
            }
        }
        Ok(folder)
    }
}

/// What a module is called that cargo left here; none for other files, and for the copies with a hash behind the name.
fn module_name(file: &Path) -> Option<String> {
    let stem = file.file_name()?.to_str()?.strip_suffix(".wasm")?;
    let is_hash = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_copy = stem.rsplit_once('-').is_some_and(|(_, end)| is_hash(end));
    (!is_copy).then(|| format!("{}.wasm", stem.replace('_', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_from_what_else_cargo_leaves() {
        let name = |file| module_name(Path::new(file));
        assert_eq!(name("out/fan_out.wasm").as_deref(), Some("fan-out.wasm"));
        assert_eq!(name("out/filter-map-number.wasm").as_deref(), Some("filter-map-number.wasm"));
        assert_eq!(name("out/filter_map_number-0123456789abcdef.wasm"), None);
        assert_eq!(name("out/fan_out.d"), None);
    }
}
