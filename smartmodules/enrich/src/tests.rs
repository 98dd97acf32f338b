//! The module as a host sees it, and the formula against values that PostgreSQL's and Python's MD5 gave.

use super::*;
use clickmill_ad_event::{AdEventView, Money};
use clickmill_sdk::harness::{Harness, OutputRecord, run};

const TABLE: &str = include_str!("../../../schemas/pricing.json");

fn event(id: &str, click: u8, banner_pos: i32, device_type: i32, ts: i64) -> String {
    format!(
        r#"{{"id":"{id}","click":{click},"hour":"14102100","C1":1005,"banner_pos":{banner_pos},"site_id":"a","site_domain":"b","site_category":"c","app_id":"d","app_domain":"e","app_category":"f","device_id":"g","device_ip":"h","device_model":"ж","device_type":{device_type},"device_conn_type":0,"C14":19665,"C15":320,"C16":50,"C17":2253,"C18":2,"C19":303,"C20":-1,"C21":52,"ts":{ts}}}"#
    )
}

fn enrich(value: &str) -> OutputRecord {
    run::<Enrich>(&[("pricing", TABLE)], &[value.as_bytes()]).unwrap().remove(0)
}

fn money(value: &str) -> (i64, i64, i64) {
    let out = enrich(value);
    let Money { conversion, cost_micros, revenue_micros } = AdEventView::checked(&out.value).unwrap().money();
    (conversion, cost_micros, revenue_micros)
}

#[test]
fn cost_follows_the_table_and_its_defaults() {
    let table: serde_json::Value = serde_json::from_str(TABLE).unwrap();
    let rate = |name: &str, key: &str| table[name].get(key).unwrap_or(&table[name]["default"]).as_i64().unwrap();
    for banner_pos in [-1, 0, 1, 7, 15, 16, 2_000_000_000] {
        for device_type in [0, 1, 4, 5, 99] {
            let impression = rate("impression_cost_micros", &banner_pos.to_string());
            let click = rate("click_cost_micros", &device_type.to_string());
            assert_eq!(money(&event("x", 0, banner_pos, device_type, 0)), (0, impression, 0));
            assert_eq!(money(&event("x", 1, banner_pos, device_type, 0)).1, impression + click);
        }
    }
}

#[test]
fn conversions_and_revenue_come_from_the_ids_md5() {
    let table = r#"{"impression_cost_micros":{"default":0},"click_cost_micros":{"default":0},"conversion_rate_bp":{"default":RATE},
        "revenue_micros_min":100,"revenue_micros_max":1099,"device_class":{"default":"other"}}"#;
    let first = 0xa1d0_c6e8_i64 % 10_000;
    for (rate, expected) in [(first, (0, 0)), (first + 1, (1, 100 + 0x3f02_7327_i64 % 1_000))] {
        let table = table.replace("RATE", &rate.to_string());
        let out = run::<Enrich>(&[("pricing", &table)], &[event("42", 1, 0, 1, 0).as_bytes()]).unwrap().remove(0);
        let money = AdEventView::checked(&out.value).unwrap().money();
        assert_eq!((money.conversion, money.revenue_micros), expected, "rate {rate}");
    }
}

#[test]
fn an_event_keeps_its_bytes_and_gains_fields() {
    let json = event("x", 0, 0, 1, 1_413_849_600_000 + 5 * 3_600_000);
    let mut reader = Reader::new(true);
    let plain = reader.read(json.as_bytes()).unwrap().body().to_vec();
    let out = enrich(&json);
    let view = AdEventView::checked(&out.value).unwrap();
    assert!(view.body().starts_with(&plain) && out.key.is_none());
    let enriched = view.enriched().unwrap();
    assert_eq!((enriched.hour_of_day, enriched.weekday), (5, 1));
    assert_eq!(enriched.device_class, b"mobile");
    let class = |device_type| enrich(&event("x", 0, 0, device_type, 0));
    assert_eq!(AdEventView::new(&class(77).value).unwrap().enriched().unwrap().device_class, b"other");
}

#[test]
fn what_cannot_be_read_is_routed_with_its_value() {
    let enriched = enrich(&event("x", 0, 0, 1, 0)).value;
    for (value, part) in
        [(&b"{}"[..], "required: missing"), (&[0, 0, 0, 0, 1, 2], "avro"), (&enriched, "enriched before")]
    {
        let out = run::<Enrich>(&[("pricing", TABLE)], &[value]).unwrap().remove(0);
        assert_eq!(out.value, value);
        match out.route() {
            Some(Route::Error { rule: RULE, message, .. }) => assert!(message.contains(part), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wrong_table_is_refused_with_the_reason() {
    let refused = |params: &[(&str, &str)]| Harness::<Enrich>::new(params).unwrap_err();
    assert!(refused(&[]).contains("`pricing` is missing"));
    for (from, to, part) in [
        ("\"default\"", "\"fallback\"", "`default` is missing"),
        ("800", "-800", "impression_cost_micros: -800 is not from 0"),
        ("250", "10001", "conversion_rate_bp: 10001"),
        ("\"revenue_micros_min\": 500000", "\"revenue_micros_min\": 9500001", "must be ordered"),
        ("\"revenue_micros_min\"", "\"revenue_min\"", "unknown field `revenue_min`"),
        ("}\n}", "}", "EOF"),
        ("800", "0.8", "line 2"),
    ] {
        assert!(TABLE.contains(from), "{from}");
        let error = refused(&[("pricing", &TABLE.replacen(from, to, 1))]);
        assert!(error.starts_with("parameter `pricing`: ") && error.contains(part), "{error}");
    }
}
