//! Rows of windows as CSV and JSON: one form, whether a server or a command writes it.

use std::fmt::Write;

use clickmill_schemas::partial::{Metrics, WindowKey};
use serde::{Deserialize, Serialize};

use super::derived::{Decimal6, Derived};
use super::time::{iso8601, parse_time};
use super::windows::{WindowRow, parse_size, size_name};

/// First line of the CSV, without its end.
pub const CSV_HEADER: &str = "window_size,window_start,window_end,dimension,key,impressions,clicks,conversions,\
cost_micros,revenue_micros,ctr,cpc,cpa,roas,final";

/// Appends a row of CSV with its end of line.
pub fn put_csv(out: &mut String, row: &WindowRow) {
    let Derived { ctr, cpc, cpa, roas } = row.derived();
    let (window, m) = (&row.window, &row.metrics);
    let text = |d: Option<Decimal6>| d.map(|d| d.to_string()).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
        size_name(window.size_ms),
        iso8601(window.start_ms),
        iso8601(window.end_ms()),
        field(&window.dimension),
        field(&row.key),
        m.impressions,
        m.clicks,
        m.conversions,
        m.cost_micros,
        m.revenue_micros,
        text(ctr),
        text(cpc),
        text(cpa),
        text(roas),
        row.final_,
    );
}

/// A field, quoted where RFC 4180 asks for it.
pub(super) fn field(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

#[derive(Serialize)]
struct JsonRow<'a> {
    window_size: String,
    window_start: String,
    window_end: String,
    dimension: &'a str,
    key: &'a str,
    impressions: i64,
    clicks: i64,
    conversions: i64,
    cost_micros: i64,
    revenue_micros: i64,
    #[serde(flatten)]
    derived: Derived,
    lower_bound: bool,
    r#final: bool,
}

/// Appends a row as a JSON object.
pub fn put_json(out: &mut String, row: &WindowRow) {
    let (window, m) = (&row.window, &row.metrics);
    let json = JsonRow {
        window_size: size_name(window.size_ms),
        window_start: iso8601(window.start_ms),
        window_end: iso8601(window.end_ms()),
        dimension: &window.dimension,
        key: &row.key,
        impressions: m.impressions,
        clicks: m.clicks,
        conversions: m.conversions,
        cost_micros: m.cost_micros,
        revenue_micros: m.revenue_micros,
        derived: row.derived(),
        lower_bound: row.lower_bound,
        r#final: row.final_,
    };
    // Plain fields: serialization has no failing case.
    out.push_str(&serde_json::to_string(&json).unwrap_or_default());
}

#[derive(Deserialize)]
struct ParsedRow {
    window_size: String,
    window_start: String,
    dimension: String,
    key: String,
    impressions: i64,
    clicks: i64,
    conversions: i64,
    cost_micros: i64,
    revenue_micros: i64,
    lower_bound: bool,
    r#final: bool,
}

/// Reads what [`put_json`] wrote; what is derived is derived anew.
///
/// # Errors
/// A sentence that says what is not as it was written.
pub fn parse_json(row: &str) -> Result<WindowRow, String> {
    let row: ParsedRow = serde_json::from_str(row).map_err(|e| e.to_string())?;
    Ok(WindowRow {
        window: WindowKey {
            size_ms: parse_size(&row.window_size)?,
            start_ms: parse_time(&row.window_start)?,
            dimension: row.dimension,
        },
        key: row.key,
        metrics: Metrics {
            impressions: row.impressions,
            clicks: row.clicks,
            conversions: row.conversions,
            cost_micros: row.cost_micros,
            revenue_micros: row.revenue_micros,
        },
        lower_bound: row.lower_bound,
        final_: row.r#final,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, clicks: i64) -> WindowRow {
        WindowRow {
            window: WindowKey { size_ms: 60_000, start_ms: 1_413_849_600_000, dimension: "site_category".into() },
            key: key.into(),
            metrics: Metrics { impressions: 3, clicks, conversions: 0, cost_micros: 1_500_000, revenue_micros: 0 },
            lower_bound: false,
            final_: true,
        }
    }

    #[test]
    fn a_csv_row_has_the_fields_of_the_header() {
        let mut out = String::new();
        put_csv(&mut out, &row("28905ebd", 1));
        assert_eq!(
            out,
            "1m,2014-10-21T00:00:00Z,2014-10-21T00:01:00Z,site_category,28905ebd,3,1,0,1500000,0,\
             0.333333,1.500000,,0.000000,true\n"
        );
        assert_eq!(out.matches(',').count(), CSV_HEADER.matches(',').count());
    }

    #[test]
    fn keys_with_commas_quotes_and_line_ends_are_quoted() {
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"x\"\n"), "\"say \"\"x\"\"\n\"");
        assert_eq!(field("plain key"), "plain key");
    }

    #[test]
    fn a_json_row_has_null_where_the_divisor_is_0() {
        let mut out = String::new();
        put_json(&mut out, &row("k", 0));
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["ctr"], 0.0);
        assert!(value["cpc"].is_null() && value["cpa"].is_null());
        assert_eq!(value["window_end"], "2014-10-21T00:01:00Z");
        assert_eq!(value["final"], true);
        assert_eq!(parse_json(&out).unwrap(), row("k", 0));
        assert!(parse_json("{}").is_err());
    }
}
