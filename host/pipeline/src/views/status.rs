//! Where everything is: the newest commit of each partition, the log's ends, the modules in force.
//!
//! `produced` is taken from the log, never from a worker's counters: offsets are dense from 0, so a log that ends at an
//! offset was given that many records. The fates are what the workers say; that both agree is what status shows.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_broker::{Broker, Ends, StoredBatch, TopicInfo, TopicPartition, TopicSpec};
use clickmill_schemas::merge::WindowRecord;
use clickmill_schemas::output::{Body, Commit, Ledger};
use clickmill_schemas::partial;
use clickmill_schemas::{Epoch, ModuleDigest, Offset, PartitionId, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scan::{scan, visit_batch};
use super::{BadRecord, ViewError};
use crate::deployment::Deployment;
use crate::runs;
use crate::topics::{AD_EVENTS_RAW, CTR_WINDOWS, DEPLOYMENTS};

/// Batches of `ctr_windows` that are read back at most to find who owns the partitions, once each has a commit.
const TAIL_BATCHES: usize = 256;

/// Whether a host works on the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Running,
    Stopped,
}

/// What became of the produced records: `produced = counted + rejected + late + dropped + waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    /// Records that the log was ever given.
    pub produced: u64,
    #[serde(flatten)]
    pub fates: Ledger,
    /// Records at or behind the processed offsets: they have no fate yet.
    pub waiting: u64,
}

impl LedgerView {
    /// Whether every record of the committed prefix has exactly one fate.
    #[must_use]
    pub const fn balances(&self) -> bool {
        self.produced == self.fates.accounted() + self.waiting
    }
}

/// The newest commit of each partition, and the epoch that it was made in.
pub type Newest = BTreeMap<PartitionId, (Epoch, Commit)>;

/// One partition of the input topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    pub topic: String,
    pub partition: PartitionId,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
    /// Exclusive end of what has its fate and its results in the output topics.
    pub processed_offset: Offset,
    pub lag: u64,
    pub watermark_ms: Option<i64>,
    pub closed_before_ms: Option<i64>,
    pub epoch: Option<Epoch>,
    /// Wall clock of the newest commit.
    pub committed_at_ms: Option<i64>,
    pub ledger: LedgerView,
}

/// One topic, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicView {
    pub topic: String,
    /// Of this topic alone: one that is made anew under its name has another.
    pub id: RunId,
    pub compacted: bool,
    /// What retention lets go of; without limits, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_max_age_hours: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_max_bytes: Option<u64>,
    pub partitions: Vec<TopicPartitionView>,
}

/// The ends of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPartitionView {
    pub partition: PartitionId,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
}

/// A module in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleView {
    pub stage: String,
    pub name: String,
    pub version: String,
    pub sha256: ModuleDigest,
}

/// What `clickmill status --output json` and `/api/status` give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub state: RunState,
    /// Why the workers stand still, if they do.
    #[serde(default)]
    pub paused: Option<String>,
    /// None before the topics exist.
    pub run: Option<RunId>,
    pub ledger: LedgerView,
    pub partitions: Vec<PartitionView>,
    pub modules: Vec<ModuleView>,
    /// As the sinks describe themselves; empty where no host runs.
    pub sinks: Vec<Value>,
    pub topics: Vec<TopicView>,
}

/// Reads the status; `sinks` is what a running host adds.
///
/// # Errors
/// [`ViewError`] where a topic cannot be read.
pub fn status(broker: &dyn Broker, state: RunState, sinks: Vec<Value>) -> Result<Status, ViewError> {
    let modules = modules(broker)?;
    let run = runs::current(broker)?;
    let commits = run.map(|run| Ok::<_, ViewError>((run, newest_commits(broker, run)?))).transpose()?;
    assemble(broker, state, sinks, modules, commits.as_ref().map(|(run, commits)| (*run, commits)))
}

