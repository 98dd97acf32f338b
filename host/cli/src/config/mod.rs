//! `clickmill.yaml`: what it holds, its defaults, and the layers over it.
//!
//! Layers, each over the one before: defaults, the file, the environment, flags. Everything here is plain data but
//! convert.rs, which alone makes the crates' own options of it.
//! The commented example in default.yaml is the reference that users read.

mod check;
mod convert;
mod error;
mod file;
mod layers;
mod limits;
mod options;
mod secret;
mod sinks;
mod stages;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use layers::{Layers, Overrides};
pub use options::{BrokerOptions, DlqOptions, EngineOptions, LogOptions, PipelineOptions, ServerOptions, SlackOptions};
pub use secret::Secret;
pub use sinks::Sinks;
pub use stages::{BUILTIN, ENRICH, StageOptions};

/// Where the file is looked for when no flag names one.
pub const DEFAULT_FILE: &str = "clickmill.yaml";

/// Everything that can be configured, with the values in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of all state: logs, checkpoints, modules, the private servers. Default: `./data`.
    pub data_dir: PathBuf,
    /// The HTTP server: API, metrics, dashboard.
    pub server: ServerOptions,
    /// The topics and how they are stored.
    pub broker: BrokerOptions,
    /// The workers, one a partition.
    pub pipeline: PipelineOptions,
    /// What becomes of rejected records by itself.
    pub dlq: DlqOptions,
    /// What is said in Slack.
    pub slack: SlackOptions,
    /// The sandbox that SmartModules run in.
    pub engine: EngineOptions,
    /// The chain of SmartModules, first to last. Default: validate, enrich, ctr-window.
    pub stages: Vec<StageOptions>,
    /// Folder of connector files: what is copied where. Default: `./connectors`; where it has none, those that the program
    /// comes with.
    pub connectors: PathBuf,
    /// Values over those of the connector files `postgres` and `redis`.
    pub sinks: Sinks,
    /// What the program says about itself, on stderr.
    pub log: LogOptions,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            server: ServerOptions::default(),
            broker: BrokerOptions::default(),
            pipeline: PipelineOptions::default(),
            dlq: DlqOptions::default(),
            slack: SlackOptions::default(),
            engine: EngineOptions::default(),
            stages: BUILTIN.into_iter().map(StageOptions::new).collect(),
            connectors: PathBuf::from("./connectors"),
            sinks: Sinks::default(),
            log: LogOptions::default(),
        }
    }
}

impl Config {
    /// Reads and checks all layers. `explicit` is the file that `--config` named: it must be there; without one,
    /// [`DEFAULT_FILE`] is read when there is one.
    pub fn load(explicit: Option<&Path>, layers: &Layers) -> Result<Self, ConfigError> {
        let file = match explicit {
            Some(path) => Some(file::read(path)?),
            None => file::read_if_present(Path::new(DEFAULT_FILE))?,
        };
        let mut config = match &file {
            Some(file) => file.parse()?,
            None => Self::default(),
        };
        layers.apply(&mut config)?;
        let problems = check::problems(&config);
        if problems.is_empty() {
            return Ok(config);
        }
        let lines = problems.into_iter().map(|problem| {
            let place = layers.origin(&problem.key).or_else(|| file.as_ref()?.place(&problem.key));
            problem.shown(place.as_deref())
        });
        Err(ConfigError::new(lines.collect()))
    }
}

/// The default config as a file, each key with what it means.
pub fn default_yaml() -> &'static str {
    include_str!("default.yaml")
}
