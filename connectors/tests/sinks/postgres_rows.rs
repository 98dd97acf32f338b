//! What lies in PostgreSQL and how it reads, against a real server.

use crate::feed::{Feed, MINUTE, Running, T0};
use crate::lab::{Lab, must};
use crate::pg::{ask, connect, connect_to, small_batches, start, start_at};
use clickmill_broker::TopicPartition;
use clickmill_connectors::{Endpoint, PostgresOptions, ServerUrl, SinkState};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};

const DAY: i64 = 24 * 60 * MINUTE;

#[tokio::test(flavor = "multi_thread")]
async fn windows_come_out_of_the_views_as_the_contract_says() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    for partition in 0..2 {
        let by = (partition, 1, 100);
        let five = 5 * MINUTE;
        feed.partial(by, MINUTE, T0, "total", &[("", [4, 2, 1, 3_000_000, 9_000_000])]);
        feed.partial(by, MINUTE, T0, "site_category", &[("28905ebd", [3, 1, 0, 0, 0]), ("ä\"", [1, 1, 0, 0, 0])]);
        feed.partial(by, MINUTE, T0 + MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
        feed.partial(by, five, T0, "total", &[("", [5, 2, 1, 3_000_001, 9_000_000])]);
        feed.partial(by, five, T0, "device_type", &[("1", [5, 2, 1, 3_000_001, 9_000_000])]);
    }
    feed.commit((0, 1, 100), Some(T0 + 10 * MINUTE));
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(feed.flush()).await;
    let client = connect(&lab).await;
    let columns = "SELECT string_agg(column_name || ':' || data_type, ' ' ORDER BY ordinal_position) \
        FROM information_schema.columns WHERE table_schema = 'realtime' AND table_name = ";
    let common = "window_start:timestamp with time zone window_end:timestamp with time zone impressions:bigint \
        clicks:bigint conversions:bigint cost:numeric revenue:numeric ctr:numeric cpc:numeric cpa:numeric roas:numeric \
        final:boolean";
    assert_eq!(ask(&client, &format!("{columns}'metrics_1min'")).await, [format!("{common} category_ctr:jsonb")]);
    assert_eq!(ask(&client, &format!("{columns}'metrics_5min'")).await, [format!("{common} device_ctr:jsonb")]);

    let schemas = "SELECT nspname FROM pg_namespace WHERE nspname IN ('realtime', 'analytics', 'errors') ORDER BY 1";
    assert_eq!(ask(&client, schemas).await, ["analytics", "errors", "realtime"]);
    let one = "SELECT to_char(window_start, 'HH24:MI'), to_char(window_end, 'HH24:MI'), impressions, clicks, conversions, \
        cost, revenue, round(ctr, 6), round(cpc, 6), round(cpa, 6), round(roas, 6), final FROM realtime.";
    // One of the two partitions has not committed: nothing is final.
    assert_eq!(
        ask(&client, &format!("{one}metrics_1min ORDER BY 1")).await,
        [
            "00:00 00:01 8 4 2 6.000000 18.000000 0.500000 1.500000 3.000000 3.000000 f",
            "00:01 00:02 2 0 0 0.000000 0.000000 0.000000 null null null f",
        ]
    );
    assert_eq!(
        ask(&client, &format!("{one}metrics_5min")).await,
        ["00:00 00:05 10 4 2 6.000002 18.000000 0.400000 1.500001 3.000001 2.999999 f"]
    );
    assert_eq!(
        ask(&client, "SELECT jsonb_object_keys(category_ctr) FROM realtime.metrics_1min ORDER BY 1").await,
        ["28905ebd", "ä\""]
    );
    let shown = ask(&client, "SELECT category_ctr->'28905ebd' FROM realtime.metrics_1min ORDER BY window_start").await;
    assert!(
        shown[0].starts_with(r#"{"ctr": 0.3333333333"#) && shown[0].ends_with(r#""clicks": 2, "impressions": 6}"#),
        "{shown:?}"
    );
    assert_eq!(shown[1], "null");
    assert_eq!(ask(&client, "SELECT device_ctr->'1'->'impressions' FROM realtime.metrics_5min").await, ["10"]);
    assert_eq!(
        ask(
            &client,
            "SELECT window_size, dimension, key, impressions, cost, lower_bound FROM realtime.ctr_metrics \
             WHERE dimension <> 'total' AND window_size = '5m'"
        )
        .await,
        ["5m device_type 1 10 6.000002 f"]
    );

    // The other partition closes the first minute only.
    feed.commit((1, 1, 100), Some(T0 + MINUTE));
    sink.reach(feed.flush()).await;
    assert_eq!(ask(&client, "SELECT final FROM realtime.metrics_1min ORDER BY window_start").await, ["t", "f"]);
    assert_eq!(ask(&client, "SELECT final FROM realtime.metrics_5min").await, ["f"]);
    assert_eq!(
        ask(&client, "SELECT partition, produced, counted FROM realtime.watermarks ORDER BY 1").await,
        ["0 100 100", "1 100 100"]
    );
    let status = sink.handle.status();
    assert_eq!((status.state, status.lag, status.skipped, &status.last_error), (SinkState::Running, 0, 0, &None));
    assert!(status.server.unwrap().contains(":***@127.0.0.1"));
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_get_partitions_and_the_rest_lies_in_the_default_one() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let (y1900, y2100, beyond) = (-2_208_988_800_000, 4_102_444_800_000, 9_300_000_000_000_000 / MINUTE * MINUTE);
    for start in [T0, T0 + DAY, T0 + DAY - MINUTE, y1900, y2100] {
        feed.partial((0, 1, 1), MINUTE, start, "total", &[("", [1, 0, 0, 0, 0])]);
    }
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(feed.flush()).await;
    let client = connect(&lab).await;
    let places = "SELECT tableoid::regclass::text, count(*) FROM realtime.window_partials GROUP BY 1 ORDER BY 1";
    assert_eq!(
        ask(&client, places).await,
        [
            "realtime.window_partials_20141021 2",
            "realtime.window_partials_20141022 1",
            "realtime.window_partials_default 2",
        ]
    );
    // What timestamptz cannot hold is left out and said; the rest of its batch is there.
    for start in [beyond, i64::MAX / MINUTE * MINUTE, i64::MIN / MINUTE * MINUTE, T0 + 2 * MINUTE] {
        feed.partial((0, 1, 2), MINUTE, start, "total", &[("", [1, 0, 0, 0, 0])]);
    }
    sink.reach(feed.flush()).await;
    let status = sink.handle.status();
    assert_eq!(status.skipped, 3);
    assert!(status.last_error.unwrap().contains("timestamptz"));
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.metrics_1min").await, ["6"]);
    sink.stop().await;

    // A day that has rows in the default partition stays there.
    let strange = "INSERT INTO realtime.window_partials SELECT run, 7, generation, window_size_ms, '2014-11-05', dimension, \
        epoch, as_of_offset, lower_bound, keys, impressions, clicks, conversions, cost_micros, revenue_micros \
        FROM realtime.window_partials LIMIT 1";
    client.execute(strange, &[]).await.unwrap();
    feed.partial((0, 1, 3), MINUTE, T0 + 15 * DAY, "total", &[("", [1, 0, 0, 0, 0])]);
    feed.partial((0, 1, 3), MINUTE, T0 + 16 * DAY, "total", &[("", [1, 0, 0, 0, 0])]);
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(feed.flush()).await;
    sink.stop().await;
    assert_eq!(
        ask(&client, places).await,
        [
            "realtime.window_partials_20141021 3",
            "realtime.window_partials_20141022 1",
            "realtime.window_partials_20141106 1",
            "realtime.window_partials_default 4",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_named_by_url_is_set_up_and_bad_rows_hold_nothing_up() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let url = must(lab.servers.postgres().await);
    // An encoding that cannot hold every key.
    let make = "CREATE DATABASE other ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    connect_to(&url).await.batch_execute(make).await.unwrap();
    let url = ServerUrl(url.replace("/postgres", "/other"));
    for minute in 0..50 {
        let key = if minute == 17 { "日本" } else { "é" };
        feed.partial((0, 1, 1), MINUTE, T0 + minute * MINUTE, "site_category", &[(key, [1, 0, 0, 0, 0])]);
    }
    feed.partial((0, 1, 1), MINUTE, T0, "total", &[("", [1, 0, 0, 0, 0]), ("a\0b", [2, 0, 0, 0, 0])]);
    let sink = start_at(&url, &feed);
    sink.reach(feed.flush()).await;
    let status = sink.handle.status();
    assert_eq!(status.skipped, 2, "the key that LATIN1 cannot hold, and U+FFFD: {:?}", status.last_error);
    let client = connect_to(&url.0).await;
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.window_partials").await, ["49"]);
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_nul_are_stored_under_a_replacement_and_summed() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    for partition in 0..2 {
        let keys = [("a\0", [1, 0, 0, 0, 0]), ("a\u{fffd}", [2, 0, 0, 0, 0]), ("b", [4, 0, 0, 0, 0])];
        feed.partial((partition, 1, 1), MINUTE, T0, "site_category", &keys);
    }
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(feed.flush()).await;
    sink.stop().await;
    let sums = ask(&connect(&lab).await, "SELECT key, impressions FROM realtime.window_sums ORDER BY 2").await;
    assert_eq!(sums, ["a\u{fffd} 6", "b 8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_events_are_copied_once_each_json_or_not() {
    let lab = Lab::new();
    let feed = Feed::new(lab.path(), 2);
    let at = TopicPartition::new("ad_events_raw", PartitionId(1));
    let values = [
        &br#"{"id": "1", "ts": 5}"#[..],
        b"not json",
        br#"{"lone": "\ud800"}"#,
        br#"{"nul": "\u0000"}"#,
        br#"{"huge": 1e999999999}"#,
        b"\xff\x00",
        b"",
    ];
    let append = || {
        let mut set = RecordSetBuilder::default();
        values.iter().for_each(|value| set.push(None, value, T0));
        feed.source.broker.append(&at, &set).unwrap().wait().unwrap();
    };
    append();
    let options = PostgresOptions { raw_events: true, ..PostgresOptions::default() };
    let pool = options.pool(Endpoint::Private(lab.servers.clone()));
    for round in 1..=2u64 {
        let sinks: Vec<_> = options.raw(&pool, &feed.source).into_iter().map(Running::start).collect();
        assert_eq!(sinks.len(), 2);
        sinks[1].reach(Offset(values.len() as u64 * round)).await;
        for sink in sinks {
            sink.stop().await;
        }
        append();
    }
    let client = connect(&lab).await;
    let rows = ask(
        &client,
        "SELECT \"offset\", value->>'id', encode(payload, 'escape') FROM realtime.raw_events ORDER BY 1 LIMIT 7",
    )
    .await;
    assert_eq!(
        rows,
        [
            "0 1 null",
            "1 null not json",
            r#"2 null {"lone": "\\ud800"}"#,
            r#"3 null {"nul": "\\u0000"}"#,
            r#"4 null {"huge": 1e999999999}"#,
            r"5 null \377\000",
            "6 null ",
        ]
    );
    assert_eq!(ask(&client, "SELECT count(*), max(\"offset\") FROM realtime.raw_events").await, ["14 13"]);
    assert!(PostgresOptions::default().raw(&pool, &feed.source).is_empty(), "off by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn lower_bounds_are_told_for_the_whole_dimension_of_a_window() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    for (start, partition) in [(T0, 0), (T0, 1), (T0 + MINUTE, 0)] {
        let key = if partition == 0 { "a" } else { "b" };
        feed.partial((partition, 1, 1), MINUTE, start, "site_category", &[(key, [1, 0, 0, 0, 0])]);
        feed.partial((partition, 1, 1), MINUTE, start, "total", &[("", [1, 0, 0, 0, 0])]);
    }
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(feed.flush()).await;
    let client = connect(&lab).await;
    let bound = "UPDATE realtime.window_partials SET lower_bound = true \
        WHERE dimension = 'site_category' AND partition = 1 AND window_start = '2014-10-21 00:00+00'";
    assert_eq!(client.execute(bound, &[]).await.unwrap(), 1);
    let told =
        "SELECT to_char(window_start, 'MI'), dimension, key, lower_bound FROM realtime.window_sums ORDER BY 1, 2, 3";
    assert_eq!(
        ask(&client, told).await,
        ["00 site_category a t", "00 site_category b t", "00 total  f", "01 site_category a f", "01 total  f"]
    );
    sink.stop().await;
}
