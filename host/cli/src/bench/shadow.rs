//! What a shadow costs the live chain: records a second while a backlog is worked off, with one and without in turn.
//!
//! Events keep flowing, since a shadow judges what comes in after its start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clickmill_broker::Broker;
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::{Deployer, Request};
use clickmill_pipeline::{Pipeline, PipelineParts};
use clickmill_schemas::PartitionId;

use super::stream::Stream;
use super::{Bench, Goal, Report, forget};
use crate::stack;

/// Pairs of measurements, and how long each of the two is.
const PAIRS: usize = 8;
const EACH: Duration = Duration::from_millis(700);
/// Time that a change of load is given to settle.
const SETTLE: Duration = Duration::from_millis(200);
/// Events that wait when the workers begin: more than they do in all that time.
const BACKLOG: usize = 16_000_000;
const BATCH: usize = 600;

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let config = bench.config("shadow");
    let partitions = config.broker.topics.ad_events_raw.partitions;
    stack::compile(&config)?;
    let log: Arc<dyn Broker> = Arc::new(stack::place::open_log(&config)?);
    clickmill_pipeline::topics::create_all(&*log, &config.topics_options())?;
    let mut stream = Stream::new(bench)?;
    for n in 0..BACKLOG / BATCH {
        drop(stream.append(&*log, PartitionId(n as u32 % partitions), BATCH)?);
    }
    let pipeline = Pipeline::start(PipelineParts {
        broker: log.clone(),
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
        let stop = stop.clone();
        std::thread::spawn(move || stream.flow(&*log, partitions, &stop))
    };
    let measured = compare(&pipeline);
    stop.store(true, Ordering::Relaxed);
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let Costs { without, shares, seen } = measured?;
    report.add("shadow: records a second without one", median(without), "events/s", Goal::None);
    report.add("shadow: the same with one, against that", median(shares), "x", Goal::AtLeast(0.9));
    report.add("shadow: share of the records that it saw meanwhile", median(seen), "", Goal::None);
    pipeline.stop()?;
    forget(&config.data_dir)
}

struct Costs {
    /// Records a second.
    without: Vec<f64>,
    /// Records a second with a shadow, by those without.
    shares: Vec<f64>,
    seen: Vec<f64>,
}

fn compare(pipeline: &Pipeline) -> Result<Costs> {
    let deployer = pipeline.deployer();
    let mut costs = Costs { without: Vec::new(), shares: Vec::new(), seen: Vec::new() };
    // The first is for the caches: beside workers that take both cores the compiler would get little of them.
    deployer.pause("the modules are compiled")?;
    start(&deployer)?;
    deployer.stop_shadow()?;
    deployer.resume()?;
    for _ in 0..PAIRS {
        let without = rate(pipeline)?;
        start(&deployer)?;
        let with = rate(pipeline)?;
        costs.seen.push(deployer.stop_shadow()?.share_seen);
        costs.without.push(without);
        costs.shares.push(with / without);
    }
    Ok(costs)
}

fn start(deployer: &Deployer) -> Result<()> {
    let params = BTreeMap::from([("max_string_bytes".to_owned(), "1000".to_owned())]);
    let body = DeployBody { stage: Some("validate".to_owned()), params, ..DeployBody::default() };
    let (request, options) = deployer.request(body)?;
    let Request::Deploy(candidate) = request else { anyhow::bail!("no deploy") };
    deployer.start_shadow(*candidate, options)?;
    Ok(())
}

/// Records a second that the workers judge.
fn rate(pipeline: &Pipeline) -> Result<f64> {
    std::thread::sleep(SETTLE);
    let position = || pipeline.workers().iter().map(|worker| worker.position.0).sum::<u64>();
    let (begun, from) = (Instant::now(), position());
    std::thread::sleep(EACH);
    let judged = (position() - from) as f64 / begun.elapsed().as_secs_f64();
    ensure!(!pipeline.caught_up()?, "the backlog is worked off already");
    Ok(judged)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