/// Puts the status of these commits and modules together; none of either before the topics exist.
pub(super) fn assemble(
    broker: &dyn Broker,
    state: RunState,
    sinks: Vec<Value>,
    modules: Vec<ModuleView>,
    commits: Option<(RunId, &Newest)>,
) -> Result<Status, ViewError> {
    let mut status = Status {
        state,
        paused: None,
        run: commits.map(|(run, _)| run),
        ledger: LedgerView::default(),
        partitions: Vec::new(),
        modules,
        sinks,
        topics: topics(broker)?,
    };
    if let (Some((_, commits)), Some(input)) = (commits, broker.topic(AD_EVENTS_RAW)?) {
        for partition in (0..input.spec.partitions).map(PartitionId) {
            // Asked for after the commits: before them, a commit could seem to be ahead of a log that has grown since.
            let ends = broker.ends(&TopicPartition::new(AD_EVENTS_RAW, partition))?;
            let view = partition_view(partition, ends, commits.get(&partition));
            status.ledger.produced += view.ledger.produced;
            status.ledger.fates.add(&view.ledger.fates);
            status.ledger.waiting += view.ledger.waiting;
            status.partitions.push(view);
        }
    }
    Ok(status)
}

fn partition_view(partition: PartitionId, ends: Ends, newest: Option<&(Epoch, Commit)>) -> PartitionView {
    let commit = newest.map(|(_, commit)| commit);
    let processed = commit.map_or(Offset(0), |c| c.as_of_offset);
    // A commit ahead of its log's end leaves nothing waiting, and so a ledger that does not balance.
    let lag = ends.end.0.saturating_sub(processed.0);
    PartitionView {
        topic: AD_EVENTS_RAW.to_owned(),
        partition,
        log_start_offset: ends.start,
        log_end_offset: ends.end,
        processed_offset: processed,
        lag,
        watermark_ms: commit.and_then(|c| c.watermark_ms),
        closed_before_ms: commit.and_then(|c| c.closed_before_ms),
        epoch: newest.map(|(epoch, _)| *epoch),
        committed_at_ms: commit.map(|c| c.committed_at_ms),
        ledger: LedgerView {
            produced: ends.end.0,
            fates: commit.map(|c| c.ledger.clone()).unwrap_or_default(),
            waiting: lag,
        },
    }
}

/// Every topic with its ends.
///
/// # Errors
/// [`ViewError`] where a topic cannot be read.
pub fn topics(broker: &dyn Broker) -> Result<Vec<TopicView>, ViewError> {
    let mut topics = broker.topics()?;
    topics.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    topics.iter().map(|info| topic(broker, info)).collect()
}

/// One topic with its ends.
///
/// # Errors
/// [`ViewError`] where it cannot be read.
pub fn topic(broker: &dyn Broker, info: &TopicInfo) -> Result<TopicView, ViewError> {
    let partition = |partition| {
        let ends = broker.ends(&TopicPartition::new(info.spec.name.as_str(), partition))?;
        Ok(TopicPartitionView { partition, log_start_offset: ends.start, log_end_offset: ends.end })
    };
    let partitions = (0..info.spec.partitions).map(|p| partition(PartitionId(p))).collect::<Result<_, ViewError>>()?;
    let TopicSpec { name, retention, compact, .. } = info.spec.clone();
    Ok(TopicView {
        topic: name,
        id: info.id,
        compacted: compact,
        retention_max_age_hours: retention.max_age.map(|age| age.as_secs() / 3_600),
        retention_max_bytes: retention.max_bytes,
        partitions,
    })
}

/// The newest commit of each partition, found from the topic's end backwards.
///
/// A frozen host's commit may stand behind its successor's: so it reads on back until it has seen the partition's terms
/// open, or [`TAIL_BATCHES`], and takes the highest epoch.
pub(super) fn newest_commits(
    broker: &dyn Broker,
    run: RunId,
) -> Result<BTreeMap<PartitionId, (Epoch, Commit)>, ViewError> {
    let (Some(input), Some(output)) = (broker.topic(AD_EVENTS_RAW)?, broker.topic(CTR_WINDOWS)?) else {
        return Ok(BTreeMap::new());
    };
    // A partition that never had a record may have no commit either: looking for one would read the whole topic.
    let mut used = BTreeSet::new();
    for partition in (0..input.spec.partitions).map(PartitionId) {
        if broker.ends(&TopicPartition::new(AD_EVENTS_RAW, partition))?.end > Offset(0) {
            used.insert(partition);
        }
    }
    let mut newest = BTreeMap::<PartitionId, (Epoch, Commit)>::new();
    for partition in (0..output.spec.partitions).map(PartitionId) {
        let at = TopicPartition::new(CTR_WINDOWS, partition);
        let mut tail = Tail { run, used: &used, batches: 0, commits: BTreeMap::new(), opened: BTreeMap::new() };
        let mut failure = None;
        broker.last_batch_with(&at, &mut |batch| match tail.take(&at, batch) {
            Ok(enough) => enough,
            Err(e) => {
                failure = Some(e);
                true
            }
        })?;
        if let Some(e) = failure {
            return Err(e);
        }
        keep_newer(&mut newest, tail.commits);
    }
    Ok(newest)
}

