//! Whether a stage's output depends on more than its input: a sample is run whole, and record by record in fresh instances.
//!
//! A module made for Fluvio cannot save a state, so it must have none: an instance is renewed, restored and run in parts
//! as the host sees fit, and the results must not change. What the host keeps for a stage (an accumulator, the records to
//! look back on) and what a module saves is handed from instance to instance, so those are no difference.

use clickmill_schemas::Offset;

use crate::isolate::{Isolated, isolate};
use crate::source::{Entry, Unpacked};
use crate::{
    BatchOutcome, BatchSource, Chain, Engine, EngineError, MemoryBatch, PassedRecord, ProcessError, Routed, StageSpec,
    Verdicts,
};

/// The first record with which a stage does something else when it runs alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub offset: Offset,
    /// What was made of it among the others.
    pub whole: Made,
    /// And in a fresh instance.
    pub alone: Made,
}

/// What was made of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub passed: Vec<PassedRecord>,
    pub routed: Vec<Routed>,
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum StatelessnessError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Runs the batches of `sample`, in order, and looks at the last of these stages, which gets what those before it hand on;
/// `None` where no record makes a difference to it. Records on which a module fails are left out. `between` is called after
/// each record, which may be long work.
///
/// # Errors
/// Where the stages make no chain, a batch cannot be read, or a module fails apart from any record.
pub fn statelessness(
    engine: &Engine,
    specs: &[StageSpec],
    sample: &[&dyn BatchSource],
    between: &mut dyn FnMut(),
) -> Result<Option<Difference>, StatelessnessError> {
    let (last, before) = specs.split_last().ok_or(EngineError::NoStages)?;
    let chain_of = |specs: &[StageSpec]| Chain::new(engine, specs);
    let mut before = if before.is_empty() { None } else { Some(chain_of(before)?) };
    let (mut whole, mut alone) = (chain_of(std::slice::from_ref(last))?, chain_of(std::slice::from_ref(last))?);
    for source in sample {
        let found = match &mut before {
            None => compare(&mut whole, &mut alone, *source, between)?,
            Some(before) => {
                let (verdicts, mut handed_on) = (faults(before, *source)?, Vec::new());
                before.process_collecting(*source, &verdicts, &mut BatchOutcome::default(), &mut handed_on)?;
                let found = compare(&mut whole, &mut alone, &batch_of(&handed_on), between)?;
                found.map(|found| found.at_origins(&handed_on))
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A batch among the others, and each of its records in a fresh instance.
fn compare(
    whole: &mut Chain,
    alone: &mut Chain,
    source: &dyn BatchSource,
    between: &mut dyn FnMut(),
) -> Result<Option<Difference>, ProcessError> {
    let verdicts = faults(alone, source)?;
    let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
    whole.process_collecting(source, &verdicts, &mut out, &mut passed)?;
    let (batch, entries) = whole.unpack(source, &verdicts, &mut BatchOutcome::default())?;
    out.routed.retain(|routed| verdicts.get(routed.offset).is_none());
    for entry in &entries {
        let offset = source.base_offset().plus(u64::from(entry.delta));
        let made = Made {
            passed: passed.extract_if(.., |record| record.offset == offset).collect(),
            routed: out.routed.extract_if(.., |routed| routed.offset == offset).collect(),
        };
        let fresh = run_fresh(alone, source, &batch, entry)?;
        if made != fresh {
            return Ok(Some(Difference { offset, whole: made, alone: fresh }));
        }
        between();
    }
    Ok(None)
}

/// What stages before handed on, as a batch with offsets of its own.
fn batch_of(handed_on: &[PassedRecord]) -> MemoryBatch {
    let records = handed_on.iter().map(|record| (record.key.as_deref(), record.value.as_slice(), record.timestamp_ms));
    MemoryBatch::of(Offset(0), records)
}

impl Difference {
    /// With the offsets that records had in the sample.
    fn at_origins(mut self, handed_on: &[PassedRecord]) -> Self {
        let origin = |offset: Offset| handed_on.get(offset.0 as usize).map_or(offset, |record| record.offset);
        self.offset = origin(self.offset);
        for made in [&mut self.whole, &mut self.alone] {
            made.passed.iter_mut().for_each(|record| record.offset = origin(record.offset));
            made.routed.iter_mut().for_each(|routed| routed.offset = origin(routed.offset));
        }
        self
    }
}

/// The record, in an instance that holds the state before it and nothing else.
fn run_fresh(
    chain: &mut Chain,
    source: &dyn BatchSource,
    batch: &Unpacked,
    entry: &Entry,
) -> Result<Made, ProcessError> {
    let state = chain.save()?;
    chain.load(&state)?;
    let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
    chain.run_part(source, batch, std::slice::from_ref(entry), &mut out, Some(&mut passed))?;
    Ok(Made { passed, routed: out.routed })
}

/// The records of a batch on which the module fails; the chain is as it was.
fn faults(chain: &mut Chain, source: &dyn BatchSource) -> Result<Verdicts, ProcessError> {
    let (before, mut verdicts) = (chain.save()?, Verdicts::default());
    loop {
        let found = isolate(chain, &before, source, &verdicts, &|| false, &mut BatchOutcome::default());
        chain.load(&before)?;
        match found? {
            Isolated::Culprit(culprit) => verdicts.insert(culprit.offset, culprit.stage, culprit.message),
            Isolated::Passed | Isolated::Stopped => return Ok(verdicts),
        }
    }
}
