//! What a run of a chain comes to, in either engine, and a module in it.

use std::collections::BTreeMap;

use clickmill_engine::Lookback;

use crate::input::Batch;

/// A module of a chain.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    pub wasm: Vec<u8>,
    pub params: BTreeMap<String, String>,
    pub lookback: Option<Lookback>,
}

impl Stage {
    /// Whether the module exports a function of this name.
    pub fn exports(&self, name: &str) -> bool {
        // As the section of exports has it: length, name, 0 for a function.
        let entry = [&[name.len() as u8], name.as_bytes(), &[0]].concat();
        self.wasm.windows(entry.len()).any(|bytes| bytes == entry)
    }
}

/// What is run.
pub struct Run<'a> {
    pub stages: &'a [Stage],
    /// Records before the first one, for modules that look back.
    pub before: Option<&'a Batch>,
    pub batches: &'a [Batch],
}

impl Run<'_> {
    /// Whether a stage makes records anew, which in Fluvio have no offset and no time of their own.
    pub fn makes_anew(&self) -> bool {
        self.stages.iter().any(|stage| stage.exports("array_map"))
    }
}

/// A record that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    /// `None` where it is not to be compared.
    pub offset: Option<u64>,
    pub timestamp_ms: Option<i64>,
}

/// A record on which a module failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub offset: u64,
    /// The module's hint; `None` where it trapped.
    pub hint: Option<String>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does not start: the hint, or `None` where `init` trapped.
    Refused(Option<String>),
    /// `look_back` failed at a record, counted from the first one shown.
    LookbackFailed { index: u64, hint: String },
    /// By batch, records without those that failed, and those.
    Ran { records: Vec<Vec<Out>>, failed: Vec<Failed>, accumulator: Option<Vec<u8>> },
}

/// A hint as Clickmill shows it: cut, and without control characters.
pub fn shown(hint: &str) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(&hint.as_bytes()[..hint.len().min(512)]).chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
