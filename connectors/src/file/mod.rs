//! Connector files: YAML in the shape that Fluvio's users know, checked whole before anything is started.
//!
//! `fields.rs` says what may stand in them, `node.rs` and `field.rs` find every problem with its place, `meaning.rs` those that only
//! who uses a value can tell, `text.rs` puts in what `${NAME}` and `${{ secrets.NAME }}` stand for. Nothing here connects to anything.

mod authorities;
mod field;
mod fields;
mod folder;
mod meaning;
mod node;
mod text;
mod transforms;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

pub use field::Problem;
pub use fields::{API_VERSION, Type, json_schema};
pub use folder::{BUILTIN, BadFolder, connector_names, each_name_once, read as read_folder, read_named};
pub use node::Place;
pub use text::{BadModule, Names, Wanted};

use crate::transform::TransformSpec;
use crate::{BatchOptions, Connector, Hidden, HttpOptions, ParquetOptions, PostgresOptions, RedisOptions};
use field::{check, typed};
use node::{Entry, Node, Value};
use text::Substitution;

/// Longest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// A connector as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectorFile {
    pub path: PathBuf,
    /// One of [`BUILTIN`], which nobody has put there.
    pub is_builtin: bool,
    pub meta: Meta,
    /// Where its name stands.
    pub name_at: Place,
    /// Where the address of its server stands; where its name does, if it has none.
    pub address_at: Place,
    /// As it is started.
    pub connector: Connector,
}

/// The part of a file that every type has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    pub name: String,
    pub r#type: Type,
    pub version: String,
    pub topic: String,
    #[serde(default)]
    pub secrets: Vec<SecretName>,
    #[serde(default)]
    pub consumer: BatchOptions,
}

/// A secret that a file uses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    pub name: String,
}

