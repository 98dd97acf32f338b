//! From a request to the chain that it asks for: a pure function of what was deployed before.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::{DeploymentId, PartitionId};

use super::change::{self, ChangeError};
use super::request::{Candidate, DeployError, Options, Request, check_message};
use super::{Cause, Deployment, Stage, newest_everywhere};

/// The chain that is asked for, and what it comes of.
pub(crate) struct Wanted {
    pub base: (DeploymentId, Deployment),
    pub stages: Vec<Stage>,
    pub cause: Cause,
    pub message: String,
    pub candidate: Option<Box<Candidate>>,
    /// It is to be rolled out, though no stage differs from what most partitions have.
    pub promotes: bool,
}

/// The deployment that only some partitions have, and which; none where all have the newest.
pub(crate) fn rollout(
    history: &BTreeMap<DeploymentId, Deployment>,
) -> Option<(DeploymentId, &Deployment, &BTreeSet<PartitionId>)> {
    let (id, newest) = history.iter().rev().find(|(_, d)| d.cause != Cause::Reprocess)?;
    Some((*id, newest, newest.partitions.as_ref()?))
}

/// The chain that a request asks for.
pub(crate) fn wanted(
    history: &BTreeMap<DeploymentId, Deployment>,
    partitions: u32,
    request: &Request,
    options: &Options,
) -> Result<Wanted, DeployError> {
    check_message(&options.message)?;
    for partition in options.partitions.iter().flatten() {
        if partition.0 >= partitions {
            return Err(DeployError::NoPartition { partition: *partition, partitions });
        }
    }
    let rollout = rollout(history);
    let (base_id, base) = newest_everywhere(history).ok_or(DeployError::Nothing)?;
    let base = (base_id, base.clone());
    let mut wanted = Wanted {
        stages: base.1.stages.clone(),
        base,
        cause: Cause::Deploy,
        message: options.message.clone(),
        candidate: None,
        promotes: false,
    };
    let or = |given: &str, otherwise: String| if given.is_empty() { otherwise } else { given.to_owned() };
    if let (Some((id, _, only)), false) =
        (rollout, matches!(request, Request::Promote { .. } | Request::Rollback { .. }))
    {
        return Err(DeployError::staged(id, only));
    }
    match request {
        Request::Deploy(candidate) => {
            wanted.stages = change::put(&wanted.stages, candidate.as_stage(), &candidate.place)?;
            wanted.candidate = Some(candidate.clone());
        }
        Request::Remove { stage } => {
            if wanted.base.1.config_stages().iter().any(|own| own.stage == *stage) {
                return Err(ChangeError::OfConfig { stage: stage.clone() }.into());
            }
            wanted.stages = change::remove(&wanted.stages, stage)?;
            wanted.cause = Cause::Remove;
            wanted.message = or(&options.message, format!("stage {stage} removed"));
        }
        Request::Rollback { to } => {
            // Back from a rollout to some partitions is back to what the others run.
            let to = match (to, rollout) {
                (None, Some(_)) => wanted.base.0,
                _ => change::rollback_target(history, *to)?,
            };
            wanted.promotes = rollout.is_some();
            wanted.stages = history.get(&to).map(|d| d.stages.clone()).unwrap_or_default();
            wanted.cause = Cause::Rollback { to };
            wanted.message = or(&options.message, format!("back to deployment {to}"));
        }
        Request::Promote { id } => {
            let of = history.get(id).ok_or(ChangeError::Unknown { id: *id })?;
            if rollout.is_none_or(|(under_way, ..)| under_way != *id) {
                return Err(DeployError::NotStaged { id: *id });
            }
            wanted.promotes = true;
            wanted.stages = of.stages.clone();
            wanted.cause = Cause::Promote { of: *id };
            wanted.message = or(&options.message, format!("deployment {id} everywhere"));
        }
    }
    Ok(wanted)
}
