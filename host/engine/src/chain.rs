//! A chain of stages: batches in, fates out. Between stages bytes go from memory to memory, undecoded.
//!
//! Owns who gets what next and what is booked for whom; calls into modules are `stage`'s and `guest`'s, state and windows
//! are in `state`, what it all costs in `usage`. A chain belongs to one thread at a time.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_schemas::Offset;
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::record::COUNT_LEN;

use crate::abi::Frame;
use crate::fan_out::Pieces;
use crate::outcome::{BatchOutcome, PassedRecord, RouteOwned, Routed};
use crate::output::{Deltas, Distinct, Passed};
use crate::source::{self, BatchSource, Entry, Unpacked};
use crate::stage::{Output, Stage};
use crate::verdicts::{self, Verdicts};
use crate::{Engine, EngineError, Fault, Limits, LogLine, Lookback, Module, ProcessError};

/// One stage of a [`Chain`].
#[derive(Clone, Debug)]
pub struct StageSpec {
    /// Unique in its chain: states and verdicts find the stage by it.
    pub name: String,
    pub module: Module,
    /// Given to the module's `init`. `clickmill.first` is added by the chain, for a first module that knows routes.
    pub params: BTreeMap<String, String>,
    pub limits: Limits,
    /// How far a module that exports `look_back` is to look back.
    pub lookback: Option<Lookback>,
}

/// Instances of modules, one after the other.
///
/// After a [`Fault`] of any method the chain answers every call with that fault until it is restored.
pub struct Chain {
    pub(crate) stages: Vec<Stage>,
    /// The stage that keeps windows.
    pub(crate) windows: Option<usize>,
    broken: Option<Fault>,
    /// Deltas that may still be in the batch under way: those routed or seen missing are taken out.
    alive: Deltas,
    next: Deltas,
    pub(crate) passed: Passed,
    pub(crate) pieces: Pieces,
    fans_out: bool,
    looks_back: bool,
}

impl Chain {
    /// Makes an instance of each stage's module, with empty state.
    ///
    /// # Errors
    /// Where the stages do not make a chain, parameters do not fit, or a module fails to start.
    pub fn new(engine: &Engine, specs: &[StageSpec]) -> Result<Self, EngineError> {
        if specs.is_empty() {
            return Err(EngineError::NoStages);
        }
        let (mut names, mut windows) = (BTreeSet::new(), None);
        for (i, spec) in specs.iter().enumerate() {
            if !names.insert(spec.name.as_str()) {
                return Err(EngineError::SameName(spec.name.clone()));
            }
            if !engine.is_of(&spec.module) {
                return Err(EngineError::Setup(format!("the module of stage {} is of another engine", spec.name)));
            }
            if spec.limits.call_fuel.is_some() && !engine.meters() {
                return Err(EngineError::NotMetering { stage: spec.name.clone() });
            }
            if spec.module.exports().windows
                && let Some(other) = windows.replace(i)
            {
                return Err(EngineError::TwoWindowStages(specs[other].name.clone(), spec.name.clone()));
            }
        }
        let stages = specs.iter().enumerate().map(|(i, spec)| Stage::new(spec, i == 0)).collect::<Result<_, _>>()?;
        let (broken, alive, next, passed) = (None, Deltas::default(), Deltas::default(), Passed::default());
        let fans_out = specs.iter().any(|spec| spec.module.exports().fans_out());
        let looks_back = specs.iter().any(|spec| spec.lookback.is_some());
        let pieces = Pieces::default();
        Ok(Self { stages, windows, broken, alive, next, passed, pieces, fans_out, looks_back })
    }

    /// Shows the stages that look back the records of these batches, which come before the next ones; for a chain that
    /// begins in the midst of a topic. From then on the chain knows itself what it has to look back on, and its saved
    /// state does. As in Fluvio it is the input of the chain that every stage looks back on.
    ///
    /// # Errors
    /// As for [`Chain::process`].
    pub fn look_back(&mut self, sources: &[&dyn BatchSource]) -> Result<(), ProcessError> {
        self.usable()?;
        for source in sources {
            let batch = Unpacked::read(*source).map_err(ProcessError::Source)?;
            self.stages.iter_mut().for_each(|stage| stage.remember(*source, &batch, &batch.records));
        }
        let result = self.stages.iter_mut().filter(|stage| stage.looks_back()).try_for_each(Stage::renew);
        self.set_broken(result.as_ref().err().cloned());
        Ok(result?)
    }

