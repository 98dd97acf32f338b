//! Modules before a sink, as far as the connectors know them: what becomes of what they fail on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clickmill_broker::TopicPartition;
use clickmill_connectors::reader::Chunk;
use clickmill_connectors::sink::Refused;
use clickmill_connectors::transform::{MakeTransform, Transform, TransformSpec, Transformed};
use clickmill_connectors::{Connector, Connectors, HttpOptions, RetryOutcome, ServerUrl, Servers, SinkState};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};
use tokio::runtime::Handle;

use crate::endpoint::{Reply, Server};
use crate::feed::{Feed, wait};

/// Fails on every record.
struct Failing;

impl Transform for Failing {
    fn apply(&mut self, chunk: &Chunk) -> Result<Transformed, String> {
        let failed = |offset| Refused { offset, rule: "smartmodule".to_owned(), message: "trap".to_owned() };
        let failed = chunk.records().unwrap().map(|record| failed(record.unwrap().0)).collect();
        Ok(Transformed { records: Vec::new(), failed })
    }
}

/// An http-sink of that topic behind a module, in a host.
async fn start(feed: &Feed, dir: &std::path::Path, url: &str, topic: &str, make: MakeTransform) -> Connectors {
    let module = TransformSpec { uses: "m.wasm".to_owned(), with: Default::default(), wasm: b"m".as_slice().into() };
    let options = HttpOptions {
        topic: topic.to_owned(),
        endpoint: Some(ServerUrl(url.to_owned())),
        transforms: vec![module],
        ..HttpOptions::default()
    };
    let host = Connectors::new(feed.source.clone(), Servers::new(dir), Handle::current()).with_transforms(make);
    host.apply(|| Ok::<_, std::convert::Infallible>(vec![Connector::Http(options)])).await.unwrap();
    host
}

fn append(feed: &Feed, at: &TopicPartition, records: usize) -> Offset {
    let mut set = RecordSetBuilder::default();
    (0..records).for_each(|n| set.push(None, format!("{{\"n\": {n}}}").as_bytes(), 0));
    feed.source.broker.append(at, &set).unwrap().wait().unwrap();
    feed.source.broker.ends(at).unwrap().end
}

#[tokio::test(flavor = "multi_thread")]
async fn what_modules_fail_on_of_the_letters_themselves_is_counted_and_gets_no_letter() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_| Reply::Status(200)).await);
    let feed = Feed::new(dir.path(), 1);
    let errors = feed.source.errors.clone();
    let end = append(&feed, &errors, 3);
    let host = start(&feed, dir.path(), &server.url, "ad_events_error", Arc::new(|_| Ok(Box::new(Failing)))).await;
    let sink = host.handles().remove(0);
    wait(&sink, |h| h.confirmed() >= end).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(feed.source.broker.ends(&errors).unwrap().end, end, "it feeds itself");
    assert_eq!((sink.status().skipped, server.got().len()), (3, 0));
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_that_cannot_be_made_anew_for_a_retry_are_no_end_of_those_that_run() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_| Reply::Status(200)).await);
    let feed = Feed::new(dir.path(), 1);
    let raw = TopicPartition::new("ad_events_raw", PartitionId(0));
    let end = append(&feed, &raw, 3);
    let is_broken = Arc::new(AtomicBool::new(false));
    let seen = is_broken.clone();
    let make: MakeTransform = Arc::new(move |_| match seen.load(Ordering::SeqCst) {
        true => Err("no memory".to_owned()),
        false => Ok(Box::new(Failing)),
    });
    let host = start(&feed, dir.path(), &server.url, "ad_events_raw", make).await;
    let sink = host.handles().remove(0);
    wait(&sink, |h| h.confirmed() >= end).await;
    assert_eq!(feed.letters().len(), 3);
    let retry = async || host.retry("http", &raw, Offset(1)).await.unwrap();
    assert!(matches!(retry().await, RetryOutcome::Refused { .. }));
    is_broken.store(true, Ordering::SeqCst);
    let RetryOutcome::NotNow(why) = retry().await else { panic!("it was not tried") };
    assert!(why.contains("no memory"), "{why}");
    let end = append(&feed, &raw, 3);
    wait(&sink, |h| h.confirmed() >= end).await;
    assert_eq!((sink.status().state, sink.status().retries), (SinkState::Running, 0));
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}
