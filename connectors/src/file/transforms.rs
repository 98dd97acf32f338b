//! The part `transforms` of a file: modules that are found and tried while the file is checked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::fields::Type;
use super::node::{Node, Place, Value};
use super::text::{BadModule, Names, Wanted};
use super::{Problem, get};
use crate::Hidden;
use crate::transform::TransformSpec;

#[derive(Deserialize)]
struct Described {
    uses: String,
    #[serde(default)]
    with: BTreeMap<String, String>,
}

/// Why no module may stand before windows.
const NO_PLACE: &str = "`transforms` has no place here: what this connector copies are partial sums, which a module would only \
    spoil, and `connector verify` compares them with the topic's; a module may stand before records that are copied as they are";

/// The transforms of a file, as far as they are such, `described` as its JSON; what is wrong with the modules into `problems`.
pub fn of(
    (path, file): (&Path, &Node),
    described: Option<&Json>,
    (names, hidden): (&dyn Names, &Hidden),
    problems: &mut Vec<Problem>,
) -> Vec<TransformSpec> {
    let (Some(Node { at, value: Value::List(entries) }), Some(Json::Array(described))) =
        (get(file, "transforms"), described.and_then(|file| file.get("transforms")))
    else {
        return Vec::new();
    };
    let mut problem = |at: Place, message: String| problems.push(Problem { at, message });
    if entries.is_empty() {
        return Vec::new();
    }
    match get(file, "meta").and_then(|meta| get(meta, "type")).and_then(|node| text(node)) {
        Some(name) if name == Type::PostgresSink.name() => {
            let raw = get(file, "postgres").and_then(|section| get(section, "raw_events"));
            if raw.is_none_or(|raw| raw.value != Value::Bool(true)) {
                problem(*at, format!("{NO_PLACE}: the raw events of a postgres-sink, with raw_events: true"));
                return Vec::new();
            }
        }
        Some(name) if name == Type::HttpSink.name() => {
            let topic = get(file, "meta").and_then(|meta| get(meta, "topic")).and_then(text);
            if topic.is_none_or(|topic| topic == "ctr_windows") {
                problem(*at, format!("{NO_PLACE}: an http-sink of another topic"));
                return Vec::new();
            }
        }
        Some(name) if [Type::RedisSink.name(), Type::ParquetSink.name()].contains(&name) => {
            problem(*at, format!("{NO_PLACE}: the raw events of a postgres-sink, or an http-sink"));
            return Vec::new();
        }
        _ => return Vec::new(), // the type is told already
    }
    let mut specs = Vec::new();
    for (entry, described) in entries.iter().zip(described) {
        let Ok(Described { uses, with }) = serde_json::from_value(described.clone()) else {
            continue; // told already
        };
        let at = |key: &str| get(entry, key).map_or(entry.at, |node| node.at);
        match names.module(&Wanted { file: path, uses: &uses, with: &with }) {
            Ok(wasm) => specs.push(TransformSpec { uses, with, wasm }),
            Err(BadModule::Uses(why)) => problem(at("uses"), format!("`uses: {uses}`: {why}")),
            Err(BadModule::With(why)) => problem(at("with"), hidden.redact(&format!("`with` of {uses}: {why}"))),
        }
    }
    specs
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
