//! Records that have been found at fault: they are not run again but routed as errors.

use std::collections::BTreeMap;

use clickmill_schemas::Offset;

/// Name of the rule that a verdict is reported under.
pub(crate) const RULE: &str = "smartmodule";

/// Offsets whose records are not run, each with the stage that failed on it and the message of its fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    by_offset: BTreeMap<Offset, Verdict>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub stage: String,
    pub message: String,
}

impl Verdicts {
    /// Adds a verdict; one on the same offset is replaced.
    pub fn insert(&mut self, offset: Offset, stage: impl Into<String>, message: impl Into<String>) {
        self.by_offset.insert(offset, Verdict { stage: stage.into(), message: message.into() });
    }

    /// Forgets the verdicts on offsets before `offset`.
    pub fn forget_before(&mut self, offset: Offset) {
        self.by_offset = self.by_offset.split_off(&offset);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_offset.len()
    }

    pub(crate) fn get(&self, offset: Offset) -> Option<&Verdict> {
        self.by_offset.get(&offset)
    }

    /// Whether there is one on `count` records from `base` on.
    pub(crate) fn any_in(&self, base: Offset, count: u32) -> bool {
        !self.is_empty() && self.by_offset.range(base..base.plus(u64::from(count))).next().is_some()
    }
}
