//! A batch that failed, in parts: either one record of it is at fault, or the parts pass where the whole did not.
//!
//! By halves (or at the record that the module says it failed on), from the first record to the last: a part that fails is run as two, in fresh instances that hold the state
//! before it. A record is convicted only if it fails alone, given the records before it. A batch that merely is too much
//! at once passes in parts, with the outcome that it has as a whole: no batch boundary matters to a module's results.
//! Parts of several records get a fraction of the time limit, so that an endless loop is found soon: one that is only slow
//! is split further, and a record that runs alone has all the time that it has a right to.

use std::time::{Duration, Instant};

use clickmill_schemas::{ModuleDigest, Offset};

use crate::source::{Entry, Unpacked};
use crate::{BatchOutcome, BatchSource, Chain, ChainState, PassedRecord, ProcessError, Verdicts};

/// A part of several records has this fraction of the time limit.
const HURRY: u32 = 8;

/// The record at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    pub offset: Offset,
    /// Name of the stage that failed on it.
    pub stage: String,
    /// Its module.
    pub sha256: ModuleDigest,
    /// Of the fault when the record ran alone.
    pub message: String,
    /// Time that it took alone.
    pub took: Duration,
}

/// What a batch came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolated {
    /// The chain has processed the batch; its outcome is the one of [`Chain::process`].
    Passed,
    /// The first record that fails alone, given the records before it. The state of the chain is undefined: restore it.
    Culprit(Culprit),
    /// It was told to stop. The state of the chain is undefined: restore it.
    Stopped,
}

/// Runs `source` in as many parts as it takes. `before` is the state of `chain` before the batch; records with a verdict
/// in `known` are not run. Asks before each part whether to `stop`.
///
/// # Errors
/// [`ProcessError::Source`] where the batch cannot be read; [`ProcessError::Fault`] where a module fails apart from any
/// record: it refuses `before`, or cannot save.
pub fn isolate(
    chain: &mut Chain,
    before: &ChainState,
    source: &dyn BatchSource,
    known: &Verdicts,
    stop: &dyn Fn() -> bool,
    out: &mut BatchOutcome,
) -> Result<Isolated, ProcessError> {
    isolate_into(chain, before, source, (known, stop), out, None)
}

/// [`isolate`], and what the last stage handed on in `passed`, as [`Chain::process_collecting`] gives it, where the batch
/// has passed.
///
/// # Errors
/// As for [`isolate`].
pub fn isolate_collecting(
    chain: &mut Chain,
    before: &ChainState,
    source: &dyn BatchSource,
    (known, stop): (&Verdicts, &dyn Fn() -> bool),
    out: &mut BatchOutcome,
    passed: &mut Vec<PassedRecord>,
) -> Result<Isolated, ProcessError> {
    passed.clear();
    isolate_into(chain, before, source, (known, stop), out, Some(passed))
}

fn isolate_into(
    chain: &mut Chain,
    before: &ChainState,
    source: &dyn BatchSource,
    (known, stop): (&Verdicts, &dyn Fn() -> bool),
    out: &mut BatchOutcome,
    passed: Option<&mut Vec<PassedRecord>>,
) -> Result<Isolated, ProcessError> {
    out.clear();
    let (batch, entries) = chain.unpack(source, known, out)?;
    chain.load(before)?;
    let mut parts = Parts { chain, state: before.clone(), source, batch, stop, out, passed };
    Ok(match parts.run(&entries, None)? {
        Part::AtOnce | Part::InParts => Isolated::Passed,
        Part::Culprit(culprit) => Isolated::Culprit(culprit),
        Part::Stopped => Isolated::Stopped,
    })
}

enum Part {
    AtOnce,
    InParts,
    Culprit(Culprit),
    Stopped,
}

/// A part failed.
#[derive(Clone, Copy)]
struct Failed {
    /// The record that it may have failed on.
    suspect: Option<Offset>,
}

struct Parts<'a> {
    chain: &'a mut Chain,
    /// After everything that has passed.
    state: ChainState,
    source: &'a dyn BatchSource,
    batch: Unpacked,
    stop: &'a dyn Fn() -> bool,
    out: &'a mut BatchOutcome,
    /// What is collected, if it is.
    passed: Option<&'a mut Vec<PassedRecord>>,
}

impl Parts<'_> {
    /// Runs these records, the next ones; where a part with them `failed`, it is not worth trying all of them at once.
    fn run(&mut self, entries: &[Entry], failed: Option<Failed>) -> Result<Part, ProcessError> {
        if (self.stop)() {
            return Ok(Part::Stopped);
        }
        let alone = entries.len() <= 1;
        let mut suspect = failed.and_then(|failed| failed.suspect);
        if alone || failed.is_none() {
            let (mut part, mut passed) = (BatchOutcome::default(), Vec::new());
            let collects = self.passed.is_some().then_some(&mut passed);
            self.chain.divide_time(if alone { 1 } else { HURRY });
            let begun = Instant::now();
            let ran = self.chain.run_part(self.source, &self.batch, entries, &mut part, collects);
            self.chain.divide_time(1);
            match ran {
                Ok(()) => {
                    self.state = self.chain.save()?;
                    self.out.add(part);
                    if let Some(all) = &mut self.passed {
                        all.append(&mut passed);
                    }
                    return Ok(Part::AtOnce);
                }
                Err(ProcessError::Fault(fault)) if alone => {
                    let offset = self.source.base_offset().plus(entries.first().map_or(0, |e| u64::from(e.delta)));
                    let (stage, sha256, message) = (fault.stage, fault.sha256, fault.message);
                    let took = begun.elapsed();
                    return Ok(Part::Culprit(Culprit { offset, stage, sha256, message, took }));
                }
                Err(ProcessError::Fault(_)) => {
                    suspect = self.chain.take_suspect();
                    self.chain.load(&self.state)?;
                }
                Err(unreadable) => return Err(unreadable),
            }
        }
        let base = self.source.base_offset();
        let at = entries.iter().position(|entry| Some(base.plus(u64::from(entry.delta))) == suspect);
        // Up to the suspect, then the suspect alone, where there is one.
        let (first, second) = entries.split_at(at.map_or(entries.len() / 2, |at| at.max(1)));
        // Where the first half passes at once it is the second that fails, if a record does.
        Ok(match self.run(first, None)? {
            Part::AtOnce => in_parts(self.run(second, Some(Failed { suspect }))?),
            Part::InParts => in_parts(self.run(second, None)?),
            ended => ended,
        })
    }
}

/// What a part came to that has other parts before it.
fn in_parts(part: Part) -> Part {
    match part {
        Part::AtOnce => Part::InParts,
        other => other,
    }
}
