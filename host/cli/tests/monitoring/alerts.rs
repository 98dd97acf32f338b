//! Each alert through a real Prometheus and a real Alertmanager: it fires, Slack hears of it, it resolves, and Slack hears that.
//!
//! Time runs sixty times faster (`faster`). Four targets stand for hosts, since some alerts silence others on the same one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::eventually;
use crate::expressions::{RULE_FILES, alerts};
use crate::faster::sixty_times;
use crate::listeners::{Slack, Target};
use crate::programs::Server;
use crate::{repository, text, word};

/// One heavy test at a time: what they wait for is on a clock.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with a host while it is bad.
#[derive(Clone, Copy)]
enum Ill {
    /// Few events, none committed; a sink down, a breaker tripped, a ledger that does not balance.
    Stuck,
    /// Dead letters, slow rows, a pause.
    Slow,
    /// Late events.
    Lossy,
    /// Nothing but that it does not answer.
    Silent,
}

/// A page of metrics that goes on with time, by the rates of a sound host or of an ill one.
fn host(ill: Ill, bad: Arc<AtomicBool>) -> Target {
    let (mut counted, mut rejected, mut late, mut lag, mut slow, mut before) =
        (1e6, 0.0, 0.0, 0.0, 0.0, Instant::now());
    let mut tripped = false;
    Target::open(move || {
        let bad = bad.load(Ordering::Relaxed);
        let seconds = before.elapsed().as_secs_f64();
        before = Instant::now();
        let is = |wanted: Ill| bad && wanted as u8 == ill as u8;
        counted += seconds * if is(Ill::Stuck) { 5.0 } else { 2_000.0 };
        rejected += seconds * if is(Ill::Slow) { 10.0 } else { 0.0 };
        late += seconds * if is(Ill::Lossy) { 100.0 } else { 0.0 };
        slow += seconds * if is(Ill::Slow) { 200.0 } else { 0.0 };
        lag = if is(Ill::Stuck) { lag + seconds * 3_000.0 } else { 0.0 };
        tripped |= is(Ill::Stuck);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let checkpoint = now - if is(Ill::Stuck) { 500.0 } else { 1.0 };
        let (stuck, paused) = (u8::from(!is(Ill::Stuck)), u8::from(is(Ill::Slow)));
        let fast = counted - slow;
        let at = "topic=\"ad_events_raw\",partition=\"0\"";
        let mut page = format!(
            "clickmill_produced_records_total{{{at}}} {counted}\n\
             clickmill_ledger_records_total{{{at},fate=\"counted\"}} {counted}\n\
             clickmill_ledger_records_total{{{at},fate=\"rejected\"}} {rejected}\n\
             clickmill_ledger_records_total{{{at},fate=\"late\"}} {late}\n\
             clickmill_lag_records{{{at}}} {lag}\n\
             clickmill_ledger_balanced {stuck}\n\
             clickmill_sink_up{{sink=\"redis\"}} {stuck}\n\
             clickmill_pipeline_paused {paused}\n\
             clickmill_checkpoint_timestamp_seconds{{partition=\"0\"}} {checkpoint}\n\
             clickmill_end_to_end_latency_seconds_bucket{{sink=\"postgres\",le=\"5\"}} {fast}\n\
             clickmill_end_to_end_latency_seconds_bucket{{sink=\"postgres\",le=\"10\"}} {counted}\n\
             clickmill_end_to_end_latency_seconds_bucket{{sink=\"postgres\",le=\"+Inf\"}} {counted}\n"
        );
        // The counter of a stage begins with its first trip.
        if tripped {
            page.push_str("clickmill_breaker_trips_total{stage=\"validate\"} 1\n");
        }
        page
    })
}

