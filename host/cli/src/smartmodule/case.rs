//! A case of `smartmodule test`: what goes in, what must come out, and the comparison of the two.
//!
//! This file must not know how a module is run: it gets [`Outcome`]s.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A line of a file of cases.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts_ms: Option<i64>,
    /// Raw, since an object goes in as it is written.
    #[serde(rename = "in")]
    input: Box<RawValue>,
    pub expect: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<Value>>,
}

impl Case {
    /// Reads a line.
    ///
    /// # Errors
    /// Where it is no case, or expects what cannot come.
    pub fn parse(line: &str) -> Result<Self> {
        let case: Self = serde_json::from_str(line)?;
        case.values()?;
        for expected in &case.expect {
            check(expected)?;
        }
        Ok(case)
    }

    /// The values that go in.
    pub fn values(&self) -> Result<Vec<Vec<u8>>> {
        let text = self.input.get();
        if !text.starts_with('[') {
            return Ok(vec![value(text)?]);
        }
        let values: Vec<Box<RawValue>> = serde_json::from_str(text)?;
        values.iter().map(|raw| value(raw.get())).collect()
    }
}

/// A string is the value, `{"base64":…}` its bytes; anything else goes in as it is written.
fn value(text: &str) -> Result<Vec<u8>> {
    if let Ok(string) = serde_json::from_str::<String>(text) {
        return Ok(string.into_bytes());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(object) => bytes_of(&object)?.map_or_else(|| Ok(text.as_bytes().to_vec()), Ok),
        Err(e) => Err(e.into()),
    }
}

/// The bytes of `{"base64":…}`; `None` for anything else.
fn bytes_of(value: &Value) -> Result<Option<Vec<u8>>> {
    match value.as_object().map(|object| (object.len(), object.get("base64"))) {
        Some((1, Some(Value::String(text)))) => {
            Ok(Some(STANDARD.decode(text).with_context(|| format!("{text:?} is not base64"))?))
        }
        _ => Ok(None),
    }
}

/// What became of a record; a record that fans out has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Value {
        value: Vec<u8>,
        key: Option<Vec<u8>>,
    },
    Rejected {
        rule: String,
        message: String,
    },
    Late,
    Dropped,
    /// Taken into the state of a module that keeps one.
    Counted,
    /// The module failed on the case.
    Failed(String),
    /// It refused its parameters.
    Refused(String),
}

fn check(expected: &Value) -> Result<()> {
    let known = match expected {
        Value::String(text) => matches!(text.as_str(), "dropped" | "counted"),
        Value::Object(object) => match (object.get("value"), object.len()) {
            (Some(value), 1) => bytes_of(value).is_ok(),
            (Some(_), 2) => object.get("key").is_some_and(|key| key.is_string() || key.is_null()),
            (None, 1) => object.iter().all(|(name, value)| match name.as_str() {
                "rejected" | "failed" | "refused" => value.is_string(),
                "late" => *value == Value::Bool(true),
                _ => false,
            }),
            _ => false,
        },
        _ => false,
    };
    if !known {
        bail!(
            "{expected} is nothing that can come out: \"dropped\", \"counted\", {{\"value\":…}}, {{\"value\":…,\"key\":…}}, \
             {{\"rejected\":RULE}}, {{\"late\":true}}, {{\"failed\":TEXT}} or {{\"refused\":TEXT}}"
        );
    }
    Ok(())
}

impl Outcome {
    /// Whether it is what is expected: objects are compared as JSON, strings byte by byte, and the text of a failure need
    /// only be in its message.
    pub fn matches(&self, expected: &Value) -> bool {
        match self {
            Self::Value { value, key } => {
                let Some(wanted) = expected.get("value") else { return false };
                let same_key = match expected.get("key") {
                    None => true,
                    Some(wanted) => key.as_deref() == wanted.as_str().map(str::as_bytes),
                };
                same_key && same_value(value, wanted)
            }
            Self::Rejected { rule, .. } => expected.get("rejected").is_some_and(|wanted| wanted == rule),
            Self::Late => expected.get("late").is_some(),
            Self::Dropped => expected == "dropped",
            Self::Counted => expected == "counted",
            Self::Failed(message) => is_in(expected.get("failed"), message),
            Self::Refused(message) => is_in(expected.get("refused"), message),
        }
    }

