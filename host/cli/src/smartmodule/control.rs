//! Where modules are changed: in the host that runs on a data directory, over HTTP, or in its files when none does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clickmill_broker::{Broker, EmbeddedLog};
use clickmill_connectors::percent_encoded;
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::{Deployed, Deployer, Options, Request};
use clickmill_pipeline::deployment::plan::Plan;
use clickmill_pipeline::deployment::read_all;
use clickmill_pipeline::topics;
use clickmill_pipeline::views::modules::{self, DeploymentView, StageView};
use clickmill_schemas::DeploymentId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::context::{Host, Place};
use crate::stack;

/// What can be changed.
pub enum Control {
    Host(Host),
    /// The files of a stopped host, ours until we end.
    Folder(Box<Deployer>),
}

/// A change other than a deploy.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    Remove(&'a str),
    Rollback(Option<DeploymentId>),
    Promote(DeploymentId),
}

/// How it is made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChangeOptions {
    pub message: String,
    pub reset_state: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<DeploymentId>,
    pub plan: bool,
}

impl Control {
    /// Finds who has the data directory. Where nobody has it, it is opened for writing.
    ///
    /// # Errors
    /// A mistake where there is no such data directory, or where it cannot be had.
    pub fn of(config: &Config) -> Result<Self> {
        match Place::of(config)? {
            Place::Host(host) => Ok(Self::Host(host)),
            Place::Folder(read_only) => {
                drop(read_only);
                Ok(Self::Folder(Box::new(folder(config)?)))
            }
        }
    }

    /// Whether no host runs.
    pub const fn is_stopped(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    pub fn plan(&self, body: &DeployBody) -> Result<Plan> {
        match self {
            Self::Host(host) => host.ask("POST", "/api/smartmodules", &DeployBody { plan: true, ..body.clone() }),
            Self::Folder(deployer) => {
                let (request, options) = deployer.request(body.clone())?;
                Ok(deployer.plan(&request, &options)?)
            }
        }
    }

    pub fn deploy(&self, body: &DeployBody) -> Result<Deployed> {
        match self {
            Self::Host(host) => host.ask("POST", "/api/smartmodules", body),
            Self::Folder(deployer) => {
                let (request, options) = deployer.request(body.clone())?;
                Ok(deployer.deploy(&request, &options, Duration::ZERO)?)
            }
        }
    }

    pub fn plan_change(&self, change: Change<'_>, options: &ChangeOptions) -> Result<Plan> {
        let options = ChangeOptions { plan: true, ..options.clone() };
        match self {
            Self::Host(host) => host_change(host, change, options),
            Self::Folder(deployer) => Ok(deployer.plan(&change.request(), &options.plain())?),
        }
    }

    pub fn change(&self, change: Change<'_>, options: &ChangeOptions) -> Result<Deployed> {
        match self {
            Self::Host(host) => host_change(host, change, options.clone()),
            Self::Folder(deployer) => Ok(deployer.deploy(&change.request(), &options.plain(), Duration::ZERO)?),
        }
    }

    /// The reason for which it is paused now: the first one stays.
    pub fn pause(&self, reason: &str) -> Result<String> {
        match self {
            Self::Host(host) => {
                let answer: Value = host.ask("POST", "/api/pipeline/pause", &json!({"reason": reason}))?;
                Ok(answer["reason"].as_str().unwrap_or_default().to_owned())
            }
            Self::Folder(deployer) => {
                deployer.pause(reason)?;
                Ok(deployer.paused()?.unwrap_or_default())
            }
        }
    }

    pub fn resume(&self) -> Result<()> {
        match self {
            Self::Host(host) => host.ask::<Value>("POST", "/api/pipeline/resume", &json!({})).map(drop),
            Self::Folder(deployer) => Ok(deployer.resume()?),
        }
    }
}

impl Change<'_> {
    fn request(self) -> Request {
        match self {
            Self::Remove(stage) => Request::Remove { stage: stage.to_owned() },
            Self::Rollback(to) => Request::Rollback { to },
            Self::Promote(id) => Request::Promote { id },
        }
    }
}

impl ChangeOptions {
    fn plain(&self) -> Options {
        Options { message: self.message.clone(), partitions: None, reset_state: self.reset_state }
    }
}

fn host_change<T: serde::de::DeserializeOwned>(host: &Host, change: Change<'_>, options: ChangeOptions) -> Result<T> {
    match change {
        Change::Remove(stage) => host.ask("DELETE", &format!("/api/smartmodules/{}", percent_encoded(stage)), &options),
        Change::Rollback(to) => host.ask("POST", "/api/deployments/rollback", &ChangeOptions { to, ..options }),
        Change::Promote(id) => host.ask("POST", &format!("/api/deployments/{id}/promote"), &options),
    }
}

fn folder(config: &Config) -> Result<Deployer> {
    let log: Arc<dyn Broker> = Arc::new(stack::place::open_log(config)?);
    topics::create_all(&*log, &config.topics_options())?;
    let (engine, data_dir) = (stack::engine(config, &config.data_dir)?, config.data_dir.clone());
    let deployer = Deployer::of_folder(log, engine, config.limits(), Arc::new(SystemClock), data_dir)?;
    // As a start would: what clickmill.yaml asks for comes first.
    deployer.follow_config(&stack::chain::stages(config)?)?;
    Ok(deployer)
}

/// The chain in force, to read only.
pub fn stages(config: &Config) -> Result<Vec<StageView>> {
    match Place::of(config)? {
        Place::Host(host) => host.get("/api/smartmodules"),
        Place::Folder(log) => {
            let (history, activations) = read(&log, &config.data_dir)?;
            Ok(modules::stages(&history, &activations))
        }
    }
}

/// Everything that was deployed, newest first, to read only.
pub fn history(config: &Config) -> Result<Vec<DeploymentView>> {
    match Place::of(config)? {
        Place::Host(host) => host.get("/api/deployments"),
        Place::Folder(log) => {
            let (history, activations) = read(&log, &config.data_dir)?;
            Ok(modules::deployments(&history, &activations))
        }
    }
}

type Read =
    (std::collections::BTreeMap<DeploymentId, clickmill_pipeline::deployment::Deployment>, modules::Activations);

fn read(log: &EmbeddedLog, data_dir: &Path) -> Result<Read> {
    if log.topic(topics::DEPLOYMENTS)?.is_none() {
        return Ok(Read::default());
    }
    let history = read_all(log)?.into_iter().collect();
    let activations = modules::activations(log, data_dir).context("reading where the deployments began")?;
    Ok((history, activations))
}
