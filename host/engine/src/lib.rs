//! SmartModules on wasmtime: compile cache, sandbox, and chains that hand batches from module to module.
//!
//! This crate owns the host's side of the ABI (`abi`), what a module may use (`limits`), what becomes of each record of a
//! batch ([`BatchOutcome`]), and finding the record at fault when a module fails
//! ([`isolate`]). It knows nothing of
//! topics, checkpoints or deployments: batches come in through [`BatchSource`], state goes out as [`ChainState`].
//!
//! Modules written for Fluvio run as they are; what Fluvio keeps beside one (an accumulator, records to look back on) is part
//! of the chain's state (`kept`), and where one record becomes several, `fan_out` books its one fate.
//!
//! Whatever a module does ends in a [`Fault`] and leaves the host unharmed. Nothing here reads a wall clock into a
//! result. Read next: `chain`, then `guest`.

mod abi;
mod bounds;
mod cache;
mod chain;
mod cpu_time;
mod engine;
mod error;
mod fan_out;
mod fuel;
mod guest;
mod hooks;
mod imports;
mod isolate;
mod kept;
mod limits;
mod log;
mod lookback;
pub mod manifest;
mod module;
mod outcome;
mod output;
mod source;
mod stage;
mod state;
mod statelessness;
mod usage;
mod verdicts;
mod wasi;

pub use chain::{Chain, StageSpec};
pub use engine::{Engine, EngineOptions};
pub use error::{EngineError, Fault, ProcessError};
pub use isolate::{Culprit, Isolated, isolate, isolate_collecting};
pub use limits::Limits;
pub use log::LogLine;
pub use lookback::Lookback;
pub use module::{Kind, Module};
pub use outcome::{BatchOutcome, PassedRecord, RouteOwned, Routed};
pub use source::{BatchSource, MemoryBatch};
pub use state::ChainState;
pub use statelessness::{Difference, Made, StatelessnessError, statelessness};
pub use usage::StageUsage;
pub use verdicts::Verdicts;
