//! Passes ad events on that hold what they must: parsed into a type by serde_json, as it is done with the stock crate.

use fluvio_smartmodule::{smartmodule, Result, SmartModuleRecord};
use serde::Deserialize;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Event<'a> {
    #[serde(borrow)]
    id: &'a str,
    click: i64,
    ts: i64,
    hour: &'a str,
    #[serde(rename = "C1")]
    c1: i64,
    banner_pos: i64,
    site_id: &'a str,
    site_domain: &'a str,
    site_category: &'a str,
    app_id: &'a str,
    app_domain: &'a str,
    app_category: &'a str,
    device_id: &'a str,
    device_ip: &'a str,
    device_model: &'a str,
    device_type: i64,
    device_conn_type: i64,
    #[serde(rename = "C14")]
    c14: i64,
    #[serde(rename = "C15")]
    c15: i64,
    #[serde(rename = "C16")]
    c16: i64,
    #[serde(rename = "C17")]
    c17: i64,
    #[serde(rename = "C18")]
    c18: i64,
    #[serde(rename = "C19")]
    c19: i64,
    #[serde(rename = "C20")]
    c20: i64,
    #[serde(rename = "C21")]
    c21: i64,
}

#[smartmodule(filter)]
pub fn filter(record: &SmartModuleRecord) -> Result<bool> {
    let Ok(event) = serde_json::from_slice::<Event>(record.value.as_ref()) else {
        return Ok(false);
    };
    Ok(!event.id.is_empty()
        && (0..=1).contains(&event.click)
        && event.banner_pos >= 0
        && event.site_category != "50e219e0")
}
