//! Whether a stage's output depends on more than its input: a sample is run whole, and record by record in fresh instances.
//!
//! A module made for Fluvio cannot save a state, so it must have none: an instance is renewed, restored and run in parts
//! as the host sees fit, and the results must not change. What the host keeps for a stage (an accumulator, the records to
//! look back on) and what a module saves is handed from instance to instance, so those are no difference.

use clickmill_schemas::Offset;

use crate::isolate::{Isolated, isolate};
use crate::source::{Entry, Unpacked};
use crate::{
    BatchOutcome, BatchSource, Chain, Engine, EngineError, PassedRecord, ProcessError, Routed, StageSpec, Verdicts,
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

/// Runs the batches of `sample`, in order, through the stage alone; `None` where no record makes a difference. Records on
/// which the module fails are left out.
///
/// # Errors
/// Where the stage cannot be made, a batch cannot be read, or the module fails apart from any record.
pub fn statelessness(
    engine: &Engine,
    spec: &StageSpec,
    sample: &[&dyn BatchSource],
) -> Result<Option<Difference>, StatelessnessError> {
    let mut whole = Chain::new(engine, std::slice::from_ref(spec))?;
    let mut alone = Chain::new(engine, std::slice::from_ref(spec))?;
    for source in sample {
        let verdicts = faults(&mut alone, *source)?;
        let (mut out, mut passed) = (BatchOutcome::default(), Vec::new());
        whole.process_collecting(*source, &verdicts, &mut out, &mut passed)?;
        let (batch, entries) = whole.unpack(*source, &verdicts, &mut BatchOutcome::default())?;
        out.routed.retain(|routed| verdicts.get(routed.offset).is_none());
        for entry in &entries {
            let offset = source.base_offset().plus(u64::from(entry.delta));
            let made = Made {
                passed: passed.extract_if(.., |record| record.offset == offset).collect(),
                routed: out.routed.extract_if(.., |routed| routed.offset == offset).collect(),
            };
            let fresh = run_fresh(&mut alone, *source, &batch, entry)?;
            if made != fresh {
                return Ok(Some(Difference { offset, whole: made, alone: fresh }));
            }
        }
    }
    Ok(None)
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
