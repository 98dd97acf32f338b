//! What a mapping may hold: one description from which files are checked and the JSON Schema is made.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::node::{Entry, Node, Place, Value};

/// One key of a mapping.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// One sentence, for editors and errors.
    pub doc: &'static str,
}

/// What a key may hold.
#[derive(Debug)]
pub enum Kind {
    Text,
    /// Letters, digits, `-`, `_` and `.`, beginning with a letter or digit: 64 at most.
    Name,
    Bool,
    /// From `least` to `most`.
    Integer {
        least: i64,
        most: i64,
    },
    OneOf(&'static [&'static str]),
    /// An address with one of these schemes.
    Url(&'static [&'static str]),
    /// `Name: value` of an HTTP header; braces only around one of these words.
    Header(&'static [&'static str]),
    List(&'static Kind),
    /// Any keys, each with a single value, which is taken as text.
    Texts,
    Map(&'static [Field]),
}

/// Something that is wrong in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub at: Place,
    pub message: String,
}

/// Makes numbers and truths of the texts at these places, where the key wants such.
pub fn typed(node: &mut Node, kind: &Kind, places: &BTreeSet<Place>) {
    match (kind, &mut node.value) {
        (Kind::Integer { .. }, Value::Text(text)) if places.contains(&node.at) => {
            if let Ok(number) = text.trim().parse() {
                node.value = Value::Integer(number);
            }
        }
        (Kind::Bool, Value::Text(text)) if places.contains(&node.at) => {
            if let Ok(value) = text.trim().parse() {
                node.value = Value::Bool(value);
            }
        }
        (Kind::List(kind), Value::List(nodes)) => nodes.iter_mut().for_each(|node| typed(node, kind, places)),
        (Kind::Map(fields), Value::Map(entries)) => {
            for entry in entries {
                if let Some(field) = fields.iter().find(|field| field.name == entry.key) {
                    typed(&mut entry.node, &field.kind, places);
                }
            }
        }
        _ => {}
    }
}

/// Checks a value; what is right of it as JSON, and all that is wrong into `problems`. `path` names it in messages.
pub fn check(node: &Node, kind: &Kind, path: &str, problems: &mut Vec<Problem>) -> Json {
    match (kind, &node.value) {
        (Kind::Map(fields), Value::Map(entries)) => mapping(node.at, entries, fields, path, problems),
        (Kind::List(kind), Value::List(nodes)) => {
            let items = nodes.iter().enumerate();
            items.map(|(i, node)| check(node, kind, &format!("{path}[{i}]"), problems)).collect()
        }
        (Kind::Texts, Value::Map(entries)) => texts(entries, path, problems),
        (kind, value) => match single(kind, value) {
            Ok(value) => value,
            Err(wanted) => {
                problems.push(Problem { at: node.at, message: format!("`{path}` is {}: {wanted}", what(kind, value)) });
                Json::Null
            }
        },
    }
}

/// What is there; where a number is wanted also which one.
fn what(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Integer { .. }, Value::Integer(value)) => format!("the number {value}"),
        (Kind::Text | Kind::Name, Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => {
            format!("{}, without quotes", value.what())
        }
        _ => value.what().to_owned(),
    }
}

/// A single value; what is wanted where it is another.
fn single(kind: &Kind, value: &Value) -> Result<Json, String> {
    match (kind, value) {
        (Kind::Text, Value::Text(text)) if !text.is_empty() => Ok(json!(text)),
        (Kind::Name, Value::Text(text)) if is_name(text) => Ok(json!(text)),
        (Kind::Bool, Value::Bool(value)) => Ok(json!(value)),
        (Kind::Integer { least, most }, Value::Integer(value)) if (least..=most).contains(&value) => Ok(json!(value)),
        (Kind::OneOf(words), Value::Text(text)) if words.contains(&text.as_str()) => Ok(json!(text)),
        (Kind::Url(schemes), Value::Text(text))
            if text.split_once("://").is_some_and(|(s, rest)| schemes.contains(&s) && !rest.is_empty()) =>
        {
            Ok(json!(text))
        }
        (Kind::Header(words), Value::Text(text)) if is_header(text, words) => Ok(json!(text)),
        _ => Err(wanted(kind)),
    }
}

