//! From a request to workers that fill a run: what is to judge, from which offsets, and what is taken over.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickmill_broker::{Broker, TopicPartition};
use clickmill_schemas::merge::{Fence, WindowRecord};
use clickmill_schemas::output::{Body as Record, Decision, Output, Stamp};
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{Generation, Offset, PartitionId, RunId};
use sha2::{Digest, Sha256};

use super::coordinate::Coordinator;
use super::{Body, From, Plan, ReprocessError, Reprocessing, Running};
use crate::blame::event_time;
use crate::breaker::OnModuleFailure;
use crate::checkpoint::{CheckpointStore, DirectoryStore, take_epoch};
use crate::crew::Crew;
use crate::deployment::control::{DeployError, Request};
use crate::deployment::request::check_message;
use crate::deployment::wanted::rollout;
use crate::deployment::{Cause, Deployment, append, change, newest_everywhere, states};
use crate::host::StartError;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::runs::{self, CANDIDATE, INHERITED};
use crate::topics::{AD_EVENTS_RAW, CTR_WINDOWS};
use crate::views::scan::scan;
use crate::views::{BadRecord, ViewError};
use crate::worker::{Shared, WorkerOptions};

/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 1 << 20;

impl Reprocessing {
    /// Writes down what is to be done.
    pub(super) fn plan(&self, body: Body) -> Result<Plan, ReprocessError> {
        let registry = &self.live.shared.registry;
        let turn = registry.try_turn().ok_or(DeployError::Busy)?;
        let history = registry.history();
        let (newest, base) = newest_everywhere(&history).ok_or(DeployError::Nothing)?;
        // It would be gone with the run in which it was rolled out.
        if let Some((id, _, only)) = rollout(&history) {
            return Err(DeployError::staged(id, only).into());
        }
        let (mut stages, mut candidate) = (base.stages.clone(), None);
        if let Some(with) = body.with {
            if with.plan || with.reset_state || with.partitions.is_some() || !with.message.is_empty() {
                return Err(ReprocessError::With);
            }
            let request = self.deployer.request(with)?.0;
            // As a deploy would; what state it can read shows where it takes over.
            self.deployer.check(&request)?;
            if let Request::Deploy(asked) = request {
                stages = change::put(&stages, asked.as_stage(), &asked.place).map_err(DeployError::from)?;
                candidate = Some(asked);
            }
        }
        let wasm = candidate.as_ref().map(|asked| asked.wasm.as_slice());
        registry.chains.live(wasm).chain(&stages).map_err(DeployError::Refused)?;
        let mut from = BTreeMap::new();
        for partition in (0..registry.partitions()).map(PartitionId) {
            from.insert(partition, self.begins(partition, body.from)?);
        }
        check_message(&body.message)?;
        let inherits = self.live.run();
        if !body.reset_state {
            self.reads_its_state(inherits, &from)?;
        }
        if let Some(asked) = &candidate {
            registry.chains.modules.put(&asked.wasm, asked.manifest.as_deref())?;
        }
        let now_ms = self.clock.now_ms();
        let deployment = Deployment {
            stages,
            message: body.message,
            created_at_ms: now_ms,
            cause: Cause::Reprocess,
            // No partition of the live run is to judge with it.
            partitions: Some(Default::default()),
            reset_state: body.reset_state,
            config: Some(base.config_stages().to_vec()),
        };
        let of = append(&*self.broker, &deployment).map_err(DeployError::from)?;
        registry.chains.add(of, deployment);
        drop(turn);
        let seed = [&inherits.0[..], &newest.0.to_be_bytes(), &of.0.to_be_bytes(), &now_ms.to_be_bytes()].concat();
        let mut run = RunId([0; 16]);
        run.0.copy_from_slice(&Sha256::digest(&seed)[..16]);
        let plan = Plan { run, inherits, of, from, reset_state: body.reset_state };
        let folder = DirectoryStore::open(&runs::folder(&self.data_dir, self.live.topic, run))?;
        // A plain struct with string keys: serialization has no failing case.
        folder.create(CANDIDATE, &serde_json::to_vec(&plan).unwrap_or_default())?;
        Ok(plan)
    }

