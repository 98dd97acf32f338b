//! What a deploy would do: differences of chains, what becomes of the state, what the canary saw. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::{DeploymentId, ModuleDigest, PartitionId};
use serde::{Deserialize, Serialize};

use super::Stage;
use super::canary::Canary;

/// What would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `false`: the chain is in force as it is asked for, and nothing would be deployed.
    pub changes: bool,
    /// The deployment that it would replace.
    pub base: DeploymentId,
    pub stages: Vec<StageChange>,
    pub state: Vec<StateChange>,
    /// The state begins empty, in a new generation: what was counted stays and adds up.
    pub reset_state: bool,
    /// Only there; none: everywhere.
    pub partitions: Option<BTreeSet<PartitionId>>,
    pub canary: Option<Canary>,
}

/// A stage before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageChange {
    pub stage: String,
    pub change: Change,
    pub old: Option<ModuleOf>,
    pub new: Option<ModuleOf>,
    /// Parameters that differ.
    pub params: Vec<ParamChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Replaced,
    Removed,
    Unchanged,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleOf {
    pub name: String,
    pub version: String,
    pub sha256: ModuleDigest,
}

/// A parameter before and after; none where it is not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamChange {
    pub name: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// What becomes of a stage's state in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    pub stage: String,
    pub partition: PartitionId,
    pub verdict: StateVerdict,
    /// Version of the state that is there.
    pub from_version: i32,
    /// Version that the new module writes.
    pub to_version: Option<i32>,
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateVerdict {
    /// Read and written in the same version.
    Compatible,
    /// Read in an older version, written in a newer one.
    Migrated,
    /// Left behind in its generation.
    Reset,
}

/// The stages of both chains, in the order of the new one; removed ones stand where they stood.
#[must_use]
pub fn stage_changes(old: &[Stage], new: &[Stage]) -> Vec<StageChange> {
    let find = |of: &[Stage], name: &str| of.iter().find(|s| s.stage == name).cloned();
    let mut changes: Vec<StageChange> = Vec::new();
    for stage in new {
        changes.push(change(find(old, &stage.stage).as_ref(), Some(stage)));
    }
    for (at, stage) in old.iter().enumerate().filter(|(_, s)| find(new, &s.stage).is_none()) {
        let before = old[..at].iter().rev().find_map(|b| changes.iter().position(|c| c.stage == b.stage));
        changes.insert(before.map_or(0, |at| at + 1), change(Some(stage), None));
    }
    changes
}

fn change(old: Option<&Stage>, new: Option<&Stage>) -> StageChange {
    let module = |s: &Stage| ModuleOf { name: s.name.clone(), version: s.version.clone(), sha256: s.sha256 };
    let none = BTreeMap::new();
    let (was, is) = (old.map_or(&none, |s| &s.params), new.map_or(&none, |s| &s.params));
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let mut params: Vec<_> = names
        .into_iter()
        .filter(|name| was.get(*name) != is.get(*name))
        .map(|name| ParamChange { name: name.clone(), old: was.get(name).cloned(), new: is.get(name).cloned() })
        .collect();
    // Shown among them: it changes what a module makes of a record as they do.
    let looks = |s: Option<&Stage>| s.map(|s| s.lookback).filter(|lookback| !lookback.is_none());
    if looks(old) != looks(new) {
        let words = |s| looks(s).map(|lookback| lookback.to_string());
        params.push(ParamChange { name: "(lookback)".to_owned(), old: words(old), new: words(new) });
    }
    let change = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(old), Some(new)) if same(old, new) => Change::Unchanged,
        _ => Change::Replaced,
    };
    let stage = new.or(old).map(|s| s.stage.clone()).unwrap_or_default();
    StageChange { stage, change, old: old.map(module), new: new.map(module), params }
}

/// Whether both judge alike: name and version are words for people.
#[must_use]
pub fn same(a: &Stage, b: &Stage) -> bool {
    a.stage == b.stage && a.sha256 == b.sha256 && a.params == b.params && a.lookback == b.lookback
}

/// Whether both chains judge alike.
#[must_use]
pub fn same_chain(a: &[Stage], b: &[Stage]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, digest: u8, params: &[(&str, &str)]) -> Stage {
        Stage {
            stage: name.to_owned(),
            name: name.to_owned(),
            version: "1".to_owned(),
            sha256: ModuleDigest([digest; 32]),
            params: params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            lookback: Default::default(),
        }
    }

    #[test]
    fn a_plan_names_what_is_added_replaced_and_removed_in_its_place() {
        let old = [stage("a", 1, &[("x", "1")]), stage("gone", 1, &[]), stage("b", 1, &[])];
        let new = [stage("a", 1, &[("x", "2"), ("y", "3")]), stage("b", 1, &[]), stage("c", 1, &[])];
        let changes = stage_changes(&old, &new);
        let short: Vec<_> = changes.iter().map(|c| (c.stage.as_str(), c.change)).collect();
        let expected =
            [("a", Change::Replaced), ("gone", Change::Removed), ("b", Change::Unchanged), ("c", Change::Added)];
        assert_eq!(short, expected);
        let params: Vec<_> = changes[0].params.iter().map(|p| (p.name.as_str(), p.old.as_deref())).collect();
        assert_eq!(params, [("x", Some("1")), ("y", None)]);
        assert!(same_chain(&old, &old) && !same_chain(&old, &new));
    }
}
