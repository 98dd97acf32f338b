//! One instance of a module: every call into it, bounded in time and memory, and what it copied out.
//!
//! Addresses and lengths that come from the instance are checked here and nowhere else is one used. An error is a
//! [`Cause`], the text of a fault; `stage` adds whose it is.

use std::ops::Range;
use std::time::Duration;

use wasmtime::{Instance, Memory, Store, Trap, TypedFunc, UpdateDeadline, WasmBacktrace, WasmParams, WasmResults};

use crate::abi;
use crate::cpu_time::{CallBudget, Grant, thread_cpu_time};
use crate::fuel::{self, Meter};
use crate::hooks::{StateCalls, WindowCalls};
use crate::limits::{Limits, Resources};
use crate::log::Log;
use crate::module::Module;

/// Frames of a trap's backtrace that are reported.
const FRAMES: usize = 4;
/// Bytes of a panic's message, and of what a failed call wrote to standard error, that are reported.
const MAX_LAST_WORDS_BYTES: usize = 512;

/// Why a module failed.
#[derive(Debug)]
pub(crate) struct Cause(pub String);

impl<T: Into<String>> From<T> for Cause {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// What a store holds beside the instance.
pub(crate) struct Host {
    resources: Resources,
    budget: CallBudget,
    /// Address and length of the last `copy_records`, unchecked.
    copied: Option<(u32, u32)>,
    /// Where the engine meters.
    pub(crate) meter: Option<Meter>,
    log: Log,
    /// What the call under way has written to standard error: a trap is told with it.
    stderr: Vec<u8>,
    panic: Option<PanicCall>,
}

/// How the message of a panic is read after the trap that the panic ended in.
struct PanicCall {
    func: TypedFunc<(), i32>,
    memory: Memory,
}

impl Host {
    pub(crate) const fn copied_out(&mut self, address: i32, len: i32) {
        self.copied = Some((address.cast_unsigned(), len.cast_unsigned()));
    }

    /// A line for the log, or several.
    pub(crate) fn said(&self, text: &[u8]) {
        self.log.say(text);
    }

