//! What a server tells: health, metrics, status, windows, topics, the page, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::Ordering;

use clickmill_pipeline::topics::{AD_EVENTS_RAW, CTR_WINDOWS};
use clickmill_pipeline::views::render::parse_json;
use serde_json::json;
use support::{Running, local};

#[tokio::test(flavor = "multi_thread")]
async fn health_says_whether_the_host_works_and_why_not() {
    let server = Running::start(local()).await;
    assert_eq!(server.get("/health/live").await.status, 200);
    assert_eq!(server.get("/health/ready").await.status, 200);
    server.host.ready.store(false, Ordering::Relaxed);
    let answer = server.get("/health/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "partition 1 has no worker; sink redis: refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_that_of_the_contract_with_the_hosts_sinks() {
    let server = Running::start(local()).await;
    server.append(AD_EVENTS_RAW, 0, &[(None, b"{}"), (None, b"{}")]);
    server.commit(0, 1, 0);
    let status = server.get("/api/status").await.json();
    assert_eq!(status["state"], "running");
    assert_eq!(status["ledger"]["produced"], 2);
    assert_eq!(status["ledger"]["waiting"], 1);
    assert_eq!(status["sinks"], json!([{"name": "postgres"}]));
    let partition = &status["partitions"][0];
    assert_eq!(partition["topic"], AD_EVENTS_RAW);
    assert_eq!((&partition["log_end_offset"], &partition["processed_offset"]), (&json!(2), &json!(1)));
    assert_eq!((&partition["lag"], &partition["watermark_ms"]), (&json!(1), &json!(60_000)));
    assert_eq!(status["run"], server.run.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_come_as_json_and_as_the_contracts_csv() {
    let server = Running::start(local()).await;
    for minute in 0..3 {
        server.partial(9, minute * 60_000, "site_category", "a,b", 4);
    }
    for partition in 0..3 {
        server.commit(partition, 9, 60_000);
    }
    let json = server.get("/api/windows?size=1m&dimension=site_category&from=1970-01-01T00:01:00Z").await.json();
    assert_eq!(json["windows"].as_array().unwrap().len(), 2);
    assert_eq!(json["windows"][0]["ctr"], 0.25);
    let csv = server.get("/api/windows?size=1m&format=csv&to=60000").await;
    assert!(csv.head.contains("content-type: text/csv"));
    assert_eq!(
        csv.text(),
        "window_size,window_start,window_end,dimension,key,impressions,clicks,conversions,cost_micros,\
         revenue_micros,ctr,cpc,cpa,roas,final\n\
         1m,1970-01-01T00:00:00Z,1970-01-01T00:01:00Z,site_category,\"a,b\",4,1,0,500000,0,0.250000,0.500000,,0.000000,true\n"
    );
    let lines = server.get("/api/windows?size=1m&format=jsonl").await.text();
    assert_eq!(lines.lines().count(), 3);
    assert_eq!(parse_json(lines.lines().next().unwrap()).unwrap().key, "a,b");
    assert_eq!(server.get("/api/windows?size=5m").await.json(), json!({"windows": []}));
    for bad in ["size=2m", "", "size=1m&from=soon", "size=1m&format=xml", "size=1m&colour=red"] {
        let answer = server.get(&format!("/api/windows?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.json()["error"]["code"], "bad_request");
        assert!(!answer.text().contains("deserialize"), "{}", answer.text());
    }
    assert!(server.get("/api/windows").await.text().contains("?size=1m or ?size=5m"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_windows_come_whole_in_many_chunks() {
    let server = Running::start(local()).await;
    let count = 500;
    for minute in 0..count {
        server.partial(9, minute * 60_000, "total", "", 4);
    }
    let answer = server.get("/api/windows?size=1m").await;
    let windows = answer.json()["windows"].as_array().unwrap().len();
    assert_eq!(windows as i64, count);
    assert!(answer.body.len() > 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_their_records_can_be_read() {
    let server = Running::start(local()).await;
    server.append(AD_EVENTS_RAW, 1, &[(None, b"{\"z\":1}"), (Some(b"\xff"), b"\xfe")]);
    server.partial(3, 0, "total", "", 4);
    let topics = server.get("/api/topics").await.json();
    let names: Vec<_> = topics["topics"].as_array().unwrap().iter().map(|t| t["topic"].as_str().unwrap()).collect();
    assert_eq!(names, ["ad_events_dlq", "ad_events_error", "ad_events_raw", "ctr_windows", "deployments"]);
    let one = server.get("/api/topics/ad_events_raw").await.json();
    assert_eq!(one["partitions"][1]["log_end_offset"], 2);
    let page = server.get("/api/topics/ad_events_raw/partitions/1/records?offset=1&limit=5").await.json();
    assert_eq!(page["records"][0]["value"], json!({"encoding": "base64", "data": "/g=="}));
    assert_eq!(page["next_offset"], 2);
    let partial = server.get(&format!("/api/topics/{CTR_WINDOWS}/partitions/0/records")).await.json();
    assert_eq!(partial["records"][0]["value"]["data"]["entries"][0]["impressions"], 4);
    for (path, status) in [
        ("/api/topics/nope", 404),
        ("/api/topics/ad_events_raw/partitions/3/records", 404),
        ("/api/topics/ad_events_raw/partitions/x/records", 400),
        ("/api/topics/ad_events_raw/partitions/1/records?offset=-1", 400),
        ("/api/topics/ad_events_raw/partitions/1/records?offset=3", 400),
        ("/api/topics/..%2f..%2fetc/partitions/0/records", 404),
        ("/nope", 404),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_offsets_fates_requests_and_what_the_host_registers() {
    let server = Running::start(local()).await;
    server.append(AD_EVENTS_RAW, 2, &[(None, b"{}"), (None, b"{}"), (None, b"{}")]);
    server.commit(2, 2, 120_000);
    let own = prometheus::IntCounter::new("clickmill_commits_total", "Commits").unwrap();
    own.inc();
    server.host.registry.register(Box::new(own)).unwrap();
    // The host names one of the server's own: it must not come twice.
    let same = prometheus::IntGauge::new("clickmill_lag_records", "From the host").unwrap();
    server.host.registry.register(Box::new(same)).unwrap();
    server.get("/health/live").await;
    let text = server.get("/metrics").await.text();
    for line in [
        "clickmill_log_end_offset{partition=\"2\",topic=\"ad_events_raw\"} 3",
        "clickmill_processed_offset{partition=\"2\",topic=\"ad_events_raw\"} 2",
        "clickmill_produced_records_total{partition=\"2\",topic=\"ad_events_raw\"} 3",
        "clickmill_ledger_records_total{fate=\"counted\",partition=\"2\",topic=\"ad_events_raw\"} 2",
        "clickmill_watermark_timestamp_seconds{partition=\"2\",topic=\"ad_events_raw\"} 180",
        "clickmill_ledger_balanced 1",
        "clickmill_commits_total 1",
        "clickmill_http_requests_total{method=\"GET\",route=\"/health/live\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches("# TYPE clickmill_lag_records").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_and_their_parts_come_with_a_strict_policy_and_only_once() {
    let server = Running::start(local()).await;
    let pages = ["/", "/reports", "/pipeline", "/dead-letters", "/health"].map(|path| (path, "text/html"));
    let parts = [("/assets/style.css", "text/css"), ("/assets/icon.svg", "image/svg+xml")];
    for (path, content) in pages.into_iter().chain(parts) {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains(&format!("content-type: {content}")), "{path}");
        assert!(answer.head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{path}");
        assert!(answer.head.contains("x-content-type-options: nosniff"));
        let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let again = server.send("GET", path, &[("If-None-Match", tag)], b"").await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let other = server.send("GET", path, &[("If-None-Match", "\"other\"")], b"").await;
        assert_eq!(other.body, answer.body, "{path}");
    }
    for nothing in ["/assets/", "/assets/openapi.json", "/assets/../src/lib.rs", "/assets/%2e%2e/index.html", "/nope"] {
        assert_eq!(server.get(nothing).await.status, 404, "{nothing}");
    }
}