fn prometheus_config(alertmanager: u16, hosts: &[Target], rules: &str) -> String {
    let targets: Vec<String> = hosts.iter().map(|host| format!("'{}'", host.address)).collect();
    format!(
        "global: {{scrape_interval: 500ms, evaluation_interval: 250ms}}\n\
         rule_files: ['{rules}/*.yml']\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
         scrape_configs:\n- job_name: clickmill\n  static_configs: [{{targets: [{}], labels: {{traffic: continuous}}}}]\n",
        targets.join(", ")
    )
}

#[test]
fn each_alert_fires_and_resolves_and_slack_hears_both() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (slack, bad) = (Slack::open(), Arc::new(AtomicBool::new(false)));
    let hosts = [Ill::Stuck, Ill::Slow, Ill::Lossy, Ill::Silent].map(|ill| host(ill, Arc::clone(&bad)));
    let webhook = folder.path().join("webhook");
    std::fs::write(&webhook, &slack.url).unwrap();
    let routing = sixty_times(&text("monitoring/alertmanager/alertmanager.yml"));
    let routing = routing.replace("/run/clickmill/slack-webhook", webhook.to_str().unwrap());
    let alertmanager = Server::alertmanager(folder.path(), &routing);
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    for file in RULE_FILES {
        std::fs::write(rules.join(repository(file).file_name().unwrap()), sixty_times(&text(file))).unwrap();
    }
    let config = prometheus_config(alertmanager.port, &hosts, rules.to_str().unwrap());
    let prometheus = Server::prometheus(folder.path(), &config);

    // Sound hosts: long enough for whatever would fire by itself.
    eventually("four hosts are up", Duration::from_secs(10), || prometheus.query("up == 1").len() == 4);
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(slack.messages(), Vec::<String>::new(), "of sound hosts nothing is told");

    bad.store(true, Ordering::Relaxed);
    hosts[3].set_down(true);
    let names: Vec<String> = alerts().iter().map(|alert| word(&alert["alert"]).to_owned()).collect();
    let untold = |form: &dyn Fn(&str) -> String| -> Vec<String> {
        names.iter().filter(|name| !slack.heard(&form(name))).cloned().collect()
    };
    let fired = |name: &str| format!("*{name}*");
    let resolved = |name: &str| format!("resolved: {name}");
    wait(Duration::from_secs(45), || untold(&fired), "told of", &slack);
    let ours = slack.messages().join("\n");
    for part in
        ["docs/OPERATIONS.md#clickmillsinkdown", "The sink redis of 127.0.0.1", "p99 latency to the sink postgres"]
    {
        assert!(ours.contains(part), "{part}: {ours}");
    }
    assert!(!ours.contains("<no value>"), "{ours}");

    // While a host is down, nothing else about it is told.
    let silent = hosts[3].address.to_string();
    let add = |name: &str, instance: &str| {
        let url = format!("--alertmanager.url=http://127.0.0.1:{}", alertmanager.port);
        let labels = [format!("alertname={name}"), format!("instance={instance}"), "component=clickmill".to_owned()];
        let args = [&[url.as_str(), "alert", "add"], labels.each_ref().map(String::as_str).as_slice()].concat();
        crate::programs::check("amtool", &args).unwrap();
    };
    add("BesideASilentHost", &silent);
    add("BesideALivingHost", "127.0.0.1:1");
    eventually("an alert of another host is told", Duration::from_secs(15), || slack.heard("*BesideALivingHost*"));
    assert!(!slack.heard("BesideASilentHost"), "a host that is down silences the rest");

    bad.store(false, Ordering::Relaxed);
    hosts[3].set_down(false);
    wait(Duration::from_secs(45), || untold(&resolved), "told that it is over", &slack);
}

/// Waits until nothing is left; says what is, where it does not come.
fn wait(limit: Duration, left: impl Fn() -> Vec<String>, what: &str, slack: &Slack) {
    let end = Instant::now() + limit;
    while !left().is_empty() {
        assert!(Instant::now() < end, "{what}: not {:?}; heard: {:#?}", left(), slack.messages());
        std::thread::sleep(Duration::from_millis(100));
    }
}
