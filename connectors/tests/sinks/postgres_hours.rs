//! Hours that PostgreSQL keeps summed are at any moment those of the log's windows: while they are written and summed, after
//! late arrivals, cuts and kills, and whoever's rows were there before. Against a real server.

use std::collections::BTreeMap;
use std::time::Duration;

use clickmill_broker::BrokerError;
use clickmill_connectors::postgres::{HoursQuery, Reports};
use clickmill_connectors::{Connector, Endpoint, OnOtherRun, PostgresOptions, RunInfo, SinkState};
use clickmill_schemas::Offset;
use clickmill_schemas::partial::Metrics;
use tokio_postgres::Client;

use crate::feed::{Feed, MINUTE, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{ask, connect, small_batches, start};

const PANE: i64 = 5 * MINUTE;
const HOUR: i64 = 60 * MINUTE;
const DIMENSIONS: [(&str, i64); 3] = [("total", 1), ("site_category", 26), ("device_type", 5)];

/// By hour, dimension and key: the metrics, and whether they are a lower bound.
type Hours = BTreeMap<(i64, String, String), ([i64; 5], bool)>;

/// Days of panes of two partitions, all in this epoch's version; keys come and go, and some have nothing but a cost.
fn fill(feed: &mut Feed, epoch: u64, hours: impl Iterator<Item = i64>) -> Offset {
    for hour in hours {
        for partition in 0..2u32 {
            let by = (partition, epoch, epoch * 100);
            for pane in (0..12).filter(|pane| (pane + hour) % 3 != 0) {
                let start = T0 + hour * HOUR + pane * PANE;
                feed.partial(by, MINUTE, start, "total", &[("", [1_000, 0, 0, 0, 0])]);
                for (dimension, keys) in DIMENSIONS {
                    let n = |key: i64| (hour * 31 + pane * 7 + key * 3 + i64::from(partition)) % 50 * epoch as i64;
                    let names: Vec<String> = (0..keys)
                        .map(|key| if dimension == "total" { String::new() } else { format!("key \"{key}\"") })
                        .collect();
                    let entries: Vec<(&str, [i64; 5])> = names
                        .iter()
                        .zip(0..)
                        .map(|(name, key)| (name.as_str(), [n(key), n(key) / 5, n(key) / 40, n(key) * 250 + 1, n(key)]))
                        .collect();
                    feed.partial(by, PANE, start, dimension, &entries);
                }
            }
            feed.commit(by, Some(T0 + hour * HOUR));
        }
        feed.flush();
    }
    feed.flush()
}

/// What the log says, summed here.
fn expected(feed: &Feed) -> Hours {
    let (mut hours, mut bounds) = (Hours::new(), BTreeMap::new());
    for (window, merged) in feed.recount().iter().filter(|(window, _)| window.size_ms == PANE) {
        let hour = window.start_ms.div_euclid(HOUR) * HOUR;
        for (key, m) in merged.sums().into_iter().filter(|(_, m)| m.impressions > 0) {
            *bounds.entry((hour, window.dimension.clone())).or_insert(false) |= merged.lower_bound();
            let (sums, _) = hours.entry((hour, window.dimension.clone(), key)).or_default();
            let metrics = [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros];
            sums.iter_mut().zip(metrics).for_each(|(sum, n)| *sum += n);
        }
    }
    hours.iter_mut().for_each(|((hour, dimension, _), (_, bound))| *bound = bounds[&(*hour, dimension.clone())]);
    hours
}

async fn held(client: &Client) -> Hours {
    let rows = client
        .query(
            "SELECT (extract(epoch FROM hour_start) * 1000)::bigint, dimension, key, impressions, clicks, conversions, \
             cost_micros, revenue_micros, lower_bound FROM realtime.metrics_hourly",
            &[],
        )
        .await
        .unwrap();
    let of = |row: &tokio_postgres::Row| {
        ((row.get(0), row.get(1), row.get(2)), ([3, 4, 5, 6, 7].map(|i| row.get::<_, i64>(i)), row.get(8)))
    };
    let count = rows.len();
    let held: Hours = rows.iter().map(of).collect();
    assert_eq!(held.len(), count, "each hour, dimension and key once");
    held
}

async fn assert_equal(client: &Client, feed: &Feed) {
    assert_eq!(held(client).await, expected(feed));
}

async fn number(client: &Client, sql: &str) -> i64 {
    ask(client, sql).await[0].parse().unwrap()
}

async fn sum_all(client: &Client) -> i64 {
    number(client, "SELECT realtime.roll_up(1000, interval '0')").await
}

async fn mark_all(client: &Client) {
    let mark = "INSERT INTO realtime.stale_hours (run, hour) SELECT DISTINCT run, date_trunc('hour', window_start, 'UTC') \
        FROM realtime.window_partials WHERE window_size_ms = 300000";
    client.execute(mark, &[]).await.unwrap();
}

const STALE: &str = "SELECT count(DISTINCT hour) FROM realtime.stale_hours";

fn reports(lab: &Lab, feed: &Feed) -> Reports {
    PostgresOptions::default().reports(Endpoint::Private(lab.servers.clone()), &feed.source)
}

fn query(dimension: &str, key: Option<&str>, hours: std::ops::Range<i64>) -> HoursQuery {
    let at = |hour: i64| Some(T0 + hour * HOUR);
    let (dimension, key) = (dimension.to_owned(), key.map(str::to_owned));
    HoursQuery { dimension, key, from_ms: at(hours.start), to_ms: at(hours.end) }
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_are_right_before_they_are_summed_while_they_are_and_after_late_arrivals() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(fill(&mut feed, 1, 0..72)).await;
    let client = connect(&lab).await;
    assert_equal(&client, &feed).await;
    sink.stop().await;
    // Some summed and some not.
    mark_all(&client).await;
    assert_eq!(number(&client, "SELECT realtime.roll_up(30, interval '0')").await, 30);
    assert_equal(&client, &feed).await;
    assert_eq!(sum_all(&client).await, 42);
    assert_equal(&client, &feed).await;
    assert_eq!(number(&client, "SELECT count(*) FROM realtime.hourly_metrics").await, 72 * 3);
    // Late: some hours of other days, in a new version.
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(fill(&mut feed, 2, [3, 4, 30, 71, 72].into_iter())).await;
    assert_equal(&client, &feed).await;
    // The sink sums them itself, once they have rested.
    let limit = tokio::time::Instant::now() + Duration::from_secs(30);
    while number(&client, STALE).await > 0 {
        assert!(tokio::time::Instant::now() < limit, "nobody sums them");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_equal(&client, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_while_their_hour_is_summed_wait_for_nobody_and_are_not_lost() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(fill(&mut feed, 1, 0..3)).await;
    let (mut summing, client) = (connect(&lab).await, connect(&lab).await);
    mark_all(&client).await;
    let transaction = summing.transaction().await.unwrap();
    let summed: i32 = transaction.query_one("SELECT realtime.roll_up(9, interval '0')", &[]).await.unwrap().get(0);
    assert_eq!(summed, 3);
    assert_eq!(sum_all(&client).await, 0, "one at a time");
    sink.reach(fill(&mut feed, 2, 0..3)).await;
    assert_equal(&client, &feed).await;
    transaction.commit().await.unwrap();
    assert_equal(&client, &feed).await;
    sum_all(&client).await;
    assert_equal(&client, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_survive_a_killed_sink_and_a_server_that_is_killed_while_it_sums() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let options = small_batches();
    for round in 1..=3u64 {
        let sink = start(&lab, &feed, &options);
        let end = fill(&mut feed, round, 0..30 + round as i64);
        sink.reach_state(SinkState::Running).await;
        let half = Offset(end.0 - 20);
        sink.wait(|h| h.confirmed() >= half).await;
        sink.kill().await;
        let client = connect(&lab).await;
        let sums = tokio::spawn(async move {
            // Until the server is gone.
            while client.query("SELECT realtime.roll_up(1, interval '0')", &[]).await.is_ok() {}
        });
        let sink = start(&lab, &feed, &options);
        tokio::time::sleep(Duration::from_millis(50 * round)).await;
        let record = std::fs::read(lab.path().join("servers/servers.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let pid_file = format!("{}/postgres/postmaster.pid", record["home"].as_str().unwrap());
        let pid = std::fs::read_to_string(pid_file).unwrap().lines().next().unwrap().to_owned();
        std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        sums.await.unwrap();
        let client = connect(&lab).await;
        sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
        // What a crash takes from the end is written again once the sink has noticed.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        sink.wait(|h| h.status().state == SinkState::Running && h.status().lag == 0).await;
        assert_equal(&client, &feed).await;
        sum_all(&client).await;
        assert_equal(&client, &feed).await;
        sink.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_of_a_report_scans_the_partials() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(fill(&mut feed, 1, 0..240)).await;
    sink.stop().await;
    let client = connect(&lab).await;
    sum_all(&client).await;
    // Stale ones too, summed by the query.
    client
        .execute(
            "INSERT INTO realtime.stale_hours (run, hour) SELECT run, hour FROM realtime.hourly_metrics \
        WHERE dimension = 'total' AND extract(hour FROM hour) = 5",
            &[],
        )
        .await
        .unwrap();
    client.batch_execute("ANALYZE").await.unwrap();
    let scans =
        "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'window_partials%'";
    let flushed = async |client: &Client| {
        // Sessions tell of their scans within a second of being idle, or when they end.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        client.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        number(client, scans).await
    };
    let before = flushed(&client).await;
    let reports = reports(&lab, &feed);
    let expected = expected(&feed);
    for (dimension, keys) in DIMENSIONS {
        let hours = reports.hours(&query(dimension, None, 0..240)).await.unwrap();
        assert_eq!((hours.len(), hours[0].keys.len()), (240, keys as usize));
        let hours: i64 = hours.iter().flat_map(|hour| &hour.keys).map(|(_, m)| m.impressions).sum();
        let of = expected.iter().filter(|((_, of, _), _)| of == dimension);
        assert_eq!(hours, of.map(|(_, (metrics, _))| metrics[0]).sum::<i64>());
        reports.hours(&query(dimension, Some("key \"1\""), 5..6)).await.unwrap();
    }
    let everything = HoursQuery { dimension: "total".to_owned(), key: None, from_ms: None, to_ms: None };
    assert_eq!(reports.hours(&everything).await.unwrap().len(), 240);
    let view = "SELECT * FROM realtime.metrics_hourly WHERE dimension = 'site_category' AND hour_start < '2014-10-23'";
    assert!(!ask(&client, view).await.is_empty());
    let plan = ask(&client, &format!("EXPLAIN {view}")).await.join("\n");
    assert!(plan.contains("hour_of_partials") && !plan.contains("on window_partials"), "{plan}");
    sum_all(&client).await;
    drop(reports);
    assert_eq!(flushed(&client).await, before, "neither the reports nor the sums have scanned a table of partials");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_get_one_key_or_all_of_whole_hours_with_their_lower_bounds() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let long = "ключ\"<b>".repeat(900);
    for (hour, key) in [(0, "a"), (0, "b"), (1, "b"), (2, long.as_str()), (3, "a\0")] {
        feed.partial(
            (0, 1, 1),
            PANE,
            T0 + hour * HOUR + if key == "b" { PANE } else { 0 },
            "site_category",
            &[(key, [3, 2, 1, 5, 7])],
        );
    }
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(feed.flush()).await;
    sink.stop().await;
    let client = connect(&lab).await;
    let bound = "UPDATE realtime.window_partials SET lower_bound = true WHERE window_start = '2014-10-21 01:05+00'";
    assert_eq!(client.execute(bound, &[]).await.unwrap(), 1);
    mark_all(&client).await;
    let reports = reports(&lab, &feed);
    for summed in [false, true] {
        if summed {
            assert_eq!(sum_all(&client).await, 4);
        }
        let told = async |key: Option<&str>, hours| {
            let mut hours = reports.hours(&query("site_category", key, hours)).await.unwrap();
            hours.sort_unstable_by_key(|hour| hour.start_ms);
            let keys = |keys: &[(String, Metrics)]| {
                let mut keys: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
                keys.sort_unstable();
                keys
            };
            hours.iter().map(|h| ((h.start_ms - T0) / HOUR, keys(&h.keys), h.lower_bound)).collect::<Vec<_>>()
        };
        let of = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(told(None, 0..2).await, [(0, of(&["a", "b"]), false), (1, of(&["b"]), true)]);
        // Of the key that did not appear in an hour with a lower bound something may be in the overflow there.
        assert_eq!(told(Some("a"), 0..2).await, [(0, of(&["a"]), false), (1, of(&[]), true)]);
        assert_eq!(told(Some(long.as_str()), 2..3).await, [(2, of(&[long.as_str()]), false)]);
        assert_eq!(told(Some("a\0"), 3..9).await, [(3, of(&["a\u{fffd}"]), false)]);
        assert!(told(None, 5..9).await.is_empty());
    }
    let hour = reports.hours(&query("site_category", Some("b"), 1..2)).await.unwrap().remove(0);
    let metrics = Metrics { impressions: 3, clicks: 2, conversions: 1, cost_micros: 5, revenue_micros: 7 };
    assert_eq!(hour.keys, [("b".to_owned(), metrics)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_do_not_fit_wrap_as_they_do_in_readers() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    for (pane, cost) in [(0, i64::MAX), (1, i64::MAX), (2, 7), (3, i64::MIN), (4, i64::MIN), (5, i64::MIN)] {
        feed.partial((0, 1, 1), PANE, T0 + pane * PANE, "total", &[("", [1, 0, 0, cost, cost])]);
    }
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(feed.flush()).await;
    sink.stop().await;
    let client = connect(&lab).await;
    let mut wrapped = Metrics::default();
    for (_, merged) in feed.recount().iter() {
        merged.sums().values().for_each(|m| wrapped.add(m));
    }
    mark_all(&client).await;
    assert_eq!(sum_all(&client).await, 1);
    let sums = ask(&client, "SELECT impressions, cost_micros FROM realtime.metrics_hourly").await;
    assert_eq!(sums, [format!("6 {}", wrapped.cost_micros)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_there_were_hours_are_summed_too() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    let end = fill(&mut feed, 1, 0..30);
    sink.reach(end).await;
    sink.stop().await;
    let client = connect(&lab).await;
    let before = "DROP VIEW realtime.metrics_hourly, realtime.hours; DROP FUNCTION realtime.roll_up, realtime.hour_of_partials, \
        realtime.wrapped; DROP TABLE realtime.stale_hours, realtime.hourly_metrics; \
        DELETE FROM realtime.schema_migrations WHERE version >= 4";
    client.batch_execute(before).await.unwrap();
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Running).await;
    assert_equal(&client, &feed).await;
    sink.stop().await;
    sum_all(&client).await;
    assert_eq!(number(&client, "SELECT count(*) FROM realtime.hourly_metrics").await, 30 * 3);
    assert_equal(&client, &feed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hour_of_another_run_remains_where_its_rows_are_replaced() {
    let lab = Lab::new();
    let mut first = Feed::new(&lab.path().join("first"), 2);
    let mut second = Feed::new(&lab.path().join("second"), 2);
    let sink = start(&lab, &first, &PostgresOptions::default());
    sink.reach(fill(&mut first, 1, 0..5)).await;
    sink.stop().await;
    let client = connect(&lab).await;
    sum_all(&client).await;
    let end = fill(&mut second, 1, 3..6);
    let runs = "SELECT count(DISTINCT run) FROM (SELECT run FROM realtime.hourly_metrics UNION ALL SELECT run FROM realtime.stale_hours) r";

    let keep = PostgresOptions { on_other_run: OnOtherRun::Keep, ..PostgresOptions::default() };
    let sink = start(&lab, &second, &keep);
    sink.reach(end).await;
    sink.stop().await;
    assert_equal(&client, &second).await;
    sum_all(&client).await;
    assert_equal(&client, &second).await;
    assert_eq!(number(&client, runs).await, 2);
    let refused = reports(&lab, &first).hours(&query("total", None, 0..9)).await.unwrap_err().chain();
    assert!(refused.contains("does not hold all of the current run yet"), "{refused}");

    let replace = PostgresOptions { on_other_run: OnOtherRun::Replace, ..PostgresOptions::default() };
    let sink = start(&lab, &first, &replace);
    sink.reach_state(SinkState::Running).await;
    assert_equal(&client, &first).await;
    assert_eq!(number(&client, runs).await, 1);
    sink.stop().await;

    // A run that takes the place of another: readers have that one's hours until it is complete.
    let end = fill(&mut second, 2, 0..2);
    second.source.run = RunInfo { replaced: vec![first.run()], complete_at: end, ..second.source.run.clone() };
    let same = second.source.run.clone();
    second.source.runs = std::sync::Arc::new(move || Ok::<_, BrokerError>(same.clone()));
    let sink = start(&lab, &second, &PostgresOptions::default());
    sink.reach(end).await;
    assert_equal(&client, &second).await;
    assert_eq!(number(&client, runs).await, 1);
    sum_all(&client).await;
    assert_equal(&client, &second).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_empties_the_hours_and_fills_them_anew() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    fill(&mut feed, 1, 0..10);
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(PostgresOptions::default())]).await;
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running && h.status().lag == 0).await;
    }
    let client = connect(&lab).await;
    sum_all(&client).await;
    // What no partial says.
    client
        .execute("UPDATE realtime.hourly_metrics SET impressions = '{777}' WHERE dimension = 'total'", &[])
        .await
        .unwrap();
    assert_ne!(held(&client).await, expected(&feed));
    assert!(host.reports().unwrap().is_some());
    host.rebuild("postgres").await.unwrap();
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running && h.status().lag == 0).await;
    }
    assert_equal(&client, &feed).await;
    sum_all(&client).await;
    assert_equal(&client, &feed).await;
    host.stop("postgres").await.unwrap();
    assert_eq!(host.reports().err().unwrap(), "connector postgres is stopped");
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}
