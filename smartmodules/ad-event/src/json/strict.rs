//! Tier 3: serde_json, and the words for what is wrong.
//!
//! A value that is JSON through and through is judged field by field, so that the fault names the field; a syntax error
//! anywhere comes before that.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::keys::field_named;
use crate::event::{Slots, Span};
use crate::fault::{Fault, rule, shown};
use crate::fields::{FIELDS, Field, INT_COUNT, TEXT_COUNT};

/// Reads one event. Texts with escapes go to `unescaped`.
pub fn parse(json: &[u8], slots: &mut Slots, unescaped: &mut String) -> Result<(), Fault> {
    let text = std::str::from_utf8(json).map_err(|e| {
        let at = e.valid_up_to();
        let byte = json.get(at).copied().unwrap_or_default();
        Fault::parsing(rule::UTF8, format!("byte 0x{byte:02x} at position {at} is not UTF-8"))
    })?;
    let mut members = Members::default();
    let mut source = serde_json::Deserializer::from_str(text);
    source.deserialize_map(&mut members).and_then(|()| source.end()).map_err(|e| match e.classify() {
        Category::Data => Fault::schema(rule::OBJECT, format!("not a JSON object: {}", shown(json))),
        _ => Fault::parsing(rule::JSON, format!("not JSON: {e}")),
    })?;
    members.fill(text, slots, unescaped)
}

/// The values of known fields, of whatever type.
#[derive(Default)]
struct Members<'a> {
    values: [Option<Value<'a>>; TEXT_COUNT + INT_COUNT],
    duplicate: Option<Field>,
}

enum Value<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    /// An integer past 64 bits.
    Huge(String),
    /// Anything else, in words.
    Other(String),
}

fn place(field: Field) -> usize {
    match field {
        Field::Text(text) => text as usize,
        Field::Int(int) => TEXT_COUNT + int as usize,
    }
}

impl Members<'_> {
    fn fill(self, source: &str, slots: &mut Slots, unescaped: &mut String) -> Result<(), Fault> {
        let missing = FIELDS.iter().filter(|(_, field)| self.values[place(*field)].is_none());
        let missing: Vec<_> = missing.map(|(name, _)| format!("`{name}`")).collect();
        if !missing.is_empty() {
            return Err(Fault::schema(rule::REQUIRED, format!("missing: {}", missing.join(", "))));
        }
        if let Some(field) = self.duplicate {
            return Err(Fault::schema(rule::DUPLICATE, format!("`{}` stands there twice", field.name())));
        }
        for (name, field) in FIELDS {
            match (field, &self.values[place(field)]) {
                (Field::Text(text), Some(Value::Text(value))) => {
                    // A text without escapes could stay where it is; but then it would not have come here.
                    slots.texts[text as usize] = Span { start: source.len() + unescaped.len(), len: value.len() };
                    unescaped.push_str(value);
                }
                (Field::Int(int), Some(Value::Int(value))) if int.holds(*value) => slots.ints[int as usize] = *value,
                (_, value) => return Err(wrong(name, field, value.as_ref())),
            }
        }
        Ok(())
    }
}

/// The fault of a value that its field cannot hold.
fn wrong(name: &str, field: Field, value: Option<&Value<'_>>) -> Fault {
    let expected = match field {
        Field::Text(_) => "a string",
        Field::Int(crate::Int::Ts) => "an integer of 64 bits",
        Field::Int(_) => "an integer of 32 bits",
    };
    let (found, out_of_range) = match (field, value) {
        (Field::Int(_), Some(Value::Int(value))) => (value.to_string(), true),
        (Field::Int(_), Some(Value::Huge(value))) => (value.clone(), true),
        (_, Some(Value::Int(value))) => (value.to_string(), false),
        (_, Some(Value::Huge(text) | Value::Other(text))) => (text.clone(), false),
        (_, Some(Value::Text(text))) => (shown(text.as_bytes()), false),
        (_, None) => ("nothing".to_owned(), false),
    };
    let rule = if out_of_range { rule::RANGE } else { rule::TYPE };
    Fault::schema(rule, format!("`{name}` must be {expected}, found {found}"))
}

impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let Some(field) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.values[place(field)].replace(map.next_value_seed(AnyValue)?).is_some() {
                self.duplicate.get_or_insert(field);
            }
        }
        Ok(())
    }
}

/// A key: the field that it names, if it is a known one.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<Field>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(field_named(key))
    }
}

/// A value of whatever type.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Huge(value.to_string()), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        // serde_json reads integers past 64 bits, too, as floats.
        Ok(Value::Other(format!("the number {value:?}")))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Other(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Other("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an array".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object".to_owned()))
    }
}
