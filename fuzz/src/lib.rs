//! What fuzzing holds against each parser and each boundary that a file, a producer or a guest can reach.
//!
//! A target is a function of bytes that panics where its oracle is broken; [`TARGETS`] lists them all. `fuzz_targets/`
//! hands them to libFuzzer (feature `libfuzzer`), `tests/corpus.rs` runs them on what `corpus/` holds. See `README.md`.
//!
//! This crate uses the public interfaces of the others and nothing else: what only it can reach is not reachable.

mod chain;
mod events;
mod guests;
mod log;
mod manifests;
mod modules;
mod records;
mod states;
mod windows;

pub use chain::guest_output;
pub use events::{ad_event_avro, ad_event_json};
pub use guests::made_module;
pub use log::log_files;
pub use manifests::manifest;
pub use modules::{module_input, module_params};
pub use records::{record_set, topic_record};
pub use states::{checkpoint, window_state};
pub use windows::window_partial;

/// Stands between the values of an input that is several: no sound JSON has it.
const SEPARATOR: u8 = 0x1e;

/// A function that panics where something is not as it must be.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("ad_event_avro", ad_event_avro),
    ("ad_event_json", ad_event_json),
    ("checkpoint", checkpoint),
    ("guest_output", guest_output),
    ("log_files", log_files),
    ("made_module", made_module),
    ("manifest", manifest),
    ("module_input", module_input),
    ("module_params", module_params),
    ("record_set", record_set),
    ("topic_record", topic_record),
    ("window_partial", window_partial),
    ("window_state", window_state),
];
