//! Changing the chain at an offset: choose it, write it down, go on with the old chain up to there, switch.
//!
//! The offset lies as far ahead as records come while the decision becomes durable, so that none of them waits for the
//! disk. Deployments come from [`crate::targets`]; what a switch leaves behind is in the decisions that replay obeys.

use std::time::{Duration, Instant};

use clickmill_broker::Appended;
use clickmill_schemas::output::Decision;
use clickmill_schemas::{DeploymentId, Generation, Offset};

use super::{Worker, WorkerError};
use crate::chains::ChainError;
use crate::recovery::Activation;

/// Time that a decision is given to become durable while records go on: several of the log's syncs.
const LEAD: Duration = Duration::from_millis(50);
/// A partition without records for this long changes at its next offset at once.
const IDLE: Duration = Duration::from_millis(200);
/// Time over which records are counted for their rate.
const PACE_OVER: Duration = Duration::from_millis(100);

/// Records a second, as they came lately.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    records: u64,
    per_second: f64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, records: 0, per_second: 0.0 }
    }

    pub(super) fn count(&mut self, records: u64, now: Instant) {
        self.records += records;
        let over = now.duration_since(self.since);
        if over >= PACE_OVER {
            self.per_second = self.records as f64 / over.as_secs_f64();
            (self.since, self.records) = (now, 0);
        }
    }

    /// Records that may come within `time`.
    fn within(&self, time: Duration) -> u64 {
        (self.per_second * time.as_secs_f64()) as u64
    }
}

/// Where a deployment takes effect: `ahead` records further on, but not before what is written down already.
fn activation_offset(position: Offset, ahead: u64, written: Option<Offset>) -> Offset {
    position.plus(ahead).max(written.unwrap_or(position))
}

/// A generation as an activation states it.
fn stated(generation: Generation) -> Option<Generation> {
    (generation > Generation(0)).then_some(generation)
}

/// A decision on its way to being durable.
pub(super) struct Announced {
    at: Offset,
    appended: Appended,
}

impl Worker {
    /// Takes up the deployment that is wanted, if it is another one: decides on its offset and writes it down.
    #[inline]
    pub(super) fn follow_target(&mut self) -> Result<(), WorkerError> {
        self.wanted_change().map_or(Ok(()), |wanted| self.change_to(wanted))
    }

    /// A deployment that is wanted, and that this partition is not on the way to.
    #[inline]
    pub(super) fn wanted_change(&self) -> Option<DeploymentId> {
        self.target.wanted().filter(|wanted| *wanted != self.heading && self.refused != Some(*wanted))
    }

    #[cold]
    fn change_to(&mut self, wanted: DeploymentId) -> Result<(), WorkerError> {
        if !self.may_decide() {
            return Ok(());
        }
        let begun = Instant::now();
        let reset = self.shared.registry.chains.begins_generation(self.owner.partition, self.heading, wanted);
        let heading = self.heading_generation();
        let generation = stated(if reset { Generation(heading.0 + 1) } else { heading });
        // Nothing is let through that can be spared: not a record that waits for the disk, nor, where the old module
        // fails, one more that fails.
        let idle = self.last_record.elapsed() >= IDLE || self.shared.registry.targets.paused();
        let ahead = if idle || self.careful > 0 { 0 } else { self.pace.within(LEAD) };
        let activated = self.recovered.decisions.activations.last_key_value().map(|(at, _)| *at);
        let written = activated.max(Some(self.breaker.after_last()));
        let at = activation_offset(self.position, ahead, written);
        self.announce(at, Activation { deployment: wanted, generation })?;
        self.waited = begun.elapsed();
        if at == self.position { self.settle() } else { Ok(()) }
    }

    /// The generation in force once everything that is written down has taken effect.
    fn heading_generation(&self) -> Generation {
        let ahead = self.recovered.decisions.activations.values().filter_map(|a| a.generation);
        ahead.max().unwrap_or_default().max(self.owner.generation)
    }

    fn announce(&mut self, at: Offset, activation: Activation) -> Result<(), WorkerError> {
        if let Some(before) = self.announced.take() {
            before.appended.wait()?;
        }
        let Activation { deployment, generation } = activation;
        let appended = self.append_decision(at, Decision::Activation { deployment, generation })?;
        self.announced = Some(Announced { at, appended });
        self.recovered.decisions.activations.insert(at, activation);
        self.heading = deployment;
        Ok(())
    }

    /// When the stream has stopped short of an activation, it takes effect at once as well: the records that come next
    /// are the new deployment's, whenever they come.
    pub(super) fn hasten_activation(&mut self) -> Result<(), WorkerError> {
        if self.last_record.elapsed() < IDLE || self.heading == self.deployment || !self.may_decide() {
            return Ok(());
        }
        let ahead = self.recovered.decisions.activations.range(self.position.plus(1)..).next_back();
        if let Some(activation) = ahead.map(|(_, activation)| *activation) {
            self.announce(self.position, activation)?;
            self.settle()?;
        }
        Ok(())
    }

