//! Records that are tried again while their server is not fit for them, against real servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clickmill_connectors::{
    Connector, Hidden, HttpOptions, PostgresOptions, RedisOptions, RetryError, RetryOutcome, Runs, ServerUrl, Servers,
    SinkState,
};
use clickmill_schemas::Offset;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use crate::endpoint::{Reply, Server};
use crate::feed::{Feed, MINUTE, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{connect, fill};

const SOON: Duration = Duration::from_secs(10);

/// So many partials of one window each.
fn partials(feed: &mut Feed, count: i64) -> Offset {
    for n in 0..count {
        feed.partial((0, 1, 1), MINUTE, T0 + n * MINUTE, "total", &[("", [n, 0, 0, 0, 0])]);
    }
    feed.flush()
}

fn http(server: &Server) -> HttpOptions {
    HttpOptions {
        endpoint: Some(ServerUrl(server.url.clone())),
        hidden: Hidden::new(&["s3cr3t".to_owned()]),
        ..HttpOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_says_nothing_of_the_record_and_what_it_says_is_shown_without_secrets() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_| Reply::Status(200)).await);
    let mut feed = Feed::new(dir.path(), 1);
    let end = partials(&mut feed, 3);
    let host = host(&feed, &Servers::new(dir.path()), vec![Connector::Http(http(&server))]).await;
    let sink = host.handles().remove(0);
    wait(&sink, |h| h.confirmed() >= end).await;
    let retry = async || host.retry("http", &feed.source.windows, Offset(1)).await.unwrap();
    server.answer(|_| Reply::Says(503, "no place for s3cr3t"));
    assert_eq!(
        retry().await,
        RetryOutcome::NotNow("send a batch: the endpoint answers 503 Service Unavailable: no place for ***".to_owned())
    );
    server.answer(|_| Reply::Says(422, "who is s3cr3t?"));
    let message = "the endpoint answers 422 Unprocessable Entity: who is ***?".to_owned();
    assert_eq!(retry().await, RetryOutcome::Refused { rule: "http_422".to_owned(), message });
    server.answer(|_| Reply::Status(200));
    assert_eq!(retry().await, RetryOutcome::Accepted);
    assert_eq!((sink.status().state, sink.status().retries), (SinkState::Running, 0), "it went on all the while");
    // One that asks for peace has it.
    server.answer(|_| Reply::With(429, "retry-after", "1".to_owned()));
    assert!(matches!(retry().await, RetryOutcome::NotNow(_)));
    wait(&sink, |h| h.status().retries == 1).await;
    server.answer(|_| Reply::Status(200));
    wait(&sink, |h| h.status().state == SinkState::Running).await;
    host.close(Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_a_retry_that_takes_too_long_is_no_end_of_the_sink() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let hasty = PostgresOptions { statement_timeout_ms: 200, ..PostgresOptions::default() };
    let host = host(&feed, &lab.servers, vec![Connector::Postgres(hasty)]).await;
    let end = fill(&mut feed, 1, 3);
    let sink = host.handles().remove(0);
    wait(&sink, |h| h.confirmed() >= end).await;
    let before = sink.status().retries;
    let client = connect(&lab).await;
    client.batch_execute("BEGIN; LOCK TABLE realtime.window_partials IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let retry = async || host.retry("postgres", &feed.source.windows, Offset(0)).await.unwrap();
    let RetryOutcome::NotNow(why) = retry().await else { panic!("the table is locked") };
    assert!(why.contains("statement timeout"), "{why}");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(retry().await, RetryOutcome::Superseded);
    assert_eq!((sink.status().state, sink.status().retries), (SinkState::Running, before));
    host.close(Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_sink_that_fails_meanwhile_gets_an_answer() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_| Reply::Status(200)).await);
    let mut feed = Feed::new(dir.path(), 1);
    let end = partials(&mut feed, 3);
    // A name that is no header's value: nothing can be sent, and nothing is to be before the retry.
    let options = HttpOptions { name: "no\u{1}header".to_owned(), ..http(&server) };
    let topic = feed.source.broker.topic("ctr_windows").unwrap().unwrap().id;
    let folder = dir.path().join("connectors/offsets").join(&options.name);
    std::fs::create_dir_all(&folder).unwrap();
    let position = serde_json::json!({"topic_id": topic, "offset": end, "sending_to": null});
    std::fs::write(folder.join("ctr_windows-0.json"), position.to_string()).unwrap();
    let name = options.name.clone();
    let host = host(&feed, &Servers::new(dir.path()), vec![Connector::Http(options)]).await;
    let sink = host.handles().remove(0);
    wait(&sink, |h| h.status().state == SinkState::Running).await;
    let asked = join_all((0..50).map(|_| host.retry(&name, &feed.source.windows, Offset(1))));
    let answers = timeout(SOON, asked).await.expect("all are answered");
    assert!(answers.iter().all(|answer| matches!(answer, Err(RetryError::NotRunning(_)))), "{answers:?}");
    assert_eq!(sink.status().state, SinkState::Failed);
    host.close(Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tried_again_while_redis_sums_are_made_anew() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let (is_slow, runs) = (Arc::new(AtomicBool::new(false)), feed.source.runs.clone());
    let seen = is_slow.clone();
    // Asked for before each batch.
    let slow: Runs = Arc::new(move || {
        if seen.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
        }
        runs()
    });
    feed.source.runs = slow;
    // One window of two partitions, which stays open, and others behind it.
    for n in 0..40 {
        feed.partial((n % 2, 1, 1), MINUTE, T0 + i64::from(n / 2) * MINUTE, "total", &[("", [5, 0, 0, 0, 0])]);
        feed.flush();
    }
    let end = feed.flush();
    let mut options = RedisOptions::default();
    options.batch.max_bytes = 1;
    let start = async || host(&feed, &lab.servers, vec![Connector::Redis(options.clone())]).await;
    let first = start().await;
    wait(&first.handles()[0], |h| h.confirmed() >= end).await;
    first.close(Instant::now() + Duration::from_secs(5)).await;

    is_slow.store(true, Ordering::SeqCst);
    let second = start().await;
    wait(&second.handles()[0], |h| h.status().state == SinkState::Running).await;
    let retry = async || second.retry("redis", &feed.source.windows, Offset(0)).await.unwrap();
    let early = retry().await;
    assert!(matches!(&early, RetryOutcome::NotNow(why) if why.contains("anew")), "{early:?}");
    is_slow.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + SOON;
    while matches!(retry().await, RetryOutcome::NotNow(_)) {
        assert!(Instant::now() < deadline, "it is made anew by now");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((second.handles()[0].status().state, second.handles()[0].status().retries), (SinkState::Running, 0));
    second.close(Instant::now() + Duration::from_secs(5)).await;
}
