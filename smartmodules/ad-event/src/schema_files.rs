//! The schemas for other languages name the fields that the parser has, with the same types, in the same order; and an
//! Avro library that knows nothing but the schema reads what we write, and writes what we read.

use std::collections::BTreeSet;

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use clickmill_schemas::avro::{HEADER_LEN, header, schema_id};
use proptest::prelude::*;
use serde_json::Value;

use crate::event::Slots;
use crate::fields::{FIELDS, Field, Int};
use crate::view::{AdEventView, Enriched, FieldValue};
use crate::{Parser, avro};

fn fields(schema: &str) -> Vec<(String, String)> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let text = |field: &Value, key: &str| field[key].as_str().unwrap().to_owned();
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().map(|field| (text(field, "name"), text(field, "type"))).collect()
}

#[test]
fn the_avro_schemas_have_the_fields_in_their_order() {
    let ours = FIELDS.map(|(name, field)| {
        let avro = match field {
            Field::Text(_) => "string",
            Field::Int(Int::Ts) => "long",
            Field::Int(_) => "int",
        };
        (name.to_owned(), avro.to_owned())
    });
    assert_eq!(fields(include_str!("../../../schemas/ad_event.avsc")), ours);
    let enriched = fields(include_str!("../../../schemas/ad_event_enriched.avsc"));
    assert_eq!(enriched[..FIELDS.len()], ours);
    let appended: Vec<_> = enriched[FIELDS.len()..].iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["device_class", "hour_of_day", "weekday", "conversion", "cost_micros", "revenue_micros"];
    assert_eq!(appended, expected);
}

#[test]
fn the_json_schema_requires_every_field_with_its_type() {
    let schema: Value = serde_json::from_str(include_str!("../../../schemas/ad_event.schema.json")).unwrap();
    let names: BTreeSet<_> = FIELDS.iter().map(|(name, _)| *name).collect();
    let required: BTreeSet<_> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(required, names);
    assert_eq!(properties.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for (name, field) in FIELDS {
        let property = &properties[name];
        let int32 = property["$ref"] == "#/$defs/int32";
        let found = if int32 { &schema["$defs"]["int32"]["type"] } else { &property["type"] };
        let expected = if matches!(field, Field::Text(_)) { "string" } else { "integer" };
        assert_eq!(found, expected, "{name}");
    }
}

fn schema(text: &str) -> Schema {
    Schema::parse_str(text).unwrap()
}

/// All of `body` as the library reads it.
fn read(schema: &Schema, mut body: &[u8]) -> Vec<(String, Avro)> {
    let value = from_avro_datum(schema, &mut body, None).unwrap();
    assert!(body.is_empty(), "{} bytes left over", body.len());
    match value {
        Avro::Record(fields) => fields,
        other => panic!("{other:?}"),
    }
}

fn expected(view: &AdEventView<'_>) -> Vec<(String, Avro)> {
    let value = |field| match (view.field(field).unwrap(), field) {
        (FieldValue::Text(text), _) => Avro::String(String::from_utf8(text.to_vec()).unwrap()),
        (FieldValue::Int(n), Field::Int(Int::Ts)) => Avro::Long(n),
        (FieldValue::Int(n), _) => Avro::Int(n.try_into().unwrap()),
    };
    FIELDS.iter().map(|(name, field)| ((*name).to_owned(), value(*field))).collect()
}

fn events() -> impl Strategy<Value = String> {
    let int = prop_oneof![Just(0i64), Just(-1), Just(i64::from(i32::MIN)), Just(i64::from(i32::MAX)), 0..3000i64];
    let text = prop_oneof!["[a-f0-9]{8}", Just(String::new()), "\\PC{0,40}", "[a-z]{100,200}"];
    (prop::collection::vec(int, FIELDS.len()), prop::collection::vec(text, FIELDS.len()), any::<i64>()).prop_map(
        |(ints, texts, ts)| {
            let members = FIELDS.iter().zip(ints.into_iter().zip(texts)).map(|((name, field), (int, text))| {
                let value = match field {
                    Field::Text(_) => Value::from(text),
                    Field::Int(Int::Ts) => Value::from(ts),
                    Field::Int(_) => Value::from(int),
                };
                ((*name).to_owned(), value)
            });
            Value::Object(members.collect()).to_string()
        },
    )
}

proptest! {
    #[test]
    fn an_avro_library_reads_our_events_and_we_read_its(json in events(), money: [i64; 3], class in "\\PC{0,20}") {
        let plain = schema(include_str!("../../../schemas/ad_event.avsc"));
        let mut parser = Parser::default();
        let event = parser.parse(json.as_bytes()).unwrap();
        let mut ours = Vec::new();
        avro::put_event(&mut ours, &event);
        let view = AdEventView::checked(&ours).unwrap();
        let fields = read(&plain, &ours[HEADER_LEN..]);
        prop_assert_eq!(&fields, &expected(&view));

        let mut theirs = header(schema_id::AD_EVENT).to_vec();
        theirs.extend(to_avro_datum(&plain, Avro::Record(fields.clone())).unwrap());
        prop_assert_eq!(&theirs, &ours);
        prop_assert!(avro::decode(&theirs, &mut Slots::default()).is_ok());

        let [conversion, cost_micros, revenue_micros] = money;
        let more = Enriched {
            device_class: class.as_bytes(),
            hour_of_day: 23,
            weekday: 6,
            conversion: conversion & 1,
            cost_micros,
            revenue_micros,
        };
        let mut enriched = header(schema_id::AD_EVENT_ENRICHED).to_vec();
        enriched.extend_from_slice(&ours[HEADER_LEN..]);
        more.put(&mut enriched);
        let found = read(&schema(include_str!("../../../schemas/ad_event_enriched.avsc")), &enriched[HEADER_LEN..]);
        prop_assert_eq!(&found[..FIELDS.len()], &fields[..]);
        let appended: Vec<Avro> = found[FIELDS.len()..].iter().map(|(_, value)| value.clone()).collect();
        let expected = [
            Avro::String(class.clone()),
            Avro::Int(23),
            Avro::Int(6),
            Avro::Int((conversion & 1) as i32),
            Avro::Long(cost_micros),
            Avro::Long(revenue_micros),
        ];
        prop_assert_eq!(appended, expected);
    }
}
