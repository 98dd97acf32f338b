//! What a deploy looks like on the wire: the body of `POST /api/smartmodules`, which the CLI makes of its flags too.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clickmill_engine::manifest::{Manifest, ParamProblem};
use clickmill_schemas::{ModuleDigest, PartitionId};
use serde::{Deserialize, Serialize};

use super::change::Place;
use super::control::{Candidate, Options, Request};
use super::{LookBack, Stage};

/// A deploy, or the plan of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployBody {
    /// The stage to replace or to add; by default the name in the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The module in base64; without it the one in force stays, and its parameters change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasm: Option<String>,
    /// The text of its SmartModule.toml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// A stage that is new goes in front of this one,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// or behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Parameters to set; the others that the stage has stay.
    pub params: BTreeMap<String, String>,
    /// Parameters to go back to their defaults.
    pub unset_params: Vec<String>,
    /// How far the stage looks back; without it, as far as it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookback: Option<LookBack>,
    pub message: String,
    /// Only to these partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<BTreeSet<PartitionId>>,
    pub reset_state: bool,
    /// Say what would change, and change nothing.
    pub plan: bool,
}

/// A body that says no deploy.
#[derive(Debug, thiserror::Error)]
pub enum BadBody {
    #[error("name the stage: there is no manifest that names the module")]
    NoStage,
    #[error("a stage's name has letters, digits, `-`, `_` or `.`, 64 at most, and {0:?} is none")]
    StageName(String),
    #[error("there is no stage {stage} to change the parameters of; the chain is {chain}. Give a module to add one")]
    NoModule { stage: String, chain: String },
    #[error("`before` and `after` are both given; one of them says where the stage goes")]
    TwoPlaces,
    #[error("`wasm` is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("SmartModule.toml: {0}")]
    Manifest(String),
    #[error("{0}")]
    Params(String),
    #[error("stage {stage} has no parameter {name} to take away; it has {}", list(known))]
    NotSet { stage: String, name: String, known: BTreeSet<String> },
    #[error("no partition is named")]
    NoPartitions,
}

fn list(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// Longest name of a stage.
const MAX_NAME: usize = 64;

/// Whether a stage may be called so.
#[must_use]
pub fn is_stage_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(sound)
}

impl DeployBody {
    /// Puts a module into the body.
    pub fn set_wasm(&mut self, wasm: &[u8]) {
        self.wasm = Some(STANDARD.encode(wasm));
    }

    /// SHA-256 of the module in it; none where there is none, or no base64.
    #[must_use]
    pub fn digest(&self) -> Option<ModuleDigest> {
        Some(super::digest(&STANDARD.decode(self.wasm.as_ref()?).ok()?))
    }

