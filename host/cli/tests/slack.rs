//! What a real HTTP server in Slack's place is told: dead letters that were given up, a breaker, a daily summary; over outages
//! and kills at least once each, with the same key.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Bench, DAY, POISON, Value, event, eventually};

/// A webhook that answers with the next of these, then 200, and keeps what it was sent.
struct Channel {
    url: String,
    said: Arc<Mutex<Vec<(u16, String)>>>,
}

impl Channel {
    fn open(mut answers: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/services/T0/B0/s3cr3t", listener.local_addr().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        answers.reverse();
        let heard = said.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let text = serde_json::from_slice::<Value>(&body).unwrap()["text"].as_str().unwrap().to_owned();
                let status = answers.pop().unwrap_or(200);
                heard.lock().unwrap().push((status, text));
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nRetry-After: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                );
            }
        });
        Self { url, said }
    }

    fn said(&self) -> Vec<(u16, String)> {
        self.said.lock().unwrap().clone()
    }

    fn heard(&self, part: &str) -> Option<String> {
        self.said().into_iter().find(|(status, text)| *status == 200 && text.contains(part)).map(|(_, text)| text)
    }
}

fn bench(channel: &Channel, slack: &str) -> Bench {
    let bench = Bench::new().with_env("SLACK_WEBHOOK_URL", &channel.url);
    let config = format!(
        "sinks: {{postgres: {{enabled: false}}, redis: {{enabled: false}}}}\npipeline: {{commit_interval_ms: 100}}\n\
         slack: {{{slack}}}\nbroker: {{topics: {{ad_events_raw: {{partitions: 1}}}}}}\n"
    );
    std::fs::write(bench.file("clickmill.yaml"), config).unwrap();
    bench
}

fn key(text: &str) -> &str {
    text.lines().last().unwrap()
}

#[test]
fn letters_that_were_given_up_are_told_at_least_once_over_an_outage_and_a_kill() {
    let channel = Channel::open(vec![500, 429, 503]);
    let bench = bench(&channel, "min_interval_ms: 500");
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post("no JSON\nnor this\n");
    let limit = Duration::from_secs(30);
    eventually("the first attempt", limit, || !channel.said().is_empty());
    host.kill();
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    eventually("Slack is told", limit, || channel.heard("*2 dead letters were given up*").is_some());
    let told = channel.said();
    assert!(told.len() >= 4 && told[0].0 == 500, "{told:?}");
    assert!(told.iter().all(|(_, text)| key(text) == key(&told[0].1)), "one message has one key: {told:?}");
    assert!(told[0].1.contains("• 2 parsing:json") && told[0].1.contains("clickmill dlq list"), "{told:?}");

    bench.post("and this\n");
    eventually("it is told of the third", limit, || channel.heard("*1 dead letter was given up*").is_some());
    assert_eq!(host.terminate(), Some(0));
    let everything = [bench.log("host"), bench.run(&["config"])].concat();
    assert!(!everything.contains("s3cr3t"), "the webhook is a secret");
}

#[test]
fn a_message_that_is_refused_for_good_keeps_no_other_one_waiting() {
    let channel = Channel::open(vec![400]);
    let bench = bench(&channel, "min_interval_ms: 100");
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post("no JSON\n");
    let limit = Duration::from_secs(30);
    eventually("the first is refused", limit, || !channel.said().is_empty());
    bench.post("nor this\nnor that\n");
    eventually("the second is taken", limit, || channel.heard("*2 dead letters were given up*").is_some());
    assert_eq!(channel.said().iter().filter(|(_, text)| text.contains("*1 dead letter was given up*")).count(), 1);
    assert!(bench.log("host").contains("Slack refuses a message"), "{}", bench.log("host"));
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn a_breaker_and_the_days_summary_are_told() {
    let channel = Channel::open(Vec::new());
    // What comes soon: in UTC, and not over midnight.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).time();
    let at = now.checked_add(jiff::Span::new().seconds(12)).unwrap_or(now);
    let bench = bench(&channel, &format!("daily_summary_at: \"{}\"", at.strftime("%H:%M:%S")));
    let module = bench.wat("poison.wasm", POISON);
    let host = bench.start("host", &["run"]);
    bench.until_ready();
    bench.post(&format!("{}\nno JSON\n", event("a", DAY)));
    bench.run(&["smartmodule", "deploy", "--yes", &module, "--stage", "poison", "--after", "validate"]);
    let mut poison = event("b", DAY + 1);
    poison["site_domain"] = "xTRAPx".into();
    bench.post(&format!("{poison}\n").repeat(30));
    let limit = Duration::from_secs(60);
    eventually("the breaker is told", limit, || channel.heard("was put back").is_some());
    eventually("the summary is told", limit, || channel.heard("*Daily summary*").is_some());
    let summary = channel.heard("*Daily summary*").unwrap();
    assert!(summary.contains("impression") && summary.contains("rejected"), "{summary}");
    assert_eq!(host.terminate(), Some(0));
}
