//! What the stages of a chain cost: time, memory, fuel. For people who look at it; no result depends on it.
//!
//! Who counts these figures on, and under which names, is not known here.

use std::time::{Duration, Instant};

use crate::Chain;

/// What one stage has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageUsage<'a> {
    pub stage: &'a str,
    /// Records that it was given of the newest batch.
    pub records: u64,
    /// Time in its calls with them, the writing of its input included. Where records go one by one, all of these calls.
    pub time: Duration,
    /// Linear memory that its instance has grown to.
    pub memory_bytes: usize,
}

/// Of one stage, since the newest batch began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    records: u64,
    time: Duration,
}

impl Spent {
    #[inline]
    pub(crate) fn add(&mut self, records: u32, begun: Instant) {
        self.records += u64::from(records);
        self.time += begun.elapsed();
    }

    pub(crate) const fn usage<'a>(&self, stage: &'a str, memory_bytes: usize) -> StageUsage<'a> {
        StageUsage { stage, records: self.records, time: self.time, memory_bytes }
    }
}

impl Chain {
    /// What the newest call of [`Chain::process`] has cost, stage by stage, first to last. A stage that no record came to
    /// has had none.
    pub fn usage(&self) -> impl Iterator<Item = StageUsage<'_>> {
        self.stages.iter().map(|stage| stage.usage())
    }

    /// The fuel that each stage has used since the chain was made, its starts and restores included: the same for the same
    /// calls on every machine. Empty where the engine does not meter.
    pub fn fuel(&self) -> impl Iterator<Item = (&str, u64)> {
        self.stages.iter().filter_map(|stage| Some((stage.name.as_str(), stage.fuel()?)))
    }
}
