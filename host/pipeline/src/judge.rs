//! Judging records apart from the stream: what a chain makes of each, one verdict an offset.
//!
//! For the canary, for shadows and for `blame`. Nothing that is judged here is counted, and nothing that a module does
//! here can harm a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clickmill_broker::{Broker, TopicPartition};
use clickmill_engine::{
    BatchOutcome, BatchSource, Chain, Culprit, EngineError, Isolated, PassedRecord, ProcessError, RouteOwned, Verdicts,
    isolate_collecting,
};
use clickmill_schemas::{Offset, PartitionId};
use serde::{Deserialize, Serialize};

use crate::input::{Input, InputError};
use crate::topics::AD_EVENTS_RAW;

/// Bytes of batches asked for at once.
const FETCH_BYTES: usize = 1 << 20;
/// Samples kept of each pair of verdicts.
const SAMPLES: usize = 3;
/// Characters of a sample's value.
const SAMPLE_CHARS: usize = 300;

/// What a chain says of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It came to the end of the stages that judged.
    Passed,
    Rejected {
        stage: String,
        rule: String,
        message: String,
    },
    Late,
    /// By this stage; not named where several stages dropped records of one batch.
    Dropped {
        stage: String,
    },
    /// A module failed on it.
    Failed {
        stage: String,
        message: String,
    },
}

impl Verdict {
    /// In short, for tables: `passed`, `rejected:json`, `late`, `dropped`, `failed:validate`.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Rejected { rule, .. } => format!("rejected:{rule}"),
            Self::Late => "late".to_owned(),
            Self::Dropped { .. } => "dropped".to_owned(),
            Self::Failed { stage, .. } => format!("failed:{stage}"),
        }
    }
}

/// Why records cannot be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot read a batch: {0}")]
    Source(String),
}

/// A chain that judges, and the records that it failed on.
pub(crate) struct Judge {
    chain: Chain,
    failures: Vec<Failure>,
    failed: usize,
    most_failures: usize,
    /// Whether it is asked no more, whatever it is in the middle of.
    over: Box<dyn Fn() -> bool + Send>,
}

/// A record that a module failed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub offset: Offset,
    pub stage: String,
    pub message: String,
}

impl Judge {
    /// `most_failures`: after so many records that a module fails on, it is asked no more.
    pub(crate) fn new(chain: Chain, most_failures: usize) -> Self {
        Self { chain, failures: Vec::new(), failed: 0, most_failures, over: Box::new(|| false) }
    }

    /// Asks it until `over` says so at most: a module that never ends takes its time limit again and again.
    pub(crate) fn until(mut self, over: impl Fn() -> bool + Send + 'static) -> Self {
        self.over = Box::new(over);
        self
    }

    /// So many failures in all, from now on.
    pub(crate) const fn allow(&mut self, most_failures: usize) {
        self.most_failures = most_failures;
    }

    /// Records that it has failed on.
    pub(crate) const fn failed(&self) -> usize {
        self.failed
    }

    /// Whether it has failed too often, or for too long, to be asked on.
    pub(crate) fn has_given_up(&self) -> bool {
        self.failed >= self.most_failures || (self.over)()
    }

    /// The records that a module has failed on since this was last asked, in the order in which they were found.
    pub(crate) fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Fuel used so far, over all stages, where the engine meters.
    pub(crate) fn fuel(&self) -> u64 {
        self.chain.fuel().map(|(_, fuel)| fuel).sum()
    }

    /// What becomes of the records of `source`, with those that a module fails on set apart as a worker would do it, and in
    /// `passed` what the last stage hands on. None where it has given up.
    pub(crate) fn outcome(
        &mut self,
        source: &dyn BatchSource,
        passed: &mut Vec<PassedRecord>,
    ) -> Result<Option<BatchOutcome>, JudgeError> {
        let before = self.chain.save().map_err(EngineError::from)?;
        let (mut known, mut out) = (Verdicts::default(), BatchOutcome::default());
        loop {
            passed.clear();
            match self.chain.process_collecting(source, &known, &mut out, passed) {
                Ok(()) => return Ok(Some(out)),
                Err(ProcessError::Source(e)) => return Err(JudgeError::Source(e.to_string())),
                Err(ProcessError::Fault(_)) => {}
            }
            let within = (&known, &*self.over as &dyn Fn() -> bool);
            match isolate_collecting(&mut self.chain, &before, source, within, &mut out, passed) {
                // Too much at once, and well in parts.
                Ok(Isolated::Passed) => return Ok(Some(out)),
                Ok(Isolated::Stopped) => return Ok(None),
                Ok(Isolated::Culprit(Culprit { offset, stage, message, .. })) => {
                    known.insert(offset, stage.clone(), message.clone());
                    self.failures.push(Failure { offset, stage, message });
                    self.failed += 1;
                    self.chain.restore(&before)?;
                    if self.has_given_up() {
                        return Ok(None);
                    }
                }
                Err(ProcessError::Source(e)) => return Err(JudgeError::Source(e.to_string())),
                Err(ProcessError::Fault(fault)) => return Err(EngineError::from(fault).into()),
            }
        }
    }

