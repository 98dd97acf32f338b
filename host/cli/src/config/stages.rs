//! The section `stages`: which SmartModules the chain consists of, and their parameters.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One SmartModule of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageOptions {
    /// Which module: `validate`, `enrich` or `ctr-window`.
    pub name: StageName,
    /// Parameters other than the module's defaults, as its SmartModule.toml names them. Default: none.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Parameters whose value is a file's content, such as `pricing` of enrich; paths are relative to the working
    /// directory. Default: none, and enrich uses the pricing table inside the program.
    #[serde(default)]
    pub param_files: BTreeMap<String, PathBuf>,
}

impl StageOptions {
    /// The stage with its module's defaults.
    pub fn new(name: StageName) -> Self {
        Self { name, params: BTreeMap::new(), param_files: BTreeMap::new() }
    }
}

/// The modules that the program carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// JSON and field rules.
    Validate,
    /// Modelled cost and revenue, time and device columns.
    Enrich,
    /// Event-time windows.
    CtrWindow,
}

impl StageName {
    /// All of them, in the order of the default chain.
    pub const ALL: [Self; 3] = [Self::Validate, Self::Enrich, Self::CtrWindow];

    /// As the config and the modules' manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Enrich => "enrich",
            Self::CtrWindow => "ctr-window",
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
