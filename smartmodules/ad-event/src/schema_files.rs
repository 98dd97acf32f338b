//! The schemas for other languages name the fields that the parser has, with the same types, in the same order.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fields::{FIELDS, Field, Int};

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
