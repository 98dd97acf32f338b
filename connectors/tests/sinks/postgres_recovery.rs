//! What the PostgreSQL sink survives and what it refuses, against a real server.

use crate::feed::{Feed, MINUTE, Running, T0};
use crate::lab::Lab;
use crate::pg::{ask, assert_equal_to_the_log, connect, fill, small_batches, start};
use clickmill_broker::TopicPartition;
use clickmill_connectors::{Endpoint, OnOtherRun, PostgresOptions, SinkState};
use clickmill_schemas::output::Body;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};

#[tokio::test(flavor = "multi_thread")]
async fn replays_change_nothing_and_older_versions_never_overwrite() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let end = fill(&mut feed, 1, 20);
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(end).await;
    sink.stop().await;
    let client = connect(&lab).await;
    assert_equal_to_the_log(&client, &feed).await;
    // A row from the future, then everything again from the beginning.
    let changed = client
        .execute("UPDATE realtime.window_partials SET epoch = 9, impressions = '{777}' WHERE dimension = 'total' AND partition = 1", &[])
        .await
        .unwrap();
    client.execute("UPDATE realtime.sink_state SET next_offset = 0", &[]).await.unwrap();
    let sink = start(&lab, &feed, &small_batches());
    sink.reach_state(SinkState::Running).await;
    sink.reach(end).await;
    assert_eq!(sink.handle.status().rows_written, 2, "only the same commits are written again");
    sink.stop().await;
    let count = ask(&client, "SELECT count(*) FROM realtime.window_partials WHERE impressions = '{777}'").await;
    assert_eq!(count, [changed.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_worker_is_kept_out_also_after_a_restart() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    feed.output(0, 3, Body::Epoch);
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(feed.flush()).await;
    sink.stop().await;
    feed.partial((0, 2, 50), MINUTE, T0, "total", &[("", [99, 0, 0, 0, 0])]);
    feed.commit((0, 2, 50), Some(T0));
    feed.partial((1, 1, 50), MINUTE, T0, "total", &[("", [5, 0, 0, 0, 0])]);
    let sink = start(&lab, &feed, &small_batches());
    sink.reach(feed.flush()).await;
    sink.stop().await;
    let client = connect(&lab).await;
    assert_eq!(ask(&client, "SELECT impressions FROM realtime.metrics_1min").await, ["5"]);
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.watermarks").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_is_waited_for_and_caught_up() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let sink = start(&lab, &feed, &small_batches());
    for round in 1..=3 {
        let end = fill(&mut feed, round, 60);
        let record = std::fs::read(lab.path().join("servers/servers.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        let pid_file = format!("{}/postgres/postmaster.pid", record["home"].as_str().unwrap_or_default());
        if let Some(pid) = std::fs::read_to_string(pid_file).ok().and_then(|t| t.lines().next().map(str::to_owned)) {
            if round == 3 {
                sink.reach(end).await;
            }
            let retries = sink.handle.status().retries;
            std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            // In the third round the crash takes back what was confirmed a moment before (synchronous_commit is off):
            // the sink's word counts again once it has noticed.
            sink.wait(|h| h.status().retries > retries).await;
        }
        sink.wait(|h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
    }
    assert!(sink.handle.status().retries > 0);
    assert_eq!(sink.handle.status().last_error, None, "it runs again");
    assert_equal_to_the_log(&connect(&lab).await, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sinks_notice_that_their_schema_was_dropped_and_fill_a_new_one() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let end = fill(&mut feed, 1, 20);
    let mut events = RecordSetBuilder::default();
    (0..100).for_each(|n| events.push(None, format!("{{\"id\": \"{n}\"}}").as_bytes(), T0));
    let at = TopicPartition::new("ad_events_raw", PartitionId(0));
    feed.source.broker.append(&at, &events).unwrap().wait().unwrap();
    let options = PostgresOptions { raw_events: true, ..PostgresOptions::default() };
    let windows = start(&lab, &feed, &options);
    let raw = options.raw(&options.pool(Endpoint::Private(lab.servers.clone())), &feed.source).pop().unwrap();
    let raw = Running::start(raw);
    windows.reach(end).await;
    raw.reach(Offset(100)).await;
    let client = connect(&lab).await;
    client.batch_execute("DROP SCHEMA realtime CASCADE").await.unwrap();
    for sink in [&windows, &raw] {
        sink.wait(|h| h.status().retries > 0).await;
        sink.wait(|h| h.status().state == SinkState::Running && h.status().lag == 0).await;
    }
    assert_equal_to_the_log(&client, &feed).await;
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.raw_events").await, ["100"]);
    windows.stop().await;
    raw.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runs_rows_are_refused_replaced_or_kept() {
    let lab = Lab::new();
    let mut first = Feed::new(&lab.path().join("first"), 2);
    let mut second = Feed::new(&lab.path().join("second"), 2);
    let (first_end, second_end) = (fill(&mut first, 1, 5), fill(&mut second, 1, 3));
    let sink = start(&lab, &first, &PostgresOptions::default());
    sink.reach(first_end).await;
    sink.stop().await;
    let client = connect(&lab).await;

    let sink = start(&lab, &second, &PostgresOptions::default());
    sink.reach_state(SinkState::Refused).await;
    let error = sink.handle.status().last_error.unwrap();
    for needed in [first.run().to_string(), second.run().to_string(), "on_other_run".into(), "replace".into()] {
        assert!(error.contains(&needed), "{error}");
    }
    assert!(sink.handle.has_ended());
    sink.stop().await;
    assert_equal_to_the_log(&client, &first).await;

    let keep = PostgresOptions { on_other_run: OnOtherRun::Keep, ..PostgresOptions::default() };
    let sink = start(&lab, &second, &keep);
    sink.reach(second_end).await;
    sink.stop().await;
    assert_equal_to_the_log(&client, &second).await;
    assert_eq!(ask(&client, "SELECT count(DISTINCT run) FROM realtime.window_partials").await, ["2"]);

    let replace = PostgresOptions { on_other_run: OnOtherRun::Replace, ..PostgresOptions::default() };
    let sink = start(&lab, &first, &replace);
    sink.reach(first_end).await;
    sink.stop().await;
    assert_equal_to_the_log(&client, &first).await;
    assert_eq!(ask(&client, "SELECT count(DISTINCT run) FROM realtime.window_partials").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_ahead_of_the_log_is_refused_with_both_numbers() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let end = fill(&mut feed, 1, 2);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach(end).await;
    sink.stop().await;
    let client = connect(&lab).await;
    client.execute("UPDATE realtime.sink_state SET next_offset = 123456", &[]).await.unwrap();
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Refused).await;
    let error = sink.handle.status().last_error.unwrap();
    for needed in ["123456", &end.to_string(), "ctr_windows/0", "127.0.0.1"] {
        assert!(error.contains(needed), "{error}");
    }
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_newer_schema_is_refused() {
    let lab = Lab::new();
    let feed = Feed::new(lab.path(), 1);
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Running).await;
    sink.stop().await;
    let client = connect(&lab).await;
    client.execute("INSERT INTO realtime.schema_migrations VALUES (99, 'later')", &[]).await.unwrap();
    let sink = start(&lab, &feed, &PostgresOptions::default());
    sink.reach_state(SinkState::Refused).await;
    let error = sink.handle.status().last_error.unwrap();
    assert!(error.contains("99") && error.contains("newer clickmill"), "{error}");
    sink.stop().await;
}