/// As the pattern of the JSON Schema says.
fn is_header(text: &str, words: &[&str]) -> bool {
    let Some((name, value)) = text.split_once(':') else { return false };
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
    let mut rest = value.trim_start_matches([' ', '\t']).to_owned();
    let is_there = !rest.is_empty();
    words.iter().for_each(|word| rest = rest.replace(&format!("{{{word}}}"), ""));
    let is_plain = !rest.contains(|c: char| matches!(c, '{' | '}' | '\u{0}'..='\u{1f}' | '\u{7f}'));
    !name.is_empty() && name.bytes().all(of_name) && is_there && is_plain
}

fn is_name(text: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 64 && text.bytes().all(of_name) && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Text => "it must be a text that is not empty".to_owned(),
        Kind::Name => "it must be of letters, digits, `-`, `_` and `.`, 64 at most".to_owned(),
        Kind::Bool => "it must be true or false".to_owned(),
        Kind::Integer { least, most } => format!("it must be a whole number from {least} to {most}"),
        Kind::OneOf(words) => format!("it must be one of {}", words.join(", ")),
        Kind::Url(schemes) => format!("it must be an address that begins with {}://", schemes.join(":// or ")),
        Kind::Header(words) => {
            format!("it must be `Name: value`, with braces only around one of {}", words.join(", "))
        }
        Kind::List(_) => "it must be a list".to_owned(),
        Kind::Texts | Kind::Map(_) => "it must be a mapping of keys".to_owned(),
    }
}

fn mapping(at: Place, entries: &[Entry], fields: &[Field], path: &str, problems: &mut Vec<Problem>) -> Json {
    let within = if path.is_empty() { "at the top".to_owned() } else { format!("in `{path}`") };
    let mut object = Map::new();
    for Entry { key, at, node } in entries {
        let Some(field) = fields.iter().find(|field| field.name == key) else {
            let valid: Vec<_> = fields.iter().map(|field| field.name).collect();
            let message = format!("unknown key `{key}` {within}; valid keys: {}", valid.join(", "));
            problems.push(Problem { at: *at, message });
            continue;
        };
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = check(node, &field.kind, &path, problems);
        if object.insert(key.clone(), value).is_some() {
            problems.push(Problem { at: *at, message: format!("the key `{key}` {within} is there twice") });
        }
    }
    for missing in fields.iter().filter(|field| field.required && !object.contains_key(field.name)) {
        let (name, doc) = (missing.name, missing.doc);
        problems.push(Problem { at, message: format!("the key `{name}` {within} is missing: {doc}") });
    }
    Json::Object(object)
}

fn texts(entries: &[Entry], path: &str, problems: &mut Vec<Problem>) -> Json {
    let mut object = Map::new();
    for Entry { key, at, node } in entries {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            other => {
                let message = format!("`{path}.{key}` is {}: it must be a single value", other.what());
                problems.push(Problem { at: node.at, message });
                continue;
            }
        };
        if object.insert(key.clone(), json!(text)).is_some() {
            problems.push(Problem { at: *at, message: format!("the key `{key}` in `{path}` is there twice") });
        }
    }
    Json::Object(object)
}

/// The JSON Schema of what a key may hold.
#[must_use]
pub fn schema(kind: &Kind) -> Json {
    let plain = match kind {
        Kind::Text => return json!({"type": "string", "minLength": 1}),
        Kind::Name => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Integer { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::OneOf(words) => json!({"enum": words}),
        Kind::Url(schemes) => json!({"type": "string", "pattern": format!("^({})://.", schemes.join("|"))}),
        Kind::Header(words) => {
            let word = format!("\\{{({})\\}}", words.join("|"));
            let value = format!("([^ {{}}\\x00-\\x1f\\x7f]|{word})([^{{}}\\x00-\\x1f\\x7f]|{word})*");
            json!({"type": "string", "pattern": format!("^[A-Za-z0-9!#$%&'*+.^_`|~-]+:[ \\t]*{value}$")})
        }
        Kind::List(kind) => return json!({"type": "array", "items": schema(kind)}),
        Kind::Texts => {
            return json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}});
        }
        Kind::Map(fields) => return object(fields),
    };
    // What a name stands for is not known to an editor.
    json!({"anyOf": [plain, {"type": "string", "pattern": "\\$\\{.+\\}"}]})
}

fn object(fields: &[Field]) -> Json {
    let described = |field: &Field| {
        let mut schema = schema(&field.kind);
        schema["description"] = json!(field.doc);
        (field.name.to_owned(), schema)
    };
    let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": fields.iter().map(described).collect::<Map<_, _>>(),
    })
}
