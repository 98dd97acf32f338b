//! The flags that say which module, for which stage, with which parameters: of `deploy`, `plan` and `shadow start`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clickmill_pipeline::deployment::LookBack;
use clickmill_pipeline::deployment::body::DeployBody;

use super::module_file;
#[derive(Debug, clap::Args)]
pub struct ModuleArgs {
    /// The module; without one, the module in force gets other parameters
    #[arg(value_name = "FILE.wasm")]
    file: Option<PathBuf>,
    /// The stage to replace, or to add [default: the name in the SmartModule.toml, else the file's]
    #[arg(long)]
    stage: Option<String>,
    /// Add the stage in front of this one
    #[arg(long, value_name = "STAGE", conflicts_with = "after")]
    before: Option<String>,
    /// Add the stage behind this one
    #[arg(long, value_name = "STAGE")]
    after: Option<String>,
    /// Set a parameter; those not named stay as they are
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = module_file::pair)]
    params: Vec<(String, String)>,
    /// Set a parameter to a file's content
    #[arg(long = "param-file", value_name = "NAME=FILE", value_parser = module_file::pair)]
    param_files: Vec<(String, String)>,
    /// Let a parameter go back to its default
    #[arg(long = "unset-param", value_name = "NAME")]
    unset_params: Vec<String>,
    /// Show it so many of the newest records before the first one that it transforms; 0 for none
    #[arg(long, value_name = "RECORDS")]
    lookback: Option<u64>,
    /// Of them not those that are older than this against the newest
    #[arg(long, value_name = "MS")]
    lookback_age_ms: Option<u64>,
    /// Its SmartModule.toml [default: the one beside FILE.wasm]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

impl ModuleArgs {
    /// As a deploy has it, with the files read.
    ///
    /// # Errors
    /// A mistake where a file cannot be read.
    pub fn body(&self) -> Result<DeployBody> {
        let mut body = DeployBody {
            stage: self.stage.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
            params: self.params.iter().cloned().collect(),
            unset_params: self.unset_params.clone(),
            lookback: (self.lookback.is_some() || self.lookback_age_ms.is_some())
                .then(|| LookBack { last: self.lookback.unwrap_or_default(), age_ms: self.lookback_age_ms }),
            ..DeployBody::default()
        };
        body.params.extend(module_file::params_of_files(&self.param_files)?);
        if let Some(file) = &self.file {
            body.set_wasm(&module_file::read(file)?);
        }
        body.manifest = match (&self.manifest, &self.file) {
            (Some(path), _) => Some(module_file::manifest(path)?),
            (None, Some(file)) => module_file::manifest_beside(file)?,
            (None, None) => None,
        };
        if body.manifest.is_none() && body.stage.is_none() {
            body.stage = self.file.as_deref().and_then(Path::file_stem).map(|s| s.to_string_lossy().into_owned());
        }
        Ok(body)
    }
}
