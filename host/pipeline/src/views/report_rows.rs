//! Rows of reports as CSV and JSON.

use std::fmt::Write;

use serde::Serialize;

use super::derived::{Decimal6, Derived};
use super::render::field;
use super::reports::ReportRow;
use super::time::iso8601;

/// First line of the CSV, without its end.
pub const CSV_HEADER: &str = "label,start,key,impressions,clicks,conversions,cost_micros,revenue_micros,ctr,ctr_low,ctr_high,\
cpc,cpa,roas,lower_bound";

/// Appends a row of CSV with its end of line.
pub fn put_csv(out: &mut String, row: &ReportRow) {
    let Derived { ctr, cpc, cpa, roas } = row.derived();
    let text = |d: Option<Decimal6>| d.map(|d| d.to_string()).unwrap_or_default();
    let bound = |share: Option<f64>| share.map(|share| format!("{share:.6}")).unwrap_or_default();
    let interval = row.ctr_interval();
    let m = &row.metrics;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
        field(&row.label),
        row.start_ms.map(iso8601).unwrap_or_default(),
        field(&row.key),
        m.impressions,
        m.clicks,
        m.conversions,
        m.cost_micros,
        m.revenue_micros,
        text(ctr),
        bound(interval.map(|(low, _)| low)),
        bound(interval.map(|(_, high)| high)),
        text(cpc),
        text(cpa),
        text(roas),
        row.lower_bound,
    );
}

/// A row as JSON has it.
#[derive(Debug, Serialize)]
pub struct JsonRow<'a> {
    label: &'a str,
    start_ms: Option<i64>,
    key: &'a str,
    impressions: i64,
    clicks: i64,
    conversions: i64,
    cost_micros: i64,
    revenue_micros: i64,
    #[serde(flatten)]
    derived: Derived,
    ctr_low: Option<f64>,
    ctr_high: Option<f64>,
    lower_bound: bool,
}

impl<'a> From<&'a ReportRow> for JsonRow<'a> {
    fn from(row: &'a ReportRow) -> Self {
        let (m, interval) = (&row.metrics, row.ctr_interval());
        // As many digits as the rate itself.
        let bound = |share: f64| (share * 1e6).round() / 1e6;
        Self {
            label: &row.label,
            start_ms: row.start_ms,
            key: &row.key,
            impressions: m.impressions,
            clicks: m.clicks,
            conversions: m.conversions,
            cost_micros: m.cost_micros,
            revenue_micros: m.revenue_micros,
            derived: row.derived(),
            ctr_low: interval.map(|(low, _)| bound(low)),
            ctr_high: interval.map(|(_, high)| bound(high)),
            lower_bound: row.lower_bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::partial::Metrics;

    use super::*;

    fn row(clicks: i64) -> ReportRow {
        ReportRow {
            label: "2014-10-21".into(),
            start_ms: Some(1_413_849_600_000),
            key: "a,b".into(),
            metrics: Metrics { impressions: 29, clicks, conversions: 0, cost_micros: 1_500_000, revenue_micros: 0 },
            lower_bound: false,
        }
    }

    #[test]
    fn a_csv_row_has_the_fields_of_the_header() {
        let mut out = String::new();
        put_csv(&mut out, &row(1));
        assert_eq!(
            out,
            "2014-10-21,2014-10-21T00:00:00Z,\"a,b\",29,1,0,1500000,0,0.034483,0.006113,0.171755,1.500000,,0.000000,false\n"
        );
        assert_eq!(out.matches(',').count(), CSV_HEADER.matches(',').count() + 1);
    }

    #[test]
    fn a_json_row_has_null_where_the_divisor_is_0() {
        let json = serde_json::to_value(JsonRow::from(&row(0))).unwrap();
        assert_eq!((&json["ctr"], &json["ctr_low"]), (&0.0.into(), &0.0.into()));
        assert!(json["cpc"].is_null() && json["cpa"].is_null(), "{json}");
        let json = serde_json::to_value(JsonRow::from(&row(1))).unwrap();
        assert_eq!((&json["ctr_high"], &json["cpc"]), (&0.171_755.into(), &1.5.into()));
        let empty = ReportRow { metrics: Metrics::default(), start_ms: None, ..row(0) };
        let json = serde_json::to_value(JsonRow::from(&empty)).unwrap();
        assert!(["start_ms", "ctr", "ctr_low", "ctr_high", "roas"].iter().all(|name| json[name].is_null()), "{json}");
    }
}