    /// Whether no generation begins behind where the run begins to differ: its chain could not read the state there.
    fn reads_its_state(&self, run: RunId, from: &BTreeMap<PartitionId, Offset>) -> Result<(), ReprocessError> {
        let all = from.keys().map(|partition| (*partition, Offset(u64::MAX))).collect();
        for (partition, decisions) in decisions(&*self.broker, run, &all)? {
            let begins = from.get(&partition).copied().unwrap_or_default();
            let generation = |decision: &Decision| match decision {
                Decision::Activation { generation, .. } => *generation,
                _ => None,
            };
            let before =
                decisions.iter().filter(|(offset, _)| *offset <= begins).filter_map(|(_, d)| generation(d)).max();
            let behind = decisions.iter().filter(|(offset, _)| *offset > begins);
            if let Some((offset, _)) = behind.filter(|(_, d)| generation(d) > before).min_by_key(|(offset, _)| *offset)
            {
                return Err(ReprocessError::Reset { partition, offset: *offset });
            }
        }
        Ok(())
    }

    /// The offset of a partition from which on another chain judges.
    fn begins(&self, partition: PartitionId, from: From) -> Result<Offset, ReprocessError> {
        let at = TopicPartition::new(AD_EVENTS_RAW, partition);
        let ends = self.broker.ends(&at)?;
        if ends.start > Offset(0) {
            return Err(ReprocessError::Trimmed { partition, start: ends.start });
        }
        let time_ms = match from {
            From::Offset(offset) => return Ok(offset.min(ends.end)),
            From::TimeMs(time_ms) => time_ms,
        };
        let mut next = ends.start;
        while next < ends.end {
            for batch in self.broker.fetch(&at, next, FETCH_BYTES, Duration::ZERO)? {
                let bad = |e| ViewError::Record {
                    topic: AD_EVENTS_RAW.to_owned(),
                    partition,
                    offset: batch.base_offset,
                    source: BadRecord::Malformed(e),
                };
                let bytes = batch.records()?;
                for record in Records::new(&bytes).map_err(bad)? {
                    let record = record.map_err(bad)?;
                    if event_time(record.value).is_some_and(|ts_ms| ts_ms >= time_ms) {
                        return Ok(batch.base_offset.plus(record.offset_delta.unsigned_abs()));
                    }
                }
                next = batch.next_offset();
            }
        }
        Ok(ends.end)
    }

