//! The chain of SmartModules that the config asks for, each with its parameters.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use clickmill_engine::manifest::Manifest;
use clickmill_pipeline::StageModule;

use crate::config::{Config, ENRICH, StageOptions};
use crate::exit::mistake;
use crate::modules::{Builtin, builtin};
use crate::smartmodule::module_file;

/// Pricing table of `enrich` where the config names no file.
pub const PRICING: &str = include_str!("../../../../schemas/pricing.json");

/// The stages, first to last.
pub fn stages(config: &Config) -> Result<Vec<StageModule>> {
    let modules = builtin()?;
    config.stages.iter().map(|stage| stage_module(stage, modules)).collect()
}

fn stage_module(stage: &StageOptions, modules: &[Builtin]) -> Result<StageModule> {
    let name = stage.name.as_str();
    let mut params = BTreeMap::new();
    if stage.is_builtin(ENRICH) {
        params.insert("pricing".to_owned(), PRICING.to_owned());
    }
    params.extend(stage.params.clone());
    for (key, path) in &stage.param_files {
        let text = std::fs::read_to_string(path)
            .map_err(|e| mistake(format!("stages: {name}: param_files: {key}: {}: {e}", path.display())))?;
        params.insert(key.clone(), text);
    }
    if let Some(file) = &stage.module {
        return own_module(stage, file, params);
    }
    let module = modules.iter().find(|m| m.name == name);
    let module = module.with_context(|| format!("there is no module {name} in this program"))?;
    Ok(StageModule {
        stage: name.to_owned(),
        name: module.name.to_owned(),
        version: module.version.to_owned(),
        manifest: Some(module.manifest.to_owned()),
        wasm: module.wasm.to_vec(),
        params,
        lookback: stage.lookback,
    })
}

/// A module of the user's, with the manifest that lies beside it.
fn own_module(options: &StageOptions, file: &Path, params: BTreeMap<String, String>) -> Result<StageModule> {
    let (stage, lookback) = (options.name.as_str(), options.lookback);
    let wrong = |e: String| mistake(format!("stages: {stage}: module: {e}"));
    let wasm = module_file::read(file).map_err(|e| wrong(e.to_string()))?;
    if !wasm.starts_with(b"\0asm") {
        return Err(wrong(format!("{} is no WebAssembly module: it does not begin as one does", file.display())));
    }
    let manifest = module_file::manifest_beside(file).map_err(|e| wrong(e.to_string()))?;
    let (mut name, mut version) = (stage.to_owned(), String::new());
    if let Some(text) = &manifest {
        let said = Manifest::parse(text).map_err(|e| wrong(format!("the SmartModule.toml beside it: {e}")))?;
        let problems = said.check_params(&params).err().unwrap_or_default();
        if !problems.is_empty() {
            let all = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(mistake(format!("stages: {stage}: params: {all}")));
        }
        (name, version) = (said.name, said.version);
    }
    Ok(StageModule { stage: stage.to_owned(), name, version, manifest, wasm, params, lookback })
}
