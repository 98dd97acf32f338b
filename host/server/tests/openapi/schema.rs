//! The document, and values checked against it.

use jsonschema::Validator;
use serde_json::{Value, json};

pub const TEXT: &str = include_str!("../../assets/openapi.json");

pub fn document() -> Value {
    serde_json::from_str(TEXT).unwrap()
}

/// One method of one path.
pub struct Operation<'a> {
    pub path: &'a str,
    pub method: &'a str,
    /// Of the path and of the method.
    pub parameters: Vec<&'a Value>,
    pub says: &'a Value,
}

impl Operation<'_> {
    pub fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }
}

pub fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut out = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, says) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let all = [&item["parameters"], &says["parameters"]].into_iter().filter_map(Value::as_array).flatten();
            let parameters = all.map(|parameter| resolved(document, parameter)).collect();
            out.push(Operation { path, method, parameters, says });
        }
    }
    out
}

/// What a `$ref` refers to; anything else is itself.
pub fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value;
    };
    let place = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} is elsewhere"));
    document.pointer(place).unwrap_or_else(|| panic!("{reference} refers to nothing"))
}

/// Every value within `value`, itself first.
pub fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, visit)),
        _ => {}
    }
}

/// No field may be there that is not in the document: a new or renamed one has to be written down.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.get("type").is_some_and(|kind| kind == "object") && fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        _ => {}
    }
}

/// What checks values against a schema of the document.
pub fn validator(document: &Value, schema: &Value) -> Validator {
    let mut whole = json!({"components": document["components"], "allOf": [schema]});
    close(&mut whole);
    jsonschema::draft202012::new(&whole).unwrap_or_else(|e| panic!("{e}: {schema}"))
}

/// Fails with all that is wrong.
pub fn assert_valid(document: &Value, schema: &Value, value: &Value, what: &str) {
    let errors: Vec<String> =
        validator(document, schema).iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{what} is not as {schema} has it: {errors:#?}\n{value:#}");
}

/// A value of the component `name`.
pub fn assert_is(name: &str, value: &impl serde::Serialize) {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    assert_valid(&document(), &schema, &serde_json::to_value(value).unwrap(), name);
}
