//! Changing the chain under load: the pause that a partition sees, and that no record is judged twice or by none.
//!
//! The pipeline runs in this process on a broker that notes when each worker has read which batch. A pause is the longest
//! time between two batches around the one that holds the activation's offset, beyond what is usual in as much time where
//! nothing is changed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clickmill_broker::{Appended, Broker, BrokerError, Ends, StoredBatch, TopicInfo, TopicPartition, TopicSpec};
use clickmill_pipeline::blame::Fate;
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_pipeline::{Pipeline, PipelineParts};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};

use super::stream::{RATE, Stream};
use super::{Bench, Goal, Report, forget};
use crate::config::Config;
use crate::stack;

/// Changes, and the time between two of them.
const SWAPS: usize = 200;
const BETWEEN: Duration = Duration::from_millis(100);
/// Time before and after a partition's switch that belongs to it: the decision is written down 50 ms ahead of the stream.
const BEFORE: Duration = Duration::from_millis(75);
const AFTER: Duration = Duration::from_millis(50);
/// Longest wait for a change to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(30);
/// Compilations of each module from the cache.
const COMPILES: usize = 20;

/// A broker that notes when workers read, and from where.
struct Watched {
    broker: Arc<dyn Broker>,
    reads: Mutex<BTreeMap<PartitionId, Vec<(Instant, Offset)>>>,
}

