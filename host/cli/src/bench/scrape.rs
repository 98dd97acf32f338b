//! What a scrape of `/metrics` takes while every partition has as many keys open as it may, and goes on committing them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clickmill_broker::{Broker, TopicPartition};
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::RecordSetBuilder;
use serde_json::{Map, Value};

use super::{Bench, Goal, Report, events, forget};
use crate::stack::{self, Stack};

/// Keys of a partition in each of two dimensions: the limit of `ctr-window` by default.
const KEYS: usize = 10_000;
const SCRAPES: usize = 100;
const BETWEEN: Duration = Duration::from_millis(100);
/// Events that a partition gets at once, and how often.
const AT_ONCE: usize = 500;
const EVERY: Duration = Duration::from_millis(50);

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut config = bench.config("scrape");
    config.server.enabled = true;
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.sinks.postgres.enabled = false;
    let lines = lines(bench)?;
    stack::compile(&config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let partitions = config.broker.topics.ad_events_raw.partitions;
    let stack = runtime.block_on(Stack::start(&config))?;
    let address = stack.address.context("HTTP is served")?;
    let broker = stack.broker();
    for chunk in lines.chunks(AT_ONCE) {
        send(&*broker, partitions, chunk)?;
    }
    runtime.block_on(stack.until_end())?;
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (broker, stop) = (broker.clone(), stop.clone());
        std::thread::spawn(move || -> Result<()> {
            let mut chunks = lines.chunks(AT_ONCE).cycle();
            while let (false, Some(chunk)) = (stop.load(Ordering::Relaxed), chunks.next()) {
                send(&*broker, partitions, chunk)?;
                std::thread::sleep(EVERY);
            }
            Ok(())
        })
    };
    let (first, mut times, series) = scrapes(&format!("http://{address}/metrics"))?;
    stop.store(true, Ordering::Relaxed);
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    drop(broker);
    runtime.block_on(stack.stop(tokio::time::Instant::now()))?;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let name = |what: &str| format!("scrape, {partitions} × {KEYS} keys open: {what}");
    report.add(name("series"), series as f64, "series", Goal::None);
    report.add(name("the first one"), first.as_secs_f64() * 1e3, "ms", Goal::None);
    report.add(name("p50"), at(0.5), "ms", Goal::None);
    report.add(name("p99"), at(0.99), "ms", Goal::AtMost(5.0));
    forget(&config.data_dir)
}

/// Events of one minute, each with keys of its own.
fn lines(bench: &Bench) -> Result<Vec<Vec<u8>>> {
    let produced = events::produced(bench, 10_000, 1)?;
    let mut event: Map<String, Value> = serde_json::from_slice(produced.first().context("an event")?)?;
    let line = |n: usize| {
        for (name, value) in
            [("id", n.to_string()), ("site_category", format!("s{n}")), ("app_category", format!("a{n}"))]
        {
            event.insert(name.to_owned(), value.into());
        }
        anyhow::Ok(serde_json::to_vec(&event)?)
    };
    (0..KEYS).map(line).collect()
}

fn send(broker: &dyn Broker, partitions: u32, lines: &[Vec<u8>]) -> Result<()> {
    let mut set = RecordSetBuilder::default();
    lines.iter().for_each(|line| set.push(None, line, jiff::Timestamp::now().as_millisecond()));
    for partition in (0..partitions).map(PartitionId) {
        broker.append(&TopicPartition::new(AD_EVENTS_RAW, partition), &set)?.wait()?;
    }
    Ok(())
}

/// The time of the first scrape, those of the ones after it, and the number of series in the last.
fn scrapes(url: &str) -> Result<(Duration, Vec<Duration>, usize)> {
    // One connection, as Prometheus keeps.
    let agent = ureq::Agent::new_with_defaults();
    let scrape = || -> Result<(Duration, String)> {
        let begun = Instant::now();
        let text = agent.get(url).call()?.into_body().read_to_string()?;
        Ok((begun.elapsed(), text))
    };
    let (first, mut text) = scrape()?;
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        std::thread::sleep(BETWEEN);
        let (took, body) = scrape()?;
        times.push(took);
        text = body;
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    Ok((first, times, series))
}