    /// Runs a batch through all stages and says what became of each record.
    ///
    /// Records with a verdict are not run; they are routed as errors of the verdict's stage. After an error `out` is
    /// empty: nothing of the batch counts.
    ///
    /// # Errors
    /// [`ProcessError::Fault`]: a module failed. [`ProcessError::Source`]: the batch cannot be read.
    pub fn process(
        &mut self,
        source: &dyn BatchSource,
        verdicts: &Verdicts,
        out: &mut BatchOutcome,
    ) -> Result<(), ProcessError> {
        self.process_into(source, verdicts, out, None)
    }

    /// [`Chain::process`], and what the last stage handed on in `passed`, in its order. After an error `passed` is empty
    /// too.
    ///
    /// # Errors
    /// As for [`Chain::process`].
    pub fn process_collecting(
        &mut self,
        source: &dyn BatchSource,
        verdicts: &Verdicts,
        out: &mut BatchOutcome,
        passed: &mut Vec<PassedRecord>,
    ) -> Result<(), ProcessError> {
        passed.clear();
        self.process_into(source, verdicts, out, Some(&mut *passed)).inspect_err(|_| passed.clear())
    }

    fn process_into(
        &mut self,
        source: &dyn BatchSource,
        verdicts: &Verdicts,
        out: &mut BatchOutcome,
        passed: Option<&mut Vec<PassedRecord>>,
    ) -> Result<(), ProcessError> {
        out.clear();
        self.stages.iter_mut().for_each(Stage::begin_batch);
        self.usable()?;
        let (base, count) = (source.base_offset(), source.count());
        let result = if self.fans_out || self.looks_back || verdicts.any_in(base, count) {
            self.process_apart(source, verdicts, out, passed)
        } else {
            self.alive.fill(count);
            self.run(source, count, source.records_len(), |set| source::write_checked(source, set), out, passed)
                .and_then(|()| Ok(self.stages.iter_mut().try_for_each(Stage::renew_if_grown)?))
        };
        self.settle(result, out)?;
        debug_assert!(out.is_balanced(), "{out:?}");
        Ok(())
    }

    /// Runs a batch that has to be taken apart: some of its records have a verdict, or are needed one by one.
    #[cold]
    fn process_apart(
        &mut self,
        source: &dyn BatchSource,
        verdicts: &Verdicts,
        out: &mut BatchOutcome,
        passed: Option<&mut Vec<PassedRecord>>,
    ) -> Result<(), ProcessError> {
        let (batch, kept) = self.unpack(source, verdicts, out)?;
        self.run_part(source, &batch, &kept, out, passed)
    }

    /// A batch record by record, and which of them are to be run; those with a verdict are booked.
    pub(crate) fn unpack(
        &self,
        source: &dyn BatchSource,
        verdicts: &Verdicts,
        out: &mut BatchOutcome,
    ) -> Result<(Unpacked, Vec<Entry>), ProcessError> {
        let mut batch = Unpacked::read(source).map_err(ProcessError::Source)?;
        let mut kept = Vec::with_capacity(batch.records.len());
        for entry in std::mem::take(&mut batch.records) {
            let offset = source.base_offset().plus(u64::from(entry.delta));
            let Some(verdict) = verdicts.get(offset) else {
                kept.push(entry);
                continue;
            };
            out.records += 1;
            out.routed.push(Routed {
                offset,
                stage: self.stages.iter().position(|stage| stage.name == verdict.stage).unwrap_or(0),
                route: RouteOwned::Error {
                    error_type: ErrorType::Smartmodule,
                    rule: verdicts::RULE.to_owned(),
                    message: verdict.message.clone(),
                },
                value: batch.value(&entry).to_vec(),
            });
        }
        Ok((batch, kept))
    }

    /// The record that the last run failed on, as far as a module or the way it was called tells.
    pub(crate) fn take_suspect(&mut self) -> Option<Offset> {
        let suspect = self.stages.iter_mut().filter_map(Stage::take_suspect).last()?;
        u64::try_from(suspect).ok().map(Offset)
    }

    /// Gives calls the `by`th part of their time from now on, until told otherwise or loaded.
    pub(crate) fn divide_time(&mut self, by: u32) {
        self.stages.iter_mut().for_each(|stage| stage.divide_time(by));
    }

    /// Runs some records of a batch.
    pub(crate) fn run_part(
        &mut self,
        source: &dyn BatchSource,
        batch: &Unpacked,
        entries: &[Entry],
        out: &mut BatchOutcome,
        passed: Option<&mut Vec<PassedRecord>>,
    ) -> Result<(), ProcessError> {
        if self.fans_out {
            self.run_fanned(source, batch, entries, out, passed)?;
        } else {
            self.run_packed(source, batch, entries, out, passed)?;
        }
        self.stages.iter_mut().for_each(|stage| stage.remember(source, batch, entries));
        self.stages.iter_mut().try_for_each(Stage::renew_if_grown)?;
        Ok(())
    }

