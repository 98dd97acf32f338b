//! Answers of a running server against what the document says of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clickmill_broker::Broker;
use clickmill_pipeline::topics::{AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_schemas::envelope::SourcePosition;
use clickmill_server::{Options, Token};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::schema::{Operation, TEXT, assert_is, assert_valid, document, operations, resolved};
use crate::support::busy::Busy;
use crate::support::{Answer, Running, TOKEN, local};

/// Fails where the document does not have this status, this type of content or this body of the operation.
fn assert_told(document: &Value, operation: &Operation<'_>, answer: &Answer) {
    let what = format!("{} ({}): {}", operation.name(), answer.status, answer.text());
    let responses = &operation.says["responses"];
    let response = responses.get(answer.status.to_string()).unwrap_or(&responses["default"]);
    let content = resolved(document, response)["content"].as_object().unwrap();
    let kind = answer.head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
    let kind = kind.split(';').next().unwrap();
    let schema = content.get(kind).unwrap_or_else(|| panic!("{what}: {kind} is not told of"));
    if kind == "application/json" {
        assert_valid(document, &schema["schema"], &answer.json(), &what);
    }
}

fn find<'a>(document: &'a Value, name: &str) -> Operation<'a> {
    operations(document).into_iter().find(|o| o.name() == name).unwrap_or_else(|| panic!("{name} is not told of"))
}

async fn asked(server: &Running, name: &str, address: &str, body: &[u8]) -> Answer {
    let document = document();
    let operation = find(&document, name);
    let answer = server.send(&operation.method.to_uppercase(), address, &[], body).await;
    assert_told(&document, &operation, &answer);
    answer
}

