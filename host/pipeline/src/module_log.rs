//! What modules say and why they fail, for people: the newest lines, in memory. No result depends on them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};
use serde::{Deserialize, Serialize};

/// Lines that are kept.
const KEPT: usize = 2_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLine {
    /// Counts the host's lines, from 0.
    pub number: u64,
    /// Wall clock.
    pub at_ms: i64,
    pub partition: PartitionId,
    /// The record that it failed on; of what it said, where the worker was.
    pub offset: Offset,
    pub deployment: DeploymentId,
    pub stage: String,
    pub sha256: ModuleDigest,
    pub kind: LineKind,
    pub text: String,
    /// Lines behind this one that were more than is kept of a batch.
    pub left_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineKind {
    /// The module said it.
    Log,
    /// It failed, with this message; a panic's is in it.
    Fault,
}

/// The newest lines of all workers.
#[derive(Debug, Default)]
pub(crate) struct ModuleLog(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    kept: VecDeque<ModuleLine>,
}

impl ModuleLog {
    /// Keeps a line; its number is set here.
    pub(crate) fn push(&self, mut line: ModuleLine) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.number = lines.next;
        lines.next += 1;
        lines.kept.push_back(line);
        if lines.kept.len() > KEPT {
            lines.kept.pop_front();
        }
    }

    /// The lines from `number` on, of one stage or of all.
    pub(crate) fn since(&self, number: u64, stage: Option<&str>) -> Vec<ModuleLine> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |line: &&ModuleLine| line.number >= number && stage.is_none_or(|stage| line.stage == stage);
        lines.kept.iter().filter(wanted).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_numbered() {
        let log = ModuleLog::default();
        for n in 0..(KEPT + 10) as u64 {
            log.push(ModuleLine {
                number: 0,
                at_ms: 0,
                partition: PartitionId(0),
                offset: Offset(n),
                deployment: DeploymentId(0),
                stage: if n % 2 == 0 { "a" } else { "b" }.to_owned(),
                sha256: ModuleDigest([0; 32]),
                kind: LineKind::Log,
                text: String::new(),
                left_out: 0,
            });
        }
        let all = log.since(0, None);
        assert_eq!((all.len(), all[0].number, all[0].offset), (KEPT, 10, Offset(10)));
        assert_eq!(log.since(KEPT as u64, Some("b")).len(), 5);
    }
}
