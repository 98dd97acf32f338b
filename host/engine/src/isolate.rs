//! Finding the record at fault in a batch that failed.
//!
//! By bisection: each half runs in fresh instances that hold the state before it. A record is convicted only if it
//! fails alone, given the records before it; a batch that merely is too much at once has no culprit.

use clickmill_schemas::{ModuleDigest, Offset};

use crate::source::{Entry, Unpacked};
use crate::{BatchOutcome, BatchSource, Chain, ChainState, ProcessError, Verdicts};

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
}

/// Finds the first record of `source` that fails alone, given the records before it. `before` is the state of `chain`
/// before the batch; records with a verdict in `known` are left out. `None`: the batch passes now, or no record of it
/// fails alone.
///
/// The state of `chain` is undefined afterwards: restore it.
///
/// # Errors
/// [`ProcessError::Source`] where the batch cannot be read; [`ProcessError::Fault`] where a module fails apart from any
/// record: it refuses `before`, or cannot save.
pub fn isolate(
    chain: &mut Chain,
    before: &ChainState,
    source: &dyn BatchSource,
    known: &Verdicts,
) -> Result<Option<Culprit>, ProcessError> {
    let mut batch = Unpacked::read(source).map_err(ProcessError::Source)?;
    let mut suspects = std::mem::take(&mut batch.records);
    suspects.retain(|entry| known.get(offset(source, entry)).is_none());
    let try_on = |chain: &mut Chain, state: &ChainState, records: &[Entry]| {
        chain.load(state)?;
        match chain.run_part(source, &batch, records, &mut BatchOutcome::default()) {
            Ok(()) => Ok(None),
            Err(ProcessError::Fault(fault)) => Ok(Some(fault)),
            Err(source) => Err(source),
        }
    };
    if try_on(chain, before, &suspects)?.is_none() {
        return Ok(None);
    }
    // What lies before `suspects` passes and leaves `state`; `suspects` failed as a whole, or what follows a half of it
    // that passed.
    let (mut suspects, mut state) = (&suspects[..], before.clone());
    while suspects.len() > 1 {
        let (first, second) = suspects.split_at(suspects.len() / 2);
        if try_on(chain, &state, first)?.is_some() {
            suspects = first;
        } else {
            state = chain.save()?;
            suspects = second;
        }
    }
    let [alone] = suspects else { return Ok(None) };
    Ok(try_on(chain, &state, suspects)?.map(|fault| Culprit {
        offset: offset(source, alone),
        stage: fault.stage,
        sha256: fault.sha256,
        message: fault.message,
    }))
}

fn offset(source: &dyn BatchSource, entry: &Entry) -> Offset {
    source.base_offset().plus(u64::from(entry.delta))
}