    /// Bytes that went to standard output (0) or standard error (1).
    pub(crate) fn wrote(&mut self, stream: usize, bytes: &[u8]) {
        self.log.write(stream, bytes);
        if stream == 1 {
            let room = MAX_LAST_WORDS_BYTES.saturating_sub(self.stderr.len());
            self.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

type Transform = TypedFunc<(i32, i32, i32), i32>;

/// See the head of this file.
pub(crate) struct Guest {
    pub(crate) store: Store<Host>,
    memory: Memory,
    output_bytes: usize,
    alloc: TypedFunc<i32, i32>,
    dealloc: Option<TypedFunc<(i32, i32), ()>>,
    transform: Transform,
    name: &'static str,
    routed: Option<TypedFunc<(), i32>>,
    look_back: Option<Transform>,
    pub(crate) state: Option<StateCalls>,
    pub(crate) windows: Option<WindowCalls>,
}

/// A region of the instance's memory that lay within it when this was made; memory never shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    address: usize,
    len: usize,
}

impl Region {
    pub(crate) const fn range(self) -> Range<usize> {
        self.address..self.address + self.len
    }

    pub(crate) fn args(self) -> (i32, i32) {
        // Wasm's addresses are unsigned, its parameters have no sign.
        ((self.address as u32).cast_signed(), (self.len as u32).cast_signed())
    }
}

/// Calls one function with a fresh time budget.
#[inline]
pub(crate) fn enter<P: WasmParams, R: WasmResults>(
    store: &mut Store<Host>,
    name: &str,
    func: &TypedFunc<P, R>,
    params: P,
) -> Result<R, Cause> {
    begin(store)?;
    let result = func.call(&mut *store, params);
    fuel::book(store);
    result.map_err(|e| describe(store, name, &e))
}

#[inline]
fn begin(store: &mut Store<Host>) -> Result<(), Cause> {
    let host = store.data_mut();
    host.copied = None;
    host.stderr.clear();
    host.resources.refused = None;
    let ticks = host.budget.begin();
    let fuel = host.meter.as_ref().map(Meter::call_fuel);
    store.set_epoch_deadline(ticks);
    fuel.map_or(Ok(()), |fuel| fuel::fill(store, fuel))
}

/// The text of a fault: what trapped, which limit was hit before, and where it was.
#[cold]
fn describe(store: &mut Store<Host>, name: &str, error: &wasmtime::Error) -> Cause {
    // The call that asks for the message of a panic clears them.
    let stderr = std::mem::take(&mut store.data_mut().stderr);
    let refused = store.data_mut().resources.refused.take();
    let mut text = if let Some(Trap::UnreachableCodeReached) = error.downcast_ref()
        && let Some(message) = panic_message(store)
    {
        format!("{name} failed: {message}")
    } else {
        trap(store, name, error)
    };
    if let Some(refused) = refused {
        text.push_str(&format!("; before that {refused}"));
    }
    let stderr = abi::printable(stderr.trim_ascii(), MAX_LAST_WORDS_BYTES);
    if !stderr.is_empty() {
        text.push_str(&format!("; it wrote {stderr}"));
    }
    Cause(text)
}

/// What trapped, or ended the call otherwise, and where.
fn trap(store: &Store<Host>, name: &str, error: &wasmtime::Error) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!("{name} ran past its time limit"),
        Some(Trap::OutOfFuel) => {
            let limit = store.data().meter.as_ref().map_or(0, Meter::call_fuel);
            format!("{name} ran past its fuel limit of {limit}")
        }
        Some(trap) => format!("{name} failed: {trap}"),
        None => format!("{name} failed: {}", error.root_cause()),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    for (i, frame) in frames.iter().take(FRAMES).enumerate() {
        text.push_str(if i == 0 { "; in " } else { " < " });
        match frame.symbols().first().and_then(|s| s.name()).or(frame.func_name()) {
            Some(name) => text.push_str(&abi::text(name.as_bytes())),
            None => text.push_str(&format!("function {}", frame.func_index())),
        }
    }
    text
}

/// What a module that has just trapped says about its panic.
fn panic_message(store: &mut Store<Host>) -> Option<String> {
    let PanicCall { func, memory } = store.data_mut().panic.take()?;
    begin(store).ok()?;
    let answer = func.call(&mut *store, ());
    fuel::book(store);
    let (address, len) = store.data_mut().copied.take().filter(|_| answer.is_ok_and(|status| status >= 0))?;
    let message = memory.data(&*store).get(address as usize..)?.get(..len as usize)?;
    let message = abi::printable(message, MAX_LAST_WORDS_BYTES);
    (!message.is_empty()).then_some(message)
}

impl Guest {
    /// Makes an instance and runs its start function, `_initialize` and `init`.
    pub(crate) fn new(module: &Module, init_input: &[u8], limits: &Limits, log: &Log) -> Result<Self, Cause> {
        let exports = module.exports();
        let budget = CallBudget::new(limits.call_time);
        let (resources, log, stderr) = (Resources::new(limits), log.clone(), Vec::new());
        let host = Host { resources, budget, copied: None, meter: None, log, stderr, panic: None };
        let mut store = Store::new(module.engine(), host);
        store.data_mut().meter = store.get_fuel().is_ok().then(|| Meter::new(limits.call_fuel));
        store.limiter(|host| &mut host.resources);
        store.epoch_deadline_callback(|mut context| {
            Ok(match context.data_mut().budget.at_end(thread_cpu_time()) {
                Grant::Ticks(ticks) => UpdateDeadline::Continue(ticks),
                Grant::Over => UpdateDeadline::Interrupt,
            })
        });
        begin(&mut store)?;
        let instance = module.pre().instantiate(&mut store);
        fuel::book(&mut store);
        let instance = instance.map_err(|e| describe(&mut store, "instantiation", &e))?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("it exports no memory")?;
        let mut find = Find { store: &mut store, instance };
        if exports.panic {
            let func = find.func("clickmill_panic")?;
            find.store.data_mut().panic = Some(PanicCall { func, memory });
        }
        if exports.initialize {
            let initialize: TypedFunc<(), ()> = find.func("_initialize")?;
            enter(find.store, "_initialize", &initialize, ())?;
        }
        let state = exports.state.then(|| StateCalls::find(&mut find)).transpose()?;
        let windows = exports.windows.then(|| WindowCalls::find(&mut find)).transpose()?;
        let init: Option<Transform> = exports.init.then(|| find.func("init")).transpose()?;
        let alloc = find.func("alloc")?;
        let dealloc = exports.dealloc.then(|| find.func("dealloc")).transpose()?;
        let transform = find.func(exports.transform)?;
        let routed = exports.routed.then(|| find.func("clickmill_routed")).transpose()?;
        let look_back = exports.look_back.then(|| find.func("look_back")).transpose()?;
        let (output_bytes, name) = (limits.output_bytes, exports.transform);
        let mut guest =
            Self { store, memory, output_bytes, alloc, dealloc, transform, name, routed, look_back, state, windows };
        if let Some(init) = init {
            guest.init(&init, init_input)?;
        }
        Ok(guest)
    }

    /// What it has burnt; `None` where the engine does not meter.
    pub(crate) fn fuel(&self) -> Option<u64> {
        self.store.data().meter.as_ref().map(Meter::burnt)
    }

    /// How long a call may take, from the next one on.
    pub(crate) fn set_call_time(&mut self, call_time: Duration) {
        self.store.data_mut().budget = CallBudget::new(call_time);
    }

