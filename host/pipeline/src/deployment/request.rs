//! What can be asked of a deployer, and what comes of it. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::{DeploymentId, Offset, PartitionId};
use serde::{Deserialize, Serialize};

use super::canary::{CanaryError, MOST_FAILURES};
use super::change::{ChangeError, Place};
use super::plan::Plan;
use super::{DeploymentError, LookBack, Stage, digest};
use crate::chains::ChainError;
use crate::checkpoint::StoreError;
use crate::judge::JudgeError;

/// A module that somebody wants in the chain.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub stage: String,
    pub place: Place,
    pub name: String,
    pub version: String,
    /// Its SmartModule.toml, kept beside it.
    pub manifest: Option<String>,
    pub wasm: Vec<u8>,
    pub params: BTreeMap<String, String>,
    pub lookback: LookBack,
}

impl Candidate {
    /// The stage that it is to be.
    #[must_use]
    pub fn as_stage(&self) -> Stage {
        Stage {
            stage: self.stage.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            sha256: digest(&self.wasm),
            params: self.params.clone(),
            lookback: self.lookback,
        }
    }
}

/// What is to be deployed.
#[derive(Clone, Debug)]
pub enum Request {
    Deploy(Box<Candidate>),
    Remove {
        stage: String,
    },
    /// To the chain before, or to the one of this deployment.
    Rollback {
        to: Option<DeploymentId>,
    },
    /// What is rolled out to some partitions, to all.
    Promote {
        id: DeploymentId,
    },
}

/// How.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub message: String,
    /// Only to these.
    pub partitions: Option<BTreeSet<PartitionId>>,
    /// Let all state begin empty, in a new generation.
    pub reset_state: bool,
}

/// Longest message.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// # Errors
/// [`DeployError::LongMessage`].
pub(crate) fn check_message(text: &str) -> Result<(), DeployError> {
    match text.chars().nth(MAX_MESSAGE_CHARS) {
        None => Ok(()),
        Some(_) => Err(DeployError::LongMessage),
    }
}

/// A canary ends at its last failure.
fn at_least(failures: u64) -> String {
    match failures >= MOST_FAILURES as u64 {
        true => format!("at least {failures}"),
        false => failures.to_string(),
    }
}

/// Why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(
        "another deployment is being made right now: wait for it, look at `clickmill smartmodule history`, and try again"
    )]
    Busy,
    #[error(
        "a run is being filled beside the live one, and what is deployed now would be lost with it: wait for it (`clickmill \
         reprocess status`), or end it with `clickmill reprocess stop`"
    )]
    Reprocessing,
    #[error(
        "deployment {id} is rolled out to partition {only} only: promote it (`clickmill smartmodule deploy --promote {id}`) or \
         roll it back first"
    )]
    Staged { id: DeploymentId, only: String },
    #[error("deployment {id} is no rollout that is under way: there is nothing to promote")]
    NotStaged { id: DeploymentId },
    #[error(
        "there is nothing to change yet: nothing has ever been deployed in this data directory; `clickmill run` begins it"
    )]
    Nothing,
    #[error("the message is longer than {MAX_MESSAGE_CHARS} characters")]
    LongMessage,
    #[error("there is no partition {partition}; the topic has {partitions}")]
    NoPartition { partition: PartitionId, partitions: u32 },
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("the module is refused, and nothing was changed: {0}")]
    Refused(#[source] ChainError),
    #[error(
        "the new chain cannot take over the state of partition {partition}, and nothing was changed (with --reset-state it \
         begins a new generation with empty state: what was counted stays and adds up): {source}"
    )]
    State { partition: PartitionId, source: ChainError },
    #[error(
        "stage {stage} is refused, and nothing was changed: what it makes of a record depends on the records before it (as at \
         offset {offset}), and it has no clickmill_save and clickmill_load by which that could be kept over a restart"
    )]
    HiddenState { stage: String, offset: Offset },
    #[error("the canary failed on {} of the newest records, and nothing was changed: {first}", at_least(*failures))]
    Canary { failures: u64, first: String },
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read the newest records: {0}")]
    Judge(JudgeError),
}

impl DeployError {
    pub(crate) fn staged(id: DeploymentId, only: &BTreeSet<PartitionId>) -> Self {
        let only = only.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Self::Staged { id, only }
    }
}

impl From<CanaryError> for DeployError {
    fn from(error: CanaryError) -> Self {
        match error {
            CanaryError::Chain(e) => Self::Refused(e),
            CanaryError::Judge(JudgeError::Engine(source)) => {
                Self::Refused(ChainError::Module { stage: "canary".to_owned(), source })
            }
            CanaryError::Judge(e) => Self::Judge(e),
        }
    }
}

/// What came of a deploy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// The deployment that is in force, or will be.
    pub deployment: DeploymentId,
    /// `false`: it was in force already, and nothing was done.
    pub changed: bool,
    /// Where each partition that has followed began: its offset.
    pub activations: BTreeMap<PartitionId, Offset>,
    /// Partitions that have not, and why.
    pub waiting: BTreeMap<PartitionId, String>,
    pub plan: Plan,
}