impl Broker for Watched {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        self.broker.create_topic(spec)
    }
    fn add_partitions(&self, name: &str, partitions: u32) -> Result<TopicInfo, BrokerError> {
        self.broker.add_partitions(name, partitions)
    }
    fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.broker.delete_topic(name)
    }
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BrokerError> {
        self.broker.topic(name)
    }
    fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        self.broker.topics()
    }
    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.broker.append(at, set)
    }
    fn try_append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.broker.try_append(at, set)
    }
    fn fetch(
        &self,
        at: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<Vec<StoredBatch>, BrokerError> {
        let batches = self.broker.fetch(at, from, max_bytes, max_wait)?;
        let worker = std::thread::current().name().is_some_and(|name| name.starts_with("worker-"));
        if let Some(first) = batches.first().filter(|_| worker && &*at.topic == AD_EVENTS_RAW) {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.entry(at.partition).or_default().push((Instant::now(), first.base_offset));
        }
        Ok(batches)
    }
    fn ends(&self, at: &TopicPartition) -> Result<Ends, BrokerError> {
        self.broker.ends(at)
    }
    fn last_batch_with(
        &self,
        at: &TopicPartition,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError> {
        self.broker.last_batch_with(at, matches)
    }
    fn keep_from(&self, at: &TopicPartition, floor: Offset) {
        self.broker.keep_from(at, floor);
    }
}

impl Watched {
    /// The longest time without a read of a partition that ends in (from, to).
    fn longest(&self, partition: PartitionId, from: Instant, to: Instant) -> Duration {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = reads.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let begin = reads.partition_point(|(at, _)| *at < from).saturating_sub(1);
        let end = reads.partition_point(|(at, _)| *at <= to);
        reads[begin..end].windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default()
    }

    /// When a worker read the batch that holds this offset.
    fn read_at(&self, partition: PartitionId, offset: Offset) -> Option<Instant> {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = reads.get(&partition)?;
        let next = reads.partition_point(|(_, base)| *base <= offset);
        reads.get(next.checked_sub(1)?).map(|(at, _)| *at)
    }
}

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let config = bench.config("swap");
    let stream = Stream::new(bench)?;
    compile(&config, report)?;
    // What was written until here would be written back half a minute later, and appends would wait for it.
    rustix::fs::sync();
    let watched = Arc::new(Watched { broker: Arc::new(stack::place::open_log(&config)?), reads: Mutex::default() });
    let pipeline = Pipeline::start(PipelineParts {
        broker: watched.clone(),
        engine: stack::engine(&config, &config.data_dir)?,
        limits: config.limits(),
        clock: Arc::new(SystemClock),
        registry: prometheus::Registry::new(),
        data_dir: config.data_dir.clone(),
        topics: config.topics_options(),
        stages: stack::chain::stages(&config)?,
        options: config.worker_options(),
        retries: Default::default(),
        from: None,
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (broker, stop) = (watched.clone(), stop.clone());
        let partitions = config.broker.topics.ad_events_raw.partitions;
        std::thread::spawn(move || stream.flow(&*broker, partitions, &stop))
    };
    let changed = change(&pipeline.deployer(), &watched);
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let Changes { mut quiet, mut around, mut whole, asked } = changed?;
    while !pipeline.caught_up()? {
        std::thread::sleep(Duration::from_millis(10));
    }
    quiet.sort_unstable();
    let usual = quiet[quiet.len() / 2];
    around.sort_unstable();
    whole.sort_unstable();
    let at = |gaps: &[Duration], share: f64| {
        gaps[((gaps.len() - 1) as f64 * share) as usize].saturating_sub(usual).as_secs_f64() * 1e3
    };
    report.add("swap: events a second meanwhile", sent, "events/s", Goal::AtLeast(RATE as f64 * 0.95));
    let name = "swap: usual longest time between batches of a partition";
    report.add(name, usual.as_secs_f64() * 1e3, "ms", Goal::None);
    report.add("swap: what goes beyond it where nothing is changed: p99", at(&quiet, 0.99), "ms", Goal::None);
    report.add(format!("swap: pause of a partition, {SWAPS} changes: p50"), at(&around, 0.5), "ms", Goal::None);
    report.add(format!("swap: pause of a partition, {SWAPS} changes: p99"), at(&around, 0.99), "ms", Goal::AtMost(5.0));
    let name = "swap: the same from the deploy's call on, canary included: p99";
    report.add(name, at(&whole, 0.99), "ms", Goal::None);
    report.add("swap: a deploy, from the call to all partitions, median", super::median(asked), "s", Goal::None);
    judged(&pipeline.deployer(), &*watched, report)?;
    pipeline.stop()?;
    drop(watched);
    forget(&config.data_dir)
}

/// From the cache to a module that can run.
fn compile(config: &Config, report: &mut Report) -> Result<()> {
    stack::compile(config)?;
    let stages = stack::chain::stages(config)?;
    let mut times = Vec::new();
    for _ in 0..COMPILES {
        let engine = stack::engine(config, &config.data_dir)?;
        for stage in &stages {
            times.push(super::timed(|| Ok(engine.compile(&stage.wasm)?))?.0);
        }
    }
    report.add("swap: compile of a module from the cache", super::median(times) * 1e3, "ms", Goal::AtMost(5.0));
    Ok(())
}

/// The longest times between two batches of each partition, and the times that the deploys took.
#[derive(Default)]
struct Changes {
    /// Where nothing is changed.
    quiet: Vec<Duration>,
    /// Around the switch.
    around: Vec<Duration>,
    /// From the deploy's call until [`AFTER`] it was acknowledged.
    whole: Vec<Duration>,
    asked: Vec<Duration>,
}

/// Changes the chain under load.
fn change(deployer: &Deployer, watched: &Watched) -> Result<Changes> {
    std::thread::sleep(Duration::from_secs(2));
    let mut changes = Changes::default();
    for n in 0..SWAPS {
        let params = BTreeMap::from([("max_string_bytes".to_owned(), (60_000 + n).to_string())]);
        let body = DeployBody { stage: Some("validate".to_owned()), params, ..DeployBody::default() };
        let (request, options) = deployer.request(body)?;
        let begun = Instant::now();
        let deployed = deployer.deploy(&request, &options, PATIENCE)?;
        let done = Instant::now();
        ensure!(deployed.changed && deployed.waiting.is_empty(), "{deployed:?}");
        std::thread::sleep(AFTER);
        for (partition, offset) in &deployed.activations {
            let switched = watched.read_at(*partition, *offset).context("an activation at an offset that was read")?;
            changes.around.push(watched.longest(*partition, switched - BEFORE, switched + AFTER));
            changes.whole.push(watched.longest(*partition, begun, done + AFTER));
        }
        changes.asked.push(done - begun);
        std::thread::sleep(BETWEEN);
        let begun = Instant::now();
        std::thread::sleep(BEFORE + AFTER);
        let quiet = deployed.activations.keys().map(|partition| watched.longest(*partition, begun, Instant::now()));
        changes.quiet.extend(quiet);
    }
    Ok(changes)
}

/// Asks after every record: each was judged, by the one deployment that is written down for its offset.
fn judged(deployer: &Deployer, broker: &dyn Broker, report: &mut Report) -> Result<()> {
    let activations = deployer.activations()?;
    let (mut wrong, mut all, mut counted) = (0_u64, 0_u64, 0_u64);
    for (partition, began) in &activations {
        let end = broker.ends(&TopicPartition::new(AD_EVENTS_RAW, *partition))?.end;
        let mut next = Offset(0);
        deployer.blame_each(*partition, Offset(0), end, &mut |blame| {
            let written = began.range(..=blame.offset).next_back().map(|(_, deployment)| *deployment);
            let fated = !matches!(blame.fate, Fate::Waiting);
            wrong += u64::from(!fated || blame.deployment != written || blame.offset != next);
            next = next.plus(1);
            all += 1;
            counted += u64::from(blame.fate == Fate::Counted);
        })?;
        wrong += end.0.abs_diff(next.0);
    }
    report.add("swap: records asked after", all as f64, "events", Goal::None);
    report.add("swap: of them counted", counted as f64, "events", Goal::AtLeast(all as f64));
    report.add(
        "swap: records judged by none, or by another than is written down",
        wrong as f64,
        "events",
        Goal::AtMost(0.0),
    );
    Ok(())
}
