//! The chain in force, stage by stage: which module, which deployment put it there, since which offset of each partition.

use std::collections::BTreeMap;
use std::path::Path;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::merge::WindowRecord;
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};
use serde::{Deserialize, Serialize};

use super::ViewError;
use super::scan::scan;
use crate::deployment::plan::same;
use crate::deployment::wanted::rollout;
use crate::deployment::{Cause, Deployment, Stage, newest_everywhere, states};
use crate::recovery::Recovery;
use crate::runs;
use crate::topics::{AD_EVENTS_RAW, CTR_WINDOWS};

/// Where each deployment began to judge, by partition.
pub type Activations = BTreeMap<PartitionId, BTreeMap<Offset, DeploymentId>>;

/// A stage of the chain, as `clickmill smartmodule list --output json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    pub stage: String,
    pub name: String,
    pub version: String,
    pub sha256: ModuleDigest,
    /// The deployment that put it there.
    pub deployment: DeploymentId,
    /// By partition, the first offset that it judged; a partition that has not come to it is missing.
    pub activations: BTreeMap<PartitionId, Offset>,
    pub params: BTreeMap<String, String>,
    /// Of that deployment.
    pub message: String,
    /// What some partitions run in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<Staged>,
}

/// A stage that is rolled out to some partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    pub deployment: DeploymentId,
    pub sha256: ModuleDigest,
    pub params: BTreeMap<String, String>,
    /// By partition, the first offset that it judged.
    pub activations: BTreeMap<PartitionId, Offset>,
}

/// A deployment, as `clickmill smartmodule history --output json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentView {
    pub deployment: DeploymentId,
    pub created_at_ms: i64,
    pub cause: Cause,
    pub message: String,
    /// Only there; none: everywhere.
    pub partitions: Option<Vec<PartitionId>>,
    pub reset_state: bool,
    pub stages: Vec<Stage>,
    pub activations: BTreeMap<PartitionId, Offset>,
}

/// Reads where each deployment began, from the newest checkpoints and from what was written after them.
///
/// # Errors
/// [`ViewError`] where the topic or a checkpoint cannot be read.
pub fn activations(broker: &dyn Broker, data_dir: &Path) -> Result<Activations, ViewError> {
    let Some(input) = broker.topic(AD_EVENTS_RAW)? else {
        return Ok(Activations::new());
    };
    let (partitions, run) = (input.spec.partitions, runs::current(broker)?.unwrap_or(input.id));
    let newest: BTreeMap<_, _> =
        states::newest(&runs::current_folder(broker, data_dir)?, partitions)?.into_iter().collect();
    let windows = TopicPartition::new(CTR_WINDOWS, PartitionId(0));
    let all = (0..partitions).map(PartitionId);
    // What lies behind every checkpoint's outputs is read once, for all partitions.
    let ends = all.clone().map(|p| newest.get(&p).map_or(Offset(0), |c| c.outputs.windows));
    let from = ends.min().unwrap_or_default();
    let mut folds: Vec<Recovery> = all.clone().map(|p| Recovery::new(run, p, newest.get(&p))).collect();
    scan(broker, &windows, from, &mut |_, record| {
        if !clickmill_schemas::partial::is_partial(record.value) {
            let record = WindowRecord::decode(record.key, record.value)?;
            folds.iter_mut().for_each(|fold| fold.window_record(&record));
        }
        Ok(())
    })?;
    let mut out = Activations::new();
    for (partition, fold) in all.zip(folds) {
        let checkpoint = newest.get(&partition);
        let mut began = checkpoint.map(|c| c.activations.clone()).unwrap_or_default();
        began.extend(fold.finish().decisions.activations.into_iter().map(|(at, a)| (at, a.deployment)));
        out.insert(partition, began);
    }
    Ok(out)
}

/// Where `deployment`, or what came after it, began: the first offset of each partition.
fn began(activations: &Activations, deployment: DeploymentId) -> BTreeMap<PartitionId, Offset> {
    let first = |began: &BTreeMap<Offset, DeploymentId>| {
        began.iter().find(|(_, id)| **id >= deployment).map(|(offset, _)| *offset)
    };
    activations.iter().filter_map(|(partition, all)| Some((*partition, first(all)?))).collect()
}

/// The deployment that put a stage into the chain of `newest` as it is. A rollout to some partitions counts for all, so that
/// what takes one back puts the stage there anew.
pub(crate) fn since(history: &BTreeMap<DeploymentId, Deployment>, newest: DeploymentId, stage: &Stage) -> DeploymentId {
    let has = |d: &Deployment| d.stages.iter().any(|s| same(s, stage));
    // What a run was filled with that nobody took has judged nothing that anybody reads.
    let taken = |of: DeploymentId| history.values().any(|d| d.cause == Cause::Switch { of });
    let counts = |(id, d): &(&DeploymentId, &Deployment)| d.cause != Cause::Reprocess || taken(**id);
    let before = history.range(..=newest).rev().filter(counts);
    before.take_while(|(_, d)| has(d)).last().map_or(newest, |(id, _)| *id)
}

