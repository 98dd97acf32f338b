//! The HTTP sink, against a real server.

use std::path::Path;
use std::time::Duration;

use clickmill_broker::{TopicPartition, TopicSpec};
use clickmill_connectors::http::{HeaderLine, Method};
use clickmill_connectors::{BatchOptions, Connector, HttpOptions, ServerUrl, Servers, SinkHandle, SinkState};
use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};
use serde_json::json;

use crate::endpoint::{Reply, Server};
use crate::feed::{Feed, MINUTE, Running, T0, host, wait};

const OK: fn(&crate::endpoint::Got) -> Reply = |_| Reply::Status(200);

fn options(server: &Server) -> HttpOptions {
    HttpOptions {
        endpoint: Some(ServerUrl(server.url.clone())),
        max_records: 10,
        batch: BatchOptions { timeout_ms: 5_000, ..BatchOptions::default() },
        ..HttpOptions::default()
    }
}

fn start(dir: &Path, feed: &Feed, options: &HttpOptions) -> Running {
    Running::start(options.sinks(dir, &feed.source, 0..1).remove(0))
}

/// So many records, three at a time.
fn fill(feed: &mut Feed, records: i64) -> Offset {
    for n in 0..records {
        feed.partial((0, 1, n as u64), MINUTE, T0 + n * MINUTE, "device_type", &[("1", [n, 1, 0, 2, 3])]);
        if n % 3 == 2 {
            feed.flush();
        }
    }
    feed.flush()
}

