//! The ad event: its fields, its JSON parser, and the Avro form in which modules hand it on.
//!
//! [`Parser`] reads JSON into an [`AdEvent`], [`avro`] writes and checks the binary form, [`AdEventView`] reads single
//! fields of that without the rest, [`Reader`] takes either. [`time`] has the calendar that the field `hour` needs.
//! Schemas for other languages: `schemas/ad_event.schema.json`, `schemas/ad_event.avsc`.
//!
//! This crate must not know which values are allowed (that is `validate`), nor modules, nor records.

pub mod avro;
mod event;
mod fault;
pub mod fields;
mod json;
mod reader;
#[cfg(test)]
mod schema_files;
pub mod time;
mod view;
mod word;

pub use event::{AdEvent, Slots};
pub use fault::{Fault, rule, shown};
pub use fields::{Field, Int, Text};
pub use json::Parser;
pub use reader::Reader;
pub use view::{AdEventView, Enriched, FieldValue, Money};
