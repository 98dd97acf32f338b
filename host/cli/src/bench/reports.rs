//! Reports over ten days at the cardinality of Avazu's rows: from the hours in PostgreSQL, and from the windows of the topic.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use clickmill_broker::Broker;
use clickmill_connectors::postgres::{Hour, HoursQuery, Reports};
use clickmill_connectors::{Endpoint, PostgresOptions, Servers, SinkSource};
use clickmill_pipeline::views::report_rows::JsonRow;
use clickmill_pipeline::views::reports::{self, By, Cells, Kind, Order, Report as Asked, Scope};
use clickmill_schemas::partial::{self, Metrics, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId};

use super::{Bench, Goal, Report, forget, sinks};

const HOURS: i64 = 240;
const HOUR_MS: i64 = 3_600_000;
const PANE_MS: i64 = 300_000;
/// 2014-10-21T00:00:00Z
const T0: i64 = 1_413_849_600_000;
const PARTITIONS: u32 = 3;
/// Keys of each dimension, as many as Avazu's rows have.
const DIMENSIONS: [(&str, i64); 5] =
    [("total", 1), ("site_category", 26), ("app_category", 36), ("device_type", 5), ("banner_pos", 7)];
const QUERIES: usize = 200;
const QUERIES_OF_WINDOWS: usize = 20;
/// What a live stream and its late arrivals leave for a report to sum itself.
const STALE_HOURS: i64 = 3;

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let config = bench.config("reports");
    std::fs::create_dir_all(&config.data_dir)?;
    let servers = Servers::new(&config.data_dir);
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(async {
        let source = sinks::source(&config.data_dir)?;
        fill(&source)?;
        postgres(&servers, &source, report).await?;
        let mut took = Vec::with_capacity(QUERIES_OF_WINDOWS);
        for asked in asked().iter().cycle().take(QUERIES_OF_WINDOWS) {
            let begun = Instant::now();
            told(&reports::from_windows(&*source.broker, asked)?)?;
            took.push(begun.elapsed());
        }
        add(report, "reports: 10 days from the windows", took, Goal::None);
        Ok::<_, anyhow::Error>(())
    });
    runtime.block_on(servers.stop(Duration::from_secs(10)))?;
    measured.and_then(|()| forget(&config.data_dir))
}

