//! The guest side of the SmartModule ABI: what a module is, and what it may do with a record.
//!
//! A module implements [`Module`] (and [`Stateful`], where it remembers records) and calls [`export!`] (or
//! [`export_stateful!`]) once; that makes a SmartModule as Fluvio and Clickmill's host run it. On a native target the
//! macros export nothing, and [`harness`] runs the same code for tests. The rest: [`params`] (what a deployment sets),
//! [`record`] (what comes in), [`output`] (what goes out), [`guest`] (a module with its buffers and the encodings of
//! its calls), [`memory`] (the buffers that the host writes into), [`panics`] (what the host is told of one), [`log()`].
//!
//! This crate must not know what records mean, and no host.
//!
//! ```
//! use clickmill_sdk::{Module, Output, Params, Record, harness};
//!
//! struct Shout;
//!
//! impl Module for Shout {
//!     fn init(_: &Params) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn record(&mut self, record: &Record<'_>, out: &mut Output) {
//!         out.forward(record, &record.value.to_ascii_uppercase());
//!     }
//! }
//!
//! clickmill_sdk::export!(Shout);
//! assert_eq!(harness::run::<Shout>(&[], &[b"hello"]).unwrap()[0].value, b"HELLO");
//! ```

mod export;
pub mod guest;
pub mod harness;
mod log;
pub mod memory;
pub mod output;
pub mod panics;
pub mod params;
pub mod record;

pub use clickmill_schemas::envelope::{ErrorType, Route};
pub use guest::Guest;
pub use log::log;
pub use output::{Output, RecordSet};
pub use params::Params;
pub use record::Record;

/// A SmartModule. It must be total: every record has an outcome, and none makes it panic.
pub trait Module: Sized {
    /// Makes the module. Called once, before the first record.
    ///
    /// # Errors
    /// A sentence that says which parameter is wrong, and how. The module is then not deployed.
    fn init(params: &Params) -> Result<Self, String>;

    /// Judges one record: forwards it, routes it, or, by doing neither, drops it or counts it. Records come in the
    /// order of their offsets.
    fn record(&mut self, record: &Record<'_>, out: &mut Output);
}

/// A module that remembers records. Its state must be a function of the sequence of calls of [`Module::record`],
/// [`Stateful::advance`] and [`Stateful::load`] alone: not of how records came in batches, not of a clock, and not of
/// [`Stateful::emit`] or [`Stateful::save`].
pub trait Stateful: Module {
    /// Version of what [`Stateful::save`] writes; every older version that [`Stateful::load`] still reads is a
    /// promise to those who deploy the module over its predecessor.
    const STATE_VERSION: i32;

    /// Appends the state.
    fn save(&self, out: &mut Vec<u8>);

    /// Replaces the state by a saved one. Every open window counts as changed afterwards.
    ///
    /// # Errors
    /// Why these bytes cannot be read. The module may not be used after that.
    fn load(&mut self, state: &[u8]) -> Result<(), String>;

    /// Appends what changed since the last call, and forgets what is closed.
    fn emit(&mut self, out: &mut RecordSet);

    /// About how many bytes the next [`Stateful::emit`] would forget.
    fn pending_bytes(&self) -> usize;

    /// Event time up to which the module has seen the stream, epoch milliseconds.
    fn watermark(&self) -> Option<i64>;

    /// Windows that end at or before this are closed, epoch milliseconds.
    fn closed_before(&self) -> Option<i64>;

    /// The watermark is at least this from now on.
    fn advance(&mut self, watermark_ms: i64);
}
