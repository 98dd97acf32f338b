//! Who keeps the letters: the host that runs on a data directory, over HTTP, or its files when none does.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clickmill_broker::Broker;
use clickmill_connectors::percent_encoded;
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::dlq::{Dlq, Filter, Listed, Retried, RetryBody, Shape, Shown, Stats, Which};
use clickmill_schemas::Offset;
use clickmill_schemas::dead_letter::RawPayload;
use clickmill_schemas::dlq::LetterId;
use serde_json::{Value, json};

use crate::config::Config;
use crate::context::{Host, Place};
use crate::{smartmodule, stack};

/// Who keeps the letters.
pub enum Source {
    Host(Host),
    /// The files of a stopped host.
    Folder(Box<Dlq>),
}

impl Source {
    /// To look only.
    ///
    /// # Errors
    /// A mistake where there is no such data directory, or who has it does not serve HTTP.
    pub fn to_read(config: &Config) -> Result<Self> {
        match Place::of(config)? {
            Place::Host(host) => Ok(Self::Host(host)),
            Place::Folder(log) => {
                let broker: Arc<dyn Broker> = Arc::new(log);
                let (engine, data_dir) = (stack::engine(config, &config.data_dir)?, config.data_dir.clone());
                let deployer = Deployer::of_folder(broker, engine, config.limits(), Arc::new(SystemClock), data_dir)?;
                Ok(Self::Folder(Box::new(Dlq::open_to_read(Arc::new(deployer), config.retry_policy())?)))
            }
        }
    }

    /// To change something: where no host runs, the data directory is ours until we end.
    ///
    /// # Errors
    /// As [`Source::to_read`].
    pub fn to_change(config: &Config) -> Result<Self> {
        match smartmodule::control::Control::of(config)? {
            smartmodule::control::Control::Host(host) => Ok(Self::Host(host)),
            smartmodule::control::Control::Folder(deployer) => {
                Ok(Self::Folder(Box::new(Dlq::open(Arc::from(deployer), config.retry_policy()))))
            }
        }
    }

    /// Whether no host runs.
    pub const fn is_stopped(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// Gives each letter as a line of JSON, in the order of their last change, until `take` wants no more.
    pub fn each(&self, filter: &Filter, shape: Shape, take: &mut dyn FnMut(&str) -> Result<bool>) -> Result<()> {
        match self {
            Self::Host(host) => {
                let brief = shape == Shape::Brief;
                let mut lines = host.lines(&format!("/api/dlq?format=jsonl&brief={brief}{}", query(filter)))?;
                let mut line = String::new();
                while lines.read_line(&mut line).context("reading letters from the host")? > 0 && take(line.trim_end())?
                {
                    line.clear();
                }
            }
            Self::Folder(dlq) => {
                let mut next = Some(Offset(0));
                while let Some(from) = next {
                    let lines = dlq.lines(from, filter, shape)?;
                    for line in lines.text.lines() {
                        if !take(line)? {
                            return Ok(());
                        }
                    }
                    next = lines.next;
                }
            }
        }
        Ok(())
    }

    pub fn show(&self, id: &LetterId) -> Result<Shown> {
        match self {
            Self::Host(host) => host.get(&format!("/api/dlq/letters/{}", percent_encoded(&id.0))),
            Self::Folder(dlq) => Ok(dlq.show(id)?),
        }
    }

    pub fn stats(&self, filter: &Filter) -> Result<Stats> {
        match self {
            Self::Host(host) => host.get(&format!("/api/dlq/stats?{}", query(filter).trim_start_matches('&'))),
            Self::Folder(dlq) => Ok(dlq.stats(filter)?),
        }
    }

    /// Where no host runs, nobody judges what is sent: there is nothing to wait for.
    pub fn retry(&self, body: &RetryBody, wait: Duration) -> Result<Retried> {
        match self {
            Self::Host(host) => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                host.ask("POST", "/api/dlq/retry", &RetryBody { wait_ms, ..body.clone() })
            }
            Self::Folder(dlq) => Ok(dlq.retry(RetryBody { wait_ms: 0, ..body.clone() })?),
        }
    }

    /// What has become of letters that were sent, once it is known of all or after `wait`.
    pub fn outcomes(&self, ids: &[LetterId], wait: Duration) -> Result<Retried> {
        match self {
            Self::Host(host) => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                host.ask("POST", "/api/dlq/outcomes", &json!({"ids": ids, "wait_ms": wait_ms}))
            }
            Self::Folder(dlq) => Ok(dlq.outcomes(ids, Duration::ZERO)?),
        }
    }

    pub fn edit(&self, id: &LetterId, payload: &[u8]) -> Result<Listed> {
        match self {
            Self::Host(host) => {
                let RawPayload { raw_payload, raw_encoding, .. } = RawPayload::new(payload);
                let body = json!({"raw_payload": raw_payload, "raw_encoding": raw_encoding});
                host.ask("POST", &format!("/api/dlq/letters/{}/edit", percent_encoded(&id.0)), &body)
            }
            Self::Folder(dlq) => Ok(dlq.edit(id, payload)?),
        }
    }

    pub fn purge(&self, which: &Which) -> Result<u64> {
        match self {
            Self::Host(host) => {
                let answer: Value = host.ask("POST", "/api/dlq/purge", which)?;
                Ok(answer["purged"].as_u64().unwrap_or_default())
            }
            Self::Folder(dlq) => Ok(dlq.purge(which)?),
        }
    }
}

/// A filter as the parameters of an address.
fn query(filter: &Filter) -> String {
    let Filter { error_type, rule, since_ms, state } = filter;
    let given = [
        ("type", error_type.map(|word| word.name().to_owned())),
        ("rule", rule.as_deref().map(percent_encoded)),
        ("since", since_ms.map(|ms| ms.to_string())),
        ("state", state.map(|word| word.name().to_owned())),
    ];
    given.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", value?))).collect()
}