    fn init(&mut self, init: &Transform, input: &[u8]) -> Result<(), Cause> {
        let region = self.alloc(input.len())?;
        self.bytes_mut(region).copy_from_slice(input);
        let (address, len) = region.args();
        let status = enter(&mut self.store, "init", init, (address, len, abi::VERSION))?;
        if status >= 0 {
            return Ok(());
        }
        let hint = match self.copied("init") {
            Ok(region) => abi::hint(self.bytes(region)),
            Err(_) => abi::refusal(status).to_owned(),
        };
        Err(format!("init refused ({status}): {hint}").into())
    }

    /// Shows the module the records of `input`, which come before the next ones.
    pub(crate) fn look_back(&mut self, input: &[u8]) -> Result<(), Cause> {
        let region = self.alloc(input.len())?;
        self.bytes_mut(region).copy_from_slice(input);
        let Some(look_back) = &self.look_back else {
            return Err("it exports no look_back".into());
        };
        let (address, len) = region.args();
        let status = enter(&mut self.store, "look_back", look_back, (address, len, abi::VERSION))?;
        if status >= 0 {
            return Ok(());
        }
        let hint = match self.copied("look_back") {
            Ok(region) => abi::hint_at(self.bytes(region)),
            Err(_) => abi::refusal(status).to_owned(),
        };
        Err(format!("look_back refused ({status}): {hint}").into())
    }

    /// A region for an input of `len` bytes, which a call that takes it will free.
    #[inline]
    pub(crate) fn alloc(&mut self, len: usize) -> Result<Region, Cause> {
        let asked =
            i32::try_from(len).map_err(|_| format!("an input of {len} bytes is more than a module can take"))?;
        let address = enter(&mut self.store, "alloc", &self.alloc, asked)?.cast_unsigned();
        self.region(address, asked.cast_unsigned())
            .map_err(|Cause(what)| format!("alloc({len}) gave a region outside memory: {what}").into())
    }

    /// Gives back a region that no call has taken.
    pub(crate) fn dealloc(&mut self, region: Region) -> Result<(), Cause> {
        match &self.dealloc {
            Some(dealloc) => enter(&mut self.store, "dealloc", dealloc, region.args()),
            None => Ok(()),
        }
    }

    #[inline]
    fn region(&self, address: u32, len: u32) -> Result<Region, Cause> {
        let (address, len) = (address as usize, len as usize);
        let memory = self.memory.data_size(&self.store);
        match address.checked_add(len) {
            Some(end) if end <= memory => Ok(Region { address, len }),
            _ => Err(format!("{len} bytes at {address}, memory has {memory}").into()),
        }
    }

    /// What the last call copied out.
    #[inline]
    pub(crate) fn copied(&mut self, name: &str) -> Result<Region, Cause> {
        let (address, len) = self
            .store
            .data_mut()
            .copied
            .take()
            .ok_or_else(|| Cause(format!("malformed output: {name} did not call copy_records")))?;
        self.region(address, len)
            .map_err(|Cause(what)| format!("malformed output: copy_records outside memory: {what}").into())
    }

    #[inline]
    pub(crate) fn bytes(&self, region: Region) -> &[u8] {
        &self.memory.data(&self.store)[region.range()]
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self, region: Region) -> &mut [u8] {
        &mut self.memory.data_mut(&mut self.store)[region.range()]
    }

    /// Runs the transform on its input: the count that it answers, and its output.
    #[inline]
    pub(crate) fn transform(&mut self, input: Region) -> Result<(u32, Region), Cause> {
        let (address, len) = input.args();
        let answer = enter(&mut self.store, self.name, &self.transform, (address, len, abi::VERSION))?;
        let Ok(count) = u32::try_from(answer) else {
            return Err(format!("{} answered {answer}: {}", self.name, abi::refusal(answer)).into());
        };
        let output = self.copied(self.name)?;
        if output.len > self.output_bytes {
            return Err(format!("output of {} bytes, over its limit of {}", output.len, self.output_bytes).into());
        }
        Ok((count, output))
    }

    /// How many records of the last output are routed; `None` where the module does not know routes.
    #[inline]
    pub(crate) fn routed(&mut self) -> Result<Option<u32>, Cause> {
        let Some(routed) = &self.routed else {
            return Ok(None);
        };
        let answer = enter(&mut self.store, "clickmill_routed", routed, ())?;
        u32::try_from(answer)
            .map(Some)
            .map_err(|_| format!("malformed output: clickmill_routed answered {answer}").into())
    }

    /// Bytes of linear memory that the instance has grown to.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }
}

/// Looks up functions of an instance.
pub(crate) struct Find<'a> {
    store: &'a mut Store<Host>,
    instance: Instance,
}

impl Find<'_> {
    pub(crate) fn func<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Result<TypedFunc<P, R>, Cause> {
        self.instance.get_typed_func(&mut *self.store, name).map_err(|e| format!("export {name}: {e:#}").into())
    }
}