/// All that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    pub path: PathBuf,
    /// In the order of their places; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { at, message }) in self.problems.iter().enumerate() {
            let end = if i + 1 < self.problems.len() { "\n" } else { "" };
            match at.line {
                0 => write!(f, "{}: {message}{end}", self.path.display())?,
                _ => write!(f, "{}:{}:{}: {message}{end}", self.path.display(), at.line, at.column)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for BadFile {}

impl ConnectorFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`BadFile`] with every problem that it has.
    pub fn read(path: &Path, names: &dyn Names) -> Result<Self, BadFile> {
        Self::parse(path, &read_text(path)?, names)
    }

    /// The name that a file's text gives its connector, whatever else is wrong with it.
    fn name_in(text: &str, names: &dyn Names) -> Option<String> {
        let mut node = node::read(text).ok()?;
        let Value::Map(entries) = &mut node.value else { return None };
        let meta = &mut entries.iter_mut().find(|entry| entry.key == "meta")?.node;
        Substitution::new(names, Vec::new()).put(meta, false);
        match &get(meta, "name")?.value {
            Value::Text(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// Checks a file's text; `path` is for messages.
    ///
    /// # Errors
    /// As [`ConnectorFile::read`].
    pub fn parse(path: &Path, text: &str, names: &dyn Names) -> Result<Self, BadFile> {
        let mut node = node::read(text).map_err(|Problem { at, message }| BadFile::one(path, at, message))?;
        let mut substitution = Substitution::new(names, declared(&node));
        if let Value::Map(entries) = &mut node.value {
            for Entry { key, node, .. } in entries {
                match key.as_str() {
                    "transforms" => substitution.put_in_transforms(node),
                    // All that is elsewhere may be printed: what names a connector, above all.
                    key => substitution.put(node, Type::ALL.iter().any(|kind| kind.section() == key)),
                }
            }
        }
        let Substitution { secrets, variables, mut problems, .. } = substitution;
        let json = fields::of(&node, &mut problems).map(|kind| {
            typed(&mut node, &kind, &variables);
            check(&node, &kind, "", &mut problems)
        });
        let hidden = Hidden::new(&secrets);
        let transforms = transforms::of((path, &node), json.as_ref(), (names, &hidden), &mut problems);
        authorities::check(&node, &mut problems);
        meaning::check(&node, json.as_ref().unwrap_or(&Json::Null), &mut problems);
        problems.sort();
        problems.dedup();
        let (None, Some(Json::Object(mut json))) = (problems.first(), json) else {
            return Err(BadFile { path: path.to_owned(), problems });
        };
        let mut take = |key: &str| json.remove(key).unwrap_or_default();
        let bad = |e: serde_json::Error| BadFile::one(path, Place::default(), e.to_string());
        let meta: Meta = serde_json::from_value(take("meta")).map_err(bad)?;
        let section = match take(meta.r#type.section()) {
            Json::Object(section) => section,
            _ => Map::new(),
        };
        let connector = connector(&meta, section, transforms, hidden).map_err(bad)?;
        let name_at = get(&node, "meta").and_then(|meta| get(meta, "name")).map(|name| name.at).unwrap_or_default();
        let address_at = meaning::address_at(&node, meta.r#type).unwrap_or(name_at);
        Ok(Self { path: path.to_owned(), is_builtin: false, meta, name_at, address_at, connector })
    }
}

impl BadFile {
    fn one(path: &Path, at: Place, message: String) -> Self {
        Self { path: path.to_owned(), problems: vec![Problem { at, message }] }
    }
}

/// The text of a file.
fn read_text(path: &Path) -> Result<String, BadFile> {
    let fail = |message: String| BadFile::one(path, Place::default(), message);
    let found = std::fs::metadata(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
    // A pipe would have nobody at its other end.
    if !found.is_file() {
        return Err(fail("is no regular file".to_owned()));
    }
    let length = found.len();
    if length > MOST_BYTES {
        return Err(fail(format!("has {length} bytes; a connector file has {MOST_BYTES} at most")));
    }
    let bytes = std::fs::read(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let at = end_of(&String::from_utf8_lossy(good));
        BadFile::one(path, at, "what begins here is not valid UTF-8".to_owned())
    })
}

/// What is started for a file: its section, under its name.
fn connector(
    meta: &Meta,
    mut section: Map<String, Json>,
    transforms: Vec<TransformSpec>,
    hidden: Hidden,
) -> Result<Connector, serde_json::Error> {
    section.insert("name".to_owned(), Json::String(meta.name.clone()));
    if meta.r#type == Type::PostgresSink {
        let default = || Json::from(meaning::statement_timeout_ms(meta.consumer.timeout_ms));
        section.entry("statement_timeout_ms").or_insert_with(default);
    }
    let section = Json::Object(section);
    let connector = match meta.r#type {
        Type::PostgresSink => {
            let options: PostgresOptions = serde_json::from_value(section)?;
            Connector::Postgres(PostgresOptions { batch: meta.consumer.clone(), transforms, hidden, ..options })
        }
        Type::RedisSink => {
            let options: RedisOptions = serde_json::from_value(section)?;
            Connector::Redis(RedisOptions { batch: meta.consumer.clone(), hidden, ..options })
        }
        Type::ParquetSink => {
            let options: ParquetOptions = serde_json::from_value(section)?;
            Connector::Parquet(ParquetOptions { batch: meta.consumer.clone(), hidden, ..options })
        }
        Type::HttpSink => {
            let options: HttpOptions = serde_json::from_value(section)?;
            let topic = meta.topic.clone();
            Connector::Http(HttpOptions { topic, batch: meta.consumer.clone(), transforms, hidden, ..options })
        }
    };
    Ok(connector.hiding_its_own())
}

/// The place behind a text.
fn end_of(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Place { line: count(text.matches('\n').count() + 1), column: count(last.chars().count() + 1) }
}

/// The names below `meta.secrets`.
fn declared(file: &Node) -> Vec<String> {
    let Some(Value::List(secrets)) = get(file, "meta").and_then(|meta| get(meta, "secrets")).map(|node| &node.value)
    else {
        return Vec::new();
    };
    let name = |secret: &Node| match &get(secret, "name")?.value {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    };
    secrets.iter().filter_map(name).collect()
}

/// What stands under a key of a mapping.
fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries.iter().find(|entry| entry.key == key).map(|Entry { node, .. }| node)
}

#[cfg(test)]
mod tests;
