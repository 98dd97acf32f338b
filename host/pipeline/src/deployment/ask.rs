//! What a [`Deployer`] knows besides deploying: what became of records, what holds windows open, what modules said, and what
//! a candidate beside the live chain makes of the stream.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clickmill_broker::TopicPartition;
use clickmill_engine::manifest::Manifest;
use clickmill_schemas::{ModuleDigest, Offset, PartitionId};

use super::DeploymentError;
use super::body::{BadBody, DeployBody};
use super::control::{Candidate, DeployError, Deployed, Deployer, Options, Request};
use crate::blame::{Blame, BlameError, Blamer, StageBlame};
use crate::checkpoint::StoreError;
use crate::input::InputError;
use crate::judge::JudgeError;
use crate::module_log::ModuleLine;
use crate::shadow::{Condition, Report, ShadowError};
use crate::views::{RunState, ViewError};
use crate::why::{self, WhyLate, WhyOpen};

/// Why a shadow was not promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    #[error("not promoted: {0}")]
    Condition(String),
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

/// A body that cannot be made a request of.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Body(#[from] BadBody),
    #[error(transparent)]
    Module(#[from] DeploymentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}, with which the module was stored, is damaged: {why}; bring a manifest, or delete that one", path.display())]
    StoredManifest { path: PathBuf, why: String },
}

impl Deployer {
    /// What a body asks for. Where it brings no module, the one in force stays; where it brings no manifest, the one that the
    /// module was stored with says which parameters it takes.
    ///
    /// # Errors
    /// [`RequestError`]; most are mistakes of whoever asks.
    pub fn request(&self, mut body: DeployBody) -> Result<(Request, Options), RequestError> {
        let stages = self.stages();
        let in_force = stages.iter().find(|stage| body.stage.as_ref() == Some(&stage.stage));
        if body.manifest.is_none()
            && let Some(module) = body.digest().or(in_force.map(|stage| stage.sha256))
        {
            body.manifest = self.sound_manifest(module)?;
        }
        body.request(&stages, |stage| Ok(self.module(stage.sha256)?))
    }

    fn sound_manifest(&self, module: ModuleDigest) -> Result<Option<String>, RequestError> {
        let text = self.manifest(module)?;
        if let Some(Err(why)) = text.as_deref().map(Manifest::parse) {
            let path = self.registry.chains.modules.manifest_path(module);
            return Err(RequestError::StoredManifest { path, why: why.to_string() });
        }
        Ok(text)
    }

    /// Starts a candidate beside the live chain.
    ///
    /// # Errors
    /// [`ShadowError`] where one runs already, or the candidate cannot.
    pub fn start_shadow(&self, candidate: Candidate, options: Options) -> Result<Report, ShadowError> {
        let mut ends = BTreeMap::new();
        for partition in (0..self.partitions()).map(PartitionId) {
            let at = TopicPartition::new(crate::topics::AD_EVENTS_RAW, partition);
            let end = self.broker.ends(&at).map_err(|e| JudgeError::from(InputError::from(e)))?.end;
            ends.insert(partition, end);
        }
        let now_ms = self.clock.now_ms();
        self.shadows.start(&self.registry, &self.broker, (candidate, options), ends, now_ms)
    }

    /// # Errors
    /// [`ShadowError::None`].
    pub fn shadow_report(&self) -> Result<Report, ShadowError> {
        self.shadows.report()
    }

    /// Ends the shadow; its last report.
    ///
    /// # Errors
    /// [`ShadowError::None`].
    pub fn stop_shadow(&self) -> Result<Report, ShadowError> {
        self.shadows.stop().map(|(report, ..)| report)
    }