/// Where a commit stands among those of its partition; commits of an idle one stand at the same place.
pub(super) fn place((epoch, commit): &(Epoch, Commit)) -> (Epoch, Offset) {
    (*epoch, commit.as_of_offset)
}

/// Takes in the commits that stand further on than those known.
fn keep_newer(known: &mut BTreeMap<PartitionId, (Epoch, Commit)>, found: BTreeMap<PartitionId, (Epoch, Commit)>) {
    for (partition, found) in found {
        if known.get(&partition).is_none_or(|known| place(&found) > place(known)) {
            known.insert(partition, found);
        }
    }
}

/// What has been read so far of a topic's tail, newest batch first.
struct Tail<'a> {
    run: RunId,
    /// Partitions that must have a commit.
    used: &'a BTreeSet<PartitionId>,
    batches: usize,
    commits: BTreeMap<PartitionId, (Epoch, Commit)>,
    /// The epoch whose opening record was met last.
    opened: BTreeMap<PartitionId, Epoch>,
}

impl Tail<'_> {
    /// Takes a batch in; whether it was enough.
    fn take(&mut self, at: &TopicPartition, batch: &StoredBatch) -> Result<bool, ViewError> {
        self.batches += 1;
        // Within a batch a later commit is newer; against the batches behind this one, which were read before, it is not.
        let mut commits = BTreeMap::<PartitionId, (Epoch, Commit)>::new();
        visit_batch(at, batch, Offset(0), &mut |_, record| {
            if partial::is_partial(record.value) {
                return Ok(());
            }
            let WindowRecord::Output(output) = WindowRecord::decode(record.key, record.value)? else {
                return Ok(());
            };
            if output.stamp.run != self.run {
                return Ok(());
            }
            match output.body {
                Body::Commit(commit) => {
                    let found = (output.stamp.epoch, commit);
                    let known = commits.get(&output.stamp.partition);
                    if known.is_none_or(|known| place(&found) >= place(known)) {
                        commits.insert(output.stamp.partition, found);
                    }
                }
                Body::Epoch => {
                    self.opened.insert(output.stamp.partition, output.stamp.epoch);
                }
                Body::Late { .. }
                | Body::Decision { .. }
                | Body::Rewind { .. }
                | Body::Inherit { .. }
                | Body::Retried { .. } => {}
            }
            Ok(())
        })?;
        keep_newer(&mut self.commits, commits);
        let open = |(p, (epoch, _)): (&PartitionId, &(Epoch, Commit))| self.opened.get(p).is_some_and(|o| o <= epoch);
        let complete = self.used.iter().all(|p| self.commits.contains_key(p));
        Ok(complete && (self.batches >= TAIL_BATCHES || self.commits.iter().all(open)))
    }
}

/// The modules of the newest deployment.
///
/// # Errors
/// [`ViewError`] where the topic cannot be read.
pub fn modules(broker: &dyn Broker) -> Result<Vec<ModuleView>, ViewError> {
    if broker.topic(DEPLOYMENTS)?.is_none() {
        return Ok(Vec::new());
    }
    let at = TopicPartition::new(DEPLOYMENTS, PartitionId(0));
    let mut newest = None;
    scan(broker, &at, Offset(0), &mut |_, record| {
        let deployment = serde_json::from_slice::<Deployment>(record.value).map_err(BadRecord::Deployment)?;
        // A rollout to some partitions is not what judges.
        if deployment.partitions.is_none() {
            newest = Some(deployment);
        }
        Ok(())
    })?;
    let stages = newest.map(|d| d.stages).unwrap_or_default();
    Ok(stages
        .into_iter()
        .map(|s| ModuleView { stage: s.stage, name: s.name, version: s.version, sha256: s.sha256 })
        .collect())
}
