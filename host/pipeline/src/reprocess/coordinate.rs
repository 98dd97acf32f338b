//! Watches a run that is being filled, and lets it take the live one's place.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clickmill_broker::Broker;

use super::{Plan, ReprocessError};
use crate::clock::Clock;
use crate::crew::Crew;
use crate::deployment::control::DeployError;
use crate::peers::WorkerState;
use crate::runs;

/// Between two looks at the workers.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time that the live workers stand still for what the new ones have yet to judge.
const STAND_STILL: Duration = Duration::from_secs(5);

pub(super) struct Coordinator {
    pub plan: Plan,
    pub live: Arc<Crew>,
    pub crew: Arc<Crew>,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub data_dir: PathBuf,
    /// None while it tries.
    pub outcome: Arc<Mutex<Option<Result<(), String>>>>,
    pub stop: Arc<AtomicBool>,
}

impl Coordinator {
    pub(super) fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let ended = match self.failure() {
                Some(why) => Some(Err(why)),
                None if self.is_level() => {
                    let done = self.switch().transpose().map(|done| done.map_err(|e| e.to_string()));
                    if done.is_none() {
                        // The live workers are not made to stand still again at once.
                        self.rest();
                    }
                    done
                }
                None => None,
            };
            if let Some(ended) = ended {
                match &ended {
                    Ok(()) => tracing::info!(run = %self.plan.run, "readers take the new run"),
                    Err(why) => tracing::error!(run = %self.plan.run, %why, "the run beside the live one has failed"),
                }
                *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn rest(&self) {
        let begun = Instant::now();
        while begun.elapsed() < STAND_STILL && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
    }

    /// What a person must look at.
    fn failure(&self) -> Option<String> {
        self.crew.shared.peers.snapshot().into_iter().find_map(|peer| match (peer.state, peer.refused) {
            (WorkerState::Failed(why), _) => Some(format!("partition {}: {why}", peer.partition)),
            (_, Some((_, why))) => Some(format!("partition {}: {why}", peer.partition)),
            _ => None,
        })
    }

    /// Whether each partition has judged what the live one has committed.
    fn is_level(&self) -> bool {
        let (live, new) = (self.live.shared.peers.snapshot(), self.crew.shared.peers.snapshot());
        let differs = |peer: &crate::peers::Peer| {
            let from = self.plan.from.get(&peer.partition).copied().unwrap_or_default();
            peer.position >= from && peer.deployment >= Some(self.plan.of)
        };
        new.iter().all(differs) && live.iter().zip(&new).all(|(live, new)| new.position >= live.committed)
    }

    /// Puts the new run in the place of the live one. None: not this time.
    fn switch(&self) -> Result<Option<()>, ReprocessError> {
        let registry = &self.live.shared.registry;
        let Some(turn) = registry.try_turn() else { return Ok(None) };
        // Held to the end: nobody stops or adds workers meanwhile.
        let mut threads = self.live.threads();
        if self.live.is_closing() {
            return Ok(None);
        }
        self.live.halt(&mut threads);
        let begun = Instant::now();
        let behind = || {
            let (live, new) = (self.live.shared.peers.snapshot(), self.crew.shared.peers.snapshot());
            live.iter().zip(&new).any(|(live, new)| new.position < live.committed)
        };
        let stopped = || self.stop.load(Ordering::Relaxed) || self.failure().is_some();
        while behind() && begun.elapsed() < STAND_STILL && !stopped() {
            std::thread::sleep(LOOK / 4);
        }
        let partitions = registry.partitions();
        let lacks = self.plan.from.len() != partitions as usize;
        if behind() || lacks {
            self.live.start(&mut threads, 0..partitions)?;
            return if lacks { Err(ReprocessError::Partitions) } else { Ok(None) };
        }
        self.crew.stop();
        let (live, new) = (self.live.shared.peers.snapshot(), self.crew.shared.peers.snapshot());
        if live.iter().zip(&new).any(|(live, new)| new.committed < live.committed) {
            self.live.start(&mut threads, 0..partitions)?;
            return Err(ReprocessError::NotCommitted);
        }
        let replaced = self.live.run();
        let switched = runs::switch_to(&*self.broker, self.plan.run, self.plan.of, self.clock.now_ms());
        // Whatever comes of the rest, the workers go on with the run that readers take.
        if switched.is_ok() {
            self.live.take_over(self.plan.run);
        }
        let settled = switched.map_err(ReprocessError::from).and_then(|_| {
            self.live.shared.peers.floors.forget(replaced);
            let kept = [runs::folder(&self.data_dir, self.live.topic, self.plan.run)];
            runs::settle(&self.data_dir, &kept)?;
            registry.take_up(&turn, self.plan.of, self.clock.now_ms()).map_err(DeployError::Refused)?;
            Ok(())
        });
        self.live.start(&mut threads, 0..partitions)?;
        settled.map(Some)
    }
}
