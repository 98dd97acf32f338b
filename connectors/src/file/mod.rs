//! Connector files: YAML in the shape that Fluvio's users know, checked whole before anything is started.
//!
//! `fields.rs` says what may stand in them, `node.rs` and `field.rs` find every problem with its place, `text.rs` puts in
//! what `${NAME}` and `${{ secrets.NAME }}` stand for. Nothing here connects to anything.

mod authorities;
mod field;
mod fields;
mod folder;
mod node;
mod text;
mod transforms;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

pub use field::Problem;
pub use fields::{API_VERSION, Type, json_schema};
pub use folder::{BUILTIN, BadFolder, read as read_folder};
pub use node::Place;
pub use text::{BadModule, Names, Wanted};

use crate::transform::TransformSpec;
use crate::{BatchOptions, Connector, Hidden, HttpOptions, ParquetOptions, PostgresOptions, RedisOptions};
use field::check;
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
        let text = String::from_utf8(bytes)
            .map_err(|e| fail(format!("byte {} is not valid UTF-8", e.utf8_error().valid_up_to())))?;
        Self::parse(path, &text, names)
    }

    /// Checks a file's text; `path` is for messages.
    ///
    /// # Errors
    /// As [`ConnectorFile::read`].
    pub fn parse(path: &Path, text: &str, names: &dyn Names) -> Result<Self, BadFile> {
        let mut node: Node = serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let at = error.location().map(|at| Place { line: at.line(), column: at.column() }).unwrap_or_default();
            let told = error.to_string();
            let first = told.lines().next().unwrap_or_default().trim_start_matches("error: ");
            BadFile::one(path, at, first.split(" at line ").next().unwrap_or(first).to_owned())
        })?;
        let (declared, secrets) = (declared(&node), Vec::new());
        let mut substitution = Substitution { names, declared, secrets, problems: Vec::new() };
        if let Value::Map(entries) = &mut node.value {
            // What names a connector is printed.
            entries.iter_mut().for_each(|entry| {
                substitution.put(&mut entry.node, !["apiVersion", "meta"].contains(&entry.key.as_str()));
            });
        }
        let Substitution { secrets, mut problems, .. } = substitution;
        let described = fields::of(&node, &mut problems);
        let json = described.map(|kind| check(&node, &kind, "", &mut problems));
        let hidden = Hidden::new(&secrets);
        let transforms = transforms::of((path, &node), json.as_ref(), (names, &hidden), &mut problems);
        authorities::check(&node, &mut problems);
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
        Ok(Self { path: path.to_owned(), is_builtin: false, meta, name_at, connector })
    }
}

impl BadFile {
    fn one(path: &Path, at: Place, message: String) -> Self {
        Self { path: path.to_owned(), problems: vec![Problem { at, message }] }
    }
}

/// What is started for a file: its section, under its name.
fn connector(
    meta: &Meta,
    mut section: Map<String, Json>,
    transforms: Vec<TransformSpec>,
    hidden: Hidden,
) -> Result<Connector, serde_json::Error> {
    section.insert("name".to_owned(), Json::String(meta.name.clone()));
    let section = Json::Object(section);
    Ok(match meta.r#type {
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
    })
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
