//! The canary: the newest records through the chain in force and through the one that is to be, side by side.
//!
//! Fresh instances on an engine that meters, so that nothing of it touches a worker and the fuel is the same on every
//! machine. The stage that keeps windows is left out where it stays as it is.

use std::time::{Duration, Instant};

use clickmill_broker::Broker;
use clickmill_engine::{BatchSource, statelessness};
use clickmill_schemas::Offset;
use clickmill_schemas::record::Records;
use serde::{Deserialize, Serialize};

use crate::chains::{ChainError, Maker};
use crate::deployment::Stage;
use crate::deployment::plan::same;
use crate::deployment::request::DeployError;
use crate::input::Input;
use crate::judge::{Failure, Judge, JudgeError, Matrix, Verdict, newest_records};
use crate::quiet::Pace;

/// Records that a module may fail on before the canary ends.
pub(crate) const MOST_FAILURES: usize = 10;
/// The same of the one in force: a stream of poison shows little.
const MOST_OLD_FAILURES: usize = 100;
/// Records that are each judged in an instance of their own.
const STATELESSNESS_RECORDS: u64 = 300;
/// Longest time for all records.
const WITHIN: Duration = Duration::from_secs(5);

/// What the canary saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    #[serde(flatten)]
    pub verdicts: Matrix,
    /// Records on which a module of the new chain failed and that the old one let pass.
    pub failures: u64,
    /// The first of them.
    pub failure: Option<String>,
    /// Fuel that the whole of these stages takes for a record, in the mean.
    pub fuel_per_record_old: u64,
    pub fuel_per_record_new: u64,
    /// The chain in force failed too often, or took too long, to be compared with on all of the records.
    pub old_given_up: bool,
}

impl Canary {
    /// # Errors
    /// [`DeployError::Canary`] where the new chain fails on records that the old one lets pass.
    pub(crate) fn passes(&self) -> Result<(), DeployError> {
        if self.failures == 0 {
            return Ok(());
        }
        let first = self.failure.clone().unwrap_or_else(|| "it failed on the first of them".to_owned());
        Err(DeployError::Canary { failures: self.failures, first })
    }
}

/// Why there is no canary.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// A stage that keeps something from record to record, which the host cannot save: the first one among those that are
/// new, with the offset at which it showed. Tried on few records, each in an instance of its own.
pub(crate) fn hidden_state(
    broker: &dyn Broker,
    partitions: u32,
    metering: &Maker<'_>,
    old: &[Stage],
    new: &[Stage],
) -> Result<Option<(String, Offset)>, CanaryError> {
    let specs = metering.specs(new)?;
    let mut pace = Pace::new();
    for (at, stage) in new.iter().enumerate() {
        if specs[at].module.is_stateful() || old.iter().any(|s| same(s, stage)) {
            continue;
        }
        let mut found = None;
        newest_records(broker, partitions, STATELESSNESS_RECORDS, WITHIN, |input| {
            let sample: [&dyn BatchSource; 1] = [input];
            // A module that fails here fails in the canary too, which says so.
            let difference =
                statelessness(metering.engine(), &specs[..=at], &sample, &mut || pace.rest()).ok().flatten();
            found = difference.map(|difference| difference.offset);
            Ok(found.is_none())
        })?;
        if let Some(offset) = found {
            return Ok(Some((stage.stage.clone(), offset)));
        }
    }
    Ok(None)
}

/// The stages that are tried: all up to the one that keeps windows where that one stays, else the whole chain.
pub(crate) fn tried<'a>(stages: &'a [Stage], metering: &Maker<'_>, other: &[Stage]) -> Result<&'a [Stage], ChainError> {
    for (at, stage) in stages.iter().enumerate() {
        if metering.keeps_windows(stage)? && other.iter().any(|s| same(s, stage)) {
            return Ok(&stages[..at]);
        }
    }
    Ok(stages)
}

