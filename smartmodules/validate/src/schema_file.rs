//! `ad_event.schema.json` and the module say the same of every event, as far as a schema can.
//!
//! What it cannot say stands in its description: a date that exists, `ts` within `hour`, no field twice, no U+0000, no
//! `1.0` for an integer. Such events are not among these.

use clickmill_sdk::Route;
use clickmill_sdk::harness::run;
use serde_json::{Value, json};

use crate::Validate;
use crate::tests::SOUND;

fn accepted(event: &Value) -> Result<(), String> {
    let out = run::<Validate>(&[], &[event.to_string().as_bytes()]).unwrap();
    match out[0].route() {
        None => Ok(()),
        Some(Route::Error { message, .. }) => Err(message.to_owned()),
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_json_schema_takes_what_the_module_takes() {
    let schema: Value = serde_json::from_str(include_str!("../../../schemas/ad_event.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let sound: Value = serde_json::from_str(SOUND).unwrap();
    let fields: Vec<String> = sound.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields.len(), 25);
    let values = [
        json!(null),
        json!(true),
        json!(""),
        json!("x"),
        json!("1"),
        json!("14102100"),
        json!("1410210"),
        json!("14102124"),
        json!("14130100"),
        json!("14100000"),
        json!("é"),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(0.5),
        json!(i32::MAX),
        json!(i64::from(i32::MAX) + 1),
        json!(i32::MIN),
        json!(i64::from(i32::MIN) - 1),
        json!(1_413_849_600_000i64),
        json!(u64::MAX),
        json!([]),
        json!({}),
    ];
    let (mut takes, mut refuses) = (0, 0);
    let mut check = |event: &Value, what: String| {
        let ours = accepted(event);
        assert_eq!(schema.is_valid(event), ours.is_ok(), "{what}: {ours:?}");
        if ours.is_ok() { takes += 1 } else { refuses += 1 }
    };
    check(&sound, "a sound event".to_owned());
    for field in &fields {
        let mut without = sound.clone();
        without.as_object_mut().unwrap().remove(field);
        check(&without, format!("without {field}"));
        for value in &values {
            // Another time than `hour` says is what the schema cannot see.
            if field == "ts" && value.as_i64().is_some_and(|ts| ts != 1_413_849_600_000) {
                continue;
            }
            let mut event = sound.clone();
            event[field] = value.clone();
            check(&event, format!("{field} = {value}"));
        }
    }
    let mut unknown = sound.clone();
    unknown["more"] = json!({"a": [1]});
    check(&unknown, "an unknown field".to_owned());
    for other in [json!([]), json!("x"), json!(null), json!({})] {
        check(&other, other.to_string());
    }
    assert!(takes > 100 && refuses > 300, "{takes} taken, {refuses} refused");
}
