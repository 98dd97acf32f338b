//! The sinks alone: partial rows into a warm table of PostgreSQL, against one INSERT … ON CONFLICT a row in a transaction per
//! batch, on the same server in turn; and reads of the windows that Redis holds.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicPartition, TopicSpec};
use clickmill_connectors::sink::Sink;
use clickmill_connectors::{
    Endpoint, PostgresOptions, RedisOptions, RunInfo, Servers, SinkHandle, SinkService, SinkSource, SinkState,
};
use clickmill_pipeline::topics::{AD_EVENTS_DLQ, AD_EVENTS_ERROR, AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
use clickmill_schemas::partial::{self, Metrics, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId};
use redis::AsyncCommands;

use super::{Bench, Goal, ROUNDS, Report, forget, median};

const PARTITIONS: u32 = 3;
/// Of each dimension but the total: about what `site_category` has in a minute of Avazu's events.
const KEYS: i64 = 25;
const DIMENSIONS: [&str; 5] = ["total", "site_category", "app_category", "device_type", "banner_pos"];
const MINUTES: i64 = 2_000;
const MINUTES_A_COMMIT: i64 = 30;
const T0: i64 = 1_413_849_600_000;
const READS: usize = 20_000;

/// Rows of the reference in one transaction: as many as a commit of ours has.
const REFERENCE_BATCH: usize = 150;
const REFERENCE_ROWS: usize = 6_000;
const REFERENCE: &str = "INSERT INTO realtime.window_partials AS stored VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 0, 0, 60000, \
    to_timestamp($1), $2, $3, 0, false, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (run, window_size_ms, window_start, dimension, partition, generation) DO UPDATE SET \
    epoch = excluded.epoch, as_of_offset = excluded.as_of_offset, lower_bound = excluded.lower_bound, \
    keys = excluded.keys, impressions = excluded.impressions, clicks = excluded.clicks, \
    conversions = excluded.conversions, cost_micros = excluded.cost_micros, revenue_micros = excluded.revenue_micros \
    WHERE (stored.epoch, stored.as_of_offset) < (excluded.epoch, excluded.as_of_offset)";

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let config = bench.config("sinks");
    std::fs::create_dir_all(&config.data_dir)?;
    let servers = Servers::new(&config.data_dir);
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(async {
        let source = source(&config.data_dir)?;
        postgres(&servers, &source, report).await?;
        redis(&servers, &source, report).await
    });
    runtime.block_on(servers.stop(Duration::from_secs(10)))?;
    measured?;
    forget(&config.data_dir)
}

pub(super) fn source(data_dir: &std::path::Path) -> Result<SinkSource> {
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedLog::open(&data_dir.join("log"), LogOptions::default())?);
    let raw = broker.create_topic(&TopicSpec::new(AD_EVENTS_RAW, PARTITIONS))?;
    broker.create_topic(&TopicSpec::new(CTR_WINDOWS, 1))?;
    broker.create_topic(&TopicSpec::new(AD_EVENTS_ERROR, 1))?;
    let run = RunInfo::first(raw.id, AD_EVENTS_RAW.to_owned(), PARTITIONS);
    let [windows, errors, letters] =
        [CTR_WINDOWS, AD_EVENTS_ERROR, AD_EVENTS_DLQ].map(|topic| TopicPartition::new(topic, PartitionId(0)));
    let same = run.clone();
    Ok(SinkSource { broker, run, runs: Arc::new(move || Ok(same.clone())), windows, errors, letters })
}

