//! The chain that clickmill.yaml asks for, taken over at a start: checked as a deploy is.

use super::canary::Canary;
use super::control::{Deployer, Options};
use super::request::DeployError;
use super::{Cause, Deployment, Stage, change, newest_everywhere};
use crate::host::StageModule;

impl Deployer {
    /// Takes over the chain that clickmill.yaml asks for, where that has changed since it was last deployed; what was
    /// deployed beside it stays.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub fn follow_config(&self, chain: &[StageModule]) -> Result<(), DeployError> {
        let mut config = Vec::new();
        for StageModule { stage, name, version, manifest, wasm, params, lookback } in chain.iter().cloned() {
            let sha256 = self.registry.chains.modules.put(&wasm, manifest.as_deref())?;
            config.push(Stage { stage, name, version, sha256, params, lookback });
        }
        let turn = self.registry.try_turn().ok_or(DeployError::Busy)?;
        let history = self.history();
        let before = newest_everywhere(&history);
        let (stages, message) = match before {
            None => (config.clone(), "first start"),
            Some((_, newest)) if newest.config_stages() == config => return Ok(()),
            Some((_, newest)) => {
                let stages = change::merge_config(&newest.stages, newest.config_stages(), &config);
                (stages, "clickmill.yaml or the program's modules have changed")
            }
        };
        let live = self.registry.chains.live(None);
        live.chain(&stages).map_err(DeployError::Refused)?;
        let old = before.map(|(_, newest)| newest.stages.as_slice()).unwrap_or_default();
        self.states((old, &stages), &Options::default(), &live)?;
        if !old.is_empty() {
            tracing::info!("the chain has changed: it is tried on the newest records before it takes over");
            self.canary(None, old, &stages)?.as_ref().map_or(Ok(()), Canary::passes)?;
        }
        let created_at_ms = self.clock.now_ms();
        let deployment = Deployment {
            stages,
            message: message.to_owned(),
            created_at_ms,
            cause: Cause::Config,
            partitions: None,
            reset_state: false,
            config: Some(config),
        };
        self.registry.install(&turn, deployment).map_err(DeployError::Refused)?;
        Ok(())
    }
}
