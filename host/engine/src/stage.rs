//! One stage of a chain: an instance, how to make it anew, and whose faults are its own.

use std::time::Instant;

use clickmill_schemas::record::{COUNT_LEN, Record, Records};

use crate::abi::{self, Frame};
use crate::chain::StageSpec;
use crate::guest::{Cause, Guest, Region};
use crate::kept::{self, Kept};
use crate::log::Log;
use crate::lookback::{self, Recent};
use crate::module::{Kind, Module};
use crate::output::{self, Inputs, Passed, RoutedRecord};
use crate::source::{Entry, Unpacked};
use crate::usage::{Spent, StageUsage};
use crate::{BatchSource, EngineError, Fault, Limits, LogLine, PassedRecord, ProcessError};

/// Name of the parameter that tells the first stage that keys are producers' own.
const FIRST: &str = "clickmill.first";

pub(crate) struct Stage {
    pub(crate) name: String,
    module: Module,
    limits: Limits,
    init_input: Vec<u8>,
    guest: Guest,
    kept: Kept,
    /// Offset of the record that the last call failed on, as far as that is known: a hint, since a module may lie.
    suspect: Option<i64>,
    log: Log,
    /// What the instances before this one have burnt.
    burnt_before: u64,
    spent: Spent,
}

/// What a call gave.
pub(crate) struct Output {
    /// Records of the output.
    pub count: u32,
    /// Those of them that are routed; `None` where the module does not know routes.
    pub routed: Option<u32>,
    region: Region,
}

impl Stage {
    pub(crate) fn new(spec: &StageSpec, first: bool) -> Result<Self, EngineError> {
        let refused = |problem: String| EngineError::Params { stage: spec.name.clone(), problem };
        let mut params = spec.params.clone();
        if !params.is_empty() && !spec.module.exports().init {
            let names = params.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(refused(format!("the module takes no parameters (it exports no init), and has {names}")));
        }
        if params.contains_key(FIRST) {
            return Err(refused(format!("parameter {FIRST} is set by the host alone")));
        }
        let exports = spec.module.exports();
        // A module made for Fluvio is told what Fluvio tells it, and no more.
        if first && exports.routed {
            params.insert(FIRST.into(), "true".into());
        }
        let recent = match &spec.lookback {
            None => None,
            Some(_) if !exports.look_back => {
                return Err(refused("it is to look back and its module cannot (it exports no look_back)".into()));
            }
            Some(lookback) => Some(Recent::new(
                lookback,
                lookback.most().ok_or_else(|| {
                    let wanted = lookback.last;
                    refused(format!("it is to look back on {wanted} records; 1 to {} are possible", lookback::MOST))
                })?,
            )),
        };
        let accumulator = (exports.kind == Kind::Aggregate).then(Vec::new);
        let kept = Kept { accumulator, recent };
        let init_input = abi::init_input(&params, spec.lookback.as_ref()).map_err(refused)?;
        let log = Log::default();
        let guest = Guest::new(&spec.module, &init_input, &spec.limits, &log)
            .map_err(|cause| fault(&spec.name, &spec.module, cause))?;
        let (name, module, limits) = (spec.name.clone(), spec.module.clone(), spec.limits.clone());
        let spent = Spent::default();
        Ok(Self { name, module, limits, init_input, guest, kept, suspect: None, log, burnt_before: 0, spent })
    }

    /// A fault of this stage.
    pub(crate) fn fault(&self, cause: Cause) -> Fault {
        fault(&self.name, &self.module, cause)
    }

    pub(crate) const fn module(&self) -> &Module {
        &self.module
    }

    /// Runs `call` on the instance; what fails is this stage's fault.
    pub(crate) fn with<T>(&mut self, call: impl FnOnce(&mut Guest) -> Result<T, Cause>) -> Result<T, Fault> {
        call(&mut self.guest).map_err(|cause| fault(&self.name, &self.module, cause))
    }

    /// Moves what the module has said behind the lines in `out`.
    pub(crate) fn take_log(&self, out: &mut Vec<LogLine>) {
        self.log.take(&self.name, self.module.digest(), out);
    }

    /// What its instances have burnt; `None` where the engine does not meter.
    pub(crate) fn fuel(&self) -> Option<u64> {
        self.guest.fuel().map(|burnt| self.burnt_before.saturating_add(burnt))
    }

    /// What is spent is counted from here on.
    #[inline]
    pub(crate) fn begin_batch(&mut self) {
        self.spent = Spent::default();
    }

