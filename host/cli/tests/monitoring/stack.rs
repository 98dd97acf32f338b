//! compose.yaml without an engine: what Compose itself says of it, and that it agrees with the files that it names.

use std::collections::BTreeSet;

use crate::common::Value;
use crate::programs::check;
use crate::{list, repository, text, word, yaml};

fn services() -> Vec<(String, Value)> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

fn service(name: &str) -> Value {
    services().into_iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no service {name}")).1
}

/// Names of the variables that compose.yaml takes from .env.
fn variables(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| {
        rest.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).next().map(str::to_owned)
    };
    text.split("${").skip(1).filter_map(name).collect()
}

/// Variables of the environment that the program reads, by its own table.
fn known_to_clickmill() -> BTreeSet<String> {
    let layers = text("host/cli/src/config/layers.rs");
    let table = layers.split("const NAMES").nth(1).unwrap().split("];").next().unwrap();
    table
        .split('"')
        .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_') && !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Each is one that the program reads.
pub fn assert_known<'a>(names: impl IntoIterator<Item = &'a str>) {
    let known = known_to_clickmill();
    assert!(known.len() >= 6, "{known:?}");
    for name in names {
        assert!(known.contains(name), "clickmill reads no variable {name}; it reads {known:?}");
    }
}

#[test]
fn compose_accepts_the_file_and_refuses_it_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let env = folder.path().join("env");
    let example = text(".env.example");
    let filled: String = example
        .lines()
        .map(|line| if line.ends_with('=') { format!("{line}0123456789abcdef\n") } else { format!("{line}\n") })
        .collect();
    std::fs::write(&env, filled).unwrap();
    let file = repository("compose.yaml");
    let config = |env: &std::path::Path, profiles: &[&str]| {
        let mut args = vec!["--env-file", env.to_str().unwrap(), "-f", file.to_str().unwrap()];
        args.extend(profiles.iter().flat_map(|profile| ["--profile", profile]));
        check("docker-compose", &[args.as_slice(), &["config", "-q"]].concat())
    };
    config(&env, &[]).unwrap();
    config(&env, &["redpanda", "fluvio"]).unwrap();
    std::fs::write(&env, example).unwrap();
    let refusal = config(&env, &[]).unwrap_err();
    assert!(refusal.contains("set it in .env"), "{refusal}");
}

#[test]
fn every_service_is_pinned_watched_and_bounded_and_runs_as_nobody_special() {
    // What their images do not allow, and nothing else.
    let writes = ["metabase", "airflow", "redpanda", "fluvio-sc", "fluvio-spu"];
    let user_of_image = ["fluvio-sc", "fluvio-spu"];
    let loopback = "${BIND_ADDRESS:-127.0.0.1}:";
    for (name, s) in services() {
        let (_, tag) = word(&s["image"]).trim_end_matches('}').rsplit_once(':').unwrap();
        assert!(tag.chars().any(|c| c.is_ascii_digit()) && tag.contains('.'), "{name}: {tag} is no version");
        let test = list(&s["healthcheck"]["test"]);
        assert!(["CMD", "CMD-SHELL"].contains(&word(&test[0])) && s["healthcheck"]["interval"].is_string(), "{name}");
        for limit in ["mem_limit", "cpus", "pids_limit"] {
            assert!(!s[limit].is_null(), "{name}: no {limit}");
        }
        assert_eq!(s["cap_drop"][0], "ALL", "{name}");
        assert_eq!(s["security_opt"][0], "no-new-privileges:true", "{name}");
        assert_eq!(s["read_only"] == true, !writes.contains(&name.as_str()), "{name}: read_only");
        let user = s["user"].as_str();
        assert_eq!(user.is_none(), user_of_image.contains(&name.as_str()), "{name}: user");
        assert!(user.is_none_or(|user| !user.starts_with("root") && !user.starts_with("0:")), "{name}: {user:?}");
        for port in list(&s["ports"]) {
            assert!(word(port).starts_with(loopback), "{name}: {port} is open to the network");
        }
    }
}

