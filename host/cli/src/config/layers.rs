//! The layers over the file: environment variables, then flags.

use std::path::PathBuf;

use super::error::ConfigError;
use super::options::parse_listen;
use super::{Config, Secret};

/// Values from one layer; `None` leaves the layer below in force.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `CLICKMILL_DATA_DIR`, `--data-dir`: config key `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `DATABASE_URL`, `--database-url`: config key `sinks.postgres.url`.
    pub database_url: Option<Secret>,
    /// `REDIS_URL`, `--redis-url`: config key `sinks.redis.url`.
    pub redis_url: Option<Secret>,
    /// `CLICKMILL_LISTEN`, `--listen`: config key `server.listen`.
    pub listen: Option<String>,
    /// `CLICKMILL_TOKEN`, `--token`: config key `server.token`.
    pub token: Option<Secret>,
    /// `SLACK_WEBHOOK_URL`: config key `slack.webhook_url`; no flag, since others see those.
    pub slack_webhook_url: Option<Secret>,
}

impl Overrides {
    /// From environment variables; one that is set to nothing counts as not set.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            data_dir: get("CLICKMILL_DATA_DIR").map(PathBuf::from),
            database_url: get("DATABASE_URL").map(Secret::from),
            redis_url: get("REDIS_URL").map(Secret::from),
            listen: get("CLICKMILL_LISTEN"),
            token: get("CLICKMILL_TOKEN").map(Secret::from),
            slack_webhook_url: get("SLACK_WEBHOOK_URL").map(Secret::from),
        }
    }

    /// Does this layer set the key?
    fn sets(&self, key: &str) -> bool {
        match key {
            "data_dir" => self.data_dir.is_some(),
            "sinks.postgres.url" => self.database_url.is_some(),
            "sinks.redis.url" => self.redis_url.is_some(),
            "server.listen" => self.listen.is_some(),
            "server.token" => self.token.is_some(),
            "slack.webhook_url" => self.slack_webhook_url.is_some(),
            _ => false,
        }
    }
}

/// Both layers, the upper one last.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Environment variables.
    pub env: Overrides,
    /// Flags.
    pub flags: Overrides,
}

/// Key, environment variable, flag.
const NAMES: [(&str, &str, &str); 6] = [
    ("data_dir", "CLICKMILL_DATA_DIR", "--data-dir"),
    ("sinks.postgres.url", "DATABASE_URL", "--database-url"),
    ("sinks.redis.url", "REDIS_URL", "--redis-url"),
    ("server.listen", "CLICKMILL_LISTEN", "--listen"),
    ("server.token", "CLICKMILL_TOKEN", "--token"),
    ("slack.webhook_url", "SLACK_WEBHOOK_URL", ""),
];

impl Layers {
    /// Puts the layers' values over the config's.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        for layer in [&self.env, &self.flags] {
            if let Some(folder) = &layer.data_dir {
                config.data_dir.clone_from(folder);
            }
            if let Some(url) = &layer.database_url {
                config.sinks.postgres.url = Some(url.clone());
            }
            if let Some(url) = &layer.redis_url {
                config.sinks.redis.url = Some(url.clone());
            }
            if let Some(token) = &layer.token {
                config.server.token = Some(token.clone());
            }
            if let Some(url) = &layer.slack_webhook_url {
                config.slack.webhook_url = Some(url.clone());
            }
        }
        if let Some(listen) = self.flags.listen.as_deref().or(self.env.listen.as_deref()) {
            let place = self.origin("server.listen").unwrap_or_default();
            config.server.listen =
                parse_listen(listen).map_err(|problem| ConfigError::one(format!("{place}: {problem}")))?;
        }
        Ok(())
    }

    /// The flag or variable that set the key, when one did.
    pub(super) fn origin(&self, key: &str) -> Option<String> {
        let (_, variable, flag) = NAMES.into_iter().find(|(name, ..)| *name == key)?;
        if self.flags.sets(key) {
            Some(flag.to_owned())
        } else if self.env.sets(key) {
            Some(format!("environment variable {variable}"))
        } else {
            None
        }
    }
}