    /// Deploys the shadow's candidate if its report is as it must be, and ends the shadow.
    ///
    /// # Errors
    /// [`PromoteError`], and nothing has changed.
    pub fn promote_shadow(
        &self,
        condition: Option<&Condition>,
        message: &str,
        patience: Duration,
    ) -> Result<Deployed, PromoteError> {
        let (report, candidate, mut options) = self.shadows.candidate()?;
        if let Some(why) = condition.and_then(|condition| condition.fails(&report)) {
            return Err(PromoteError::Condition(why));
        }
        if !message.is_empty() {
            message.clone_into(&mut options.message);
        }
        let deployed = self.deploy(&Request::Deploy(Box::new(candidate)), &options, patience)?;
        // Somebody else may have ended it meanwhile: the deploy stands.
        let _ = self.shadows.stop();
        Ok(deployed)
    }

    /// What became of the records from `from` up to `to` of a partition.
    ///
    /// # Errors
    /// [`BlameError`] where there is no such partition or record, or a topic cannot be read.
    pub fn blame(&self, partition: PartitionId, from: Offset, to: Offset) -> Result<Vec<Blame>, BlameError> {
        let mut all = Vec::new();
        self.blame_each(partition, from, to, &mut |blame| all.push(blame))?;
        Ok(all)
    }

    /// [`Deployer::blame`] of more records than are to be held.
    ///
    /// # Errors
    /// As there.
    pub fn blame_each(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        tell: &mut dyn FnMut(Blame),
    ) -> Result<(), BlameError> {
        let status = crate::views::status(&*self.broker, RunState::Stopped, Vec::new())?;
        let partitions = self.partitions();
        let missing = BlameError::NoPartition { partition, partitions };
        let (Some(run), Some(place)) = (status.run, status.partitions.iter().find(|p| p.partition == partition)) else {
            return Err(missing);
        };
        let (start, end) = (place.log_start_offset, place.log_end_offset);
        if from >= end || from >= to {
            return Err(BlameError::NoOffset { partition, asked: from, start, end });
        }
        let history = self.history();
        let blamer = Blamer {
            broker: &*self.broker,
            chains: &self.registry.chains,
            history: &history,
            partition,
            activations: self.activations()?.remove(&partition).unwrap_or_default(),
            run,
            processed: place.processed_offset,
        };
        blamer.stories(from, to, tell)
    }

    /// Why a record was late; none where it was not.
    ///
    /// # Errors
    /// As [`Deployer::blame`].
    pub fn why_late(&self, partition: PartitionId, offset: Offset) -> Result<Option<WhyLate>, BlameError> {
        let blamed = self.blame(partition, offset, offset.plus(1))?;
        let Some(blame) = blamed.first() else { return Ok(None) };
        let setting = |name: &str| blame.stages.iter().find_map(|stage| self.param_of(stage, name)).unwrap_or_default();
        let settings = (setting("out_of_orderness_ms"), setting("allowed_lateness_ms"));
        Ok(why::late(&*self.broker, blame, settings)?)
    }

    /// A stage's parameter, or what its module's SmartModule.toml says of one that is not set.
    fn param_of(&self, stage: &StageBlame, name: &str) -> Option<i64> {
        if let Some(set) = stage.params.get(name) {
            return set.trim().parse().ok();
        }
        let manifest = Manifest::parse(&self.manifest(stage.sha256).ok()??).ok()?;
        manifest.params.iter().find(|param| param.name == name)?.default.as_ref()?.trim().parse().ok()
    }

    /// What holds a window open.
    ///
    /// # Errors
    /// [`ViewError`] where the commits cannot be read.
    pub fn why_open(&self, size_ms: i64, start_ms: i64) -> Result<WhyOpen, ViewError> {
        let status = crate::views::status(&*self.broker, RunState::Stopped, Vec::new())?;
        Ok(why::open(size_ms, start_ms, &status.partitions))
    }

    /// What the modules have said and why they failed, from line `number` on; empty where no host runs.
    #[must_use]
    pub fn module_lines(&self, number: u64, stage: Option<&str>) -> Vec<ModuleLine> {
        self.workers.as_ref().map(|workers| workers.log.since(number, stage)).unwrap_or_default()
    }
}
