//! What rules and dashboards ask: their expressions, and the metrics that these name.

use std::collections::BTreeSet;

use crate::common::Value;
use crate::{list, repository, text, word, yaml};

pub const RULE_FILES: [&str; 2] =
    ["monitoring/prometheus/rules/recording.yml", "monitoring/prometheus/rules/alerts.yml"];
pub const DASHBOARDS: [&str; 2] =
    ["monitoring/grafana/dashboards/operator.json", "monitoring/grafana/dashboards/developer.json"];

/// Every rule of both files.
pub fn rules() -> Vec<Value> {
    let groups = RULE_FILES.iter().flat_map(|file| list(&yaml(file)["groups"]).to_vec());
    groups.flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

/// The alerts among them.
pub fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// Panels that ask something, with the dashboard's file name.
pub fn panels() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for file in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(&text(file)).unwrap();
        let name = repository(file).file_stem().unwrap().to_string_lossy().into_owned();
        all.extend(list(&dashboard["panels"]).iter().filter(|p| p["type"] != "row").map(|p| (name.clone(), p.clone())));
    }
    all
}

/// A query of a panel as Grafana sends it, for all hosts.
pub fn asked(panel_target: &Value) -> String {
    word(&panel_target["expr"]).replace("$instance", ".*").replace("$__rate_interval", "1m")
}

/// The names of metrics in an expression.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut text = String::new();
    // What stands between quotes and braces are labels.
    let mut depth = 0;
    for c in expression.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => text.push(c),
            _ => {}
        }
    }
    for name in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')) {
        let of_ours = name.starts_with("clickmill_") || name.starts_with("instance") && name.contains(':');
        let of_others = ["process_", "node_", "pg_", "redis_"].iter().any(|prefix| name.starts_with(prefix));
        if of_ours || of_others || name == "up" {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn names_of_metrics_are_found_and_labels_are_not() {
    let found = metrics(
        "instance:clickmill_a:rate5m{job=\"up\"} * 60 < 1 and on (instance) (rate(clickmill_b_total[5m]) > 0) or up",
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["clickmill_b_total", "instance:clickmill_a:rate5m", "up"]);
}