    /// As a case would have it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Value { value, .. } => json!({ "value": content(value) }),
            Self::Rejected { rule, .. } => json!({ "rejected": rule }),
            Self::Late => json!({ "late": true }),
            Self::Dropped => json!("dropped"),
            Self::Counted => json!("counted"),
            Self::Failed(message) => json!({ "failed": message }),
            Self::Refused(message) => json!({ "refused": message }),
        }
    }

    /// What a rejection says beyond its rule.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Rejected { message, .. } => Some(message),
            _ => None,
        }
    }
}

fn is_in(wanted: Option<&Value>, message: &str) -> bool {
    wanted.and_then(Value::as_str).is_some_and(|wanted| message.contains(wanted))
}

fn same_value(value: &[u8], wanted: &Value) -> bool {
    match (wanted, bytes_of(wanted)) {
        (_, Ok(Some(bytes))) => bytes == value,
        (Value::String(text), _) => text.as_bytes() == value,
        _ => serde_json::from_slice::<Value>(value).is_ok_and(|value| value == *wanted),
    }
}

/// An object where the value is one, a string where it is text, else base64.
fn content(value: &[u8]) -> Value {
    match (serde_json::from_slice(value), std::str::from_utf8(value)) {
        // One that reads as ours would be taken for base64.
        (Ok(object @ Value::Object(_)), _) if bytes_of(&object).is_ok_and(|bytes| bytes.is_none()) => object,
        (_, Ok(text)) => json!(text),
        _ => json!({ "base64": STANDARD.encode(value) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Outcome {
        Outcome::Value { value: text.as_bytes().to_vec(), key: None }
    }

    #[test]
    fn what_goes_in_is_what_is_written() {
        let values = |input: &str| Case::parse(&format!(r#"{{"in":{input},"expect":[]}}"#)).unwrap().values().unwrap();
        assert_eq!(values(r#""a\nb""#), [b"a\nb"]);
        assert_eq!(values(r#"{"b": 1,"a":2}"#), [br#"{"b": 1,"a":2}"#]);
        assert_eq!(values(r#"{"base64":"AP8="}"#), [[0, 255]]);
        assert_eq!(values(r#"["x", {"y":1}, 7]"#), [&b"x"[..], br#"{"y":1}"#, b"7"]);
    }

    #[test]
    fn outcomes_are_compared_by_their_meaning() {
        assert!(value(r#"{"a":1, "b":[2]}"#).matches(&json!({"value": {"b": [2], "a": 1}})));
        assert!(!value(r#"{"a":1}"#).matches(&json!({"value": {"a": 2}})));
        assert!(value("x").matches(&json!({"value": "x"})) && !value("x").matches(&json!({"value": "x "})));
        assert!(value("x").matches(&json!({"value": {"base64": "eA=="}})));
        assert!(value("x").matches(&json!({"value": "x", "key": null})));
        assert!(!value("x").matches(&json!({"value": "x", "key": "k"})));
        assert!(!value("dropped").matches(&json!("dropped")) && Outcome::Dropped.matches(&json!("dropped")));
        assert!(Outcome::Failed("map failed: divide by zero".into()).matches(&json!({"failed": "divide"})));
        assert!(Outcome::Late.matches(&json!({"late": true})) && !Outcome::Late.matches(&json!("dropped")));
    }

    #[test]
    fn what_came_out_matches_what_an_update_writes() {
        let (rule, message) = ("r".to_owned(), "m".to_owned());
        for outcome in [
            value("text"),
            value(r#"{"b":1,"a":{"c":null}}"#),
            value(r#"{"base64":"eA=="}"#),
            Outcome::Value { value: vec![0, 255], key: Some(vec![1]) },
            Outcome::Rejected { rule, message },
            Outcome::Late,
            Outcome::Dropped,
            Outcome::Counted,
            Outcome::Failed("f".into()),
            Outcome::Refused("p".into()),
        ] {
            let written = outcome.to_json();
            check(&written).unwrap();
            assert!(outcome.matches(&written), "{written}");
        }
    }

    #[test]
    fn what_cannot_come_out_is_refused() {
        for expected in ["\"droped\"", "{\"reject\":\"x\"}", "{\"late\":false}", "7", "{\"value\":{\"base64\":\"%\"}}"]
        {
            let error = Case::parse(&format!(r#"{{"in":"","expect":[{expected}]}}"#)).unwrap_err();
            assert!(error.to_string().contains("nothing that can come out"), "{error}");
        }
        assert!(Case::parse(r#"{"in":"","expects":[]}"#).unwrap_err().to_string().contains("unknown field `expects`"));
    }
}