fn offsets(requests: &[crate::endpoint::Got]) -> Vec<u64> {
    requests.iter().flat_map(crate::endpoint::Got::offsets).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_in_order_as_json_with_headers_of_their_batch() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(OK).await);
    let mut feed = Feed::new(dir.path(), 1);
    let end = fill(&mut feed, 95);
    let line = "X-Range: {topic}/{partition} {first_offset}-{last_offset} {records} {connector}";
    let headers = [line, "authorization: Bearer s3cr3t"].map(|line| HeaderLine(line.to_owned())).to_vec();
    let options = HttpOptions { headers, method: Method::Put, ..options(&server) };
    assert!(!format!("{options:?}").contains("s3cr3t"), "{options:?}");
    let sink = start(dir.path(), &feed, &options);
    sink.reach(end).await;
    let got = server.got();
    assert_eq!(offsets(&got), (0..95).collect::<Vec<_>>());
    let first = &got[0];
    let count = first.offsets().len();
    assert!(got.iter().all(|got| got.offsets().len() <= 10));
    assert_eq!(first.method, axum::http::Method::PUT);
    assert_eq!(first.header("x-range"), format!("ctr_windows/0 0-{} {count} http", count - 1));
    assert_eq!((first.header("authorization"), first.header("content-type")), ("Bearer s3cr3t", "application/json"));
    let topic = feed.source.broker.topic("ctr_windows").unwrap().unwrap().id;
    assert_eq!(first.key(), format!("{topic}/http/ctr_windows/0/0-{count}"));
    let body = first.body();
    assert_eq!(
        (&body["topic"], &body["partition"], &body["connector"]),
        (&json!("ctr_windows"), &json!(0), &json!("http"))
    );
    let record = &body["records"][2];
    let entry =
        json!({"key": "1", "impressions": 2, "clicks": 1, "conversions": 0, "cost_micros": 2, "revenue_micros": 3});
    let expected = json!({
        "run": feed.run(), "partition": 0, "generation": 0, "epoch": 1, "as_of_offset": 2, "window_size_ms": MINUTE,
        "window_start": "2014-10-21T00:02:00Z", "dimension": "device_type", "lower_bound": false, "entries": [entry],
    });
    assert_eq!((&record["offset"], &record["value"]), (&json!(2), &expected));
    let status = sink.handle.status();
    assert_eq!((status.rows_written, status.skipped, status.lag), (95, 0, 0));
    assert!(!format!("{status:?}").contains("s3cr3t"), "{status:?}");
    sink.stop().await;

    // It goes on behind what was accepted.
    let sink = start(dir.path(), &feed, &options);
    let end = fill(&mut feed, 5);
    sink.reach(end).await;
    assert_eq!(offsets(&server.got()), (0..100).collect::<Vec<_>>());
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_cut_off_is_sent_again_as_it_was_under_its_key() {
    let dir = tempfile::tempdir().unwrap();
    // The third batch comes in, and nobody learns that it did.
    let mut requests = 0;
    let script = move |_: &crate::endpoint::Got| {
        requests += 1;
        if requests == 3 { Reply::Hang } else { Reply::Status(204) }
    };
    let server = Server::start(script).await;
    let mut feed = Feed::new(dir.path(), 1);
    fill(&mut feed, 45);
    let sink = start(dir.path(), &feed, &options(&server));
    server.reach(3).await;
    sink.kill().await;
    server.answer(OK);
    let end = fill(&mut feed, 45);
    // Other limits make no other batch of it.
    let sink = start(dir.path(), &feed, &HttpOptions { max_records: 3, ..options(&server) });
    sink.reach(end).await;
    let got = server.got();
    assert_eq!((got[2].key(), &got[2].text), (got[3].key(), &got[3].text));
    let accepted = server.accepted();
    assert_eq!(offsets(&accepted), (0..90).collect::<Vec<_>>());
    let mut keys: Vec<_> = accepted.iter().map(crate::endpoint::Got::key).collect();
    keys.dedup();
    assert_eq!(keys.len(), accepted.len(), "each key once");
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_each_record_comes_and_what_comes_twice_has_its_key() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(OK).await);
    let mut feed = Feed::new(dir.path(), 1);
    let end = fill(&mut feed, 600);
    for kill in 0..30_u64 {
        let sink = start(dir.path(), &feed, &options(&server));
        tokio::time::sleep(Duration::from_micros(kill * 700)).await;
        sink.kill().await;
    }
    let sink = start(dir.path(), &feed, &options(&server));
    sink.reach(end).await;
    sink.stop().await;
    let mut seen = std::collections::BTreeMap::new();
    let mut once = Vec::new();
    for got in server.got() {
        match seen.insert(got.key().to_owned(), got.text.clone()) {
            None => once.extend(got.offsets()),
            Some(before) => assert_eq!(before, got.text, "{}", got.key()),
        }
    }
    assert_eq!(once, (0..600).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_peace_has_it_and_one_that_fails_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut replies = vec![
        Reply::Status(200),
        Reply::With(503, "retry-after", "0".to_owned()),
        Reply::Status(500),
        Reply::With(429, "retry-after", "2".to_owned()),
    ];
    let server = Server::start(move |_| replies.pop().unwrap_or(Reply::Status(200))).await;
    let mut feed = Feed::new(dir.path(), 1);
    let end = fill(&mut feed, 30);
    let sink = start(dir.path(), &feed, &options(&server));
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("429 Too Many Requests"))).await;
    assert_eq!(sink.handle.status().state, SinkState::Retrying);
    sink.reach(end).await;
    let got = server.got();
    assert!(got[1].at - got[0].at >= Duration::from_secs(2), "{:?}", got[1].at - got[0].at);
    assert!(got[..4].iter().all(|again| again.key() == got[0].key() && again.text == got[0].text));
    assert_eq!(offsets(&server.accepted()), (0..30).collect::<Vec<_>>());
    let status = sink.handle.status();
    assert_eq!((status.retries, status.skipped), (3, 0));
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_is_refused_is_left_out_and_said_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let poisoned = |got: &crate::endpoint::Got| got.offsets().contains(&17);
    let server = Server::start(move |got| Reply::Status(if poisoned(got) { 422 } else { 200 })).await;
    let mut feed = Feed::new(dir.path(), 1);
    let end = fill(&mut feed, 60);
    let sink = start(dir.path(), &feed, &options(&server));
    sink.reach(end).await;
    let expected: Vec<u64> = (0..60).filter(|offset| *offset != 17).collect();
    assert_eq!(offsets(&server.accepted()), expected);
    let status = sink.handle.status();
    assert_eq!((status.rows_written, status.skipped, status.retries), (59, 1, 0));
    let letters = feed.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].rule.as_str(), letters[0].connector.as_deref()), ("http_422", Some("http")));
    let (topic, partition) = ("ctr_windows".to_owned(), PartitionId(0));
    assert_eq!(letters[0].origin, Origin::Record { topic, partition, offset: Offset(17) });
    let said = status.last_error.unwrap();
    assert!(said.contains("record at offset 17:") && said.contains("422 Unprocessable"), "{said}");
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_that_are_refused_hold_nothing_up_while_any_of_their_batch_is_taken() {
    let is_only_one = |offset: u64| offset == 37;
    let is_behind = |offset: u64| offset >= 25;
    for is_good in [is_behind, is_only_one] {
        let dir = tempfile::tempdir().unwrap();
        let all_good = move |got: &crate::endpoint::Got| got.offsets().into_iter().all(is_good);
        let server = Server::start(move |got| Reply::Status(if all_good(got) { 200 } else { 422 })).await;
        let mut feed = Feed::new(dir.path(), 1);
        for n in 0..50 {
            feed.partial((0, 1, n), MINUTE, T0 + n as i64 * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
        }
        // One batch.
        let end = feed.flush();
        let sink = start(dir.path(), &feed, &HttpOptions { max_records: 50, ..options(&server) });
        sink.reach(end).await;
        let good: Vec<u64> = (0..50).filter(|offset| is_good(*offset)).collect();
        let mut accepted = offsets(&server.accepted());
        accepted.sort_unstable();
        assert_eq!(accepted, good);
        let status = sink.handle.status();
        assert_eq!((status.skipped as usize, status.retries), (50 - good.len(), 0));
        assert_eq!(feed.letters().len(), 50 - good.len());
        sink.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_for_refused_records_goes_on_where_the_endpoint_has_asked_for_peace() {
    let dir = tempfile::tempdir().unwrap();
    let mut requests = 0;
    let script = move |got: &crate::endpoint::Got| {
        requests += 1;
        match got.offsets().iter().any(|offset| offset % 2 == 1) {
            _ if requests % 30 == 0 => Reply::Status(503),
            true => Reply::Status(422),
            false => Reply::Status(200),
        }
    };
    let server = Server::start(script).await;
    let mut feed = Feed::new(dir.path(), 1);
    for n in 0..50 {
        feed.partial((0, 1, n), MINUTE, T0 + n as i64 * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
    }
    let end = feed.flush();
    let sink = start(dir.path(), &feed, &HttpOptions { max_records: 50, ..options(&server) });
    sink.reach(end).await;
    assert_eq!(offsets(&server.accepted()), (0..50).step_by(2).collect::<Vec<_>>(), "each once");
    assert_eq!((sink.handle.status().skipped, feed.letters().len()), (25, 25));
    // A full search takes 99, and three of them were answered with 503.
    assert_eq!((server.got().len(), sink.handle.status().retries), (102, 3));
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_waited_for_and_copied_with_all_its_partitions() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(OK).await);
    let feed = Feed::new(dir.path(), 1);
    let options = HttpOptions { topic: "later".to_owned(), ..options(&server) };
    let host = host(&feed, &Servers::new(dir.path()), vec![Connector::Http(options)]).await;
    let first = host.handles().remove(0);
    wait(&first, |h| h.status().state == SinkState::Retrying && h.status().retries > 1).await;
    let why = first.status().last_error.unwrap();
    assert!(why.contains("later"), "{why}");
    feed.source.broker.create_topic(&TopicSpec::new("later", 3)).unwrap();
    for partition in 0..3 {
        let mut set = RecordSetBuilder::default();
        set.push(None, format!("{partition}").as_bytes(), 7);
        let at = TopicPartition::new("later", PartitionId(partition));
        feed.source.broker.append(&at, &set).unwrap().wait().unwrap();
    }
    server.reach(3).await;
    let mut got: Vec<u64> = server.got().iter().map(|got| got.body()["partition"].as_u64().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2]);
    assert_eq!(host.handles().len(), 3);
    for handle in host.handles() {
        wait(&handle, |h| h.status().state == SinkState::Running && h.confirmed() == Offset(1)).await;
    }
    host.stop("http").await.unwrap();
    assert!(host.handles().iter().all(|handle| handle.status().state == SinkState::Stopped));
    host.start("http").await.unwrap();
    assert_eq!(host.handles().len(), 3);
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_records_fault_costs_no_record() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(OK).await);
    let mut feed = Feed::new(dir.path(), 1);
    let mut end = Offset(0);
    let options = HttpOptions { max_records: 50, ..options(&server) };
    // One that refuses whatever comes is at fault itself.
    for (status, said) in
        [(401, "401 Unauthorized"), (404, "404 Not Found"), (405, "405"), (301, "301"), (415, "415"), (422, "at fault")]
    {
        server.answer(move |_| Reply::With(status, "location", "/elsewhere".to_owned()));
        end = fill(&mut feed, 150);
        let sink = start(dir.path(), &feed, &options);
        sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains(said))).await;
        assert_eq!((sink.handle.status().skipped, sink.handle.status().state), (0, SinkState::Retrying), "{status}");
        assert!(feed.letters().is_empty());
        server.answer(OK);
        sink.reach(end).await;
        sink.stop().await;
    }
    assert_eq!(offsets(&server.accepted()), (0..end.0).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_events_come_from_all_partitions_as_readable_as_they_are() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(OK).await);
    let feed = Feed::new(dir.path(), 2);
    feed.source.broker.create_topic(&TopicSpec::new("ad_events_raw", 2)).unwrap();
    for partition in 0..2 {
        let at = TopicPartition::new("ad_events_raw", PartitionId(partition));
        let mut set = RecordSetBuilder::default();
        for value in [&br#"{"id": "a\u0000"}"#[..], b"no json", b"\xff\xfe"] {
            set.push(None, value, 7);
        }
        feed.source.broker.append(&at, &set).unwrap().wait().unwrap();
    }
    let options = HttpOptions { topic: "ad_events_raw".to_owned(), ..options(&server) };
    let sinks: Vec<_> = options.sinks(dir.path(), &feed.source, 0..2).into_iter().map(Running::start).collect();
    for sink in &sinks {
        sink.reach(Offset(3)).await;
    }
    let mut got: Vec<_> = server.got().iter().map(crate::endpoint::Got::body).collect();
    got.sort_by_key(|body| body["partition"].as_u64());
    for (partition, body) in got.iter().enumerate() {
        let records = body["records"].as_array().unwrap();
        assert_eq!((&body["partition"], records.len()), (&json!(partition), 3));
        assert_eq!(records[0]["value"], json!({"id": "a\0"}));
        assert_eq!((&records[1]["value_text"], &records[2]["value_base64"]), (&json!("no json"), &json!("//4=")));
        assert_eq!(records[0]["timestamp_ms"], 7);
    }
    let names: Vec<String> = sinks.iter().map(|sink: &Running| name(&sink.handle)).collect();
    assert_eq!(names, ["http-0", "http-1"]);
    for sink in sinks {
        sink.stop().await;
    }
    assert!(HttpOptions { endpoint: None, ..options }.sinks(dir.path(), &feed.source, 0..2).is_empty());
}

fn name(handle: &SinkHandle) -> String {
    handle.status().name
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_whatever_trickles_in_is_at_fault_after_some_records() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::Status(400)).await;
    let mut feed = Feed::new(dir.path(), 1);
    let sink = start(dir.path(), &feed, &options(&server));
    let mut end = Offset(0);
    for n in 0..40 {
        feed.partial((0, 1, n), MINUTE, T0 + n as i64 * MINUTE, "total", &[("", [1, 0, 0, 0, 0])]);
        end = feed.flush();
        sink.wait(|h| h.confirmed() >= end || h.status().state == SinkState::Retrying).await;
    }
    sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("at fault"))).await;
    let letters = feed.letters().len();
    assert!(letters < 20, "{letters} letters");
    // One that takes others is not: those before are.
    server.answer(|got| Reply::Status(if got.offsets().iter().any(|offset| *offset < 25) { 400 } else { 200 }));
    sink.reach(end).await;
    assert_eq!(offsets(&server.accepted()).into_iter().collect::<std::collections::BTreeSet<_>>(), (25..40).collect());
    assert_eq!(feed.letters().len(), 25);
    sink.stop().await;
}
