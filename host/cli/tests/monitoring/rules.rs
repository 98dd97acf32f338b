//! Rules, routing and dashboards, as the tools that read them judge them.

use std::collections::BTreeSet;

use crate::expressions::{RULE_FILES, alerts, asked, metrics, panels, rules};
use crate::programs::check;
use crate::{list, repository, text, word, yaml};

fn path(file: &str) -> String {
    repository(file).to_string_lossy().into_owned()
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_and_the_configuration() {
    for file in RULE_FILES {
        check("promtool", &["check", "rules", &path(file)]).unwrap();
    }
    check("promtool", &["test", "rules", &path("monitoring/prometheus/tests/alerts_test.yml")]).unwrap();
    // The token's file is not here.
    check("promtool", &["check", "config", "--syntax-only", &path("monitoring/prometheus/prometheus.yml")]).unwrap();
}

#[test]
fn amtool_accepts_the_routing_and_sends_alerts_where_they_belong() {
    let file = path("monitoring/alertmanager/alertmanager.yml");
    check("amtool", &["check-config", &file]).unwrap();
    for severity in ["critical", "warning"] {
        let receiver = format!("--verify.receivers=slack-{severity}");
        let label = format!("severity={severity}");
        check("amtool", &["config", "routes", "test", "--config.file", &file, &receiver, &label]).unwrap();
    }
}

#[test]
fn every_alert_says_how_bad_it_is_what_happened_and_what_to_do() {
    let runbooks = text("docs/OPERATIONS.md");
    for alert in alerts() {
        let name = word(&alert["alert"]);
        let severity = word(&alert["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        for part in ["summary", "description"] {
            assert!(word(&alert["annotations"][part]).len() > 20, "{name}: {part}");
        }
        let anchor = format!("docs/OPERATIONS.md#{}", name.to_lowercase());
        assert_eq!(word(&alert["annotations"]["runbook_url"]), anchor, "{name}");
        assert!(runbooks.contains(&format!("\n### {name}\n")), "no runbook for {name}");
    }
    let names: BTreeSet<_> = alerts().iter().map(|alert| word(&alert["alert"]).to_owned()).collect();
    let with_runbooks = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    assert_eq!(names, with_runbooks, "a runbook for each alert, and no other");
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let tests = yaml("monitoring/prometheus/tests/alerts_test.yml");
    let fires: String = list(&tests["tests"])
        .iter()
        .flat_map(|test| list(&test["promql_expr_test"]))
        .flat_map(|expected| list(&expected["exp_samples"]))
        .map(|sample| word(&sample["labels"]).to_owned())
        .collect();
    for alert in alerts() {
        let name = word(&alert["alert"]);
        assert!(fires.contains(&format!("alertname=\"{name}\"")), "{name} fires in no test");
    }
}

#[test]
fn what_rules_and_panels_take_from_other_rules_is_recorded() {
    let recorded: BTreeSet<_> = rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
    let panels =
        panels().into_iter().flat_map(|(_, panel)| list(&panel["targets"]).iter().map(asked).collect::<Vec<_>>());
    let expressions = rules().iter().map(|rule| word(&rule["expr"]).to_owned()).chain(panels).collect::<Vec<_>>();
    let used: BTreeSet<_> = expressions.iter().flat_map(|e| metrics(e)).filter(|name| name.contains(':')).collect();
    assert_eq!(used, recorded, "used and recorded");
}