    /// The verdict on each record of `source`, in order of offsets; none where it has given up.
    pub(crate) fn judge(&mut self, source: &dyn BatchSource) -> Result<Vec<(Offset, Verdict)>, JudgeError> {
        let mut passed = Vec::new();
        let Some(out) = self.outcome(source, &mut passed)? else {
            return Ok(Vec::new());
        };
        let names: Vec<String> = self.chain.stages().map(str::to_owned).collect();
        let routed: BTreeMap<Offset, Verdict> = out
            .routed
            .iter()
            .map(|routed| {
                let stage = names.get(routed.stage).cloned().unwrap_or_default();
                (routed.offset, verdict(&routed.route, stage))
            })
            .collect();
        let passed: BTreeSet<Offset> = passed.iter().map(|p| p.offset).collect();
        // Windows hand nothing on: what came to them is not told apart from what was dropped on the way.
        let told = !self.chain.keeps_windows();
        let droppers: BTreeSet<usize> = out.dropped.iter().map(|(stage, _)| *stage).collect();
        let dropper = match (droppers.len(), droppers.first()) {
            (1, Some(stage)) => names.get(*stage).cloned().unwrap_or_default(),
            _ => String::new(),
        };
        let base = source.base_offset();
        Ok((0..u64::from(source.count()))
            .map(|delta| base.plus(delta))
            .map(|offset| match routed.get(&offset) {
                Some(verdict) => (offset, verdict.clone()),
                None if told && !passed.contains(&offset) => (offset, Verdict::Dropped { stage: dropper.clone() }),
                None => (offset, Verdict::Passed),
            })
            .collect())
    }
}

fn verdict(route: &RouteOwned, stage: String) -> Verdict {
    match route {
        RouteOwned::Late { .. } => Verdict::Late,
        RouteOwned::Error { error_type: clickmill_schemas::envelope::ErrorType::Smartmodule, message, .. } => {
            Verdict::Failed { stage, message: message.clone() }
        }
        RouteOwned::Error { rule, message, .. } => {
            Verdict::Rejected { stage, rule: rule.clone(), message: message.clone() }
        }
    }
}

/// Verdicts of two chains on the same records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Records that both have judged.
    pub records: u64,
    /// Those of them that the two judge differently.
    pub flips: u64,
    pub cells: Vec<Cell>,
}

/// How many records had this pair of verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub old: String,
    pub new: String,
    pub records: u64,
    /// The first few, where the two differ.
    pub samples: Vec<Sample>,
}

/// A record that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub partition: PartitionId,
    pub offset: Offset,
    /// The newer verdict in words.
    pub message: String,
    /// Its value, cut.
    pub value: String,
}

impl Matrix {
    /// Takes in one record's verdicts; `value` is asked for only where a sample is kept.
    pub(crate) fn add(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        (old, new): (&Verdict, &Verdict),
        value: impl FnOnce() -> String,
    ) {
        let flips = old.label() != new.label();
        self.records += 1;
        self.flips += u64::from(flips);
        let (old, label) = (old.label(), new.label());
        let cell = match self.cells.iter_mut().position(|c| c.old == old && c.new == label) {
            Some(at) => &mut self.cells[at],
            None => {
                self.cells.push(Cell { old, new: label, records: 0, samples: Vec::new() });
                // It has just been pushed.
                let last = self.cells.len() - 1;
                &mut self.cells[last]
            }
        };
        cell.records += 1;
        if flips && cell.samples.len() < SAMPLES {
            let message = match new {
                Verdict::Rejected { message, .. } | Verdict::Failed { message, .. } => message.clone(),
                _ => String::new(),
            };
            let value = value().chars().take(SAMPLE_CHARS).collect();
            cell.samples.push(Sample { partition, offset, message, value });
        }
    }

    /// The most frequent pairs first.
    pub(crate) fn sort(&mut self) {
        self.cells.sort_by(|a, b| b.records.cmp(&a.records).then_with(|| (&a.old, &a.new).cmp(&(&b.old, &b.new))));
    }
}

/// The newest `records` records of the input topic, shared among its partitions, until `take` says that it is enough or
/// `within` is over.
pub(crate) fn newest_records(
    broker: &dyn Broker,
    partitions: u32,
    records: u64,
    within: Duration,
    mut take: impl FnMut(&Input<'_>) -> Result<bool, JudgeError>,
) -> Result<(), JudgeError> {
    let begun = Instant::now();
    let share = records.div_ceil(u64::from(partitions.max(1)));
    for partition in (0..partitions).map(PartitionId) {
        let at = TopicPartition::new(AD_EVENTS_RAW, partition);
        let ends = broker.ends(&at).map_err(InputError::from)?;
        let mut next = Offset(ends.end.0.saturating_sub(share)).max(ends.start);
        while next < ends.end {
            let batches = broker.fetch(&at, next, FETCH_BYTES, Duration::ZERO).map_err(InputError::from)?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                if begun.elapsed() > within || !take(&Input::new(batch, next.max(batch.base_offset), None)?)? {
                    return Ok(());
                }
                next = batch.next_offset();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_counts_pairs_and_keeps_samples_of_those_that_differ() {
        let mut matrix = Matrix::default();
        let rejected = Verdict::Rejected { stage: "v".into(), rule: "json".into(), message: "no".into() };
        for n in 0..10 {
            let new = if n % 2 == 0 { &rejected } else { &Verdict::Passed };
            matrix.add(PartitionId(1), Offset(n), (&Verdict::Passed, new), || "x".repeat(900));
        }
        matrix.sort();
        assert_eq!((matrix.records, matrix.flips, matrix.cells.len()), (10, 5, 2));
        let flipped = matrix.cells.iter().find(|c| c.new == "rejected:json").unwrap();
        assert_eq!((flipped.records, flipped.samples.len()), (5, SAMPLES));
        assert_eq!(flipped.samples[0].value.len(), SAMPLE_CHARS);
        assert!(matrix.cells.iter().find(|c| c.new == "passed").unwrap().samples.is_empty());
    }
}
