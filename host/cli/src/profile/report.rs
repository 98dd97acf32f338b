//! The report, in Markdown that reads well on a terminal too.

use std::fmt::Write as _;
use std::path::PathBuf;

use indicatif::HumanCount;

use super::tally::{COUNTED_VALUES, Column, Count, NAMED_BAD_LINES, Tally};
use crate::produce::input::columns::COLUMNS;

/// Values that a column's table shows.
const SHOWN_VALUES: usize = 12;
/// Columns with as many values get no table: nearly every row has its own.
const TABLE_DISTINCT: u64 = 1_000_000;
/// Values that stand for "none" in Avazu.
const STAND_INS: [(&str, &str); 4] =
    [("site_id", "85f751fd"), ("app_id", "ecad2386"), ("device_id", "a99f214a"), ("C20", "-1")];

/// The report on `name`; `plots` stand beside it.
pub fn markdown(name: &str, tally: &Tally, plots: &[PathBuf]) -> String {
    let mut text = format!("# Profile of {name}\n\n");
    overview(tally, &mut text);
    for plot in plots {
        let file = plot.file_name().unwrap_or_default().to_string_lossy();
        line(&mut text, format_args!("\n![{file}]({file})"));
    }
    columns(tally, &mut text);
    hours(tally, &mut text);
    for (name, column) in COLUMNS.iter().zip(&tally.columns) {
        if !matches!(*name, "id" | "click" | "hour") && column.distinct().0 < TABLE_DISTINCT {
            values(name, column, tally.total, &mut text);
        }
    }
    text
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{args}");
}

fn overview(tally: &Tally, text: &mut String) {
    let hours = tally.hours();
    let range = match (hours.first_key_value(), hours.last_key_value()) {
        (Some((first, _)), Some((last, _))) => format!("{}, {} to {}", hours.len(), cell(first), cell(last)),
        _ => "none".to_owned(),
    };
    line(text, format_args!("| | |\n|---|---|"));
    line(text, format_args!("| rows | {} |", HumanCount(tally.total.rows)));
    line(text, format_args!("| hours | {range} |"));
    line(text, format_args!("| clicks | {} |", HumanCount(tally.total.clicks)));
    line(text, format_args!("| CTR | {} |", ctr(tally.total)));
    line(text, format_args!("| lines that are no rows | {} |", HumanCount(tally.bad_lines)));
    line(text, format_args!("| blank lines | {} |", HumanCount(tally.blank_lines)));
    if tally.odd_clicks > 0 {
        line(text, format_args!("| rows whose click is not 0 or 1 | {} |", HumanCount(tally.odd_clicks)));
    }
    if let Some(cut) = &tally.cut {
        line(text, format_args!("\n**The file is damaged**: {cut}. This report is on what comes before."));
    }
    if tally.bad_lines > 0 {
        let named = NAMED_BAD_LINES.min(tally.named_bad_lines.len());
        let which = if named == 1 { "line that is no row".into() } else { format!("{named} lines that are no rows") };
        line(text, format_args!("\nThe first {which}:\n"));
        for (number, why) in &tally.named_bad_lines {
            line(text, format_args!("- line {number}: {why}"));
        }
    }
}

fn columns(tally: &Tally, text: &mut String) {
    line(text, format_args!("\n## Columns\n\n| column | distinct | empty | none | most common | share |"));
    line(text, format_args!("|---|---:|---:|---:|---|---:|"));
    for (name, column) in COLUMNS.iter().zip(&tally.columns) {
        let (distinct, exact) = column.distinct();
        let about = if exact { "" } else { "≈ " };
        let none = STAND_INS.iter().find(|(c, _)| c == name).map_or(String::new(), |(_, value)| {
            format!("{} as `{value}`", percent(column.rows_of(value.as_bytes()), tally.total.rows))
        });
        let (common, share) = match column.by_rows().first() {
            Some((value, count)) if count.rows > 1 => (shown(value), percent(count.rows, tally.total.rows)),
            _ => (String::new(), String::new()),
        };
        let (distinct, empty) = (HumanCount(distinct), HumanCount(column.empty));
        line(text, format_args!("| {name} | {about}{distinct} | {empty} | {none} | {common} | {share} |"));
    }
    line(
        text,
        format_args!(
            "\nNone: Avazu's stand-ins for a missing value. ≈: estimated (standard error 0.8 %); values are counted one \
             by one up to {} distinct ones.",
            HumanCount(COUNTED_VALUES as u64)
        ),
    );
}

fn hours(tally: &Tally, text: &mut String) {
    let hours = tally.hours();
    let most = hours.values().map(|c| c.rows).max().unwrap_or(0);
    // By day where there are many hours: a table is to be read.
    let mut days: std::collections::BTreeMap<&str, Count> = std::collections::BTreeMap::new();
    for (hour, count) in &hours {
        let day = days.entry(hour.get(..6).unwrap_or(hour)).or_default();
        day.rows += count.rows;
        day.clicks += count.clicks;
    }
    if hours.len() > 48 {
        let most = days.values().map(|c| c.rows).max().unwrap_or(0);
        table("Days", "day", days.iter().map(|(day, count)| (cell(day), *count)), tally.total, most, text);
    } else {
        table("Hours", "hour", hours.iter().map(|(hour, count)| (cell(hour), *count)), tally.total, most, text);
    }
}

fn values(name: &str, column: &Column, total: Count, text: &mut String) {
    let by_rows = column.by_rows();
    let most = by_rows.first().map_or(0, |(_, count)| count.rows);
    let mut rows: Vec<(String, Count)> =
        by_rows.iter().take(SHOWN_VALUES).map(|(value, count)| (shown(value), *count)).collect();
    let mut rest = column.others;
    for (_, count) in by_rows.iter().skip(SHOWN_VALUES) {
        rest.rows += count.rows;
        rest.clicks += count.clicks;
    }
    if rest.rows > 0 {
        rows.push(("*the rest*".to_owned(), rest));
    }
    table(name, "value", rows.into_iter(), total, most, text);
}

fn table(
    title: &str,
    first: &str,
    rows: impl Iterator<Item = (String, Count)>,
    total: Count,
    most: u64,
    text: &mut String,
) {
    line(text, format_args!("\n## {title}\n\n| {first} | rows | share | CTR | |\n|---|---:|---:|---:|---|"));
    for (value, count) in rows {
        let (share, ctr) = (percent(count.rows, total.rows), ctr(count));
        let (rows, bar) = (HumanCount(count.rows), bar(count.rows, most));
        line(text, format_args!("| {value} | {rows} | {share} | {ctr} | {bar} |"));
    }
}

/// A bar of up to 20 characters, in eighths of one.
fn bar(part: u64, most: u64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (u128::from(part.min(most)) * 160 / u128::from(most.max(1))) as usize;
    let mut bar = "█".repeat(eighths / 8);
    let rest = eighths % 8;
    if rest > 0 {
        bar.push(EIGHTHS[rest]);
    }
    bar
}

/// Clicks over rows, where there are rows.
fn ctr(count: Count) -> String {
    if count.rows == 0 { "-".to_owned() } else { format!("{:.4}", count.ctr()) }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}

/// A value in a table.
fn shown(value: &[u8]) -> String {
    if value.is_empty() { "*empty*".to_owned() } else { cell(&String::from_utf8_lossy(value)) }
}

/// Text that cannot leave its cell.
fn cell(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '`' || c == '|' { '·' } else { c };
    let mut cut: String = text.chars().take(40).map(plain).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("`{cut}`")
}
