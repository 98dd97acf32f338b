//! Windows, ledger, PostgreSQL and Redis against the recount, cell by cell.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use clickmill_pipeline::views;
use clickmill_schemas::partial::Metrics;
use redis::AsyncCommands;

use crate::bench::reference::Reference;
use crate::stack::Stack;

/// Size in milliseconds, start, dimension, key.
type Cell = (i64, i64, String, String);
type Cells = BTreeMap<Cell, Metrics>;

const SIZES: [(i64, &str); 2] = [(60_000, "1min"), (300_000, "5min")];
/// Differences that are shown; the rest is counted.
const SHOWN: usize = 5;

/// What was compared, and how it came out.
#[derive(Default)]
pub struct Report {
    lines: Vec<(String, bool)>,
}

impl Report {
    pub fn agrees(&self) -> bool {
        self.lines.iter().all(|(_, ok)| *ok)
    }

    fn compare(&mut self, what: &str, expected: &Cells, found: &Cells) {
        let cells = expected.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
        let differing: Vec<_> = cells.iter().filter(|cell| expected.get(**cell) != found.get(**cell)).collect();
        self.lines.push((
            format!("{what}: {} of {} window cells agree", cells.len() - differing.len(), cells.len()),
            differing.is_empty(),
        ));
        for cell in differing.into_iter().take(SHOWN) {
            let line = format!("  {cell:?}: recounted {:?}, found {:?}", expected.get(*cell), found.get(*cell));
            self.lines.push((line, false));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, ok) in &self.lines {
            writeln!(f, "{} {line}", if *ok { "ok  " } else { "DIFF" })?;
        }
        write!(f, "{}", if self.agrees() { "the recount agrees" } else { "the recount does NOT agree" })
    }
}

/// Compares all of it.
pub async fn all(stack: &Stack, rows: u64, reference: &Reference) -> Result<Report> {
    let expected: Cells = reference
        .windows
        .iter()
        .map(|((size, start, d, key), m)| ((*size, *start, (*d).to_owned(), key.clone()), *m))
        .collect();
    let mut report = Report::default();

    let ledger = stack.ledger()?;
    let balanced = ledger.counted == rows && ledger.accounted() == rows;
    report.lines.push((
        format!(
            "ledger: {rows} {} = {} counted + {} rejected + {} late + {} dropped",
            if rows == 1 { "row" } else { "rows" },
            ledger.counted,
            ledger.rejected,
            ledger.late,
            ledger.dropped
        ),
        balanced,
    ));
    report.compare("clickmill windows", &expected, &from_topic(stack)?);
    report.compare("PostgreSQL realtime.ctr_metrics", &expected, &from_postgres(stack).await?);
    report.compare("Redis metrics:*", &expected, &from_redis(stack, &expected).await?);
    Ok(report)
}

fn from_topic(stack: &Stack) -> Result<Cells> {
    let mut cells = Cells::new();
    for (size_ms, _) in SIZES {
        let query = views::WindowQuery { size_ms, ..views::WindowQuery::default() };
        for row in views::windows(&*stack.broker(), &query)?.into_rows() {
            let row = row?;
            cells.insert((size_ms, row.window.start_ms, row.window.dimension, row.key), row.metrics);
        }
    }
    Ok(cells)
}

async fn from_postgres(stack: &Stack) -> Result<Cells> {
    let url = stack.servers().postgres().await?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.context("PostgreSQL")?;
    let connection = tokio::spawn(connection);
    let rows = client
        .query(
            "SELECT (extract(epoch FROM window_end - window_start) * 1000)::bigint, \
                    (extract(epoch FROM window_start) * 1000)::bigint, dimension, key, impressions, clicks, conversions, \
                    (cost * 1000000)::bigint, (revenue * 1000000)::bigint FROM realtime.ctr_metrics",
            &[],
        )
        .await
        .context("reading realtime.ctr_metrics")?;
    drop(client);
    let cells = rows.iter().map(|row| {
        let metrics = Metrics {
            impressions: row.get(4),
            clicks: row.get(5),
            conversions: row.get(6),
            cost_micros: row.get(7),
            revenue_micros: row.get(8),
        };
        ((row.get(0), row.get(1), row.get(2), row.get(3)), metrics)
    });
    let cells = cells.collect();
    connection.await?.context("closing PostgreSQL")?;
    Ok(cells)
}

async fn from_redis(stack: &Stack, expected: &Cells) -> Result<Cells> {
    let client = redis::Client::open(stack.servers().redis().await?)?;
    let mut connection = client.get_multiplexed_async_connection().await.context("Redis")?;
    let windows: std::collections::BTreeSet<_> = expected.keys().map(|(size, start, ..)| (*size, *start)).collect();
    let mut cells = Cells::new();
    for (size_ms, start_ms) in windows {
        let name = SIZES.iter().find(|(ms, _)| *ms == size_ms).map_or("", |(_, name)| name);
        let start = jiff::Timestamp::from_millisecond(start_ms)?;
        let fields: BTreeMap<String, String> = connection.hgetall(format!("metrics:{name}:{start}")).await?;
        for (field, value) in fields {
            let parts: Vec<&str> = field.split('|').collect();
            let (dimension, key, metric) = match parts.as_slice() {
                [metric] => ("total", String::new(), *metric),
                [dimension, key @ .., metric] => (*dimension, key.join("|"), *metric),
                [] => continue,
            };
            let cell = cells.entry((size_ms, start_ms, dimension.to_owned(), key)).or_default();
            let slot = match metric {
                "impressions" => &mut cell.impressions,
                "clicks" => &mut cell.clicks,
                "conversions" => &mut cell.conversions,
                "cost_micros" => &mut cell.cost_micros,
                "revenue_micros" => &mut cell.revenue_micros,
                _ => continue,
            };
            *slot = value.parse().with_context(|| format!("Redis: {field} of metrics:{name}:{start}: {value:?}"))?;
        }
    }
    Ok(cells)
}
