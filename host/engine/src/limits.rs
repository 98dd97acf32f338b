//! What a module may use.

use std::time::Duration;

use wasmtime::{ResourceLimiter, Result};

/// Elements of a module's tables; Rust modules have some hundred.
const TABLE_ELEMENTS: usize = 100_000;

/// Limits of one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance. Address space is reserved apart from this.
    pub memory_bytes: usize,
    /// Output of one call. A saved state and emitted windows are bounded by the memory alone.
    pub output_bytes: usize,
    /// CPU time of one call, of whatever kind.
    pub call_time: Duration,
    /// Instructions of one call, about; only of an engine that meters.
    pub call_fuel: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, output_bytes: 64 << 20, call_time: Duration::from_millis(500), call_fuel: None }
    }
}

/// Enforces the memory limit in a store and remembers whether it was hit.
#[derive(Debug)]
pub(crate) struct Resources {
    memory_bytes: usize,
    /// What was asked for and refused since the last call began.
    pub(crate) refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    MemoryBytes { wanted: usize, limit: usize },
    TableElements { wanted: usize },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MemoryBytes { wanted, limit } => {
                write!(f, "it asked for {wanted} bytes of memory, over its limit of {limit}")
            }
            Self::TableElements { wanted } => {
                write!(f, "it asked for {wanted} table elements, over the limit of {TABLE_ELEMENTS}")
            }
        }
    }
}

impl Resources {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self { memory_bytes: limits.memory_bytes, refused: None }
    }
}

impl ResourceLimiter for Resources {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if desired > self.memory_bytes {
            self.refused = Some(Refused::MemoryBytes { wanted: desired, limit: self.memory_bytes });
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ELEMENTS {
            self.refused = Some(Refused::TableElements { wanted: desired });
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        4
    }

    fn memories(&self) -> usize {
        1
    }
}