async fn postgres(servers: &Servers, source: &SinkSource, report: &mut Report) -> Result<()> {
    let (options, endpoint) = (PostgresOptions::default(), Endpoint::Private(servers.clone()));
    sinks::catch_up(options.windows(&options.pool(endpoint.clone()), source), source).await?;
    let (client, connection) = tokio_postgres::connect(&servers.postgres().await?, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let mark = format!(
        "INSERT INTO realtime.stale_hours (run, hour) SELECT run, hour FROM realtime.hourly_metrics \
         WHERE dimension = 'total' ORDER BY hour DESC LIMIT {STALE_HOURS}"
    );
    client.execute("SELECT realtime.roll_up(1000, interval '0')", &[]).await?;
    let (all, some) = (mark.replace(&format!("LIMIT {STALE_HOURS}"), "LIMIT 1000"), mark);
    client.execute(&all, &[]).await?;
    let begun = Instant::now();
    let hours: i32 = client.query_one("SELECT realtime.roll_up(1000, interval '0')", &[]).await?.get(0);
    ensure!(i64::from(hours) == HOURS, "{hours} of {HOURS} hours were summed");
    let an_hour_ms = begun.elapsed().as_secs_f64() * 1e3 / f64::from(hours);
    report.add("reports: an hour summed from its windows", an_hour_ms, "ms", Goal::None);

    let from = options.reports(endpoint, source);
    let took = queries(&from).await?;
    add(report, "reports: 10 days from PostgreSQL", took, Goal::AtMost(300.0));
    client.execute(&some, &[]).await?;
    let took = queries(&from).await?;
    let name = format!("reports: 10 days, {STALE_HOURS} hours of them stale");
    add(report, &name, took, Goal::AtMost(300.0));
    drop(client);
    connection.await??;
    Ok(())
}

/// Each kind of report in turn, from the question to the text of its answer.
async fn queries(from: &Reports) -> Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(QUERIES);
    for asked in asked().iter().cycle().take(QUERIES) {
        let begun = Instant::now();
        let Scope { dimension, key, from_ms, to_ms } = asked.scope.clone();
        let hours = from.hours(&HoursQuery { dimension, key, from_ms, to_ms }).await.map_err(|e| anyhow!(e.chain()))?;
        ensure!(hours.len() == usize::try_from(HOURS)?, "{} of {HOURS} hours came", hours.len());
        let cells = hours.into_iter().map(|Hour { start_ms, keys, lower_bound }| Cells { start_ms, keys, lower_bound });
        told(&reports::rows(asked, cells)?)?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

fn told(rows: &[reports::ReportRow]) -> Result<()> {
    ensure!(!rows.is_empty(), "a report is empty");
    let rows: Vec<JsonRow<'_>> = rows.iter().map(JsonRow::from).collect();
    std::hint::black_box(serde_json::to_string(&rows)?);
    Ok(())
}

/// A trend of each kind and a breakdown of each dimension, and trends of one key.
fn asked() -> Vec<Asked> {
    let scope = |dimension: &str, key: Option<String>| {
        Scope::new(dimension.to_owned(), key, Some(T0), Some(T0 + HOURS * HOUR_MS))
    };
    let mut all = Vec::new();
    for (dimension, _) in DIMENSIONS {
        for by in [By::Hour, By::Day, By::HourOfDay, By::Weekday] {
            all.push(Asked { scope: scope(dimension, None), kind: Kind::Trend { by } });
        }
        let key = Some(key(dimension, 0));
        all.push(Asked { scope: scope(dimension, key), kind: Kind::Trend { by: By::Hour } });
        let kind = Kind::Breakdown { limit: 50, search: None, order: Order::Ctr };
        all.push(Asked { scope: scope(dimension, None), kind });
    }
    all
}

fn add(report: &mut Report, name: &str, mut took: Vec<Duration>, goal: Goal) {
    took.sort_unstable();
    let ms = |percent: usize| took.get(took.len() * percent / 100).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3);
    report.add(format!("{name}, p50"), ms(50), "ms", Goal::None);
    report.add(format!("{name}, p99"), ms(99), "ms", goal);
}

fn key(dimension: &str, key: i64) -> String {
    if dimension == "total" { String::new() } else { format!("{:08x}", (key + 1) * 0x9e37_79b9 % 0xffff_ffff) }
}

/// Ten days of windows of both sizes, an hour of a partition at a time.
fn fill(source: &SinkSource) -> Result<()> {
    for hour in 0..HOURS {
        for partition in (0..PARTITIONS).map(PartitionId) {
            let mut set = RecordSetBuilder::default();
            for size_ms in [60_000, PANE_MS] {
                for start_ms in (0..HOUR_MS).step_by(usize::try_from(size_ms)?).map(|at| T0 + hour * HOUR_MS + at) {
                    push(&mut set, source, partition, (size_ms, start_ms));
                }
            }
            source.broker.append(&source.windows, &set)?.wait()?;
        }
    }
    Ok(())
}

fn push(set: &mut RecordSetBuilder, source: &SinkSource, partition: PartitionId, (size_ms, start_ms): (i64, i64)) {
    let owner = Owner { run: source.run.id, partition, generation: Generation(0) };
    for (dimension, keys) in DIMENSIONS {
        let mut of = partial::key_prefix(&owner).into_bytes();
        partial::put_guest_key(&mut of, size_ms, start_ms, dimension);
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version { epoch: Epoch(1), as_of: Offset(1) });
        partial::put_guest_head(&mut value, false, usize::try_from(keys).unwrap_or_default());
        for number in 0..keys {
            let n = start_ms / size_ms % 97 + number * 13 + 1;
            let metrics =
                Metrics { impressions: n, clicks: n / 6, conversions: n / 90, cost_micros: n * 250, revenue_micros: n };
            partial::put_entry(&mut value, key(dimension, number).as_bytes(), &metrics);
        }
        partial::put_end(&mut value);
        set.push(Some(&of), &value, 0);
    }
}
