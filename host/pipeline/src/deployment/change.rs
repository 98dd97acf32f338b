//! From one chain to the next: pure functions of stages and of what was deployed before.
//!
//! Nothing here compiles, reads or writes; whether the new chain can run is `control`'s to find out.

use std::collections::BTreeMap;

use clickmill_schemas::DeploymentId;

use super::{Deployment, Stage};

/// Where a new stage goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where a stage of its name stands; without one it is refused.
    Same,
    Before(String),
    After(String),
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error(
        "there is no stage {stage}; the chain is {chain}. Name the one that it stands for (--stage), or, where it is to be one more, say where: --before or --after a stage"
    )]
    NoSuchStage { stage: String, chain: String },
    #[error("there is no stage {stage} to remove; the chain is {chain}")]
    NoneToRemove { stage: String, chain: String },
    #[error(
        "stage {stage} is one of clickmill.yaml's: take it out of `stages` there; only what was added by a deploy is removed"
    )]
    OfConfig { stage: String },
    #[error("there is no stage {anchor} to put {stage} beside; the chain is {chain}")]
    NoSuchPlace { stage: String, anchor: String, chain: String },
    #[error("stage {stage} is the only one; a chain needs at least one")]
    LastStage { stage: String },
    #[error(
        "there is nothing before deployment {from} to roll back to; `--to ID` names another one, as `clickmill smartmodule history` lists them"
    )]
    NothingBefore { from: DeploymentId },
    #[error("there is no deployment {id}; `clickmill smartmodule history` lists them")]
    Unknown { id: DeploymentId },
}

/// The chain's names in order, for messages.
#[must_use]
pub fn names(stages: &[Stage]) -> String {
    stages.iter().map(|s| s.stage.as_str()).collect::<Vec<_>>().join(", ")
}

/// Puts a stage in the place of the one of its name, or beside another.
///
/// # Errors
/// [`ChangeError`] where there is no such place.
pub fn put(stages: &[Stage], stage: Stage, place: &Place) -> Result<Vec<Stage>, ChangeError> {
    let mut next = stages.to_vec();
    let find = |name: &str| stages.iter().position(|s| s.stage == name);
    let beside = match place {
        Place::Same => None,
        Place::Before(anchor) => Some((anchor, 0)),
        Place::After(anchor) => Some((anchor, 1)),
    };
    let beside = beside.map(|(anchor, after)| find(anchor).map(|at| at + after).ok_or(anchor)).transpose();
    let beside = beside.map_err(|anchor| {
        let (stage, anchor, chain) = (stage.stage.clone(), anchor.clone(), names(stages));
        ChangeError::NoSuchPlace { stage, anchor, chain }
    })?;
    match (find(&stage.stage), beside) {
        // One that is there stays where it is, whatever place a new one would have.
        (Some(at), _) => next[at] = stage,
        (None, Some(at)) => next.insert(at, stage),
        (None, None) => return Err(ChangeError::NoSuchStage { stage: stage.stage, chain: names(stages) }),
    }
    Ok(next)
}

/// Takes a stage out.
///
/// # Errors
/// [`ChangeError`] where there is none of that name, or no other.
pub fn remove(stages: &[Stage], name: &str) -> Result<Vec<Stage>, ChangeError> {
    let next: Vec<_> = stages.iter().filter(|s| s.stage != name).cloned().collect();
    if next.len() == stages.len() {
        return Err(ChangeError::NoneToRemove { stage: name.to_owned(), chain: names(stages) });
    }
    if next.is_empty() {
        return Err(ChangeError::LastStage { stage: name.to_owned() });
    }
    Ok(next)
}

/// The deployment to roll back to: the newest one before `newest` with another chain, or the one that is named.
///
/// A rollback is undone by rolling back to a named deployment: without a name, two of them in a row go back two steps.
///
/// # Errors
/// [`ChangeError`] where there is none.
pub fn rollback_target(
    history: &BTreeMap<DeploymentId, Deployment>,
    to: Option<DeploymentId>,
) -> Result<DeploymentId, ChangeError> {
    if let Some(id) = to {
        return if history.contains_key(&id) { Ok(id) } else { Err(ChangeError::Unknown { id }) };
    }
    let mut at = history.iter().rev().find(|(_, d)| d.partitions.is_none());
    let newest = at.map_or(DeploymentId(0), |(id, _)| *id);
    let stages = at.map(|(_, d)| d.stages.clone()).unwrap_or_default();
    // What is in force may itself be a rollback: then it is its target that is gone back from. Or it may be what a run was
    // filled with, and the same as what judged before it.
    loop {
        at = match at {
            Some((_, Deployment { cause: super::Cause::Rollback { to }, .. })) => history.get_key_value(to),
            Some((id, Deployment { cause: super::Cause::Switch { .. }, .. })) => {
                let before = history.range(..id).rev().find(|(_, d)| d.partitions.is_none());
                match before.filter(|(_, d)| d.stages == stages) {
                    Some(before) => Some(before),
                    None => break,
                }
            }
            _ => break,
        };
    }
    let from = at.map_or(newest, |(id, _)| *id);
    let earlier = history.range(..from).rev().find(|(_, d)| d.stages != stages && d.partitions.is_none());
    earlier.map(|(id, _)| *id).ok_or(ChangeError::NothingBefore { from })
}

