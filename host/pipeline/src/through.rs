//! Records through a module apart from the stream: what passes, and what became of the others.
//!
//! For whoever reads a topic through a module. Nothing that is judged here is written down, and a record that the module
//! fails on is set apart as a worker would do it.

use std::collections::BTreeMap;
use std::error::Error;

use clickmill_engine::{
    BatchOutcome, BatchSource, Chain, EngineError, Fault, Isolated, PassedRecord, ProcessError, RouteOwned, Verdicts,
    isolate,
};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{Offset, PartitionId};
use serde::Serialize;

use crate::judge::JudgeError;

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
    chain: Chain,
    partition: PartitionId,
    pub tally: Tally,
}

impl Through {
    #[must_use]
    pub fn new(chain: Chain, partition: PartitionId) -> Self {
        Self { chain, partition, tally: Tally::default() }
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
        // Compaction and retention leave gaps, and a batch has none.
        for run in records.chunk_by(|a, b| a.offset.plus(1) == b.offset) {
            self.batch(run, passed, failed)?;
        }
        Ok(())
    }

    /// Consecutive records, in as many calls as it takes.
    fn batch(
        &mut self,
        mut records: &[Given],
        passed: &mut Vec<PassedRecord>,
        failed: &mut Vec<Failed>,
    ) -> Result<(), JudgeError> {
        while let Some((first, others)) = records.split_first() {
            let before = self.chain.save().map_err(EngineError::from)?;
            let batch = Batch::of(records);
            let (none, mut out, mut collected) = (Verdicts::default(), BatchOutcome::default(), Vec::new());
            let fault = match self.chain.process_collecting(&batch, &none, &mut out, &mut collected) {
                Ok(()) => {
                    self.book(out);
                    passed.append(&mut collected);
                    return Ok(());
                }
                Err(ProcessError::Fault(fault)) => fault,
                Err(e @ ProcessError::Source(_)) => return Err(JudgeError::Source(e.to_string())),
            };
            let isolated = isolate(&mut self.chain, &before, &batch, &none, &|| false, &mut out);
            let culprit = match isolated {
                Ok(Isolated::Culprit(culprit)) => Some((culprit.offset, culprit.message)),
                // Alone it fails, and then it does not: what it takes is at the limit.
                Ok(Isolated::Passed | Isolated::Stopped) if others.is_empty() => Some((first.offset, fault.message)),
                Ok(Isolated::Passed | Isolated::Stopped) => None,
                Err(ProcessError::Fault(fault)) => return Err(fails(fault)),
                Err(e @ ProcessError::Source(_)) => return Err(JudgeError::Source(e.to_string())),
            };
            self.chain.restore(&before)?;
            let (before_it, after) = match &culprit {
                Some((offset, _)) => {
                    let at = records.iter().position(|r| r.offset == *offset).unwrap_or_default();
                    (&records[..at], &records[at + 1..])
                }
                // Too much at once, and well in parts.
                None => records.split_at(records.len() / 2),
            };
            self.batch(before_it, passed, failed)?;
            if let Some((offset, message)) = culprit {
                self.tally.read += 1;
                self.tally.failed += 1;
                failed.push(Failed { partition: self.partition, offset, message });
            }
            records = after;
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

fn fails(fault: Fault) -> JudgeError {
    EngineError::from(fault).into()
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

/// Consecutive records as a batch.
struct Batch {
    base: Offset,
    set: RecordSetBuilder,
}

impl Batch {
    fn of(records: &[Given]) -> Self {
        let mut set = RecordSetBuilder::default();
        records.iter().for_each(|r| set.push(r.key.as_deref(), &r.value, r.timestamp_ms));
        Self { base: records.first().map_or(Offset(0), |r| r.offset), set }
    }
}

impl BatchSource for Batch {
    fn base_offset(&self) -> Offset {
        self.base
    }

    fn base_timestamp_ms(&self) -> i64 {
        self.set.base_timestamp_ms()
    }

    fn count(&self) -> u32 {
        self.set.count()
    }

    fn records_len(&self) -> usize {
        self.set.bytes().len()
    }

    fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        dst.copy_from_slice(self.set.bytes());
        Ok(())
    }
}
