//! What is said in Slack. Pure: numbers in, text out.

use std::collections::BTreeMap;

use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::output::Ledger;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use clickmill_pipeline::views::time::iso8601;

/// Rules that a message names.
const RULES: usize = 5;

/// A message and the key by which a receiver knows one that comes twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub key: String,
    pub text: String,
}

impl Message {
    fn new(key: String, lines: &[String]) -> Self {
        let text = format!("{}\n_key: {key}_", lines.join("\n"));
        Self { key, text }
    }
}

/// Dead letters that were given up.
#[derive(Clone, Debug, Default)]
pub struct GivenUp {
    pub by_rule: BTreeMap<(ErrorType, String), u64>,
    /// When the first of them was rejected, epoch milliseconds.
    pub since_ms: Option<i64>,
}

/// Slack takes these three for its own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn top(counts: impl IntoIterator<Item = (String, u64)>) -> Vec<String> {
    let mut counts: Vec<(String, u64)> = counts.into_iter().filter(|(_, n)| *n > 0).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = counts.len().saturating_sub(RULES);
    let line = |(rule, n): &(String, u64)| format!("• {} {}", HumanCount(*n), escaped(rule));
    let mut lines: Vec<String> = counts.iter().take(RULES).map(line).collect();
    if more > 0 {
        lines.push(format!("• … and {more} more rules"));
    }
    lines
}

/// `place` names the data directory's run and where of its topic they lie.
pub fn given_up(place: &str, letters: &GivenUp) -> Message {
    let all: u64 = letters.by_rule.values().sum();
    let noun = if all == 1 { "dead letter was" } else { "dead letters were" };
    let mut lines = vec![format!("*{} {noun} given up*", HumanCount(all))];
    lines.extend(top(letters.by_rule.iter().map(|((kind, rule), n)| (format!("{}:{rule}", kind.name()), *n))));
    let since = letters.since_ms.map(|ms| format!(" --since {}", iso8601(ms))).unwrap_or_default();
    lines.push(format!("`clickmill dlq list --state dead{since}`"));
    Message::new(format!("dlq-{place}"), &lines)
}

/// A module failed on every record, and was put back.
pub fn rolled_back(place: &str, message: &str) -> Message {
    let lines = [
        "*A module failed on every record, and was put back*".to_owned(),
        escaped(message),
        "`clickmill smartmodule history`".to_owned(),
    ];
    Message::new(format!("breaker-{place}"), &lines)
}

/// A module fails on every record, and the pipeline stands still.
pub fn paused(place: &str, reason: &str) -> Message {
    let lines = [
        "*A module fails on every record: the pipeline is paused*".to_owned(),
        escaped(reason),
        "`clickmill smartmodule resume` lets it go on".to_owned(),
    ];
    Message::new(format!("paused-{place}"), &lines)
}

/// What there was at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub ledger: Ledger,
    pub impressions: u64,
    pub clicks: u64,
}

/// What has come since the last summary. `commit_seconds`: the 99th percentile of commits, where any is known.
pub fn summary(place: &str, before: &Totals, now: &Totals, commit_seconds: Option<f64>) -> Message {
    // Counts go back where a savepoint was gone back to.
    let since = |now: u64, before: u64| now.saturating_sub(before);
    let events = since(now.ledger.accounted(), before.ledger.accounted());
    let rejected = since(now.ledger.rejected, before.ledger.rejected);
    let (late, dropped) =
        (since(now.ledger.late, before.ledger.late), since(now.ledger.dropped, before.ledger.dropped));
    let (impressions, clicks) = (since(now.impressions, before.impressions), since(now.clicks, before.clicks));
    let percent = |part: u64, whole: u64| match whole {
        0 => "none".to_owned(),
        _ => format!("{:.3} %", part as f64 * 100.0 / whole as f64),
    };
    let mut lines = vec![
        "*Daily summary*".to_owned(),
        format!("{} events: {} late, {} dropped", HumanCount(events), HumanCount(late), HumanCount(dropped)),
        format!(
            "CTR {} ({} clicks of {} impressions)",
            percent(clicks, impressions),
            HumanCount(clicks),
            HumanCount(impressions)
        ),
        format!("dead letters {} ({} rejected)", percent(rejected, events), HumanCount(rejected)),
    ];
    if let Some(seconds) = commit_seconds {
        lines.push(format!("99 % of the commits within {seconds} s"));
    }
    let was = |rule: &str| before.ledger.rejected_by_rule.get(rule).copied().unwrap_or_default();
    lines.extend(top(now.ledger.rejected_by_rule.iter().map(|(rule, n)| (rule.clone(), since(*n, was(rule))))));
    Message::new(format!("summary-{place}"), &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_what_has_come_since_the_last_one() {
        let mut now = Totals { impressions: 1_100, clicks: 30, ..Totals::default() };
        (now.ledger.counted, now.ledger.late) = (1_100, 3);
        (0..7).for_each(|_| now.ledger.reject("a<b"));
        let mut before = Totals { impressions: 100, clicks: 10, ..Totals::default() };
        before.ledger.counted = 100;
        before.ledger.reject("a<b");
        let Message { key, text } = summary("x", &before, &now, Some(0.02));
        assert_eq!(key, "summary-x");
        for part in ["1,009 events", "CTR 2.000 % (20 clicks of 1,000", "0.595 % (6 rejected)", "• 6 a&lt;b", "0.02 s"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(summary("x", &now, &now, None).text.contains("CTR none"));
    }

    #[test]
    fn letters_are_counted_by_rule_with_the_command_that_shows_them() {
        let mut letters = GivenUp { since_ms: Some(1_413_849_600_000), ..GivenUp::default() };
        letters.by_rule = (0..7).map(|n| ((ErrorType::Schema, format!("r{n}")), n + 1)).collect();
        let text = given_up("run-0-9", &letters).text;
        for part in ["*28 dead letters were", "• 7 schema:r6", "2 more rules", "--since 2014-10-21T00:00:00", "run-0-9"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