#[test]
fn every_folder_and_file_that_is_mounted_is_here_and_every_volume_is_declared() {
    let compose = yaml("compose.yaml");
    let mut used = BTreeSet::new();
    for (name, s) in services() {
        for mount in list(&s["volumes"]) {
            let source = word(mount).split(':').next().unwrap();
            if let Some(path) = source.strip_prefix("./") {
                assert!(repository(path).exists(), "{name} mounts {path}, which is not here");
            } else if !source.starts_with('/') {
                used.insert(source.to_owned());
            }
        }
    }
    let declared: BTreeSet<String> = compose["volumes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(used, declared, "volumes used and declared");
}

#[test]
fn variables_are_ones_that_somebody_reads() {
    let clickmill = service("clickmill");
    assert_known(clickmill["environment"].as_object().unwrap().keys().map(String::as_str));
    let in_example: BTreeSet<String> = text(".env.example")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_owned()))
        .collect();
    assert_eq!(variables(&text("compose.yaml")), in_example, "compose.yaml and .env.example");
}

/// A name and port by which services are asked is a service's, and the service says that port somewhere.
fn assert_listens(asked: &str) {
    let (name, port) = asked.rsplit_once(':').unwrap();
    let s = service(name).to_string();
    let elsewhere = text("compose.yaml").contains(&format!("{name}:{port}"));
    assert!(s.contains(&format!(":{port}")) || elsewhere, "{name} does not say that it listens on {port}");
}

#[test]
fn prometheus_asks_the_services_that_there_are() {
    let prometheus = yaml("monitoring/prometheus/prometheus.yml");
    let mut jobs = BTreeSet::new();
    for job in list(&prometheus["scrape_configs"]) {
        jobs.insert(word(&job["job_name"]).to_owned());
        for target in list(&job["static_configs"]).iter().flat_map(|c| list(&c["targets"])) {
            assert_listens(&word(target).replace("localhost", "prometheus"));
        }
        for found in list(&job["dns_sd_configs"]) {
            assert_listens(&format!("{}:{}", word(&found["names"][0]), found["port"]));
        }
    }
    let wanted = ["airflow", "alertmanager", "clickmill", "node", "postgres", "prometheus", "redis", "redpanda"];
    assert_eq!(jobs, wanted.map(str::to_owned).into());
    for manager in list(&prometheus["alerting"]["alertmanagers"]) {
        assert_listens(word(&manager["static_configs"][0]["targets"][0]));
    }
    // Secrets lie where the containers put them.
    let credentials = word(&list(&prometheus["scrape_configs"])[0]["authorization"]["credentials_file"]).to_owned();
    assert!(service("prometheus")["entrypoint"].to_string().contains(&credentials));
    let webhook = yaml("monitoring/alertmanager/alertmanager.yml")["global"]["slack_api_url_file"].clone();
    assert!(service("alertmanager")["entrypoint"].to_string().contains(word(&webhook)));
}

#[test]
fn grafana_is_given_what_dashboards_need() {
    let grafana = service("grafana");
    let sources = yaml("monitoring/grafana/provisioning/datasources/datasources.yml");
    let mut uids = BTreeSet::new();
    for source in list(&sources["datasources"]) {
        assert_listens(word(&source["url"]).trim_start_matches("http://"));
        uids.insert(word(&source["uid"]).to_owned());
        if let Some(variable) = source["secureJsonData"]["password"].as_str() {
            assert!(grafana["environment"][variable.trim_start_matches('$')].is_string(), "grafana has no {variable}");
        }
    }
    let provider = yaml("monitoring/grafana/provisioning/dashboards/dashboards.yml");
    let path = word(&provider["providers"][0]["options"]["path"]).to_owned();
    let mounts = grafana["volumes"].to_string();
    assert!(mounts.contains(&format!("./monitoring/grafana/dashboards:{path}:ro")), "{mounts}");
    assert!(mounts.contains("./monitoring/grafana/provisioning:/etc/grafana/provisioning:ro"), "{mounts}");
    for file in crate::expressions::DASHBOARDS {
        let board = text(file);
        for uid in board.split("\"uid\": \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(uids.contains(uid) || uid.starts_with("clickmill-"), "{file}: no data source {uid}");
        }
        let ids: Vec<i64> = board_ids(&serde_json::from_str(&board).unwrap());
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{file}: panels with the same id");
    }
}

fn board_ids(board: &Value) -> Vec<i64> {
    list(&board["panels"]).iter().map(|panel| panel["id"].as_i64().unwrap()).collect()
}