    pub(crate) fn usage(&self) -> StageUsage<'_> {
        self.spent.usage(&self.name, self.guest.memory_bytes())
    }

    /// Puts a fresh instance in the place of this one, which has looked back on what there is.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        self.log.end_lines();
        let guest = Guest::new(&self.module, &self.init_input, &self.limits, &self.log);
        let guest = guest.map_err(|cause| self.fault(cause))?;
        self.burnt_before = self.fuel().unwrap_or_default();
        self.guest = guest;
        self.suspect = None;
        self.look_back()
    }

    fn look_back(&mut self) -> Result<(), Fault> {
        let Some(input) = self.kept.recent.as_ref().filter(|recent| !recent.is_empty()).and_then(Recent::input) else {
            return Ok(());
        };
        self.with(|guest| guest.look_back(&input))
    }

    /// Takes in records that a fresh instance is to look back on.
    pub(crate) fn remember(&mut self, source: &dyn BatchSource, batch: &Unpacked, entries: &[Entry]) {
        if let Some(recent) = &mut self.kept.recent {
            recent.push(source, batch, entries);
        }
    }

    pub(crate) fn looks_back(&self) -> bool {
        self.kept.recent.is_some()
    }

    /// Version and bytes of the state, the module's or what is kept for it.
    pub(crate) fn save(&mut self) -> Result<Option<(i32, Vec<u8>)>, Fault> {
        match self.kept.save() {
            Some(kept) => Ok(Some((kept::STATE_VERSION, kept))),
            None => self.with(Guest::save),
        }
    }

    /// Puts a fresh instance in the place of this one, with this state or with none.
    pub(crate) fn load(&mut self, state: Option<(i32, &[u8])>) -> Result<(), Fault> {
        self.kept.clear();
        self.renew()?;
        state.map_or(Ok(()), |(version, bytes)| self.take_over(version, bytes))
    }

    /// Loads a state into a fresh instance.
    pub(crate) fn take_over(&mut self, version: i32, bytes: &[u8]) -> Result<(), Fault> {
        if self.kept.is_something() {
            self.kept.load(version, bytes).map_err(|cause| self.fault(cause))?;
            self.look_back()
        } else if version == kept::STATE_VERSION {
            Err(self.fault("it is given what the host kept for another module".into()))
        } else {
            self.with(|guest| guest.load(version, bytes))
        }
    }

    /// Whether there may be a state of it to restore.
    pub(crate) fn is_stateful(&self) -> bool {
        self.module.is_stateful() || self.kept.is_something()
    }

    /// Whether an instance of `other` is one of this stage.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.module.digest() == other.module.digest()
            && self.init_input == other.init_input
            && self.limits == other.limits
    }

    pub(crate) fn swap_instance(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.guest, &mut other.guest);
        std::mem::swap(&mut self.kept, &mut other.kept);
    }

    /// Gives calls of this instance the `by`th part of their time from now on.
    pub(crate) fn divide_time(&mut self, by: u32) {
        self.guest.set_call_time(self.limits.call_time / by);
    }

    /// Renews an instance that keeps no state and has grown to half of its limit: Fluvio's generated glue never frees
    /// an output.
    #[inline]
    pub(crate) fn renew_if_grown(&mut self) -> Result<(), Fault> {
        if !self.module.is_stateful() && self.guest.memory_bytes() > self.limits.memory_bytes / 2 {
            self.renew()?;
        }
        Ok(())
    }

    /// Runs the transform on a record set of `set_len` bytes that `write` puts into the instance's memory; without `inputs`
    /// it is one record, of which any number may be made.
    #[inline]
    pub(crate) fn run(
        &mut self,
        frame: &Frame,
        set_len: usize,
        inputs: Option<u32>,
        write: impl FnOnce(&mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Output, ProcessError> {
        let begun = Instant::now();
        let output = self.call(frame, set_len, inputs, write);
        self.spent.add(inputs.unwrap_or(1), begun);
        output
    }

    #[inline]
    fn call(
        &mut self,
        frame: &Frame,
        set_len: usize,
        inputs: Option<u32>,
        write: impl FnOnce(&mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Output, ProcessError> {
        let framed_len = set_len.saturating_add(abi::HEAD_LEN + abi::TAIL_LEN);
        let accumulator_len = self.kept.accumulator.as_ref().map_or(0, |accumulator| 4 + accumulator.len());
        let input = self.with(|guest| guest.alloc(framed_len.saturating_add(accumulator_len)))?;
        let (framed, behind) = self.guest.bytes_mut(input).split_at_mut(framed_len);
        if let (Some(accumulator), Some((len, bytes))) = (&self.kept.accumulator, behind.split_first_chunk_mut()) {
            *len = (accumulator.len() as u32).to_be_bytes();
            bytes.copy_from_slice(accumulator);
        }
        let written = match frame.write(framed) {
            Some(set) => write(set),
            None => Err(format!("a record set of {set_len} bytes is too long").into()),
        };
        if let Err(e) = written {
            self.with(|guest| guest.dealloc(input))?;
            return Err(ProcessError::Source(e));
        }
        Ok(self.with(|guest| {
            let (answered, region) = guest.transform(input)?;
            let routed = guest.routed()?;
            let count = output::check_count(guest.bytes(region), answered, inputs)?;
            match routed {
                Some(routed) if routed > count => {
                    Err(Cause(format!("malformed output: {routed} of {count} records are routed")))
                }
                _ => Ok(Output { count, routed, region }),
            }
        })?)
    }

    /// Takes the whole output for what goes on; see [`output::take_whole`].
    #[inline]
    pub(crate) fn take_whole(&self, output: &Output, passed: &mut Passed) -> Result<(), Fault> {
        let bytes = self.guest.bytes(output.region);
        output::take_whole(bytes, output.count, passed).map_err(|cause| self.fault(cause))
    }

    /// Walks the output, to its end; see [`output::walk`].
    pub(crate) fn walk(
        &mut self,
        output: &Output,
        inputs: &mut impl Inputs,
        passed: &mut Passed,
        routed: impl FnMut(&RoutedRecord<'_>),
    ) -> Result<(), Fault> {
        let bytes = self.guest.bytes(output.region);
        output::walk(bytes, output.count, output.routed.is_some(), inputs, passed, routed)
            .and_then(|at| {
                self.suspect = output::suspect(&bytes[at..]);
                Self::end(&mut self.kept, &bytes[at..])
            })
            .map_err(|cause| fault(&self.name, &self.module, cause))?;
        let found = output.count - passed.count;
        match output.routed {
            Some(said) if said != found => Err(self.fault(Cause(format!(
                "malformed output: {found} records are routed and clickmill_routed says {said}"
            )))),
            _ => Ok(()),
        }
    }

    pub(crate) fn take_suspect(&mut self) -> Option<i64> {
        self.suspect.take()
    }

    pub(crate) const fn set_suspect(&mut self, offset: i64) {
        self.suspect = Some(offset);
    }

    /// What stands behind the records: takes over the new accumulator.
    fn end(kept: &mut Kept, behind: &[u8]) -> Result<(), Cause> {
        let found = output::end(behind, kept.accumulator.is_some())?;
        if let (Some(accumulator), Some(found)) = (&mut kept.accumulator, found) {
            accumulator.clear();
            accumulator.extend_from_slice(found);
        }
        Ok(())
    }

    /// Runs the transform on one record, where that is the only way to know what its output was made of: the records of
    /// the output are handed to `each`.
    pub(crate) fn run_one(
        &mut self,
        frame: &Frame,
        record: &[u8],
        mut each: impl FnMut(&Record<'_>),
    ) -> Result<(), ProcessError> {
        let output = self.run(frame, COUNT_LEN + record.len(), None, |set| {
            let (count, rest) = set.split_at_mut(COUNT_LEN);
            count.copy_from_slice(&1u32.to_be_bytes());
            rest.copy_from_slice(record);
            Ok(())
        })?;
        let bytes = self.guest.bytes(output.region);
        output::each(bytes, output.count, &mut each)
            .and_then(|at| output::end(&bytes[at..], false))
            .map_err(|cause| self.fault(cause))?;
        // What looks back has seen records of this batch that are not among the recent ones yet.
        if !self.looks_back() {
            self.renew_if_grown()?;
        }
        Ok(())
    }

    /// Whether what it takes in and neither hands on nor routes is in its windows.
    pub(crate) fn counts_what_it_keeps(&self) -> bool {
        self.module.exports().windows
    }

    pub(crate) const fn output_limit(&self) -> usize {
        self.limits.output_bytes
    }

    /// Appends what goes on to `collected`, record by record.
    pub(crate) fn collect_passed(
        &self,
        output: &Output,
        passed: &Passed,
        source: &dyn BatchSource,
        collected: &mut Vec<PassedRecord>,
    ) -> Result<(), Fault> {
        let mut set = vec![0; COUNT_LEN + passed.bytes];
        self.copy_passed(output, passed, &mut set);
        let malformed = |e| self.fault(Cause(format!("malformed output: {e}")));
        for record in Records::new(&set).map_err(malformed)? {
            let record = record.map_err(malformed)?;
            collected.push(PassedRecord::of(source, &record));
        }
        Ok(())
    }

    /// Writes what goes on as a record set of `COUNT_LEN + passed.bytes` bytes.
    #[inline]
    pub(crate) fn copy_passed(&self, output: &Output, passed: &Passed, set: &mut [u8]) {
        let bytes = if passed.rewritten.is_empty() { self.guest.bytes(output.region) } else { &passed.rewritten };
        set[..COUNT_LEN].copy_from_slice(&passed.count.to_be_bytes());
        let mut at = COUNT_LEN;
        for range in &passed.ranges {
            set[at..at + range.len()].copy_from_slice(&bytes[range.clone()]);
            at += range.len();
        }
    }
}

fn fault(stage: &str, module: &Module, Cause(message): Cause) -> Fault {
    Fault { stage: stage.to_owned(), sha256: module.digest(), message }
}