/// The chain with `stage` as it was before the deployment `from`; none where it never was another.
#[must_use]
pub fn stage_undone(
    history: &BTreeMap<DeploymentId, Deployment>,
    from: DeploymentId,
    stage: &str,
) -> Option<Vec<Stage>> {
    let of = |d: &Deployment| d.stages.iter().find(|s| s.stage == stage).cloned();
    let current = history.get(&from)?;
    let now = of(current)?;
    let live = history.range(..from).rev().filter(|(_, d)| d.cause != super::Cause::Reprocess);
    let before = live.map(|(_, d)| of(d)).find(|was| was.as_ref() != Some(&now))?;
    let mut stages = current.stages.clone();
    let at = stages.iter().position(|s| s.stage == stage)?;
    match before {
        Some(before) => stages[at] = before,
        None => drop(stages.remove(at)),
    }
    (!stages.is_empty()).then_some(stages)
}

/// The chain in force after clickmill.yaml has changed from `base` to `config`: what the file changes is taken over, and
/// what was deployed beside it stays.
#[must_use]
pub fn merge_config(current: &[Stage], base: &[Stage], config: &[Stage]) -> Vec<Stage> {
    let find = |of: &[Stage], name: &str| of.iter().find(|s| s.stage == name).cloned();
    let mut next: Vec<Stage> = Vec::new();
    for stage in config {
        match (find(current, &stage.stage), find(base, &stage.stage)) {
            // As it was in the file: a deploy or a removal since then is in force.
            (now, Some(was)) if was == *stage => next.extend(now),
            _ => next.push(stage.clone()),
        }
    }
    // Stages that the file never had stand behind the one that they stood behind.
    for (at, stage) in current.iter().enumerate() {
        if find(config, &stage.stage).is_some() || find(base, &stage.stage).is_some() {
            continue;
        }
        let before = current[..at].iter().rev().find_map(|b| next.iter().position(|n| n.stage == b.stage));
        next.insert(before.map_or(0, |at| at + 1), stage.clone());
    }
    next
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::ModuleDigest;

    use super::super::Cause;
    use super::*;

    fn stage(name: &str, digest: u8) -> Stage {
        Stage {
            stage: name.to_owned(),
            name: name.to_owned(),
            version: "1".to_owned(),
            sha256: ModuleDigest([digest; 32]),
            params: BTreeMap::new(),
            lookback: Default::default(),
        }
    }

    fn chain(of: &[(&str, u8)]) -> Vec<Stage> {
        of.iter().map(|(name, digest)| stage(name, *digest)).collect()
    }

    fn history(chains: &[(&[(&str, u8)], Cause)]) -> BTreeMap<DeploymentId, Deployment> {
        let record = |(stages, cause): &(&[(&str, u8)], Cause)| Deployment {
            stages: chain(stages),
            message: String::new(),
            created_at_ms: 0,
            cause: *cause,
            partitions: None,
            reset_state: false,
            config: None,
        };
        chains.iter().enumerate().map(|(id, d)| (DeploymentId(id as u64), record(d))).collect()
    }

    #[test]
    fn a_stage_is_replaced_in_its_place_or_added_beside_another() {
        let now = chain(&[("a", 1), ("b", 1)]);
        assert_eq!(put(&now, stage("b", 2), &Place::Same).unwrap(), chain(&[("a", 1), ("b", 2)]));
        assert_eq!(put(&now, stage("b", 2), &Place::After("a".into())).unwrap(), chain(&[("a", 1), ("b", 2)]));
        let added = put(&now, stage("x", 9), &Place::After("a".into())).unwrap();
        assert_eq!(added, chain(&[("a", 1), ("x", 9), ("b", 1)]));
        assert_eq!(put(&now, stage("x", 9), &Place::Before("a".into())).unwrap()[0], stage("x", 9));
        assert!(matches!(put(&now, stage("x", 9), &Place::Same), Err(ChangeError::NoSuchStage { .. })));
        assert!(matches!(put(&now, stage("x", 9), &Place::After("y".into())), Err(ChangeError::NoSuchPlace { .. })));
        let stays = put(&now, stage("a", 2), &Place::After("b".into())).unwrap();
        assert_eq!(stays, chain(&[("a", 2), ("b", 1)]));
    }

    #[test]
    fn the_last_stage_cannot_be_removed() {
        assert_eq!(remove(&chain(&[("a", 1), ("b", 1)]), "a").unwrap(), chain(&[("b", 1)]));
        assert!(matches!(remove(&chain(&[("a", 1)]), "a"), Err(ChangeError::LastStage { .. })));
        assert!(matches!(remove(&chain(&[("a", 1)]), "z"), Err(ChangeError::NoneToRemove { .. })));
    }

    #[test]
    fn rolling_back_again_goes_one_step_further_back() {
        let deploy = Cause::Deploy;
        let mut all: Vec<(&[(&str, u8)], Cause)> =
            vec![(&[("a", 1)], Cause::Config), (&[("a", 2)], deploy), (&[("a", 3)], deploy)];
        assert_eq!(rollback_target(&history(&all), None), Ok(DeploymentId(1)));
        all.push((&[("a", 2)], Cause::Rollback { to: DeploymentId(1) }));
        assert_eq!(rollback_target(&history(&all), None), Ok(DeploymentId(0)));
        assert_eq!(rollback_target(&history(&all), Some(DeploymentId(2))), Ok(DeploymentId(2)));
        assert_eq!(
            rollback_target(&history(&all), Some(DeploymentId(9))),
            Err(ChangeError::Unknown { id: DeploymentId(9) })
        );
        assert!(rollback_target(&history(&all[..1]), None).is_err());
    }

    #[test]
    fn a_breaker_undoes_one_stage_and_leaves_the_others() {
        let all = history(&[
            (&[("a", 1), ("b", 1)], Cause::Config),
            (&[("a", 2), ("b", 1)], Cause::Deploy),
            (&[("a", 2), ("b", 2)], Cause::Deploy),
            (&[("a", 2), ("x", 7), ("b", 2)], Cause::Deploy),
        ]);
        assert_eq!(stage_undone(&all, DeploymentId(3), "a").unwrap(), chain(&[("a", 1), ("x", 7), ("b", 2)]));
        assert_eq!(stage_undone(&all, DeploymentId(3), "x").unwrap(), chain(&[("a", 2), ("b", 2)]));
        assert_eq!(stage_undone(&all, DeploymentId(0), "a"), None);
    }

    #[test]
    fn what_a_run_is_filled_with_was_never_in_force_before_it_has_switched() {
        let mut all = history(&[
            (&[("a", 1)], Cause::Config),
            (&[("a", 2)], Cause::Deploy),
            (&[("a", 1)], Cause::Rollback { to: DeploymentId(0) }),
            (&[("a", 3)], Cause::Reprocess),
        ]);
        all.get_mut(&DeploymentId(3)).unwrap().partitions = Some(Default::default());
        assert!(rollback_target(&all, None).is_err(), "it was undone, and the run was given up");
        let with = |stages: &[(&str, u8)], cause| {
            let mut all = all.clone();
            all.insert(DeploymentId(4), history(&[(stages, cause)]).remove(&DeploymentId(0)).unwrap());
            all
        };
        let same = with(&[("a", 1)], Cause::Switch { of: DeploymentId(3) });
        assert!(rollback_target(&same, None).is_err(), "judged again by the same chain");
        let other = with(&[("a", 4)], Cause::Switch { of: DeploymentId(3) });
        assert_eq!(rollback_target(&other, None), Ok(DeploymentId(2)));
        let failing = with(&[("a", 4)], Cause::Deploy);
        assert_eq!(stage_undone(&failing, DeploymentId(4), "a").unwrap(), chain(&[("a", 1)]));
    }

    #[test]
    fn the_file_changes_what_it_names_and_leaves_what_was_deployed() {
        let base = chain(&[("a", 1), ("b", 1), ("c", 1)]);
        let deployed = chain(&[("a", 5), ("x", 9), ("b", 1), ("c", 1)]);
        assert_eq!(merge_config(&deployed, &base, &base), deployed, "the file is as it was");
        let newer_b = chain(&[("a", 1), ("b", 2), ("c", 1)]);
        assert_eq!(merge_config(&deployed, &base, &newer_b), chain(&[("a", 5), ("x", 9), ("b", 2), ("c", 1)]));
        let without_c = chain(&[("a", 1), ("b", 1)]);
        assert_eq!(merge_config(&deployed, &base, &without_c), chain(&[("a", 5), ("x", 9), ("b", 1)]));
        let own_a = chain(&[("a", 6), ("b", 1), ("c", 1)]);
        assert_eq!(merge_config(&deployed, &base, &own_a)[0], stage("a", 6));
        let removed = chain(&[("a", 1), ("c", 1)]);
        assert_eq!(merge_config(&removed, &base, &base), removed, "a removal stays");
    }
}
