//! Servers that answer late, or not at all for a while: the first get their rows, the second are found again, and neither keeps
//! anybody else waiting.

use std::time::{Duration, Instant};

use clickmill_broker::TopicPartition;
use clickmill_connectors::set::SetError;
use clickmill_connectors::{BatchOptions, Connector, Endpoint, PostgresOptions, RedisOptions, ServerUrl, SinkState};
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::RecordSetBuilder;

use crate::feed::{Feed, Running, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{ask, assert_equal_to_the_log, connect, fill};
use crate::proxy::Proxy;

fn options(url: &ServerUrl) -> PostgresOptions {
    let batch = BatchOptions { timeout_ms: 2_000, ..BatchOptions::default() };
    PostgresOptions { url: Some(url.clone()), batch, ..PostgresOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_its_time_for_each_answer_gets_its_rows_from_all_sinks_at_once() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let at = TopicPartition::new("ad_events_raw", PartitionId(1));
    let mut events = RecordSetBuilder::default();
    (0..100).for_each(|n| events.push(None, format!("{{\"id\": \"{n}\"}}").as_bytes(), T0));
    feed.source.broker.append(&at, &events).unwrap().wait().unwrap();
    fill(&mut feed, 1, 5);
    let proxy = Proxy::start(&lab.postgres().await).await;
    // A dozen answers take longer than one may.
    proxy.delay(Duration::from_millis(500));
    let sinks = PostgresOptions { raw_events: true, ..options(&proxy.url) };
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(sinks)]).await;
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running && h.status().lag == 0).await;
    }
    let end = fill(&mut feed, 2, 5);
    let windows = &host.handles().into_iter().find(|h| h.source() == &feed.source.windows).unwrap();
    let (begun, retries) = (Instant::now(), windows.status().retries);
    wait(windows, |h| h.confirmed() >= end).await;
    assert_eq!(windows.status().retries, retries, "slow is not away");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let client = connect(&lab).await;
    assert_equal_to_the_log(&client, &feed).await;
    assert_eq!(ask(&client, "SELECT count(*) FROM realtime.raw_events").await, ["100"]);
    assert_eq!(feed.letters(), []);
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_opens_waits_for_no_lock_where_nothing_has_to_change() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let options = PostgresOptions::default();
    let pool = || options.pool(Endpoint::Private(lab.servers.clone()));
    let sink = Running::start(options.windows(&pool(), &feed.source));
    sink.reach(fill(&mut feed, 1, 5)).await;
    sink.stop().await;
    let client = connect(&lab).await;
    client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(7307480182513459571)").await.unwrap();
    let end = fill(&mut feed, 2, 5);
    let sink = Running::start(options.windows(&pool(), &feed.source));
    let begun = Instant::now();
    sink.reach(end).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    client.batch_execute("COMMIT").await.unwrap();
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_stays_mute_is_given_up_and_found_again_when_it_is_well() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let proxy = Proxy::start(&lab.postgres().await).await;
    let options = options(&proxy.url);
    let sink = Running::start(options.windows(&options.pool(Endpoint::Named(proxy.url.clone())), &feed.source));
    sink.reach(fill(&mut feed, 1, 5)).await;
    proxy.mute(true);
    let end = fill(&mut feed, 2, 5);
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("no answer within 2s"))).await;
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("no login within 4s"))).await;
    assert_eq!(sink.handle.status().state, SinkState::Retrying);
    proxy.mute(false);
    sink.reach(end).await;
    assert_eq!(feed.letters(), []);
    assert_equal_to_the_log(&connect(&lab).await, &feed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_cannot_be_emptied_keeps_no_other_waiting_and_goes_on_afterwards() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let proxy = Proxy::start(&lab.postgres().await).await;
    let all = || vec![Connector::Postgres(options(&proxy.url)), Connector::Redis(RedisOptions::default())];
    let host = host(&feed, &lab.servers, all()).await;
    let end = fill(&mut feed, 1, 5);
    for handle in host.handles().iter().filter(|h| h.source() == &feed.source.windows) {
        wait(handle, |h| h.confirmed() >= end).await;
    }
    proxy.mute(true);
    let others = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        host.stop("redis").await.unwrap();
        host.start("redis").await.unwrap();
        let applied = host.apply(|| Ok::<_, std::convert::Infallible>(all())).await.unwrap();
        assert_eq!(applied.unchanged, ["postgres", "redis"]);
        let again = host.rebuild("postgres").await;
        assert!(matches!(again, Err(SetError::NotEmptied { .. })), "{again:?}");
        begun.elapsed()
    };
    let (emptied, others) = tokio::join!(host.rebuild("postgres"), others);
    assert!(others < Duration::from_secs(2), "{others:?}");
    assert!(matches!(&emptied, Err(SetError::NotEmptied { why, .. }) if why.contains("no login")), "{emptied:?}");
    proxy.mute(false);
    let end = fill(&mut feed, 2, 5);
    for handle in host.handles().iter().filter(|h| h.source() == &feed.source.windows) {
        wait(handle, |h| h.confirmed() >= end).await;
    }
    assert_equal_to_the_log(&connect(&lab).await, &feed).await;

    // One that is stopped while it is emptied stays so.
    proxy.mute(true);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.stop("postgres").await.unwrap();
    };
    let (emptied, ()) = tokio::join!(host.rebuild("postgres"), stop);
    emptied.unwrap_err();
    let status = &host.status()[0];
    assert!(!status.wanted && status.sinks.iter().all(|sink| sink.state == SinkState::Stopped), "{status:?}");
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}