    fn run_packed(
        &mut self,
        source: &dyn BatchSource,
        batch: &Unpacked,
        entries: &[Entry],
        out: &mut BatchOutcome,
        passed: Option<&mut Vec<PassedRecord>>,
    ) -> Result<(), ProcessError> {
        self.alive.clear();
        entries.iter().for_each(|entry| self.alive.insert(entry.delta));
        let set = batch.pack(entries);
        let write = |dst: &mut [u8]| {
            dst.copy_from_slice(&set);
            Ok(())
        };
        self.run(source, entries.len() as u32, set.len(), write, out, passed)
    }

    /// Runs `count` records, those in `self.alive`.
    fn run(
        &mut self,
        source: &dyn BatchSource,
        count: u32,
        set_len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
        out: &mut BatchOutcome,
        passed: Option<&mut Vec<PassedRecord>>,
    ) -> Result<(), ProcessError> {
        out.records += u64::from(count);
        if count == 0 {
            return Ok(());
        }
        let frame = Frame::of(source);
        let mut inputs = count;
        let mut output = self.stages[0].run(&frame, set_len, Some(inputs), write)?;
        let mut stage = 0;
        loop {
            self.book(source, stage, inputs, &output, out)?;
            inputs = self.passed.count;
            stage += 1;
            if stage == self.stages.len() || inputs == 0 {
                break;
            }
            let (done, ahead) = self.stages.split_at_mut(stage);
            let (from, to, passed) = (&done[stage - 1], &mut ahead[0], &self.passed);
            let write = |set: &mut [u8]| {
                from.copy_passed(&output, passed, set);
                Ok(())
            };
            output = to.run(&frame, COUNT_LEN + passed.bytes, Some(inputs), write)?;
        }
        if let Some(collected) = passed
            && let Some(last) = self.stages.get(stage - 1).filter(|_| stage == self.stages.len())
        {
            last.collect_passed(&output, &self.passed, source, collected)?;
        }
        Ok(())
    }

    /// Takes routed records out of a stage's output and books what became of its inputs; what goes on is in
    /// `self.passed`.
    fn book(
        &mut self,
        source: &dyn BatchSource,
        stage: usize,
        inputs: u32,
        output: &Output,
        out: &mut BatchOutcome,
    ) -> Result<(), Fault> {
        let is_last = stage + 1 == self.stages.len();
        if output.routed == Some(0) && !is_last {
            self.stages[stage].take_whole(output, &mut self.passed)?;
        } else {
            let base = source.base_offset();
            let take = |record: &crate::output::RoutedRecord<'_>| {
                out.routed.push(Routed {
                    offset: base.plus(record.delta.unsigned_abs()),
                    stage,
                    route: record.route.into(),
                    value: record.value.to_vec(),
                });
            };
            let mut inputs = Distinct::new(&self.alive, &mut self.next);
            self.stages[stage].walk(output, &mut inputs, &mut self.passed, take)?;
            std::mem::swap(&mut self.alive, &mut self.next);
        }
        let kept = inputs - output.count;
        if self.stages[stage].counts_what_it_keeps() {
            out.counted += u64::from(kept);
        } else {
            out.drop_at(stage, kept);
        }
        if is_last {
            out.counted += u64::from(self.passed.count);
        }
        Ok(())
    }

    /// What the modules have said since the last call, some lines of each; also after a fault.
    pub fn take_logs(&mut self) -> Vec<LogLine> {
        let mut lines = Vec::new();
        self.stages.iter().for_each(|stage| stage.take_log(&mut lines));
        lines
    }

    /// The stages' names, first to last.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|stage| stage.name.as_str())
    }

    /// Whether its last stages keep windows, and so hand nothing on.
    #[must_use]
    pub const fn keeps_windows(&self) -> bool {
        self.windows.is_some()
    }

    /// The fault that made the chain unusable, if one did.
    pub(crate) fn usable(&self) -> Result<(), Fault> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn set_broken(&mut self, fault: Option<Fault>) {
        self.broken = fault;
    }

    fn settle(&mut self, result: Result<(), ProcessError>, out: &mut BatchOutcome) -> Result<(), ProcessError> {
        if let Err(e) = &result {
            out.clear();
            if let ProcessError::Fault(fault) = e {
                self.broken = Some(fault.clone());
            }
        }
        result
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stages: Vec<_> = self.stages.iter().map(|s| (&s.name, s.module().digest())).collect();
        f.debug_struct("Chain").field("stages", &stages).field("broken", &self.broken).finish_non_exhaustive()
    }
}