/// A log with events, a partial, a commit and keys of all kinds.
async fn with_data() -> Running {
    let server = Running::start(local()).await;
    let position = SourcePosition { source: 7, row: 3 }.encode();
    let records: [(Option<&[u8]>, &[u8]); 3] = [(None, b"{}"), (Some(&position), b"{}"), (Some(b"k"), b"\xfe")];
    server.append(AD_EVENTS_RAW, 0, &records);
    server.partial(2, 0, "total", "", 4);
    server.partial(2, 0, "site_category", "28905ebd", 4);
    server.partial_of(300_000, 2, 0, "total", ("", 4));
    server.partial_of(300_000, 2, 0, "site_category", ("28905ebd", 4));
    (0..3).for_each(|partition| server.commit(partition, u64::from(partition == 0) * 2, 60_000));
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_and_asks_for_the_token() {
    let server = Running::start(Options { token: Token::new(TOKEN).ok(), ..local() }).await;
    let refused = asked(&server, "GET /api/openapi.json", "/api/openapi.json", b"").await;
    assert_eq!(refused.status, 401);
    let bearer = format!("Bearer {TOKEN}");
    let answer = server.send("GET", "/api/openapi.json", &[("Authorization", &bearer)], b"").await;
    assert_eq!((answer.status, answer.text()), (200, TEXT.to_owned()));
    assert!(answer.head.contains("content-type: application/json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_as_the_document_has_it() {
    let server = with_data().await;
    let records = "GET /api/topics/{topic}/partitions/{partition}/records";
    for (name, address, status) in [
        ("GET /health/live", "/health/live", 200),
        ("GET /health/ready", "/health/ready", 200),
        ("GET /metrics", "/metrics", 200),
        ("GET /api/status", "/api/status", 200),
        ("GET /api/windows", "/api/windows?size=1m", 200),
        ("GET /api/windows", "/api/windows?size=1m&format=jsonl", 200),
        ("GET /api/windows", "/api/windows?size=1m&format=csv", 200),
        ("GET /api/windows", "/api/windows?size=2m", 400),
        ("GET /api/reports/trend", "/api/reports/trend?by=hour", 200),
        ("GET /api/reports/trend", "/api/reports/trend?by=weekday&dimension=site_category&format=csv", 200),
        ("GET /api/reports/trend", "/api/reports/trend?by=month", 400),
        ("GET /api/reports/breakdown", "/api/reports/breakdown?dimension=site_category", 200),
        ("GET /api/reports/breakdown", "/api/reports/breakdown", 400),
        ("GET /api/topics", "/api/topics", 200),
        ("GET /api/topics/{topic}", "/api/topics/ad_events_raw", 200),
        ("GET /api/topics/{topic}", "/api/topics/nope", 404),
        (records, "/api/topics/ad_events_raw/partitions/0/records", 200),
        (records, "/api/topics/ad_events_raw/partitions/0/records?exact=true", 200),
        (records, "/api/topics/ctr_windows/partitions/0/records", 200),
        (records, "/api/topics/ad_events_raw/partitions/x/records", 400),
        (records, "/api/topics/ad_events_raw/partitions/9/records", 404),
        ("GET /api/pipeline", "/api/pipeline", 404),
    ] {
        assert_eq!(asked(&server, name, address, b"").await.status, status, "{address}");
    }
    let status = server.get("/api/status").await.json();
    assert_eq!((&status["partitions"][0]["epoch"], &status["ledger"]["counted"]), (&json!(1), &json!(2)));
    assert_eq!(server.get("/api/windows?size=1m").await.json()["windows"].as_array().unwrap().len(), 2);
    for line in server.get("/api/windows?size=1m&format=jsonl").await.text().lines() {
        assert_is("WindowRow", &serde_json::from_str::<Value>(line).unwrap());
    }
    // All forms of a key or value have been among these.
    let page = |topic| format!("/api/topics/{topic}/partitions/0/records");
    let all = [server.get(&page(AD_EVENTS_RAW)).await.text(), server.get(&page(CTR_WINDOWS)).await.text()].concat();
    for form in ["utf8", "base64", "partial", "source_position"] {
        assert!(all.contains(&format!("\"encoding\":\"{form}\"")), "{form}: {all}");
    }
    server.host.ready.store(false, Ordering::Relaxed);
    assert_eq!(asked(&server, "GET /health/ready", "/health/ready", b"").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_answered_as_the_document_has_it() {
    let server = Running::start(Options { max_body_bytes: 100, max_record_bytes: 50, ..local() }).await;
    let name = "POST /api/topics/{topic}/records";
    for (topic, body, status) in [
        (AD_EVENTS_RAW, vec![b'x'; 20], 200),
        (AD_EVENTS_RAW, vec![b'x'; 51], 400),
        (CTR_WINDOWS, vec![b'x'; 20], 403),
        ("nope", vec![b'x'; 20], 404),
        (AD_EVENTS_RAW, vec![b'\n'; 101], 413),
    ] {
        let answer = asked(&server, name, &format!("/api/topics/{topic}/records"), &body).await;
        assert_eq!(answer.status, status, "{topic}");
    }
    let (create, alter, delete) = ("POST /api/topics", "PATCH /api/topics/{topic}", "DELETE /api/topics/{topic}");
    for (name, address, body, status) in [
        (create, "/api/topics", r#"{"name": "mine", "partitions": 2, "retention_max_bytes": 1000}"#, 200),
        (create, "/api/topics", r#"{"name": "mine", "partitions": 2}"#, 409),
        (create, "/api/topics", r#"{"name": "mine"}"#, 400),
        (alter, "/api/topics/mine", r#"{"partitions": 3, "retention_max_age_hours": 2}"#, 200),
        (alter, "/api/topics/mine", r#"{"partitions": 1}"#, 400),
        (alter, "/api/topics/nope", r#"{"retention_max_bytes": "none"}"#, 404),
        (delete, "/api/topics/mine", "", 200),
        (delete, "/api/topics/mine", "", 404),
        (delete, "/api/topics/deployments", "", 400),
    ] {
        assert_eq!(asked(&server, name, address, body.as_bytes()).await.status, status, "{name} {address} {body}");
    }
    let wrong_method = server.send("PUT", "/api/status", &[], b"").await;
    assert_eq!(wrong_method.status, 405);
    assert_is("Error", &wrong_method.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_lines_that_are_not_all_stored_is_as_the_document_has_it() {
    let busy = |inner| Arc::new(Busy { inner, partition: 1, free: AtomicUsize::new(0) }) as Arc<dyn Broker>;
    let server = Running::start_over(local(), busy).await;
    let body: String = (0..30).map(|n| format!("{{\"id\":\"id{n}\"}}\n")).collect();
    let name = "POST /api/topics/{topic}/records";
    let answer = asked(&server, name, "/api/topics/ad_events_raw/records", body.as_bytes()).await;
    assert_eq!(answer.status, 429);
    assert_is("NotAllStored", &answer.json());
}

/// The address with its parameters' examples, and with all of its query.
fn address(operation: &Operation<'_>) -> String {
    let (mut address, mut query) = (operation.path.to_owned(), Vec::new());
    for parameter in &operation.parameters {
        let name = parameter["name"].as_str().unwrap();
        let example = &parameter["example"];
        let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        match parameter["in"].as_str().unwrap() {
            "path" => address = address.replace(&format!("{{{name}}}"), &example),
            _ => query.push(format!("{name}={example}")),
        }
    }
    if query.is_empty() { address } else { format!("{address}?{}", query.join("&")) }
}

/// All fields of a body, each with its example.
fn body(document: &Value, operation: &Operation<'_>) -> Option<Map<String, Value>> {
    let schema = resolved(document, operation.says["requestBody"]["content"]["application/json"].get("schema")?);
    let fields = schema["properties"].as_object().unwrap().iter();
    Some(fields.map(|(name, field)| (name.clone(), field["examples"][0].clone())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_and_field_of_a_request_is_known_to_the_server_and_no_other_is() {
    let server = with_data().await;
    let document = document();
    let topic = document["components"]["parameters"]["topic"]["example"].as_str().unwrap();
    let made = json!({"name": topic, "partitions": 3}).to_string();
    let mut strict = 0;
    for operation in operations(&document).iter().filter(|o| o.path != "/api/live") {
        // One of these operations deletes it.
        if server.broker.topic(topic).unwrap().is_none() {
            assert_eq!(asked(&server, "POST /api/topics", "/api/topics", made.as_bytes()).await.status, 200);
        }
        let method = operation.method.to_uppercase();
        let address = address(operation);
        let fields = body(&document, operation);
        let sent = fields.as_ref().map(|fields| json!(fields).to_string()).unwrap_or_default();
        let answer = server.send(&method, &address, &[], sent.as_bytes()).await;
        assert_told(&document, operation, &answer);
        // The host of these tests runs no workers: it says so once it has understood the request.
        let understood = answer.status == 200 || answer.text().contains("this host runs no workers");
        assert!(understood, "{method} {address} {sent}: {} {}", answer.status, answer.text());
        if address.contains('?') {
            strict += 1;
            let more = server.send(&method, &format!("{address}&colour=red"), &[], sent.as_bytes()).await;
            assert_eq!(more.status, 400, "{method} {address}");
        }
        if let Some(mut fields) = fields {
            strict += 1;
            // An array's elements are not taken for the fields in order.
            let array = server.send(&method, &address, &[], b" []").await;
            assert_eq!(array.status, 400, "{method} {address}");
            fields.insert("colour".to_owned(), json!("red"));
            let more = server.send(&method, &address, &[], json!(fields).to_string().as_bytes()).await;
            assert_eq!(more.status, 400, "{method} {address}");
        }
    }
    assert!(strict >= 15, "{strict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_the_live_stream_is_as_the_document_has_it() {
    let server = with_data().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /api/live HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let frame = async {
        loop {
            assert!(socket.read_buf(&mut seen).await.unwrap() > 0, "the stream ended");
            let text = String::from_utf8_lossy(&seen).into_owned();
            // One with everything in it: categories come with the windows.
            let whole = text.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n"));
            let mut data = whole.filter_map(|event| event.split_once("data: ")).map(|(_, data)| data);
            if let Some(data) = data.find(|data| data.contains("28905ebd")) {
                return data.to_owned();
            }
        }
    };
    let data = tokio::time::timeout(Duration::from_secs(10), frame).await.expect("a frame in time");
    let frame: Value = serde_json::from_str(data.trim_end()).unwrap();
    assert!(!frame["windows"].as_array().unwrap().is_empty());
    assert_is("Frame", &frame);
}