    /// The activation that binds at the position, durable by now.
    pub(super) fn binding_activation(&mut self) -> Result<Option<Activation>, WorkerError> {
        let Some(activation) = self.recovered.decisions.activations.get(&self.position).copied() else {
            return Ok(None);
        };
        if let Some(announced) = self.announced.take_if(|announced| announced.at <= self.position) {
            let begun = Instant::now();
            announced.appended.wait()?;
            self.waited += begun.elapsed();
        }
        Ok(Some(activation))
    }

    /// Changes the chain at the position, where it is not in force already.
    pub(super) fn switch_to(&mut self, activation: Activation) -> Result<(), WorkerError> {
        let begins = activation.generation.filter(|generation| *generation > self.owner.generation);
        if activation.deployment == self.deployment && begins.is_none() {
            return Ok(());
        }
        let begun = Instant::now();
        match self.successor(activation.deployment, begins) {
            Ok(()) => {}
            // A module that cannot be read is no verdict on it: the partition stops until it is there again.
            Err(WorkerError::Chain(why @ ChainError::Module { .. })) if self.may_decide() => {
                return self.refuse(activation.deployment, &why);
            }
            Err(e) => return Err(e),
        }
        let pause = begun.elapsed() + std::mem::take(&mut self.waited);
        self.shared.metrics.swapped(self.owner.partition, pause);
        tracing::info!(
            partition = %self.owner.partition, offset = %self.position, deployment = %self.deployment,
            generation = %self.owner.generation, pause_micros = pause.as_micros(), "deployment activated"
        );
        self.publish_deployment();
        Ok(())
    }

    /// Puts a chain of `deployment` in the place of the one in force.
    fn successor(&mut self, deployment: DeploymentId, begins: Option<Generation>) -> Result<(), WorkerError> {
        let chains = &self.shared.registry.chains;
        let mut chain = match self.target.take_ready(deployment) {
            Some(chain) => chain,
            None => chains.build(deployment)?,
        };
        let stages = chains.deployment(deployment)?;
        let failed = |source| ChainError::Module { stage: "state".into(), source };
        // The state after no record is the empty one, whatever module keeps it.
        let untouched = self.ledger.accounted() == 0;
        if begins.is_none() && !untouched {
            chain.succeed(&mut self.chain).map_err(failed)?;
        } else {
            // What was counted so far is closed where it stands; replay finds it committed.
            if begins.is_some() && self.may_decide() {
                self.commit_durably()?;
            }
            if let Some(watermark_ms) = self.chain.watermark() {
                chain.advance(watermark_ms).map_err(|fault| failed(fault.into()))?;
            }
            self.owner.generation = begins.unwrap_or(self.owner.generation);
        }
        self.chain = chain;
        self.stages = stages;
        self.deployment = deployment;
        if begins.is_some() || untouched { self.save_point() } else { Ok(()) }
    }

    /// A deployment that cannot take over is taken back where it was to begin.
    fn refuse(&mut self, refused: DeploymentId, why: &ChainError) -> Result<(), WorkerError> {
        let partition = self.owner.partition;
        tracing::error!(%partition, deployment = %refused, %why, "deployment refused at its offset; the old one goes on");
        let stays = Activation { deployment: self.deployment, generation: stated(self.owner.generation) };
        self.announce(self.position, stays)?;
        self.binding_activation()?;
        self.refused = Some(refused);
        let message = why.to_string();
        self.shared.peers.update(partition, |peer| peer.refused = Some((refused, message)));
        Ok(())
    }

    /// Lets everybody see which deployment is in force, and since which offset.
    pub(super) fn publish_deployment(&self) {
        let (deployment, activations) = (self.deployment, self.activations());
        self.shared.peers.update(self.owner.partition, |peer| {
            peer.deployment = Some(deployment);
            peer.activations = activations;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_is_never_put_before_one_that_is_written_down() {
        let at =
            |position, ahead, written: Option<u64>| activation_offset(Offset(position), ahead, written.map(Offset)).0;
        assert_eq!(at(100, 0, None), 100);
        assert_eq!(at(100, 50, Some(20)), 150);
        assert_eq!(at(100, 50, Some(900)), 900);
        assert_eq!(at(100, 0, Some(100)), 100);
    }

    #[test]
    fn the_pace_follows_what_came_lately() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.within(LEAD), 0);
        (1..=10).for_each(|n| pace.count(1_000, start + n * Duration::from_millis(10)));
        assert_eq!(pace.within(LEAD), 5_000);
        pace.count(0, start + Duration::from_secs(10));
        assert_eq!(pace.within(LEAD), 0);
    }
}
