//! Who is let in, how long anybody may take, and how a server ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use clickmill_server::{BindError, Options, Server, Token};
use support::live::Listener;
use support::{Running, TOKEN, local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn guarded() -> Options {
    Options { token: Some(Token::new(TOKEN).unwrap()), ..local() }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_only_health_and_the_empty_page_are_open() {
    let server = Running::start(guarded()).await;
    for open in ["/health/live", "/health/ready", "/", "/health", "/reports", "/assets/style.css"] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
    for closed in [
        "/metrics",
        "/api/status",
        "/api/windows?size=1m",
        "/api/topics",
        "/api/topics/ad_events_raw",
        "/api/topics/ad_events_raw/partitions/0/records",
        "/api/live",
        "/api/live/top?size=1m&dimension=total",
        "/api/health",
        "/api/checkpoints",
        "/internal/topics/ad_events_raw/source/1",
    ] {
        let answer = server.get(closed).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (401, Some("unauthorized")), "{closed}");
    }
    for closed in
        ["/api/checkpoints/verify", "/api/topics/ad_events_raw/records", "/internal/topics/ad_events_raw/rounds"]
    {
        assert_eq!(server.post(closed, b"{}").await.status, 401, "{closed}");
    }
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(server.send("GET", "/api/status", &[("Authorization", &bearer)], b"").await.status, 200);
    let wrong = format!("Bearer {}x", &TOKEN[1..]);
    assert_eq!(server.send("GET", "/api/status", &[("Authorization", &wrong)], b"").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_is_kept_out() {
    let server = Running::start(local()).await;
    let path = "/api/topics/ad_events_raw/records";
    let foreign = server.send("POST", path, &[("Origin", "http://evil.example")], b"{}").await;
    assert_eq!(foreign.status, 403);
    assert_eq!(server.count("ad_events_raw"), 0);
    let own = format!("http://{}", server.address);
    assert_eq!(server.send("POST", path, &[("Origin", &own)], b"{}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_or_an_encoding_that_is_not_understood_is_refused_in_words() {
    let server = Running::start(local()).await;
    let answer = server.send("DELETE", "/api/status", &[], b"").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (405, Some("method_not_allowed")));
    assert!(answer.head.contains("allow: get"), "{}", answer.head);
    for path in ["/api/topics/ad_events_raw/records", "/internal/topics/ad_events_raw/rounds"] {
        let answer = server.send("POST", path, &[("Content-Encoding", "gzip")], b"\x1f\x8b").await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (415, Some("unsupported_encoding")));
    }
    assert_eq!(server.count("ad_events_raw"), 0);
    let plain = &[("Content-Encoding", "Identity")];
    assert_eq!(server.send("POST", "/api/topics/ad_events_raw/records", plain, b"{}").await.status, 200);
}

#[test]
fn beyond_loopback_a_token_is_required() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let refused = Server::bind(Options { listen, ..Options::default() });
    assert!(matches!(refused, Err(BindError::TokenRequired { .. })), "{refused:?}");
    assert!(Server::bind(Options { listen, ..guarded() }).is_ok());
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let first = Server::bind(local()).unwrap();
    let error = Server::bind(Options { listen: first.local_addr(), ..Options::default() }).unwrap_err().to_string();
    assert!(error.contains(&first.local_addr().to_string()) && error.contains("server.listen"), "{error}");
    let error = Server::bind(Options { listen: "192.0.2.1:80".parse().unwrap(), ..guarded() }).unwrap_err();
    assert!(matches!(error, BindError::Address { .. }), "{error}");
}

async fn until_closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut seen)).await;
    let _ = read.expect("the server gives up in time");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_head_or_body_is_given_up() {
    let short = Duration::from_millis(300);
    let server = Running::start(Options { header_timeout: short, request_timeout: short, ..local() }).await;
    let mut head = TcpStream::connect(server.address).await.unwrap();
    head.write_all(b"GET /api/sta").await.unwrap();
    until_closed(&mut head).await;

    let mut body = TcpStream::connect(server.address).await.unwrap();
    let start = "POST /api/topics/ad_events_raw/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    body.write_all(start.as_bytes()).await.unwrap();
    let seen = until_closed(&mut body).await;
    assert!(seen.starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&seen));
    assert_eq!(server.count("ad_events_raw"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_are_told_to_come_again() {
    let server = Running::start(Options { max_in_flight_requests: 1, ..local() }).await;
    let start = "POST /api/topics/ad_events_raw/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    for _ in 0..50 {
        // Where it comes while the other one is at work, it is the one that is refused: then once more.
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(start.as_bytes()).await.unwrap();
        for _ in 0..20 {
            let answer = server.get("/api/topics").await;
            if answer.status == 503 {
                assert_eq!(answer.json()["error"]["code"], "overloaded");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    panic!("the second request was never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_http_harm_nobody() {
    let server = Running::start(local()).await;
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[0xff; 5_000],
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let _ = socket.write_all(junk).await;
        let _ = socket.shutdown().await;
        until_closed(&mut socket).await;
    }
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_beyond_the_limit_are_refused_and_a_place_is_free_when_one_leaves() {
    let server = Running::start(Options { max_live_clients: 1, ..local() }).await;
    let first = Listener::open(&server).await;
    assert_eq!(server.get("/api/live").await.status, 503);
    drop(first);
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            let head = format!("GET /api/live HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut start = [0; 12];
            socket.read_exact(&mut start).await.unwrap();
            if &start == b"HTTP/1.1 200" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the place is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_less_than_two_seconds_with_open_streams_and_idle_connections() {
    let mut server = Running::start(local()).await;
    let mut live = Listener::open(&server).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    let start = "POST /api/topics/ad_events_raw/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    stuck.write_all(start.as_bytes()).await.unwrap();
    let began = Instant::now();
    server.stop.take().unwrap().send(()).unwrap();
    server.task.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    until_closed(&mut live.socket).await;
    until_closed(&mut idle).await;
    until_closed(&mut stuck).await;
}