async fn postgres(servers: &Servers, source: &SinkSource, report: &mut Report) -> Result<()> {
    let options = PostgresOptions::default();
    let pool = options.pool(Endpoint::Private(servers.clone()));
    // The first versions make the table warm.
    fill(source, 1)?;
    catch_up(options.windows(&pool, source), source).await?;
    let (mut client, connection) = tokio_postgres::connect(&servers.postgres().await?, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    one_by_one(&mut client, 1).await?;
    let (mut reference, mut ours) = (Vec::new(), Vec::new());
    for epoch in (2..).take(ROUNDS) {
        let begun = Instant::now();
        one_by_one(&mut client, epoch).await?;
        reference.push(begun.elapsed());
        let rows = fill(source, u64::try_from(epoch)?)?;
        let (took, written) = catch_up(options.windows(&pool, source), source).await?;
        ensure!(written >= rows, "{written} of {rows} rows were written");
        ours.push(took.div_f64(rows as f64));
    }
    drop(client);
    connection.await??;
    let (reference, ours) = (REFERENCE_ROWS as f64 / median(reference), median(ours).recip());
    report.add("sinks: PostgreSQL, one INSERT a row", reference, "rows/s", Goal::None);
    report.add("sinks: PostgreSQL, partial rows into a warm table", ours, "rows/s", Goal::None);
    report.add("sinks: against one INSERT a row", ours / reference, "×", Goal::AtLeast(3.0));
    Ok(())
}

async fn redis(servers: &Servers, source: &SinkSource, report: &mut Report) -> Result<()> {
    let (_, windows) =
        catch_up(RedisOptions::default().windows(Endpoint::Private(servers.clone()), source), source).await?;
    ensure!(windows > 0, "no window was written to Redis");
    let client = redis::Client::open(servers.redis().await?)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let keys: Vec<String> = connection.keys("metrics:1min:*").await?;
    ensure!(!keys.is_empty(), "Redis holds no window");
    let mut took = Vec::with_capacity(READS);
    for key in keys.iter().cycle().take(READS) {
        let begun = Instant::now();
        let _: Vec<String> =
            redis::cmd("HMGET").arg(key).arg(&["impressions", "clicks", "ctr"]).query_async(&mut connection).await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let p99_ms = took[READS * 99 / 100].as_secs_f64() * 1e3;
    report.add("sinks: a window's figures from Redis, p99", p99_ms, "ms", Goal::AtMost(1.0));
    Ok(())
}

/// The obvious way: a prepared statement for each row, a transaction for each batch.
async fn one_by_one(client: &mut tokio_postgres::Client, epoch: i64) -> Result<()> {
    let statement = client.prepare(REFERENCE).await?;
    let rows: Vec<_> = (0..MINUTES).flat_map(|minute| DIMENSIONS.map(|dimension| (minute, dimension))).collect();
    for batch in rows[..REFERENCE_ROWS].chunks(REFERENCE_BATCH) {
        let transaction = client.transaction().await?;
        for (minute, dimension) in batch {
            let entries = entries(*minute, dimension);
            let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
            let column = |of: fn(&Metrics) -> i64| entries.iter().map(|(_, metrics)| of(metrics)).collect::<Vec<_>>();
            let start_s = (T0 / 1_000 + minute * 60) as f64;
            transaction
                .execute(
                    &statement,
                    &[
                        &start_s,
                        dimension,
                        &epoch,
                        &keys,
                        &column(|m| m.impressions),
                        &column(|m| m.clicks),
                        &column(|m| m.conversions),
                        &column(|m| m.cost_micros),
                        &column(|m| m.revenue_micros),
                    ],
                )
                .await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// Runs a sink until it has everything; the time from when it was connected, and the rows that it wrote.
pub(super) async fn catch_up<S: Sink>(
    (service, handle): (SinkService<S>, SinkHandle),
    source: &SinkSource,
) -> Result<(Duration, u64)> {
    let end = source.broker.ends(&source.windows)?.end;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(service.run(async {
        // Either way it is over.
        let _ = stopped.await;
    }));
    while handle.status().state != SinkState::Running {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = Instant::now();
    while handle.confirmed() < end {
        ensure!(!handle.has_ended(), "a sink has stopped: {:?}", handle.status().last_error);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    drop(stop);
    task.await?;
    Ok((took, handle.status().rows_written))
}

/// All windows in this epoch's version; how many rows that are.
fn fill(source: &SinkSource, epoch: u64) -> Result<u64> {
    let mut rows = 0;
    for first in (0..MINUTES).step_by(usize::try_from(MINUTES_A_COMMIT)?) {
        for partition in 0..PARTITIONS {
            let minutes = first..MINUTES.min(first + MINUTES_A_COMMIT);
            rows += append(source, PartitionId(partition), (epoch, first), minutes)?;
        }
    }
    Ok(rows)
}

fn append(source: &SinkSource, partition: PartitionId, (epoch, as_of): (u64, i64), minutes: Range<i64>) -> Result<u64> {
    let run = source.run.id;
    let owner = Owner { run, partition, generation: Generation(0) };
    let version = Version { epoch: Epoch(epoch), as_of: Offset(as_of.unsigned_abs()) };
    let closed_before_ms = Some(T0 + (minutes.start - 5) * 60_000);
    let (mut set, mut rows) = (RecordSetBuilder::default(), 0);
    for minute in minutes {
        for dimension in DIMENSIONS {
            let mut key = partial::key_prefix(&owner).into_bytes();
            partial::put_guest_key(&mut key, 60_000, T0 + minute * 60_000, dimension);
            let mut value = Vec::new();
            partial::put_stamps(&mut value, &version);
            let entries = entries(minute, dimension);
            partial::put_guest_head(&mut value, false, entries.len());
            for (key, metrics) in &entries {
                partial::put_entry(&mut value, key.as_bytes(), metrics);
            }
            partial::put_end(&mut value);
            set.push(Some(&key), &value, 0);
            rows += 1;
        }
    }
    let commit = Commit {
        generation: Generation(0),
        as_of_offset: version.as_of,
        watermark_ms: None,
        closed_before_ms,
        ledger: Ledger::default(),
        committed_at_ms: 0,
    };
    let output = Output { stamp: Stamp { run, partition, epoch: Epoch(epoch) }, body: Body::Commit(commit) };
    set.push(Some(output.key().as_bytes()), &output.encode(), 0);
    source.broker.append(&source.windows, &set)?.wait()?;
    Ok(rows)
}

fn entries(minute: i64, dimension: &str) -> Vec<(String, Metrics)> {
    let entry = |key: i64| {
        let n = minute * 31 + key;
        let metrics =
            Metrics { impressions: n, clicks: n / 6, conversions: n / 90, cost_micros: n * 250, revenue_micros: n };
        let name = if dimension == "total" { String::new() } else { format!("{:08x}", key * 0x9e37_79b9) };
        (name, metrics)
    };
    (0..if dimension == "total" { 1 } else { KEYS }).map(entry).collect()
}
