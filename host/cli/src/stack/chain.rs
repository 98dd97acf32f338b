//! The chain of SmartModules that the config asks for, each with its parameters.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clickmill_pipeline::StageModule;

use crate::config::{Config, StageName, StageOptions};
use crate::exit::mistake;
use crate::modules::{Builtin, builtin};

/// Pricing table of `enrich` where the config names no file.
pub const PRICING: &str = include_str!("../../../../schemas/pricing.json");

/// The stages, first to last.
pub fn stages(config: &Config) -> Result<Vec<StageModule>> {
    let modules = builtin()?;
    config.stages.iter().map(|stage| stage_module(stage, modules)).collect()
}

fn stage_module(stage: &StageOptions, modules: &[Builtin]) -> Result<StageModule> {
    let name = stage.name.as_str();
    let module = modules.iter().find(|m| m.name == name);
    let module = module.with_context(|| format!("there is no module {name} in this program"))?;
    let mut params = BTreeMap::new();
    if stage.name == StageName::Enrich {
        params.insert("pricing".to_owned(), PRICING.to_owned());
    }
    params.extend(stage.params.clone());
    for (key, path) in &stage.param_files {
        let text = std::fs::read_to_string(path)
            .map_err(|e| mistake(format!("stages: {name}: param_files: {key}: {}: {e}", path.display())))?;
        params.insert(key.clone(), text);
    }
    Ok(StageModule {
        stage: name.to_owned(),
        name: module.name.to_owned(),
        version: module.version.to_owned(),
        manifest: Some(module.manifest.to_owned()),
        wasm: module.wasm.to_vec(),
        params,
    })
}
