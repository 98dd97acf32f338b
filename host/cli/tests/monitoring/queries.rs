//! A real run, scraped by a real Prometheus with the configuration and the rules that are shipped: every panel of the
//! dashboards has data, every rule is evaluated, and every metric that an alert looks at is there.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{Bench, DAY, Running, Value, event, eventually};
use crate::expressions::{alerts, asked, metrics, panels, rules};
use crate::programs::Server;
use crate::{list, repository, text, word};

const TOKEN: &str = "0123456789abcdef0123456789";

/// A host with private PostgreSQL and Redis, and exporters of all of them.
struct Lab {
    prometheus: Server,
    _exporters: [Server; 3],
    host: Option<Running>,
    bench: Bench,
}

impl Lab {
    fn open() -> Self {
        let bench = Bench::new().with_env("CLICKMILL_TOKEN", TOKEN);
        let host = bench.start("host", &["run"]);
        bench.until_ready();
        let servers: Value =
            serde_json::from_str(&std::fs::read_to_string(bench.data().join("servers/servers.json")).unwrap()).unwrap();
        let folder = bench.folder.path();
        let database = format!("{}?sslmode=disable", word(&servers["postgres"]["url"]));
        let listen = "--web.listen-address=127.0.0.1:{port}";
        let exporters = [
            Server::start(folder, "prometheus-postgres-exporter", &[listen], &[("DATA_SOURCE_NAME", &database)], "/"),
            Server::start(
                folder,
                "prometheus-redis-exporter",
                &["-web.listen-address=127.0.0.1:{port}"],
                &[("REDIS_ADDR", word(&servers["redis"]["url"]))],
                "/",
            ),
            Server::start(folder, "prometheus-node-exporter", &[listen], &[], "/"),
        ];
        std::fs::write(bench.file("token"), TOKEN).unwrap();
        let ports = [bench.port, exporters[0].port, exporters[1].port, exporters[2].port];
        let prometheus = Server::prometheus(folder, &config(&bench, ports));
        Self { prometheus, _exporters: exporters, host: Some(host), bench }
    }
}

impl Drop for Lab {
    /// A host that is killed would leave its private servers behind.
    fn drop(&mut self) {
        let _ = self.host.take().map(Running::terminate);
    }
}

/// The configuration that is shipped, with this machine's addresses and a scrape each half second.
fn config(bench: &Bench, ports: [u16; 4]) -> String {
    let names = ["clickmill:8088", "postgres-exporter:9187", "redis-exporter:9121", "node-exporter:9100"];
    let mut config = text("monitoring/prometheus/prometheus.yml")
        .replace("interval: 15s", "interval: 500ms")
        .replace("/run/clickmill/token", bench.file("token").to_str().unwrap())
        .replace("rules/*.yml", repository("monitoring/prometheus/rules/*.yml").to_str().unwrap());
    for (name, port) in names.into_iter().zip(ports) {
        assert!(config.contains(name), "prometheus.yml scrapes {name}");
        config = config.replace(name, &format!("127.0.0.1:{port}"));
    }
    config
}

/// Traffic with something of everything: counted, rejected and late events, a deploy, and a module that fails.
fn traffic(bench: &Bench) {
    let post = |lines: &str| {
        let url = format!("http://127.0.0.1:{}/api/topics/ad_events_raw/records", bench.port);
        let token = format!("Bearer {TOKEN}");
        ureq::post(&url).header("Authorization", &token).send(lines).unwrap();
    };
    let lines = |from: i64, n: i64| -> String {
        (from..from + n).map(|i| format!("{}\n", event(&format!("e{i}"), DAY + i * 20))).collect()
    };
    post(&lines(0, 3_000));
    post("no JSON\nnor this\n");
    // Another deployment, so that there is a swap.
    bench.run(&[
        "smartmodule",
        "deploy",
        "--yes",
        "--stage",
        "validate",
        "--param",
        "max_string_bytes=2000",
        "--message",
        "a swap",
    ]);
    for round in 1..16 {
        post(&lines(round * 3_000, 3_000));
        post("no JSON\n");
        std::thread::sleep(Duration::from_millis(400));
    }
    // Far behind the watermark.
    post(&format!("{}\n", event("late", DAY)));
}

#[test]
fn every_panel_has_data_and_every_rule_its_inputs_on_a_real_run() {
    let _turn = crate::alerts::turn();
    let lab = Lab::open();
    traffic(&lab.bench);
    let mut wanted: Vec<(String, String)> = Vec::new();
    for (board, panel) in panels() {
        let targets = list(&panel["targets"]);
        assert!(!targets.is_empty(), "{board}: {} asks nothing", panel["title"]);
        wanted.extend(targets.iter().map(|t| (format!("{board}: {}", word(&panel["title"])), asked(t))));
    }
    for rule in rules().iter().filter(|rule| rule["record"].is_string()) {
        wanted.push(("recording rule".to_owned(), word(&rule["record"]).to_owned()));
    }
    let of_alerts: BTreeSet<String> = alerts().iter().flat_map(|alert| metrics(word(&alert["expr"]))).collect();
    wanted.extend(of_alerts.into_iter().map(|name| ("input of an alert".to_owned(), name)));

    let limit = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        wanted.retain(|(_, query)| lab.prometheus.query(query).is_empty());
        if wanted.is_empty() || std::time::Instant::now() > limit {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let missing: Vec<String> = wanted.iter().map(|(of, query)| format!("  {of}: {query}")).collect();
    assert!(missing.is_empty(), "no data:\n{}", missing.join("\n"));

    let unhealthy = |rule: &&Value| rule["health"] != "ok";
    eventually("every rule is evaluated without an error", Duration::from_secs(10), || {
        let groups = lab.prometheus.get("/api/v1/rules");
        let all: Vec<Value> =
            list(&groups["data"]["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect();
        all.len() == rules().len() && all.iter().find(unhealthy).is_none()
    });
}
