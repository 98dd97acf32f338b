//! The module as a host sees it: values in, Avro or routes out.

use super::*;
use clickmill_ad_event::{AdEventView, Field, Int, Text};
use clickmill_sdk::ErrorType;
use clickmill_sdk::harness::{Harness, run};

pub const SOUND: &str = r#"{"id":"1001","click":1,"hour":"14102100","C1":1005,"banner_pos":0,"site_id":"f9c69707","site_domain":"e16ceb4b","site_category":"28905ebd","app_id":"ecad2386","app_domain":"7801e8d9","app_category":"07d7df22","device_id":"a99f214a","device_ip":"8b19fe67","device_model":"258766e2","device_type":1,"device_conn_type":0,"C14":19665,"C15":320,"C16":50,"C17":2253,"C18":2,"C19":303,"C20":-1,"C21":52,"ts":1413849600000}"#;

/// The rule and the message with which one value is routed.
fn judged(params: &[(&str, &str)], value: &[u8]) -> Option<(ErrorType, String, String)> {
    let out = run::<Validate>(params, &[value]).unwrap();
    assert_eq!(out.len(), 1, "every record has one outcome");
    match out[0].route() {
        None => None,
        Some(Route::Error { error_type, rule, message }) => {
            assert_eq!(out[0].value, value, "a routed record keeps its value");
            Some((error_type, rule.to_owned(), message.to_owned()))
        }
        Some(other) => panic!("{other:?}"),
    }
}

fn avro(json: &str) -> Vec<u8> {
    run::<Validate>(&[], &[json.as_bytes()]).unwrap().remove(0).value
}

#[test]
fn a_sound_event_comes_out_as_avro_and_again_as_itself() {
    let value = avro(SOUND);
    let view = AdEventView::checked(&value).unwrap();
    assert_eq!((view.click, view.ts_ms, view.id), (1, 1_413_849_600_000, &b"1001"[..]));
    assert_eq!(avro::decode(&value, &mut Slots::default()).unwrap().int(Int::C20), -1);
    assert_eq!(run::<Validate>(&[], &[&value]).unwrap()[0].value, value);
}

#[test]
fn every_rule_names_itself_the_field_and_the_value() {
    let nul = SOUND.replace("e16ceb4b", r"e\u0000f");
    let long = SOUND.replace("e16ceb4b", &"x".repeat(70_000));
    for (json, rule, part) in [
        (SOUND.replace("\"click\":1", "\"click\":2"), "range", "`click` must be 0 or 1, found 2"),
        (SOUND.replace("\"click\":1", "\"click\":-1"), "range", "found -1"),
        (SOUND.replace("\"1001\"", "\"\""), "id_empty", "`id`"),
        (SOUND.replace("14102100", "14103200"), "hour_format", "found \"14103200\""),
        (SOUND.replace("14102100", ""), "hour_format", "found \"\""),
        (
            SOUND.replace("1413849600000", "1413853200000"),
            "ts_within_hour",
            "`ts` 1413853200000 is not within `hour` \"14102100\"",
        ),
        (SOUND.replace("1413849600000", "1413849599999"), "ts_within_hour", "from 1413849600000"),
        (SOUND.replace("1413849600000", "4102444800000"), "ts_within_hour", "4102444800000"),
        (long, "string_too_long", "`site_domain` has 70000 bytes, allowed are 65536: \"xxx"),
        (nul, "nul_character", "`site_domain` must not have a NUL character: \"e\\0f\""),
        (SOUND.replace("\"C18\":2,", ""), "required", "`C18`"),
        (SOUND.replace("\"C18\":2", "\"C18\":2.5"), "type", "found the number 2.5"),
    ] {
        let (error_type, found, message) = judged(&[], json.as_bytes()).expect(rule);
        assert_eq!((error_type, found.as_str()), (ErrorType::Schema, rule), "{message}");
        assert!(message.contains(part) && message.len() < 300, "{message}");
    }
    for (value, rule) in [
        (&SOUND.as_bytes()[..SOUND.len() - 1], "json"),
        (b"", "json"),
        (b"{\"id\":\"\xff\"}", "utf8"),
        (&avro(SOUND)[..30], "avro"),
        (&[0], "avro"),
        (&[0, 0, 0, 0, 2, 2], "avro"),
    ] {
        let (error_type, found, _) = judged(&[], value).unwrap();
        assert_eq!((error_type, found.as_str()), (ErrorType::Parsing, rule));
    }
}

#[test]
fn avro_is_judged_by_the_same_rules() {
    let value = avro(SOUND);
    let mut slots = Slots::default();
    let event = avro::decode(&value, &mut slots).unwrap();
    let id_at = value.windows(4).position(|w| w == b"1001").unwrap();
    let mut nul = value.clone();
    nul[id_at] = 0;
    assert_eq!(judged(&[], &nul).unwrap().1, "nul_character");
    let mut click = value.clone();
    click[5] = 4;
    assert_eq!(judged(&[], &click).unwrap().1, "range");
    let mut binary = value.clone();
    binary[id_at] = 0xff;
    assert_eq!(judged(&[], &binary).unwrap().1, "avro");
    assert_eq!(event.text(Text::Hour), b"14102100");
    assert_eq!(Field::Text(Text::Hour).name(), "hour");
}

#[test]
fn dates_and_lengths_are_what_the_parameters_say() {
    let from_to = |from, to| judged(&[("date_from", from), ("date_to", to)], SOUND.as_bytes());
    assert_eq!(from_to("2014-10-21", "2014-10-21"), None);
    assert_eq!(from_to("", ""), None);
    assert_eq!(from_to("2014-10-22", "2014-10-30").unwrap().1, "date_range");
    assert_eq!(from_to("2014-10-01", "2014-10-20").unwrap().1, "date_range");
    assert_eq!(judged(&[("max_string_bytes", "7")], SOUND.as_bytes()).unwrap().1, "string_too_long");
    for (name, value, part) in [
        ("date_from", "21.10.2014", "`21.10.2014` is not a date"),
        ("max_string_bytes", "-1", "`max_string_bytes`"),
        ("max_string_byte", "1", "unknown parameter"),
    ] {
        let error = Harness::<Validate>::new(&[(name, value)]).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert!(Harness::<Validate>::new(&[("date_from", "2014-10-22"), ("date_to", "2014-10-21")]).is_err());
}

#[test]
fn the_outcome_does_not_depend_on_the_records_before() {
    let other_hour = SOUND.replace("14102100", "14102101").replace("1413849600000", "1413853200000");
    let wrong_hour = SOUND.replace("14102100", "14102101");
    let values = [SOUND, &other_hour, &wrong_hour, SOUND, "{", &wrong_hour, SOUND, SOUND, &other_hour];
    let mut harness = Harness::<Validate>::new(&[]).unwrap();
    for value in values {
        let together = harness.batch(&[value.as_bytes()]).unwrap();
        assert_eq!(together, run::<Validate>(&[], &[value.as_bytes()]).unwrap(), "{value}");
    }
}
