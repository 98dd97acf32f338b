//! A PostgreSQL under test: asking it, filling the log for it, comparing the two.

use std::collections::BTreeMap;

use clickmill_connectors::{BatchOptions, Endpoint, PostgresOptions, ServerUrl};
use clickmill_schemas::Offset;
use tokio_postgres::{Client, NoTls};

use crate::feed::{Feed, MINUTE, Running, T0};
use crate::lab::Lab;

/// One transaction per batch of the log.
pub fn small_batches() -> PostgresOptions {
    PostgresOptions { batch: BatchOptions { max_bytes: 1, ..BatchOptions::default() }, ..PostgresOptions::default() }
}

pub fn start(lab: &Lab, feed: &Feed, options: &PostgresOptions) -> Running {
    Running::start(options.windows(&options.pool(Endpoint::Private(lab.servers.clone())), &feed.source))
}

/// With the options that there are by default.
pub fn start_at(url: &ServerUrl, feed: &Feed) -> Running {
    let options = PostgresOptions::default();
    Running::start(options.windows(&options.pool(Endpoint::Named(url.clone())), &feed.source))
}

pub async fn connect(lab: &Lab) -> Client {
    connect_to(&lab.postgres().await).await
}

pub async fn connect_to(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// All rows as text, columns joined by spaces.
pub async fn ask(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.simple_query(sql).await.unwrap();
    rows.iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or("null")).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        })
        .collect()
}

/// Impressions by window, dimension and key, as the database sums them and as the log says.
pub async fn assert_equal_to_the_log(client: &Client, feed: &Feed) {
    let rows = client
        .query(
            "SELECT (extract(epoch FROM window_start) * 1000)::bigint, window_size_ms, dimension, key, impressions, \
             clicks, conversions, cost_micros, revenue_micros FROM realtime.window_sums",
            &[],
        )
        .await
        .unwrap();
    let stored: BTreeMap<_, _> = rows
        .iter()
        .map(|r| {
            let key: (i64, i64, String, String) = (r.get(0), r.get(1), r.get(2), r.get(3));
            (key, [4, 5, 6, 7, 8].map(|i| r.get::<_, i64>(i)))
        })
        .collect();
    let mut expected = BTreeMap::new();
    for (window, merged) in feed.recount().iter() {
        for (key, m) in merged.sums() {
            expected.insert(
                (window.start_ms, window.size_ms, window.dimension.clone(), key),
                [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros],
            );
        }
    }
    assert_eq!(stored, expected);
}

/// Two partitions' worth of windows over some hours, one batch of the log per commit.
pub fn fill(feed: &mut Feed, epoch: u64, commits: u64) -> Offset {
    for n in 1..=commits {
        for partition in 0..2 {
            let by = (partition, epoch, n * 100);
            for back in 0..3 {
                let start = T0 + (n as i64 - back) * 7 * MINUTE;
                let value = n as i64 * 10 + back;
                feed.partial(by, MINUTE, start, "total", &[("", [value, 1, 0, 5, 0])]);
                let keys = [("28905ebd", [value, 1, 1, 2, 3]), ("50e219e0", [back, 0, 0, 3, 0])];
                feed.partial(by, MINUTE, start, "site_category", &keys);
            }
            feed.commit(by, Some(T0 + (n as i64 - 3) * 7 * MINUTE));
        }
        feed.flush();
    }
    feed.flush()
}
