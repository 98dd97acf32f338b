//! One stage of a chain: an instance, how to make it anew, and whose faults are its own.

use clickmill_schemas::record::{COUNT_LEN, Records};

use crate::abi::{self, Frame};
use crate::chain::StageSpec;
use crate::guest::{Cause, Guest, Region};
use crate::log::Log;
use crate::module::Module;
use crate::output::{self, Deltas, Passed, RoutedRecord};
use crate::{BatchSource, EngineError, Fault, Limits, LogLine, PassedRecord, ProcessError};

/// Name of the parameter that tells the first stage that keys are producers' own.
const FIRST: &str = "clickmill.first";

pub(crate) struct Stage {
    pub(crate) name: String,
    module: Module,
    limits: Limits,
    init_input: Vec<u8>,
    guest: Guest,
    log: Log,
    /// What the instances before this one have burnt.
    burnt_before: u64,
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
            return Err(refused("parameters are given and the module takes none (it exports no init)".into()));
        }
        if params.contains_key(FIRST) {
            return Err(refused(format!("parameter {FIRST} is set by the host alone")));
        }
        if first {
            params.insert(FIRST.into(), "true".into());
        }
        let init_input = abi::init_input(&params).map_err(refused)?;
        let log = Log::default();
        let guest = Guest::new(&spec.module, &init_input, &spec.limits, &log)
            .map_err(|cause| fault(&spec.name, &spec.module, cause))?;
        let (name, module, limits) = (spec.name.clone(), spec.module.clone(), spec.limits.clone());
        Ok(Self { name, module, limits, init_input, guest, log, burnt_before: 0 })
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

    /// Puts a fresh instance in the place of this one.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        self.log.end_lines();
        let guest = Guest::new(&self.module, &self.init_input, &self.limits, &self.log);
        let guest = guest.map_err(|cause| self.fault(cause))?;
        self.burnt_before = self.fuel().unwrap_or_default();
        self.guest = guest;
        Ok(())
    }

    /// Whether an instance of `other` is one of this stage.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.module.digest() == other.module.digest()
            && self.init_input == other.init_input
            && self.limits == other.limits
    }

    pub(crate) fn swap_instance(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.guest, &mut other.guest);
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

    /// Runs the transform on a record set of `set_len` bytes that `write` puts into the instance's memory.
    #[inline]
    pub(crate) fn run(
        &mut self,
        frame: &Frame,
        set_len: usize,
        inputs: u32,
        write: impl FnOnce(&mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Output, ProcessError> {
        let len = set_len.saturating_add(abi::HEAD_LEN + abi::TAIL_LEN);
        let input = self.with(|guest| guest.alloc(len))?;
        let written = match frame.write(self.guest.bytes_mut(input)) {
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

    /// Walks the output; see [`output::walk`].
    pub(crate) fn walk(
        &self,
        output: &Output,
        inputs: &Deltas,
        next: &mut Deltas,
        passed: &mut Passed,
        routed: impl FnMut(&RoutedRecord<'_>),
    ) -> Result<(), Fault> {
        let bytes = self.guest.bytes(output.region);
        output::walk(bytes, output.count, output.routed.is_some(), inputs, next, passed, routed)
            .map_err(|cause| self.fault(cause))?;
        let found = output.count - passed.count;
        match output.routed {
            Some(said) if said != found => Err(self.fault(Cause(format!(
                "malformed output: {found} records are routed and clickmill_routed says {said}"
            )))),
            _ => Ok(()),
        }
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
            collected.push(PassedRecord {
                offset: source.base_offset().plus(record.offset_delta.unsigned_abs()),
                timestamp_ms: source.base_timestamp_ms().wrapping_add(record.timestamp_delta_ms),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.to_vec(),
            });
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
