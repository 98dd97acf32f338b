//! Measures both sinks on private servers in a temporary folder: rows/s of a filled log (new windows, then newer
//! versions of the same), and the time from an append of one commit to its being in the server.
//!
//! `cargo run --release -p clickmill-connectors --example sink_rate`

use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicPartition, TopicSpec};
use clickmill_connectors::sink::Sink;
use clickmill_connectors::{
    Endpoint, PostgresOptions, RedisOptions, RunInfo, Servers, SinkHandle, SinkService, SinkSource, SinkState,
};
use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
use clickmill_schemas::partial::{self, Metrics, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const PARTITIONS: u32 = 3;
const KEYS: i64 = 25;
const DIMENSIONS: [&str; 5] = ["total", "site_category", "app_category", "device_type", "banner_pos"];
const WINDOWS: i64 = 2_000;
const WINDOWS_A_COMMIT: i64 = 30;
const LATENCY_SAMPLES: u64 = 300;

#[tokio::main]
async fn main() -> Result {
    let dir = std::env::temp_dir().join(format!("clickmill-sink-rate-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
    let servers = Servers::new(&dir);
    let done = measure(&dir, &servers).await;
    servers.stop(Duration::from_secs(10)).await?;
    std::fs::remove_dir_all(&dir)?;
    done
}

async fn measure(dir: &Path, servers: &Servers) -> Result {
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::default())?);
    let raw = broker.create_topic(&TopicSpec::new("ad_events_raw", PARTITIONS))?;
    broker.create_topic(&TopicSpec::new("ctr_windows", 1))?;
    let run = RunInfo::first(raw.id, "ad_events_raw".to_owned(), PARTITIONS);
    let windows = TopicPartition::new("ctr_windows", PartitionId(0));
    let same = run.clone();
    let errors = TopicPartition::new("ad_events_error", PartitionId(0));
    let letters = TopicPartition::new("ad_events_dlq", PartitionId(0));
    let source = SinkSource { broker, run, runs: Arc::new(move || Ok(same.clone())), windows, errors, letters };
    let endpoint = Endpoint::Private(servers.clone());
    let options = PostgresOptions::default();
    let pool = options.pool(endpoint.clone());
    for epoch in 1..=2 {
        fill(&source, epoch)?;
        let postgres = options.windows(&pool, &source);
        report("postgres", epoch, postgres, &source).await?;
        let redis = RedisOptions::default().windows(endpoint.clone(), &source);
        report("redis", epoch, redis, &source).await?;
    }
    latency("postgres", options.windows(&pool, &source), &source).await?;
    latency("redis", RedisOptions::default().windows(endpoint, &source), &source).await
}

fn fill(source: &SinkSource, epoch: u64) -> Result {
    for first in (0..WINDOWS).step_by(usize::try_from(WINDOWS_A_COMMIT)?) {
        for partition in 0..PARTITIONS {
            let starts = first..WINDOWS.min(first + WINDOWS_A_COMMIT);
            append(source, partition, epoch, u64::try_from(first)?, starts)?.wait()?;
        }
    }
    Ok(())
}

fn append(
    source: &SinkSource,
    partition: u32,
    epoch: u64,
    as_of: u64,
    minutes: std::ops::Range<i64>,
) -> Result<clickmill_broker::Appended> {
    let (run, partition) = (source.run.id, PartitionId(partition));
    let owner = Owner { run, partition, generation: Generation(0) };
    let version = Version { epoch: Epoch(epoch), as_of: Offset(as_of) };
    let mut set = RecordSetBuilder::default();
    for minute in minutes.clone() {
        for dimension in DIMENSIONS {
            let mut key = partial::key_prefix(&owner).into_bytes();
            partial::put_guest_key(&mut key, 60_000, 1_413_849_600_000 + minute * 60_000, dimension);
            let mut value = Vec::new();
            partial::put_stamps(&mut value, &version);
            let keys = if dimension == "total" { 1 } else { KEYS };
            partial::put_guest_head(&mut value, false, usize::try_from(keys)?);
            for key in 0..keys {
                let n = minute * 31 + key;
                let m = Metrics {
                    impressions: n,
                    clicks: n / 6,
                    conversions: n / 90,
                    cost_micros: n * 250,
                    revenue_micros: n,
                };
                let name = if dimension == "total" { String::new() } else { format!("{:08x}", key * 0x9e37_79b9) };
                partial::put_entry(&mut value, name.as_bytes(), &m);
            }
            partial::put_end(&mut value);
            set.push(Some(&key), &value, 0);
        }
    }
    let commit = Commit {
        generation: Generation(0),
        as_of_offset: Offset(as_of),
        watermark_ms: None,
        closed_before_ms: Some(1_413_849_600_000 + (minutes.start - 5) * 60_000),
        ledger: Ledger::default(),
        committed_at_ms: 0,
    };
    let output = Output { stamp: Stamp { run, partition, epoch: Epoch(epoch) }, body: Body::Commit(commit) };
    set.push(Some(output.key().as_bytes()), &output.encode(), 0);
    Ok(source.broker.append(&source.windows, &set)?)
}

/// Starts a sink, waits until it is connected, gives it to `work`, stops it.
async fn with<S: Sink, T>(
    (service, handle): (SinkService<S>, SinkHandle),
    work: impl AsyncFnOnce(&SinkHandle) -> Result<T>,
) -> Result<T> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(service.run(async {
        let _ = stopped.await;
    }));
    while handle.status().state != SinkState::Running {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let done = work(&handle).await;
    drop(stop);
    task.await?;
    done
}

async fn report<S: Sink>(name: &str, epoch: u64, sink: (SinkService<S>, SinkHandle), source: &SinkSource) -> Result {
    let end = source.broker.ends(&source.windows)?.end;
    with(sink, async |handle| {
        let started = Instant::now();
        while handle.confirmed() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (rows, seconds) = (handle.status().rows_written, started.elapsed().as_secs_f64());
        println!("{name}, pass {epoch}: {rows} rows in {seconds:.2} s, {:.0} rows/s", rows as f64 / seconds);
        Ok(())
    })
    .await
}

async fn latency<S: Sink>(name: &str, sink: (SinkService<S>, SinkHandle), source: &SinkSource) -> Result {
    with(sink, async |handle| {
        while handle.confirmed() < source.broker.ends(&source.windows)?.end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut samples = Vec::new();
        for n in 0..LATENCY_SAMPLES {
            let as_of = source.broker.ends(&source.windows)?.end.0 + n;
            let started = Instant::now();
            append(source, 0, 3, as_of, WINDOWS..WINDOWS + 2)?.wait()?;
            let end = source.broker.ends(&source.windows)?.end;
            while handle.confirmed() < end {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            samples.push(started.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        samples.sort_unstable();
        let at = |share: usize| samples[samples.len() * share / 100];
        println!("{name}: append to confirmed p50 {:?}, p99 {:?}", at(50), at(99));
        Ok(())
    })
    .await
}
