//! The reference of `clickmill bench`: the same work natively, in one thread, the obvious way.
//!
//! FROZEN. serde_json into an owned struct of all fields, std HashMap, the same five dimensions, both window sizes.
//! Every ratio that the project states is against this file: change it only with the old and the new figures in the
//! commit. It shares no code with the guests, so it is also the independent recount of `demo --exit`.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use clickmill_schemas::partial::Metrics;
use md5::{Digest, Md5};
use serde::Deserialize;

/// All 25 fields, owned.
#[derive(Debug, Deserialize)]
#[allow(non_snake_case, dead_code, reason = "the wire names; the obvious struct has every field")]
pub struct Event {
    pub id: String,
    pub click: i64,
    pub hour: String,
    pub C1: i64,
    pub banner_pos: i64,
    pub site_id: String,
    pub site_domain: String,
    pub site_category: String,
    pub app_id: String,
    pub app_domain: String,
    pub app_category: String,
    pub device_id: String,
    pub device_ip: String,
    pub device_model: String,
    pub device_type: i64,
    pub device_conn_type: i64,
    pub C14: i64,
    pub C15: i64,
    pub C16: i64,
    pub C17: i64,
    pub C18: i64,
    pub C19: i64,
    pub C20: i64,
    pub C21: i64,
    pub ts: i64,
}

/// The pricing table, as `schemas/pricing.json` has it.
#[derive(Debug, Deserialize)]
pub struct Pricing {
    impression_cost_micros: Table,
    click_cost_micros: Table,
    conversion_rate_bp: Table,
    revenue_micros_min: i64,
    revenue_micros_max: i64,
}

#[derive(Debug, Deserialize)]
struct Table {
    default: i64,
    #[serde(flatten)]
    by_value: HashMap<String, i64>,
}

impl Table {
    fn get(&self, value: i64) -> i64 {
        self.by_value.get(&value.to_string()).copied().unwrap_or(self.default)
    }
}

/// Size in milliseconds, start, dimension, key.
pub type Window = (i64, i64, &'static str, String);

/// Counts windows.
pub struct Reference {
    pricing: Pricing,
    pub windows: HashMap<Window, Metrics>,
}

impl Reference {
    pub fn new(pricing_json: &str) -> Result<Self> {
        let pricing = serde_json::from_str(pricing_json).context("reading the pricing table")?;
        Ok(Self { pricing, windows: HashMap::new() })
    }

    /// One JSON line: parse, check, enrich, count.
    pub fn line(&mut self, line: &[u8]) -> Result<()> {
        let event: Event = serde_json::from_slice(line)?;
        self.event(&event)
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        let hour_start = hour_start_ms(&event.hour).context("hour")?;
        ensure!(!event.id.is_empty(), "id");
        ensure!(event.click == 0 || event.click == 1, "click");
        ensure!((hour_start..hour_start + 3_600_000).contains(&event.ts), "ts");
        let metrics = self.model(event);
        for size in [60_000, 300_000] {
            let start = event.ts.div_euclid(size) * size;
            let keys = [
                ("total", String::new()),
                ("site_category", event.site_category.clone()),
                ("app_category", event.app_category.clone()),
                ("device_type", event.device_type.to_string()),
                ("banner_pos", event.banner_pos.to_string()),
            ];
            for (dimension, key) in keys {
                self.windows.entry((size, start, dimension, key)).or_default().add(&metrics);
            }
        }
        Ok(())
    }

    fn model(&self, event: &Event) -> Metrics {
        let pricing = &self.pricing;
        let mut cost_micros = pricing.impression_cost_micros.get(event.banner_pos);
        let (mut conversions, mut revenue_micros) = (0, 0);
        if event.click == 1 {
            cost_micros += pricing.click_cost_micros.get(event.device_type);
            let hash = Md5::digest(event.id.as_bytes());
            let word = |at: usize| i64::from(u32::from_be_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]));
            if word(0) % 10_000 < pricing.conversion_rate_bp.get(event.device_type) {
                conversions = 1;
                let span = pricing.revenue_micros_max - pricing.revenue_micros_min + 1;
                revenue_micros = pricing.revenue_micros_min + word(4) % span;
            }
        }
        Metrics { impressions: 1, clicks: event.click, conversions, cost_micros, revenue_micros }
    }
}

/// Start of an hour `YYMMDDHH`, epoch milliseconds.
pub fn hour_start_ms(hour: &str) -> Option<i64> {
    if hour.len() != 8 || !hour.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| hour[at..at + 2].parse::<i8>().ok();
    let date = jiff::civil::Date::new(2000 + i16::from(two(0)?), two(2)?, two(4)?).ok()?;
    let time = date.at(two(6)?, 0, 0, 0);
    if two(6)? > 23 {
        return None;
    }
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}
