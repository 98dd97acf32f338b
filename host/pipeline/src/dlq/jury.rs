//! The modules that letters are tried with: those in force, or a chain that is not deployed. Kept from one to the next.

use std::sync::Arc;

use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::dlq::Letter;
use clickmill_schemas::{DeploymentId, PartitionId};

use super::DlqError;
use super::trial::{Objection, Trial};
use crate::chains::ChainError;
use crate::deployment::control::{Deployer, Options, Request};
use crate::deployment::wanted::wanted;

/// Where lines go that are sent: they were in no partition.
const LINES: PartitionId = PartitionId(0);

/// Whether time is over for a module that takes too long.
pub(super) type Over = Arc<dyn Fn() -> bool + Send + Sync>;

/// A letter with the bytes that are judged, and sent.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub letter: Letter,
    pub bytes: Vec<u8>,
}

/// Where a letter's retries go.
pub(super) fn partition_of(letter: &Letter) -> PartitionId {
    match letter.letter.origin {
        Origin::Record { partition, .. } => partition,
        Origin::Line { .. } => LINES,
    }
}

/// The deployment that will judge a letter; none before there is any.
pub(super) fn deployment_of(deployer: &Deployer, letter: &Letter) -> Option<DeploymentId> {
    let registry = &deployer.registry;
    registry.targets.of(partition_of(letter)).wanted().or_else(|| registry.chains.newest())
}

pub(super) struct Jury<'a> {
    deployer: &'a Deployer,
    over: Over,
    /// It judges all, where there is one.
    candidate: Option<Trial>,
    deployed: Option<(DeploymentId, Trial)>,
}

impl<'a> Jury<'a> {
    /// `with`: the chain as this would make it, in the place of the one in force.
    pub(super) fn new(deployer: &'a Deployer, with: Option<&Request>, over: Over) -> Result<Self, DlqError> {
        let mut jury = Self { deployer, over, candidate: None, deployed: None };
        if let Some(request) = with {
            let registry = &deployer.registry;
            let wanted = wanted(&deployer.history(), registry.partitions(), request, &Options::default())?;
            let wasm = wanted.candidate.as_ref().map(|candidate| candidate.wasm.as_slice());
            let over = jury.over.clone();
            jury.candidate = Some(Trial::new(&registry.chains.live(wasm), &wanted.stages, move || over())?);
        }
        Ok(jury)
    }

    /// Tells of each letter, in their order, what the modules object to.
    pub(super) fn judge(
        &mut self,
        letters: &[Payload],
        now_ms: i64,
        tell: &mut dyn FnMut(&Letter, Option<Objection>),
    ) -> Result<(), DlqError> {
        let of = |p: &Payload| deployment_of(self.deployer, &p.letter);
        for group in letters.chunk_by(|a, b| of(a) == of(b)) {
            let deployment = group.first().and_then(of).ok_or(DlqError::NothingDeployed)?;
            let payloads: Vec<&[u8]> = group.iter().map(|p| p.bytes.as_slice()).collect();
            if self.candidate.is_none() && self.deployed.as_ref().is_none_or(|(of, _)| *of != deployment) {
                let (chains, over) = (&self.deployer.registry.chains, self.over.clone());
                let stages = chains.deployment(deployment).map_err(ChainError::from)?.stages;
                self.deployed = Some((deployment, Trial::new(&chains.live(None), &stages, move || over())?));
            }
            let deployed = self.deployed.as_mut().map(|(_, trial)| trial);
            let trial = self.candidate.as_mut().or(deployed).ok_or(DlqError::NothingDeployed)?;
            let told = trial.judge(&payloads, now_ms)?;
            if told.len() < group.len() {
                return Err(DlqError::TooSlow);
            }
            group.iter().zip(told).for_each(|(p, objection)| tell(&p.letter, objection));
        }
        Ok(())
    }
}
