//! Monitoring and deployment files against the real programs: promtool, Prometheus, Alertmanager, the exporters, Compose, and
//! a real run that is scraped.
//!
//! Knows nothing of how the host works inside: files of the repository, its commands and its `/metrics` only.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../common/mod.rs"]
mod common;

mod alerts;
mod documents;
mod drill;
mod expressions;
mod faster;
mod listeners;
mod manifests;
mod programs;
mod queries;
mod rules;
mod stack;

use std::path::PathBuf;

use common::Value;

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    root.join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The values of a list; none of what is not there.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A word of a document.
fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
