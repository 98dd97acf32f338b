//! Reports over real sockets: from a database of hours, and without one from the windows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use clickmill_pipeline::views::reports::Cells;
use clickmill_schemas::partial::Metrics;
use serde_json::{Value, json};
use support::{FakeHours, Running, local};

const PANE: i64 = 300_000;
const HOUR: i64 = 3_600_000;

fn told<'a>(report: &'a Value, field: &str) -> Vec<(&'a str, &'a str, i64, &'a Value)> {
    let text = |row: &'a Value, name: &str| row[name].as_str().unwrap();
    let of = |row: &'a Value| (text(row, "label"), text(row, "key"), row["impressions"].as_i64().unwrap(), &row[field]);
    report["rows"].as_array().unwrap().iter().map(of).collect()
}

async fn with_windows() -> Running {
    let server = Running::start(local()).await;
    for (start, key, impressions) in [(0, "a", 4), (PANE, "a", 5), (HOUR, "B", 7), (25 * HOUR, "<b>\"x\",y", 9)] {
        server.partial_of(PANE, 1, start, "site_category", (key, impressions));
        server.partial_of(PANE, 1, start, "total", ("", impressions));
        // Windows of another size are no part of a report.
        server.partial(1, start, "total", "", 1_000);
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_from_the_windows_where_nothing_keeps_hours() {
    let server = with_windows().await;
    let trend = server.get("/api/reports/trend?by=day").await.json();
    assert_eq!((&trend["source"], &trend["note"], &trend["from_ms"]), (&json!("windows"), &Value::Null, &Value::Null));
    assert_eq!(told(&trend, "start_ms"), [("1970-01-01", "", 16, &json!(0)), ("1970-01-02", "", 9, &json!(24 * HOUR))]);
    let first = &trend["rows"][0];
    // 3 clicks of 16 impressions.
    assert_eq!(
        (&first["ctr"], &first["ctr_low"], &first["ctr_high"]),
        (&0.1875.into(), &0.065_916.into(), &0.430_089.into())
    );
    assert_eq!((&first["cpc"], &first["cpa"], &first["lower_bound"]), (&0.5.into(), &Value::Null, &json!(false)));
    let trend = server.get("/api/reports/trend?by=hour&dimension=site_category&key=a&from=1&to=2").await.json();
    assert_eq!((&trend["from_ms"], &trend["to_ms"]), (&json!(0), &json!(HOUR)));
    assert_eq!(told(&trend, "clicks"), [("1970-01-01T00:00:00Z", "a", 9, &json!(2))]);
    let trend = server.get("/api/reports/trend?by=hour_of_day").await.json();
    assert_eq!(told(&trend, "start_ms"), [("00:00", "", 9, &Value::Null), ("01:00", "", 16, &Value::Null)]);
    let breakdown = server.get("/api/reports/breakdown?dimension=site_category&order=clicks&limit=2").await.json();
    assert_eq!(told(&breakdown, "clicks"), [("a", "a", 9, &json!(2)), ("<b>\"x\",y", "<b>\"x\",y", 9, &json!(1))]);
    let breakdown = server.get("/api/reports/breakdown?dimension=site_category&search=b").await.json();
    assert_eq!(told(&breakdown, "clicks").len(), 2, "whatever the case: {breakdown}");
    let breakdown = server.get("/api/reports/breakdown?dimension=nothing").await.json();
    assert_eq!(breakdown["rows"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_given_as_csv_too() {
    let server = with_windows().await;
    let answer = server.get("/api/reports/breakdown?dimension=site_category&format=csv&from=1970-01-02").await;
    assert!(answer.head.contains("content-type: text/csv"));
    assert_eq!(
        answer.text(),
        "label,start,key,impressions,clicks,conversions,cost_micros,revenue_micros,ctr,ctr_low,ctr_high,cpc,cpa,roas,lower_bound\n\
         \"<b>\"\"x\"\",y\",,\"<b>\"\"x\"\",y\",9,1,0,500000,0,0.111111,0.019891,0.435000,0.500000,,0.000000,false\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_from_the_database_that_keeps_hours() {
    let server = with_windows().await;
    let metrics = Metrics { impressions: 10, clicks: 20, ..Metrics::default() };
    let cells = Cells { start_ms: HOUR, keys: vec![("k".into(), metrics)], lower_bound: true };
    *server.host.hours.lock().unwrap() = FakeHours::Has(vec![cells.clone(), cells]);
    let trend = server.get("/api/reports/trend?by=weekday&dimension=site_category").await.json();
    assert_eq!((&trend["source"], &trend["note"]), (&json!("postgres"), &Value::Null));
    assert_eq!(told(&trend, "lower_bound"), [("Thursday", "k", 20, &json!(true))]);
    // More clicks than impressions are no share of anything.
    assert_eq!((&trend["rows"][0]["ctr"], &trend["rows"][0]["ctr_low"]), (&2.0.into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopped_fails_or_is_silent_is_told_of_and_the_windows_answer() {
    let server = with_windows().await;
    let expected = server.get("/api/reports/trend?by=hour").await.json()["rows"].clone();
    for (hours, why) in [
        (FakeHours::Stopped, "connector postgres is stopped"),
        (FakeHours::Fails, "the connection was cut"),
        (FakeHours::Silent, "PostgreSQL has not answered within 2s"),
    ] {
        *server.host.hours.lock().unwrap() = hours;
        let begun = Instant::now();
        let trend = server.get("/api/reports/trend?by=hour").await.json();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!((&trend["source"], &trend["rows"]), (&json!("windows"), &expected));
        assert!(trend["note"].as_str().unwrap().contains(why), "{trend}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_what_it_must_be() {
    let server = with_windows().await;
    let long = "k".repeat(10_241);
    for (query, why) in [
        ("trend", "missing field `by`"),
        ("trend?by=month", "expected one of `hour`, `day`, `hour_of_day`, `weekday`"),
        ("trend?by=day&colour=red", "unknown field `colour`"),
        ("trend?by=day&from=2014-10-22&to=2014-10-21", "`from` must lie before `to`"),
        ("trend?by=day&from=5&to=5", "`from` must lie before `to`"),
        ("trend?by=day&from=yesterday", "`from`: \\\"yesterday\\\" is not a time"),
        ("trend?by=day&from=-99999-01-01", "`from`: "),
        ("trend?by=day&to=9223372036854775807", "`to`: 9223372036854775807 is no time"),
        ("trend?by=day&to=300000000000000", "`to` must lie within the years 1 and 9999"),
        ("trend?by=day&from=-300000000000000", "`from` must lie within the years 1 and 9999"),
        (format!("trend?by=day&key={long}").as_str(), "`key` has 10241 bytes, allowed are 10240"),
        (format!("trend?by=day&dimension={long}").as_str(), "`dimension` has 10241 bytes"),
        ("trend?by=day&format=xml", "expected `json` or `csv`"),
        ("breakdown", "missing field `dimension`"),
        ("breakdown?dimension=total&order=name", "expected one of `impressions`, `clicks`, `ctr`, `cost`"),
        ("breakdown?dimension=total&limit=0", "`limit` must lie within 1 and 10000, and is 0"),
        ("breakdown?dimension=total&limit=10001", "`limit` must lie within 1 and 10000, and is 10001"),
        ("breakdown?dimension=total&limit=-1", "limit"),
        (format!("breakdown?dimension=total&search={long}").as_str(), "`search` has 10241 bytes"),
    ] {
        let answer = server.get(&format!("/api/reports/{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(why), "{query}: {}", answer.text());
    }
    let whole = &long[..10_240];
    let answer = server.get(&format!("/api/reports/trend?by=day&dimension=site_category&key={whole}")).await;
    assert_eq!((answer.status, answer.json()["rows"].clone()), (200, json!([])));
}