    /// The deploy that it asks for. `stages` is the chain in force, `module` gives the bytes of one of its modules.
    ///
    /// # Errors
    /// [`BadBody`], or the one of `module`.
    pub fn request<E: From<BadBody>>(
        self,
        stages: &[Stage],
        module: impl FnOnce(&Stage) -> Result<Vec<u8>, E>,
    ) -> Result<(Request, Options), E> {
        let manifest = self.manifest.as_deref().map(Manifest::parse).transpose();
        let manifest = manifest.map_err(|e| BadBody::Manifest(e.to_string()))?;
        let stage = self.stage.or_else(|| Some(manifest.as_ref()?.name.clone())).ok_or(BadBody::NoStage)?;
        if !is_stage_name(&stage) {
            return Err(BadBody::StageName(stage).into());
        }
        let place = match (self.before, self.after) {
            (None, None) => Place::Same,
            (Some(anchor), None) => Place::Before(anchor),
            (None, Some(anchor)) => Place::After(anchor),
            (Some(_), Some(_)) => return Err(BadBody::TwoPlaces.into()),
        };
        if self.partitions.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(BadBody::NoPartitions.into());
        }
        let current = stages.iter().find(|s| s.stage == stage);
        let (wasm, name, version) = match (&self.wasm, current) {
            (Some(text), _) => {
                let said = manifest.as_ref().map(|said| (said.name.clone(), said.version.clone()));
                let (name, version) = said.unwrap_or_else(|| (stage.clone(), String::new()));
                (STANDARD.decode(text).map_err(BadBody::Base64)?, name, version)
            }
            (None, Some(current)) => (module(current)?, current.name.clone(), current.version.clone()),
            (None, None) => {
                return Err(BadBody::NoModule { stage, chain: super::change::names(stages) }.into());
            }
        };
        let mut params = current.map(|s| s.params.clone()).unwrap_or_default();
        let declared = manifest.iter().flat_map(|said| said.params.iter().map(|param| param.name.clone()));
        let known: BTreeSet<String> = params.keys().cloned().chain(declared).collect();
        if let Some(name) = self.unset_params.iter().find(|name| !known.contains(*name)) {
            return Err(BadBody::NotSet { stage, name: name.clone(), known }.into());
        }
        self.unset_params.iter().for_each(|name| drop(params.remove(name)));
        let kept: BTreeSet<String> = params.keys().filter(|name| !self.params.contains_key(*name)).cloned().collect();
        params.extend(self.params);
        if let Some(Err(problems)) = manifest.as_ref().map(|said| said.check_params(&params)) {
            let say = |problem: &ParamProblem| match kept.contains(problem.name()) {
                true => format!("{problem} (the stage has it now; `--unset-param {}` takes it away)", problem.name()),
                false => problem.to_string(),
            };
            return Err(BadBody::Params(problems.iter().map(say).collect::<Vec<_>>().join("; ")).into());
        }
        let lookback = self.lookback.or(current.map(|s| s.lookback)).unwrap_or_default();
        let candidate = Candidate { stage, place, name, version, manifest: self.manifest, wasm, params, lookback };
        let options = Options { message: self.message, partitions: self.partitions, reset_state: self.reset_state };
        Ok((Request::Deploy(Box::new(candidate)), options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<Stage> {
        vec![Stage {
            stage: "validate".into(),
            name: "validate".into(),
            version: "1".into(),
            sha256: ModuleDigest([1; 32]),
            params: BTreeMap::from([("date_from".into(), "2014-10-21".into())]),
            lookback: LookBack::default(),
        }]
    }

    fn request(body: DeployBody) -> Result<(Candidate, Options), BadBody> {
        let (request, options) = body.request::<BadBody>(&chain(), |_| Ok(b"in force".to_vec()))?;
        match request {
            Request::Deploy(candidate) => Ok((*candidate, options)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_module_the_one_in_force_gets_other_parameters() {
        let params = BTreeMap::from([("date_to".to_owned(), "2014-10-30".to_owned())]);
        let unset_params = vec!["date_from".to_owned()];
        let stage = Some("validate".into());
        let body = DeployBody { stage, params: params.clone(), unset_params, ..DeployBody::default() };
        let (candidate, _) = request(body).unwrap();
        assert_eq!((candidate.wasm.as_slice(), candidate.params), (b"in force".as_slice(), params));
        let unknown = DeployBody { stage: Some("x".into()), ..DeployBody::default() };
        assert!(request(unknown).unwrap_err().to_string().contains("the chain is validate"));
    }

    #[test]
    fn a_new_module_keeps_the_parameters_of_its_stage_unless_told_others() {
        let mut body = DeployBody { stage: Some("validate".into()), ..DeployBody::default() };
        body.set_wasm(b"\0asm");
        let (candidate, _) = request(body).unwrap();
        assert_eq!((candidate.wasm.as_slice(), candidate.params.len()), (b"\0asm".as_slice(), 1));
    }

    #[test]
    fn a_manifest_names_the_module_and_its_parameters() {
        let manifest = "[package]\nname = \"mask\"\nversion = \"0.2.0\"\n[[params]]\nname = \"salt\"\n";
        let with = |params: &[&str], manifest: &str| {
            let params = params.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            let mut body = DeployBody { manifest: Some(manifest.into()), params, ..DeployBody::default() };
            body.set_wasm(b"\0asm");
            request(body).map_err(|e| e.to_string())
        };
        let (candidate, _) = with(&["salt"], manifest).unwrap();
        assert_eq!([candidate.stage, candidate.name, candidate.version], ["mask", "mask", "0.2.0"]);
        assert_eq!(
            with(&["slat"], manifest).unwrap_err(),
            "there is no parameter \"slat\"; did you mean \"salt\"?; the parameter \"salt\" is missing"
        );
        assert!(with(&[], "[package]\nname = 1").unwrap_err().starts_with("SmartModule.toml: line 2, column 8: "));
        let takes_over = manifest.replace("mask", "validate");
        let said = with(&["salt"], &takes_over).unwrap_err();
        assert!(said.contains("`--unset-param date_from`"), "of the stage that is there: {said}");
    }

    #[test]
    fn what_says_no_deploy_is_refused_with_the_reason() {
        let named = |stage: &str| DeployBody { stage: Some(stage.into()), ..DeployBody::default() };
        assert!(matches!(request(DeployBody::default()), Err(BadBody::NoStage)));
        assert!(matches!(request(named("a b")), Err(BadBody::StageName(_))));
        assert!(matches!(request(named("../x")), Err(BadBody::StageName(_))));
        let both = DeployBody { before: Some("a".into()), after: Some("b".into()), ..named("validate") };
        assert!(matches!(request(both), Err(BadBody::TwoPlaces)));
        let bad = DeployBody { wasm: Some("%%%".into()), ..named("validate") };
        assert!(matches!(request(bad), Err(BadBody::Base64(_))));
        let nowhere = DeployBody { partitions: Some(BTreeSet::new()), ..named("validate") };
        assert!(matches!(request(nowhere), Err(BadBody::NoPartitions)));
    }
}
