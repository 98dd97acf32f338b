//! Records through a module apart from the stream: what passes, and what became of the others.
//!
//! For whoever reads a topic through a module. Nothing that is judged here is written down, and a record that the module
//! fails on is set apart as a worker would do it.

use std::collections::BTreeMap;

use clickmill_engine::{BatchOutcome, Chain, MemoryBatch, PassedRecord, RouteOwned, Routed};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::{Offset, PartitionId};
use serde::Serialize;

use crate::judge::{Judge, JudgeError};

/// Records that are put through at once: those around one that the module fails on are run again.
const AT_ONCE: usize = 512;

/// A record to put through, with the bytes that it has in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

/// What became of the records that were put through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub read: u64,
    /// Handed on, or taken into windows.
    pub passed: u64,
    /// By rule.
    pub rejected: BTreeMap<String, u64>,
    pub late: u64,
    pub dropped: u64,
    /// The module failed on them.
    pub failed: u64,
}

/// A record that the module failed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub partition: PartitionId,
    pub offset: Offset,
    pub message: String,
}

/// A chain that records of one partition go through, in their order.
pub struct Through {
    judge: Judge,
    partition: PartitionId,
    pub tally: Tally,
}

impl Through {
    #[must_use]
    pub fn new(chain: Chain, partition: PartitionId) -> Self {
        Self { judge: Judge::new(chain, usize::MAX), partition, tally: Tally::default() }
    }

    /// Puts records through; what passes goes to `passed`, what the module fails on to `failed`.
    ///
    /// # Errors
    /// [`JudgeError`] where the module cannot go on at all: it refuses its own state.
    pub fn run(
        &mut self,
        records: &[Given],
        passed: &mut Vec<PassedRecord>,
        failed: &mut Vec<Failed>,
    ) -> Result<(), JudgeError> {
        self.each(records, passed, failed, &mut |_| {})
    }

    /// [`Through::run`], and in `refused` the records that a module failed on or rejected too: the offset, the rule by which
    /// (none where it failed), and why.
    ///
    /// # Errors
    /// As [`Through::run`].
    pub fn run_telling(
        &mut self,
        records: &[Given],
        passed: &mut Vec<PassedRecord>,
        refused: &mut Vec<(Offset, Option<String>, String)>,
    ) -> Result<(), JudgeError> {
        let mut failed = Vec::new();
        self.each(records, passed, &mut failed, &mut |routed| match &routed.route {
            // Those that it failed on come by themselves, each once.
            RouteOwned::Error { error_type: ErrorType::Smartmodule, .. } => {}
            RouteOwned::Error { rule, message, .. } => {
                refused.push((routed.offset, Some(rule.clone()), message.clone()));
            }
            RouteOwned::Late { .. } => refused.push((routed.offset, Some("late".to_owned()), "it is late".to_owned())),
        })?;
        refused.extend(failed.into_iter().map(|Failed { offset, message, .. }| (offset, None, message)));
        Ok(())
    }

    fn each(
        &mut self,
        records: &[Given],
        passed: &mut Vec<PassedRecord>,
        failed: &mut Vec<Failed>,
        routed: &mut dyn FnMut(&Routed),
    ) -> Result<(), JudgeError> {
        let mut collected = Vec::new();
        // Compaction and retention leave gaps, and a batch has none.
        let runs = records.chunk_by(|a, b| a.offset.plus(1) == b.offset);
        for run in runs.flat_map(|run| run.chunks(AT_ONCE)) {
            let base = run.first().map_or(Offset(0), |first| first.offset);
            let batch =
                MemoryBatch::of(base, run.iter().map(|r| (r.key.as_deref(), r.value.as_slice(), r.timestamp_ms)));
            if let Some(out) = self.judge.outcome(&batch, &mut collected)? {
                out.routed.iter().for_each(&mut *routed);
                self.book(out);
                passed.append(&mut collected);
            }
            let mut failures = self.judge.take_failures();
            failures.sort_by_key(|failure| failure.offset);
            let partition = self.partition;
            failed.extend(failures.into_iter().map(|f| Failed { partition, offset: f.offset, message: f.message }));
        }
        Ok(())
    }

    fn book(&mut self, out: BatchOutcome) {
        let tally = &mut self.tally;
        tally.read += out.records;
        tally.passed += out.counted;
        tally.dropped += out.dropped.iter().map(|(_, records)| records).sum::<u64>();
        for routed in out.routed {
            match routed.route {
                RouteOwned::Late { .. } => tally.late += 1,
                RouteOwned::Error { error_type: ErrorType::Smartmodule, .. } => tally.failed += 1,
                RouteOwned::Error { rule, .. } => *tally.rejected.entry(rule).or_default() += 1,
            }
        }
    }
}

impl Tally {
    /// Takes in that of another partition.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.passed += other.passed;
        self.late += other.late;
        self.dropped += other.dropped;
        self.failed += other.failed;
        for (rule, records) in &other.rejected {
            *self.rejected.entry(rule.clone()).or_default() += records;
        }
    }
}
