//! Where a module, its SmartModule.toml and its cases lie: beside a .wasm, or in a project's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clickmill_engine::manifest::Manifest;

use super::module_file;
use crate::exit::mistake;

/// A module that is there to be run.
pub struct Local {
    /// Name of the stage that it runs as.
    pub name: String,
    pub wasm: Vec<u8>,
    pub manifest: Option<Manifest>,
    /// Folder of its cases, whether or not there is one.
    pub cases: PathBuf,
}

/// The manifest of a folder, where there is one.
///
/// # Errors
/// A mistake where it cannot be read.
pub fn manifest_in(folder: &Path) -> Result<Option<Manifest>> {
    // Its name in the folder is the same for any module there.
    let Some(text) = module_file::manifest_beside(&folder.join("module.wasm"))? else {
        return Ok(None);
    };
    let wrong = |e| mistake(format!("{}: {e}", folder.join("SmartModule.toml").display()));
    Manifest::parse(&text).map(Some).map_err(wrong)
}

impl Local {
    /// Reads the module at `path`, a .wasm or the folder of a project that was built.
    ///
    /// # Errors
    /// A mistake that says what is not there.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let manifest = manifest_in(folder)?;
        let file = if path.is_dir() { built(path)? } else { path.to_path_buf() };
        let wasm = module_file::read(&file)?;
        let stem = file.file_stem().map_or_else(|| "module".into(), |stem| stem.to_string_lossy().into_owned());
        let name = manifest.as_ref().map_or(stem, |manifest| manifest.name.clone());
        Ok(Self { name, wasm, manifest, cases: folder.join("cases") })
    }

    /// Refuses parameters that the manifest does not allow.
    ///
    /// # Errors
    /// A mistake with every problem.
    pub fn check_params(&self, params: &BTreeMap<String, String>) -> Result<()> {
        let Some(Err(problems)) = self.manifest.as_ref().map(|manifest| manifest.check_params(params)) else {
            return Ok(());
        };
        Err(mistake(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }
}

/// The only .wasm of a folder.
fn built(folder: &Path) -> Result<PathBuf> {
    let wrong = |what: String| mistake(format!("{}: {what}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(|e| wrong(e.to_string()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    match <[PathBuf; 1]>::try_from(found) {
        Ok([file]) => Ok(file),
        Err(found) if found.is_empty() => {
            Err(wrong("there is no .wasm in it: `clickmill smartmodule build` makes one".into()))
        }
        Err(found) => Err(wrong(format!("there are {} .wasm in it: name one", found.len()))),
    }
}