/// Runs the newest `records` records through both chains; none where there is nothing to run or nothing to run it with.
pub(crate) fn run(
    broker: &dyn Broker,
    partitions: u32,
    records: u64,
    metering: &Maker<'_>,
    old: &[Stage],
    new: &[Stage],
) -> Result<Option<Canary>, CanaryError> {
    let (old_tried, new_tried) = (tried(old, metering, new)?, tried(new, metering, old)?);
    if old_tried.is_empty() || new_tried.is_empty() {
        return Ok(None);
    }
    let begun = Instant::now();
    let mut before = Judge::new(metering.chain(old_tried)?, MOST_OLD_FAILURES).until(move || begun.elapsed() > WITHIN);
    let mut after = Judge::new(metering.chain(new_tried)?, MOST_FAILURES).until(move || begun.elapsed() > 2 * WITHIN);
    let unchanged = |name: &str| new.iter().any(|s| s.stage == name && old.iter().any(|o| same(o, s)));
    let (start_before, start_after) = (before.fuel(), after.fuel());
    let (mut canary, mut pace) = (Canary::default(), Pace::new());
    newest_records(broker, partitions, records, WITHIN, |input| {
        let was = before.judge(input)?;
        // It may fail on the very records that the chain in force rejects or fails on.
        let shared = was.iter().filter(|(_, v)| matches!(v, Verdict::Failed { .. } | Verdict::Rejected { .. })).count();
        after.allow(after.failed() + shared + MOST_FAILURES);
        let is = after.judge(input)?;
        let mut failed = after.take_failures();
        if before.has_given_up() {
            // With nothing to compare with, only what is new is to blame.
            failed.retain(|failure| !unchanged(&failure.stage));
        }
        failures(&mut canary, input, &was, &failed);
        compare(&mut canary, input, &was, &is);
        pace.rest();
        let enough = canary.failures >= MOST_FAILURES as u64;
        Ok(!enough && !after.has_given_up() && !before.has_given_up())
    })?;
    canary.old_given_up = before.has_given_up();
    if canary.verdicts.records == 0 && canary.failures == 0 && !after.has_given_up() && !canary.old_given_up {
        return Ok(None);
    }
    canary.verdicts.sort();
    let per_record = |fuel: u64| fuel.checked_div(canary.verdicts.records).unwrap_or_default();
    canary.fuel_per_record_old = per_record(before.fuel() - start_before);
    canary.fuel_per_record_new = per_record(after.fuel() - start_after);
    Ok(Some(canary))
}

/// Books the records that the new chain fails on, but not those that go to the dead letters as it is.
fn failures(canary: &mut Canary, input: &Input<'_>, was: &[(Offset, Verdict)], new: &[Failure]) {
    for Failure { offset, stage, message } in new {
        let old = was.iter().find(|(at, _)| at == offset).map(|(_, verdict)| verdict);
        if !matches!(old, Some(Verdict::Failed { .. } | Verdict::Rejected { .. })) {
            canary.failures += 1;
            canary.failure.get_or_insert_with(|| format!("{}@{offset}: stage {stage}: {message}", input.batch.at));
        }
    }
}

fn compare(canary: &mut Canary, input: &Input<'_>, was: &[(Offset, Verdict)], is: &[(Offset, Verdict)]) {
    for ((offset, old), (_, new)) in was.iter().zip(is) {
        let value = || value_at(input, offset.0 - input.base_offset().0).unwrap_or_default();
        canary.verdicts.add(input.batch.at.partition, *offset, (old, new), value);
    }
}

/// The value of a record as text; unreadable parts of it are shown as such.
pub(crate) fn value_at(input: &Input<'_>, index: u64) -> Option<String> {
    let mut set = vec![0; input.records_len()];
    input.write_records(&mut set).ok()?;
    let record = Records::new(&set).ok()?.nth(usize::try_from(index).ok()?)?.ok()?;
    Some(String::from_utf8_lossy(record.value).into_owned())
}
