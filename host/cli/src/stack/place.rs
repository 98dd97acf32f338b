//! Where the log of a data directory lies, and how it is opened for writing.

use std::path::PathBuf;

use anyhow::Result;
use clickmill_broker::{BrokerError, EmbeddedLog};

use crate::config::Config;
use crate::exit::mistake;
use crate::produce::Place;

/// Folder of the embedded log.
pub fn log_dir(config: &Config) -> PathBuf {
    config.data_dir.join("log")
}

/// Where `produce` finds the topics.
pub fn of(config: &Config) -> Place {
    Place {
        data_dir: config.data_dir.clone(),
        log_dir: log_dir(config),
        log: config.broker_options(),
        topics: config.topics_options(),
        token: config.server.token.as_ref().map(|token| token.expose().to_owned()),
        max_line_bytes: config.server.max_record_bytes,
    }
}

/// Opens the log for writing; a second process learns who has it.
pub fn open_log(config: &Config) -> Result<EmbeddedLog> {
    EmbeddedLog::open(&log_dir(config), config.broker_options()).map_err(|error| match error {
        BrokerError::Locked { ref holder, .. } => {
            mistake(format!("the data directory {} is in use by {holder}", config.data_dir.display()))
        }
        error => error.into(),
    })
}
