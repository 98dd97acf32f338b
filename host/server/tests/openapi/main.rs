//! `assets/openapi.json` says what the server does: its routes, its answers, and the types that it writes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod document;
mod schema;
#[path = "../support/mod.rs"]
mod support;
mod types;