/// The newest chain, stage by stage, with the stages that a rollout adds to it in some partitions.
#[must_use]
pub fn stages(history: &BTreeMap<DeploymentId, Deployment>, activations: &Activations) -> Vec<StageView> {
    let Some((newest, deployment)) = newest_everywhere(history) else {
        return Vec::new();
    };
    let rollout = rollout(history);
    let staged = |stage: &Stage| {
        let (id, rollout, _) = rollout?;
        let instead = rollout.stages.iter().find(|s| s.stage == stage.stage && !same(s, stage))?;
        let mut activations = began(activations, id);
        activations.retain(|partition, _| rollout.applies_to(*partition));
        Some(Staged { deployment: id, sha256: instead.sha256, params: instead.params.clone(), activations })
    };
    let view = |stage: &Stage| {
        let staged = staged(stage);
        let since = since(history, newest, stage);
        StageView {
            stage: stage.stage.clone(),
            name: stage.name.clone(),
            version: stage.version.clone(),
            sha256: stage.sha256,
            deployment: since,
            activations: {
                let mut began = began(activations, since);
                let elsewhere = staged.as_ref().map(|staged| &staged.activations);
                began.retain(|partition, _| elsewhere.is_none_or(|there| !there.contains_key(partition)));
                began
            },
            params: stage.params.clone(),
            message: history.get(&since).map(|d| d.message.clone()).unwrap_or_default(),
            staged,
        }
    };
    let mut views: Vec<StageView> = deployment.stages.iter().map(view).collect();
    if let Some((id, rollout, _)) = rollout {
        for (at, stage) in rollout.stages.iter().enumerate() {
            if views.iter().any(|view| view.stage == stage.stage) {
                continue;
            }
            let mut activations = began(activations, id);
            activations.retain(|partition, _| rollout.applies_to(*partition));
            let added = StageView {
                stage: stage.stage.clone(),
                name: stage.name.clone(),
                version: stage.version.clone(),
                sha256: stage.sha256,
                deployment: id,
                activations,
                params: stage.params.clone(),
                message: rollout.message.clone(),
                staged: None,
            };
            // Behind the one that it follows there.
            let before = at.checked_sub(1).map(|at| &rollout.stages[at].stage);
            let place = views.iter().position(|view| Some(&view.stage) == before).map_or(0, |at| at + 1);
            views.insert(place, added);
        }
    }
    views
}

/// Everything that was deployed, newest first.
#[must_use]
pub fn deployments(history: &BTreeMap<DeploymentId, Deployment>, activations: &Activations) -> Vec<DeploymentView> {
    let at = |id: DeploymentId| {
        let first = |began: &BTreeMap<Offset, DeploymentId>| {
            began.iter().find(|(_, found)| **found == id).map(|(offset, _)| *offset)
        };
        activations.iter().filter_map(|(partition, all)| Some((*partition, first(all)?))).collect()
    };
    let view = |(id, d): (&DeploymentId, &Deployment)| DeploymentView {
        deployment: *id,
        created_at_ms: d.created_at_ms,
        cause: d.cause,
        message: d.message.clone(),
        partitions: d.partitions.as_ref().map(|only| only.iter().copied().collect()),
        reset_state: d.reset_state,
        stages: d.stages.clone(),
        activations: at(*id),
    };
    history.iter().rev().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(stages: &[(&str, u8)]) -> Deployment {
        let stage = |(name, digest): &(&str, u8)| Stage {
            stage: (*name).to_owned(),
            name: (*name).to_owned(),
            version: "1".to_owned(),
            sha256: ModuleDigest([*digest; 32]),
            params: BTreeMap::new(),
            lookback: Default::default(),
        };
        Deployment {
            stages: stages.iter().map(stage).collect(),
            message: format!("{stages:?}"),
            created_at_ms: 0,
            cause: Cause::Deploy,
            partitions: None,
            reset_state: false,
            config: None,
        }
    }

    #[test]
    fn a_stage_is_the_deployments_that_put_it_there_and_not_the_newest_ones() {
        let history: BTreeMap<_, _> = [
            deployment(&[("a", 1), ("b", 1)]),
            deployment(&[("a", 2), ("b", 1)]),
            deployment(&[("a", 2), ("b", 2)]),
            deployment(&[("a", 1), ("b", 2)]),
        ]
        .into_iter()
        .zip(0..)
        .map(|(d, id)| (DeploymentId(id), d))
        .collect();
        let began = BTreeMap::from([(0, 0), (10, 1), (20, 2), (30, 3)]);
        let began = began.into_iter().map(|(at, id)| (Offset(at), DeploymentId(id))).collect();
        let activations = BTreeMap::from([(PartitionId(0), began)]);
        let views = stages(&history, &activations);
        let short: Vec<_> =
            views.iter().map(|v| (v.stage.as_str(), v.deployment.0, v.activations[&PartitionId(0)].0)).collect();
        assert_eq!(short, [("a", 3, 30), ("b", 2, 20)]);
        assert!(views.iter().all(|view| view.staged.is_none()));
        let (mut history, mut activations) = (history, activations);
        let only = Some([PartitionId(1)].into());
        history.insert(DeploymentId(4), Deployment { partitions: only, ..deployment(&[("a", 9), ("b", 2)]) });
        let there = [(Offset(0), DeploymentId(3)), (Offset(50), DeploymentId(4))];
        activations.insert(PartitionId(1), there.into());
        let views = stages(&history, &activations);
        assert_eq!(views[0].activations.keys().collect::<Vec<_>>(), [&PartitionId(0)]);
        assert_eq!(views[0].staged.as_ref().unwrap().activations[&PartitionId(1)], Offset(50));
        assert!(views[1].staged.is_none() && views[1].activations.len() == 2);
        history.remove(&DeploymentId(4));
        assert_eq!(deployments(&history, &activations)[0].activations[&PartitionId(0)], Offset(30));
    }
}
