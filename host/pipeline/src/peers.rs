//! What workers of one process let each other and the host see: positions, watermarks, states.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::output::{Body, Commit, Output};
use clickmill_schemas::{DeploymentId, Epoch, Offset, PartitionId, RunId};

use crate::checkpoint::OutputEnds;
use crate::idle::Neighbour;
use crate::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};

/// How a worker fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Reads the checkpoint and what came after it.
    Recovering,
    Running,
    /// Stands still until the pipeline is resumed.
    Paused,
    /// Waits for what may pass, a full disk for one, and then recovers.
    Retrying(String),
    /// Stopped for a reason that a person must mend.
    Failed(String),
    Stopped,
}

/// One worker, seen from outside.
#[derive(Clone, Debug)]
pub struct Peer {
    pub partition: PartitionId,
    pub state: WorkerState,
    pub epoch: Epoch,
    /// Everything below has been through the chain.
    pub position: Offset,
    /// Everything below is in the output topics and in a checkpoint.
    pub committed: Offset,
    pub watermark_ms: Option<i64>,
    /// What judges its records.
    pub deployment: Option<DeploymentId>,
    /// Where each deployment began to judge it.
    pub activations: BTreeMap<Offset, DeploymentId>,
    /// The deployment that could not take over here, and why.
    pub refused: Option<(DeploymentId, String)>,
    /// When it last had a record.
    pub last_record: Instant,
    /// The commit of this process that everybody can read last; none before the first.
    pub newest: Option<Arc<NewestCommit>>,
}

/// A commit as `ctr_windows` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestCommit {
    pub run: RunId,
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub commit: Commit,
}

impl NewestCommit {
    pub(crate) fn of(output: &Output) -> Option<Self> {
        let Output { stamp, body: Body::Commit(commit) } = output else { return None };
        Some(Self { run: stamp.run, partition: stamp.partition, epoch: stamp.epoch, commit: commit.clone() })
    }
}

/// What recovery may still need: the oldest kept checkpoint of each run's partitions. Two runs while a topic is judged again.
#[derive(Debug, Default)]
pub(crate) struct Floors(Mutex<BTreeMap<(RunId, PartitionId), (Offset, OutputEnds)>>);

impl Floors {
    /// Takes in a floor, and tells the broker the least of all.
    pub(crate) fn set(&self, broker: &dyn Broker, (run, partition): (RunId, PartitionId), floor: (Offset, OutputEnds)) {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        floors.insert((run, partition), floor);
        Self::tell(&floors, broker, partition);
    }

    fn tell(
        floors: &BTreeMap<(RunId, PartitionId), (Offset, OutputEnds)>,
        broker: &dyn Broker,
        partition: PartitionId,
    ) {
        let of_it = floors.iter().filter(|((_, p), _)| *p == partition).map(|(_, (offset, _))| *offset);
        broker.keep_from(&TopicPartition::new(AD_EVENTS_RAW, partition), of_it.min().unwrap_or_default());
        let least = |of: fn(&OutputEnds) -> Offset| floors.values().map(|(_, ends)| of(ends)).min().unwrap_or_default();
        broker.keep_from(&TopicPartition::new(CTR_WINDOWS, PartitionId(0)), least(|ends| ends.windows));
        broker.keep_from(&TopicPartition::new(AD_EVENTS_ERROR, PartitionId(0)), least(|ends| ends.errors));
    }

    /// A run that needs all of these partitions, from their beginning.
    pub(crate) fn hold(&self, broker: &dyn Broker, run: RunId, partitions: std::ops::Range<u32>) {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions.map(PartitionId) {
            floors.entry((run, partition)).or_default();
            Self::tell(&floors, broker, partition);
        }
    }

    /// Forgets a run that is no more.
    pub(crate) fn forget(&self, run: RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| *of != run);
    }
}

/// All workers of a run in this process.
#[derive(Debug)]
pub struct Peers {
    peers: Mutex<Vec<Peer>>,
    pub(crate) floors: Arc<Floors>,
}

impl Peers {
    pub(crate) fn new(partitions: u32, floors: Arc<Floors>) -> Self {
        let peers = Self { peers: Mutex::default(), floors };
        peers.grow(partitions);
        peers
    }

    /// Adds those of new partitions.
    pub(crate) fn grow(&self, partitions: u32) {
        let peer = |p| Peer {
            partition: PartitionId(p),
            state: WorkerState::Recovering,
            epoch: Epoch(0),
            position: Offset(0),
            committed: Offset(0),
            watermark_ms: None,
            deployment: None,
            activations: BTreeMap::new(),
            refused: None,
            last_record: Instant::now(),
            newest: None,
        };
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        peers.extend((known..partitions).map(peer));
    }

    /// All workers as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Peer> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest commit of each partition that has had one in this process.
    #[must_use]
    pub fn newest_commits(&self) -> Vec<Arc<NewestCommit>> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().filter_map(|peer| peer.newest.clone()).collect()
    }

    pub(crate) fn update(&self, partition: PartitionId, change: impl FnOnce(&mut Peer)) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get_mut(partition.0 as usize) {
            change(peer);
        }
    }

    /// The other partitions, for the decision on idle ones.
    pub(crate) fn neighbours(&self, partition: PartitionId) -> Vec<Neighbour> {
        let quiet = |peer: &Peer| -> Duration { peer.last_record.elapsed() };
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let others = peers.iter().filter(|p| p.partition != partition);
        others.map(|p| Neighbour { watermark_ms: p.watermark_ms, quiet_for: quiet(p) }).collect()
    }
}
