//! The section `stages`: which SmartModules the chain consists of, and their parameters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clickmill_pipeline::deployment::LookBack;
use serde::{Deserialize, Serialize};

/// Names of the modules that the program carries, in the order of the default chain.
pub const BUILTIN: [&str; 3] = [VALIDATE, ENRICH, CTR_WINDOW];
/// JSON and field rules.
pub const VALIDATE: &str = "validate";
/// Modelled cost and revenue, time and device columns.
pub const ENRICH: &str = "enrich";
/// Event-time windows.
pub const CTR_WINDOW: &str = "ctr-window";

/// One SmartModule of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageOptions {
    /// Name of the stage: `validate`, `enrich` or `ctr-window` for the program's own modules, or any other for one of
    /// yours.
    pub name: String,
    /// File of the stage's module, relative to the working directory; a SmartModule.toml beside it gives its version and
    /// parameters. Default: the program's own module of this name.
    #[serde(default)]
    pub module: Option<PathBuf>,
    /// Parameters other than the module's defaults, as its SmartModule.toml names them. Default: none.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Parameters whose value is a file's content, such as `pricing` of enrich; paths are relative to the working
    /// directory. Default: none, and enrich uses the pricing table inside the program.
    #[serde(default)]
    pub param_files: BTreeMap<String, PathBuf>,
    /// Newest records (`last`) and their age (`age_ms`) that the module is shown before the first one that it transforms.
    /// Default: none.
    #[serde(default, skip_serializing_if = "LookBack::is_none")]
    pub lookback: LookBack,
}

impl StageOptions {
    /// One of the program's own modules with its defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            module: None,
            params: BTreeMap::new(),
            param_files: BTreeMap::new(),
            lookback: LookBack::default(),
        }
    }

    /// Whether it is the program's own module.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.module.is_none() && self.name == name
    }
}
