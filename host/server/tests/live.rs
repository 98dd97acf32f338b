//! The live stream and the keys over it, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use clickmill_pipeline::topics::{AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_schemas::PartitionId;
use clickmill_schemas::output::{Body, Output, Stamp};
use clickmill_schemas::{Epoch, Offset};
use clickmill_server::Options;
use serde_json::{Value, json};
use support::live::Listener;
use support::{Running, local};

const MINUTE: i64 = 60_000;

/// Impressions of the 1-minute windows of an event, by start in minutes.
fn minutes(event: &Value) -> Vec<(i64, i64)> {
    let number = |w: &Value, name: &str| w[name].as_i64().unwrap();
    let windows = event["windows"]["1m"].as_array().unwrap();
    windows.iter().map(|w| (number(w, "start_ms") / MINUTE, number(w, "impressions"))).collect()
}

/// Waits until the server has read what there is.
async fn caught_up(server: &Running) -> Listener {
    let mut listener = Listener::open(server).await;
    listener.event_with(|_, event| event["caught_up"] == true).await;
    listener
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_begins_with_a_snapshot_and_goes_on_with_what_changes() {
    let server = Running::start(local()).await;
    server.append(AD_EVENTS_RAW, 0, &[(None, b"{}"), (None, b"{}"), (None, b"{}")]);
    server.partial(1, 0, "total", "", 7);
    server.partial(1, MINUTE, "total", "", 9);
    (0..3).for_each(|partition| server.commit(partition, u64::from(partition == 0), -MINUTE));
    let mut listener = Listener::open(&server).await;
    let (name, first) = listener.event().await;
    assert_eq!(name, "snapshot");
    let (_, whole) = if first["caught_up"] == true { (name, first) } else { listener.event().await };
    assert_eq!(minutes(&whole), [(0, 7), (1, 9)]);
    assert_eq!((&whole["lag"], &whole["balanced"], &whole["paused"]), (&json!(2), &json!(true), &Value::Null));
    let began = Instant::now();
    server.partial(2, 0, "total", "", 8);
    server.commit(0, 2, MINUTE);
    let (name, update) = listener.event_with(|_, event| event["processed"] == 2).await;
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!((name.as_str(), minutes(&update)), ("update", vec![(0, 8)]));
    let (name, heartbeat) = listener.event().await;
    assert_eq!((name.as_str(), minutes(&heartbeat)), ("update", Vec::new()));
    // Who comes later gets it all at once.
    let (name, late) = Listener::open(&server).await.event().await;
    assert_eq!((name.as_str(), minutes(&late)), ("snapshot", vec![(0, 8), (1, 9)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_gets_the_same_bytes() {
    let server = Running::start(local()).await;
    let mut first = caught_up(&server).await;
    let mut second = caught_up(&server).await;
    server.partial(2, 0, "total", "", 8);
    server.commit(0, 2, MINUTE);
    let is_it = |_: &str, event: &Value| event["processed"] == 2;
    assert_eq!(first.event_with(is_it).await, second.event_with(is_it).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_falls_behind_gets_a_new_snapshot_and_then_knows_what_there_is() {
    let server = Running::start(local()).await;
    let mut fast = caught_up(&server).await;
    let mut slow = Listener::open_slowly(&server).await;
    slow.event_with(|_, event| event["caught_up"] == true).await;
    let starts: Vec<i64> = (0..170).map(|minute| minute * MINUTE).collect();
    for round in 1..200 {
        // Each is an update of its own, of many windows: soon no buffer takes any more.
        server.partials(round, &starts, "total", "", round as i64);
        server.commit(0, round, 110 * MINUTE);
        fast.event_with(|_, event| event["processed"].as_u64() >= Some(round)).await;
        if round.is_multiple_of(40) && lagged(&server, &mut slow, round).await {
            return;
        }
    }
    panic!("it never fell behind");
}

/// Reads on; whether there was a snapshot among it, and what it knows then is what there is.
async fn lagged(server: &Running, slow: &mut Listener, round: u64) -> bool {
    let mut snapshots = 0;
    loop {
        let (name, event) = slow.event().await;
        snapshots += usize::from(name == "snapshot");
        if event["processed"].as_u64() >= Some(round) {
            let (_, whole) = Listener::open(server).await.event().await;
            assert_eq!(whole["processed"], event["processed"]);
            return snapshots > 0;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_taken_to_another_run_when_it_replaces_the_one_before() {
    let server = Running::start(local()).await;
    server.partial(1, 0, "total", "", 7);
    server.commit(0, 1, 0);
    let mut listener = caught_up(&server).await;
    let other = support::switch_run(&server);
    let (name, event) = listener.event_with(|name, event| name == "snapshot" && minutes(event).is_empty()).await;
    assert_eq!((name.as_str(), &event["processed"]), ("snapshot", &json!(0)));
    server.append_output(&Output {
        stamp: Stamp { run: other, partition: PartitionId(0), epoch: Epoch(1) },
        body: Body::Late { offset: Offset(4), ts_ms: 5, watermark_ms: 0 },
    });
    listener.event_with(|_, event| event["windows"]["1m"][0]["late"] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_memory_where_it_has_the_range_and_else_from_the_topic_with_the_same_numbers() {
    let server = Running::start(local()).await;
    let now = 1_000 * MINUTE;
    for minute in [100, 950, 951, 999] {
        server.partial(1, minute * MINUTE, "site_category", "news", minute);
        server.partial(1, minute * MINUTE, "app_category", "a\"<b>", 1);
    }
    (0..3).for_each(|partition| server.commit(partition, 1, now));
    let _listener = caught_up(&server).await;
    let ask = |query: &str| format!("/api/live/top?size=1m&dimension=site_category&{query}");
    let recent = server.get(&ask("from=57000000&to=60000000")).await.json();
    assert_eq!((&recent["source"], &recent["keys_total"]), (&json!("memory"), &json!(1)));
    assert_eq!(recent["starts_ms"], json!([950 * MINUTE, 951 * MINUTE, 999 * MINUTE]));
    let news = &recent["keys"][0];
    assert_eq!((&news["key"], &news["impressions"], &news["clicks"]), (&json!("news"), &json!(2_900), &json!(3)));
    assert_eq!(news["series"][2], json!([999, 1, 0, 500_000, 0]));
    let longer = server.get(&ask("from=0&to=60000000")).await.json();
    assert_eq!((&longer["source"], &longer["keys"][0]["impressions"]), (&json!("topic"), &json!(3_000)));
    assert_eq!(longer["starts_ms"].as_array().unwrap().len(), 4);
    let newest = server.get(&ask("")).await;
    assert_eq!(newest.json()["to_ms"], 1_000 * MINUTE);
    let other = server.get("/api/live/top?size=1m&dimension=app_category&search=%22%3Cb").await.json();
    assert_eq!(other["keys"][0]["key"], "a\"<b>");
    assert_eq!(server.get("/api/live/top?size=5m&dimension=nope").await.json()["keys"], json!([]));
    for bad in [
        "from=2&to=1",
        "limit=0",
        "limit=1000",
        "limit=-1",
        "from=9223372036854775807",
        "from=+262143-01-01T00:00:00Z",
        "order=luck",
        "colour=red",
        &format!("search={}", "x".repeat(257)),
        "from=2000-01-01&to=2030-01-01",
        "search=%ff%fe&from=x",
    ] {
        let answer = server.get(&ask(bad)).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (400, Some("bad_request")), "{bad}");
    }
    assert_eq!(server.get("/api/live/top").await.status, 400);
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_told_before_the_topic_has_been_read() {
    let server = Running::start(local()).await;
    server.partial(1, 0, "total", "", 7);
    let first = server.get("/api/live/top?size=1m&dimension=total&from=0&to=60000").await.json();
    assert_eq!(first["keys"][0]["impressions"], 7, "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_ends_no_stream() {
    let server = Running::start(local()).await;
    let mut listener = caught_up(&server).await;
    server.append(CTR_WINDOWS, 0, &[(Some(b"junk"), b"\x00junk"), (None, b"{}")]);
    // It is begun anew again and again; the listener hears nothing and keeps its place.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.get("/api/live/top?size=1m&dimension=total").await.status, 500);
    assert_eq!(server.get("/health/live").await.status, 200);
    let text = tokio::time::timeout(Duration::from_secs(12), listener.text(b": nothing new")).await;
    text.expect("a comment in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_listeners_are_told_of_a_commit_within_the_time_that_one_is() {
    let server = Running::start(Options { max_connections: 700, ..local() }).await;
    server.partial(1, 0, "total", "", 7);
    let mut listeners = Vec::new();
    for _ in 0..500 {
        listeners.push(caught_up(&server).await);
    }
    let began = Instant::now();
    server.partial(2, 0, "total", "", 8);
    server.commit(0, 2, -MINUTE);
    let mut waiting = tokio::task::JoinSet::new();
    for mut listener in listeners {
        waiting.spawn(async move {
            listener.event_with(|_, event| event["processed"] == 2).await;
            began.elapsed()
        });
    }
    let slowest = waiting.join_all().await.into_iter().max().unwrap();
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
}