    /// Starts the workers of a run, and who watches them.
    pub(super) fn begin(&self, plan: Plan) -> Result<Running, ReprocessError> {
        let live = &self.live.shared;
        let partitions = live.registry.partitions();
        live.peers.floors.hold(&*self.broker, plan.run, 0..partitions);
        self.is_whole(&plan)?;
        self.inherit(&plan)?;
        let registry = Arc::new(live.registry.beside()?);
        for partition in (0..partitions).map(PartitionId) {
            registry.targets.of(partition).want(plan.of, None);
        }
        // Nothing may be rolled back or paused on behalf of a run that nobody takes: it fails, and readers keep theirs.
        let gives_up = live.options.on_module_failure != OnModuleFailure::Dlq;
        let options = WorkerOptions { on_module_failure: OnModuleFailure::Dlq, ..live.options.clone() };
        let shared = Arc::new(Shared {
            registry,
            broker: self.broker.clone(),
            clock: self.clock.clone(),
            peers: Arc::new(Peers::new(partitions, live.peers.floors.clone())),
            stop: AtomicBool::new(false),
            options,
            gives_up,
            metrics: Metrics::register(&prometheus::Registry::new()).map_err(StartError::from)?,
            log: live.log.clone(),
        });
        let crew = Arc::new(Crew::new(shared, self.data_dir.clone(), self.live.topic, plan.run));
        crew.start(&mut crew.threads(), 0..partitions)?;
        let (outcome, stop) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let coordinator = Coordinator {
            plan: plan.clone(),
            live: self.live.clone(),
            crew: crew.clone(),
            broker: self.broker.clone(),
            clock: self.clock.clone(),
            data_dir: self.data_dir.clone(),
            outcome: outcome.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("reprocess".to_owned()).spawn(move || coordinator.run());
        let thread = thread.map_err(StartError::Thread)?;
        Ok(Running { plan, crew, outcome, stop, thread: Some(thread) })
    }

    /// Whether everything that is still to be judged is there: what retention has taken would be missing in the new run.
    fn is_whole(&self, plan: &Plan) -> Result<(), ReprocessError> {
        let folder = runs::folder(&self.data_dir, self.live.topic, plan.run);
        let count = self.live.shared.registry.partitions();
        let known: BTreeMap<_, _> = states::newest(&folder, count)?.into_iter().collect();
        for partition in (0..count).map(PartitionId) {
            let start = self.broker.ends(&TopicPartition::new(AD_EVENTS_RAW, partition))?.start;
            if start > known.get(&partition).map_or(Offset(0), |checkpoint| checkpoint.offset) {
                return Err(ReprocessError::Trimmed { partition, start });
            }
            if !plan.from.contains_key(&partition) {
                return Err(ReprocessError::Partitions);
            }
        }
        Ok(())
    }

    /// Takes over what was decided below the offsets from which on the run may differ. May be done again.
    fn inherit(&self, plan: &Plan) -> Result<(), ReprocessError> {
        let folder = runs::folder(&self.data_dir, self.live.topic, plan.run);
        let marks = DirectoryStore::open(&folder)?;
        if marks.read(INHERITED)?.is_some() {
            return Ok(());
        }
        let mut decisions = decisions(&*self.broker, plan.inherits, &plan.from)?;
        let mut set = RecordSetBuilder::default();
        let now_ms = self.clock.now_ms();
        for (partition, from) in &plan.from {
            let epoch = take_epoch(&DirectoryStore::open(&folder.join(partition.to_string()))?)?;
            let stamp = Stamp { run: plan.run, partition: *partition, epoch };
            let mut put = |body: Record| {
                let output = Output { stamp, body };
                set.push(Some(output.key().as_bytes()), &output.encode(), now_ms);
            };
            put(Record::Epoch);
            put(Record::Inherit { from: plan.inherits });
            let taken = decisions.entry(*partition).or_default();
            let generation = taken.iter().filter_map(|(_, decision)| match decision {
                Decision::Activation { generation, .. } => *generation,
                _ => None,
            });
            let before = generation.max();
            let generation = match plan.reset_state {
                true => Some(Generation(before.unwrap_or_default().0 + 1)),
                false => before,
            };
            let decision = Decision::Activation { deployment: plan.of, generation };
            taken.push((*from, decision));
            taken.iter().for_each(|(offset, decision)| {
                put(Record::Decision { offset: *offset, decision: decision.clone() });
            });
        }
        let windows = TopicPartition::new(CTR_WINDOWS, PartitionId(0));
        self.broker.append(&windows, &set)?.wait()?;
        // The records are for who asks; the workers go by the file, which no checkpoint leaves behind.
        marks.create(INHERITED, &serde_json::to_vec(&decisions).unwrap_or_default())?;
        Ok(())
    }
}

/// What a run has decided for the records below where another begins to differ, by partition and offset.
fn decisions(
    broker: &dyn Broker,
    run: RunId,
    from: &BTreeMap<PartitionId, Offset>,
) -> Result<BTreeMap<PartitionId, Vec<(Offset, Decision)>>, ReprocessError> {
    let mut fence = Fence::default();
    let mut found = BTreeMap::<PartitionId, Vec<(Offset, Decision)>>::new();
    scan(broker, &TopicPartition::new(CTR_WINDOWS, PartitionId(0)), Offset(0), &mut |_, record| {
        if clickmill_schemas::partial::is_partial(record.value) {
            return Ok(());
        }
        let record = WindowRecord::decode(record.key, record.value)?;
        let (of_run, partition, _) = record.term();
        if of_run != run || !fence.admits(record.term()) {
            return Ok(());
        }
        let WindowRecord::Output(Output { body, .. }) = record else { return Ok(()) };
        let of = found.entry(partition).or_default();
        match body {
            Record::Decision { offset, decision } if binds_before(offset, &decision, from.get(&partition)) => {
                of.push((offset, decision));
            }
            // What was decided beyond a savepoint that was gone back to holds no more.
            Record::Rewind { as_of_offset } => of.retain(|(offset, decision)| match decision {
                Decision::Activation { .. } | Decision::WatermarkAdvance { .. } => *offset <= as_of_offset,
                Decision::Verdict { .. } | Decision::Gap { .. } => *offset < as_of_offset,
            }),
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether a decision is one of those below where the run begins to differ. A chain that begins right there is followed by the
/// run's own, in the generation that it may have opened.
fn binds_before(offset: Offset, decision: &Decision, from: Option<&Offset>) -> bool {
    from.is_some_and(|from| offset < *from || offset == *from && matches!(decision, Decision::Activation { .. }))
}
