//! What a server takes: lines from users, rounds from `clickmill produce`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use clickmill_broker::partitioner::partition_for;
use clickmill_broker::{Broker, TopicPartition};
use clickmill_pipeline::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW};
use clickmill_pipeline::views::records::{Content, PageLimits, read_page};
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::round::{RoundBatch, put_batch};
use clickmill_schemas::{Offset, PartitionId};
use clickmill_server::Options;
use serde_json::json;
use support::busy::Busy;
use support::{Running, local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const RECORDS: &str = "/api/topics/ad_events_raw/records";

fn values(server: &Running, partition: u32) -> Vec<String> {
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(partition));
    let limits = PageLimits { records: 1_000, bytes: 1 << 20, wait: Duration::ZERO };
    let page = read_page(&*server.broker, &at, Offset(0), limits).unwrap();
    let text = |c| {
        if let Content::Utf8(text) = c { text } else { panic!("{c:?}") }
    };
    page.records.into_iter().map(|r| text(r.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_durable_when_they_are_acknowledged_and_lie_where_their_id_says() {
    let server = Running::start(local()).await;
    let body = "{\"id\":\"a\",\"x\":1}\n\n{\"id\":\"b\"}\nnot json\n";
    let answer = server.post(RECORDS, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!((&json["accepted"], &json["blank_lines"]), (&json!(3), &json!(1)));
    assert_eq!(server.count(AD_EVENTS_RAW), 3);
    for (line, key) in [("{\"id\":\"a\",\"x\":1}", "a"), ("{\"id\":\"b\"}", "b"), ("not json", "not json")] {
        let partition = partition_for(key.as_bytes(), 3).0;
        assert!(values(&server, partition).contains(&line.to_owned()), "{line}");
    }
    let total: u64 = json["offsets"].as_array().unwrap().iter().map(|o| o["records"].as_u64().unwrap()).sum();
    assert_eq!(total, 3);
    assert_eq!(server.post(RECORDS, b"").await.json()["accepted"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_input_topic_is_written_by_users() {
    let server = Running::start(local()).await;
    for topic in ["ctr_windows", "deployments", "ad_events_error"] {
        let answer = server.post(&format!("/api/topics/{topic}/records"), b"{}\n").await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (403, Some("read_only_topic")), "{topic}");
    }
    assert_eq!(server.post("/api/topics/nope/records", b"{}\n").await.status, 404);
    assert_eq!(server.send("PUT", RECORDS, &[], b"{}\n").await.status, 405);
    assert_eq!(server.count("deployments"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_whether_announced_or_not() {
    let server = Running::start(Options { max_body_bytes: 1_000, max_record_bytes: 100, ..local() }).await;
    let answer = server.post(RECORDS, &[b'x'; 1_001]).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("too_large")));

    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST {RECORDS} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", server.address);
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        let _ = socket.write_all(&[b"190\r\n", &[b'x'; 400][..], b"\r\n"].concat()).await;
    }
    let mut start = [0; 12];
    socket.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");

    let long = [b"{}\n".repeat(2), vec![b'y'; 101]].concat();
    let answer = server.post(RECORDS, &long).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("line 3 has 101 bytes"), "{}", answer.text());
    assert_eq!(server.count(AD_EVENTS_RAW), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_backpressure_the_answer_names_the_lines_that_are_not_in() {
    let busy = |inner| Arc::new(Busy { inner, partition: 1, free: AtomicUsize::new(0) }) as Arc<dyn Broker>;
    let server = Running::start_over(local(), busy).await;
    let ids: Vec<String> = (0..30).map(|n| format!("id{n}")).collect();
    let body: String = ids.iter().map(|id| format!("{{\"id\":\"{id}\"}}\n")).collect();
    let answer = server.post(RECORDS, body.as_bytes()).await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 1"));
    let json = answer.json();
    let mut refused = Vec::new();
    for range in json["not_stored_lines"].as_array().unwrap() {
        refused.extend(range[0].as_u64().unwrap()..=range[1].as_u64().unwrap());
    }
    let accepted = json["accepted"].as_u64().unwrap();
    assert_eq!(accepted + refused.len() as u64, 30);
    assert_eq!(server.count(AD_EVENTS_RAW), accepted);
    let stored: Vec<String> = (0..3).flat_map(|p| values(&server, p)).collect();
    for (number, line) in (1..).zip(body.lines()) {
        assert_eq!(stored.contains(&line.to_owned()), !refused.contains(&number), "line {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_memory_set_aside_are_refused_until_there_is_room() {
    let options = Options { max_body_bytes: 4_096, max_body_bytes_in_flight: 4_096, ..local() };
    let server = Running::start(options).await;
    let head = format!("POST {RECORDS} HTTP/1.1\r\nHost: {}\r\nContent-Length: 4096\r\n\r\n{{}}", server.address);
    // Where it comes while the other one is at work, it is the one that is refused: then once more.
    let mut slow = None;
    let mut refused = server.post(RECORDS, b"{}\n").await;
    for attempt in 0..400 {
        if refused.status == 429 {
            break;
        }
        if attempt % 20 == 0 {
            let mut again = TcpStream::connect(server.address).await.unwrap();
            again.write_all(head.as_bytes()).await.unwrap();
            slow = Some(again);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        refused = server.post(RECORDS, b"{}\n").await;
    }
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("backpressure")));
    drop(slow);
    for _ in 0..100 {
        if server.post(RECORDS, b"{}\n").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the memory of a request that was given up was never free again");
}

fn batch(partition: u32, source: u64, rows: std::ops::Range<u64>) -> Vec<u8> {
    let mut set = RecordSetBuilder::default();
    for row in rows.clone() {
        let key = (row + 1 == rows.end).then(|| SourcePosition { source, row }.encode());
        set.push(key.as_ref().map(|k| &k[..]), format!("row {row}").as_bytes(), row as i64);
    }
    let mut out = Vec::new();
    let batch =
        RoundBatch { partition: PartitionId(partition), base_timestamp_ms: set.base_timestamp_ms(), set: set.bytes() };
    put_batch(&mut out, &batch).unwrap();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_appended_in_order_and_its_source_can_be_asked_for() {
    let server = Running::start(local()).await;
    let round = [batch(0, 7, 0..3), batch(2, 7, 3..5), batch(0, 7, 5..6)].concat();
    let answer = server.post("/internal/topics/ad_events_raw/rounds", &round).await;
    assert_eq!(answer.json(), json!({"base_offsets": [0, 0, 3]}), "{}", answer.text());
    assert_eq!(values(&server, 0), ["row 0", "row 1", "row 2", "row 5"]);
    let positions = server.get("/internal/topics/ad_events_raw/source/7").await.json();
    assert_eq!(positions, json!({"positions": [5, null, 4]}));
    assert_eq!(
        server.get("/internal/topics/ad_events_raw/source/8").await.json(),
        json!({"positions": [null, null, null]})
    );
    assert_eq!(server.get("/internal/topics/ad_events_raw/source/x").await.status, 400);
    let errors = server.post("/internal/topics/ad_events_error/rounds", &batch(0, 7, 0..1)).await;
    assert_eq!(errors.status, 200);
    assert_eq!(server.count(AD_EVENTS_ERROR), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_comes_late_does_not_double_what_was_sent_again_meanwhile() {
    let server = Running::start(local()).await;
    let path = "/internal/topics/ad_events_raw/rounds";
    assert_eq!(server.post(path, &batch(0, 7, 0..3)).await.status, 200);
    let positions = server.get("/internal/topics/ad_events_raw/source/7").await.json();
    assert_eq!(positions["positions"][0], 2);
    assert_eq!(server.post(path, &batch(0, 7, 3..6)).await.status, 200);
    let late = [batch(1, 7, 3..6), batch(0, 7, 3..6)].concat();
    let answer = server.post(path, &late).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("stale")));
    assert_eq!(server.count(AD_EVENTS_RAW), 6);
    assert_eq!(server.post(path, &batch(0, 8, 0..3)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_round_appends_nothing() {
    let server = Running::start(local()).await;
    let sound = batch(0, 7, 0..3); // Its source was never asked for: nothing is known of it.
    let path = "/internal/topics/ad_events_raw/rounds";
    for cut in [0, 1, 15, 20, sound.len() - 1] {
        let round = [&sound[..], &sound[..cut]].concat();
        let expected = if cut == 0 { 200 } else { 400 };
        let before = server.count(AD_EVENTS_RAW);
        assert_eq!(server.post(path, &round).await.status, expected, "cut at {cut}");
        assert_eq!(server.count(AD_EVENTS_RAW), before + if cut == 0 { 3 } else { 0 });
    }
    assert_eq!(server.post(path, &batch(9, 7, 0..3)).await.status, 400);
    assert_eq!(server.post("/internal/topics/deployments/rounds", &sound).await.status, 403);
    assert_eq!(server.post("/internal/topics/nope/rounds", &sound).await.status, 404);
}
