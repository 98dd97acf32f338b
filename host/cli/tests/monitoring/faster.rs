//! Rules and routing in a copy in which time runs sixty times faster, so that a test need not wait for a quarter of an hour.
//!
//! *Every duration is divided by 60*: `for:`, the ranges and offsets of expressions, Alertmanager's intervals, how often
//! Prometheus scrapes and evaluates. Nothing else changes: thresholds, labels and texts are those of the files.

/// The text with every duration a sixtieth of what it was.
pub fn sixty_times(text: &str) -> String {
    text.split_inclusive('\n').map(line).collect()
}

/// Durations stand after a bracket or a blank and end at a bracket, a parenthesis, a brace, a comma, a blank or the line.
fn line(line: &str) -> String {
    if line.trim_start().starts_with('#') {
        return line.to_owned();
    }
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, tail) = rest.split_at(at);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, after) = tail.split_at(digits);
        out.push_str(before);
        let unit = after.chars().next().and_then(|unit| unit_ms(unit).map(|ms| ms * number.parse::<u64>().unwrap()));
        let begins = out.ends_with(['[', ' ']);
        let ends = after.chars().nth(1).is_none_or(|c| " ])},\n".contains(c));
        match unit {
            Some(ms) if begins && ends => {
                out.push_str(&format!("{}ms", (ms / 60).max(1)));
                rest = &after[1..];
            }
            _ => {
                out.push_str(number);
                rest = after;
            }
        }
    }
    out + rest
}

fn unit_ms(unit: char) -> Option<u64> {
    match unit {
        's' => Some(1_000),
        'm' => Some(60_000),
        'h' => Some(3_600_000),
        _ => None,
    }
}

#[test]
fn durations_are_divided_and_nothing_else_is() {
    let rule =
        "expr: min_over_time(instance:lag:rate5m[5m] offset 10m) > 5 # or 1 s\nfor: 1m\nsummary: \"more than 5 s\"\n";
    assert_eq!(
        sixty_times(rule),
        "expr: min_over_time(instance:lag:rate5m[5000ms] offset 10000ms) > 5 # or 1 s\nfor: 1000ms\nsummary: \"more than 5 s\"\n"
    );
    assert_eq!(sixty_times("group_wait: 30s\nrepeat_interval: 12h"), "group_wait: 500ms\nrepeat_interval: 720000ms");
    assert_eq!(sixty_times("# told for 15m\nx_5m: p99_5m"), "# told for 15m\nx_5m: p99_5m");
}
