//! From the connector files to the connectors that run: reads the folder, puts the config's settings over it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clickmill_connectors::Connector;
use clickmill_connectors::file::{BadModule, ConnectorFile, Names, Wanted, connector_names, read_folder, read_named};

use super::transforms;
use crate::config::Config;
use crate::exit::mistake;

/// Where secrets lie that are not in the environment, each in a file of its name: Docker's and Kubernetes's place.
const SECRETS_DIR: &str = "/run/secrets";

/// Variables come from the environment, secrets too, or from files; modules are what the config knows, or files.
pub struct Environment<'a>(pub &'a Config);

impl Names for Environment<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn secret(&self, name: &str) -> Option<String> {
        if let Ok(value) = std::env::var(name) {
            return Some(value);
        }
        let folder = std::env::var("CLICKMILL_SECRETS_DIR").unwrap_or_else(|_| SECRETS_DIR.to_owned());
        let value = std::fs::read_to_string(std::path::Path::new(&folder).join(name)).ok()?;
        // Editors end a file with a new line, which belongs to no password.
        Some(value.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn module(&self, wanted: &Wanted<'_>) -> Result<Arc<[u8]>, BadModule> {
        transforms::find(wanted, self.0)
    }
}

/// The files of the configured folder, or the program's own.
///
/// # Errors
/// A mistake with every problem of every file.
pub fn files(config: &Config) -> Result<Vec<ConnectorFile>> {
    read_folder(&config.connectors, &Environment(config)).map_err(|e| mistake(e.to_string()))
}

/// Says which addresses are set for connectors that are not there.
pub fn warn_of_unused_settings(config: &Config, wanted: &[Connector]) {
    let (postgres, redis) = (&config.sinks.postgres, &config.sinks.redis);
    let there = |name: &str| wanted.iter().any(|connector| connector.name() == name);
    for (name, variable, set) in [
        ("postgres", "DATABASE_URL", postgres.enabled && postgres.url.is_some()),
        ("redis", "REDIS_URL", redis.enabled && redis.url.is_some()),
    ] {
        if set && !there(name) {
            let folder = config.connectors.display();
            tracing::warn!(
                "sinks.{name}.url ({variable}) is set over the connector named {name}, and {folder} has none"
            );
        }
    }
}

/// The connectors that are wanted.
///
/// # Errors
/// As [`files`].
pub fn wanted(config: &Config) -> Result<Vec<Connector>> {
    Ok(config.connectors(files(config)?))
}

/// The connector of a name. Nothing is asked of the other files; none where no file gives it, or the config switches it off.
///
/// # Errors
/// A mistake with every problem of its file.
pub fn of_name(name: &str, config: &Config) -> Result<Option<Connector>> {
    let file = read_named(&config.connectors, name, &Environment(config)).map_err(|e| mistake(e.to_string()))?;
    Ok(config.connectors(file.into_iter().collect()).pop())
}

/// The names that the files give, whatever else is wrong with them.
///
/// # Errors
/// A mistake where the folder cannot be read.
pub fn known(config: &Config) -> Result<Vec<String>> {
    connector_names(&config.connectors, &Environment(config)).map_err(|e| mistake(e.to_string()))
}

/// The connector of one file, wherever it lies.
///
/// # Errors
/// A mistake with every problem of the file; where the config switches it off.
pub fn of_file(path: &Path, config: &Config) -> Result<Connector> {
    let file = ConnectorFile::read(path, &Environment(config)).map_err(|e| mistake(e.to_string()))?;
    let (name, off) = (file.meta.name.clone(), path.display());
    let off =
        || mistake(format!("{off}: the connector {name} is switched off: see sinks.{name}.enabled in the config"));
    config.connectors(vec![file]).pop().ok_or_else(off)
}
