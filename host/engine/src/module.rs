//! A compiled module: checked against the ABI before anything of it runs.

use std::fmt;
use std::sync::Arc;

use clickmill_schemas::ModuleDigest;
use sha2::{Digest, Sha256};
use wasmtime::{ExternType, FuncType, InstancePre};

use crate::guest::Host;
use crate::{EngineError, bounds, imports};

/// How every module begins.
const MAGIC: &[u8] = b"\0asm";
/// Longest module that is compiled; compiling takes memory and time in proportion.
const MAX_WASM_BYTES: usize = 32 << 20;

const TRANSFORM: &str = "(i32, i32, i32) -> (i32)";
/// Exports that every module has.
const REQUIRED: [(&str, &str); 1] = [("alloc", "(i32) -> (i32)")];
/// Exports that a module may have.
const OPTIONAL: [(&str, &str); 6] = [
    ("dealloc", "(i32, i32) -> ()"),
    ("init", TRANSFORM),
    ("look_back", TRANSFORM),
    ("clickmill_routed", "() -> (i32)"),
    ("clickmill_panic", "() -> (i32)"),
    // Modules for WASI have it to set up their libraries.
    ("_initialize", "() -> ()"),
];
/// All of these, or none.
const STATE: [(&str, &str); 3] = [
    ("clickmill_state_version", "() -> (i32)"),
    ("clickmill_save", "() -> (i32)"),
    ("clickmill_load", "(i32, i32) -> (i32)"),
];
/// All of these, or none; only beside [`STATE`].
const WINDOWS: [(&str, &str); 5] = [
    ("clickmill_emit", "() -> (i32)"),
    ("clickmill_pending", "() -> (i32)"),
    ("clickmill_watermark", "() -> (i64)"),
    ("clickmill_closed_before", "() -> (i64)"),
    ("clickmill_advance", "(i64) -> (i32)"),
];
/// Transforms by the names of their exports, all of the same type.
const TRANSFORMS: [(&str, Kind); 5] = [
    ("array_map", Kind::ArrayMap),
    ("filter", Kind::Filter),
    ("map", Kind::Map),
    ("filter_map", Kind::FilterMap),
    ("aggregate", Kind::Aggregate),
];

/// What a module's transform may make of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any number of records.
    ArrayMap,
    /// It, or nothing.
    Filter,
    /// One record.
    Map,
    /// One record, or nothing.
    FilterMap,
    /// One record, and a new accumulator for the next record.
    Aggregate,
}

/// A module that can be a stage of a chain. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    digest: ModuleDigest,
    pre: InstancePre<Host>,
    exports: Exports,
}

/// What a module offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exports {
    pub transform: &'static str,
    pub kind: Kind,
    pub init: bool,
    pub look_back: bool,
    pub dealloc: bool,
    /// It says how many records of its output it routed; without that it does not route at all.
    pub routed: bool,
    /// It tells the message of its last panic.
    pub panic: bool,
    pub initialize: bool,
    pub state: bool,
    pub windows: bool,
}

impl Exports {
    /// Whether its output does not tell which record it was made of: fluvio-smartmodule's glue for `array_map` makes
    /// records anew.
    pub(crate) fn fans_out(&self) -> bool {
        self.kind == Kind::ArrayMap && !self.routed
    }
}

impl Module {
    pub(crate) fn compile(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Self, EngineError> {
        if wasm.len() > MAX_WASM_BYTES {
            return Err(EngineError::TooLarge { bytes: wasm.len(), limit: MAX_WASM_BYTES });
        }
        let digest = ModuleDigest(Sha256::digest(wasm).into());
        if !wasm.starts_with(MAGIC) {
            let message = "it is no WebAssembly module: it does not begin as one does (`\\0asm`)".to_owned();
            return Err(EngineError::Compile { sha256: digest, message });
        }
        bounds::check(wasm).map_err(|problem| EngineError::TooMuch { sha256: digest, problem })?;
        let failed = |e: wasmtime::Error| EngineError::Compile { sha256: digest, message: format!("{e:#}") };
        let module = wasmtime::Module::from_binary(engine, wasm).map_err(failed)?;
        imports::check(&module).map_err(|import| EngineError::Import { sha256: digest, import })?;
        let exports = check_exports(&module).map_err(|problem| EngineError::Export { sha256: digest, problem })?;
        let pre = imports::linker(engine).and_then(|linker| linker.instantiate_pre(&module)).map_err(failed)?;
        Ok(Self(Arc::new(Inner { digest, pre, exports })))
    }

    /// SHA-256 of the module's bytes.
    #[must_use]
    pub fn digest(&self) -> ModuleDigest {
        self.0.digest
    }

    /// Whether it keeps state from batch to batch, and can save and load it.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.0.exports.state
    }

    /// What its transform may make of a record.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.exports.kind
    }

    /// Whether it may make several records of one: an `array_map` of Fluvio's.
    #[must_use]
    pub fn makes_several(&self) -> bool {
        self.0.exports.fans_out()
    }

    /// Whether it keeps windows: it takes events in and gives partials when asked.
    #[must_use]
    pub fn keeps_windows(&self) -> bool {
        self.0.exports.windows
    }

    pub(crate) fn exports(&self) -> Exports {
        self.0.exports
    }

    pub(crate) fn pre(&self) -> &InstancePre<Host> {
        &self.0.pre
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.0.pre.module().engine()
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("digest", &self.0.digest).field("exports", &self.0.exports).finish()
    }
}

fn check_exports(module: &wasmtime::Module) -> Result<Exports, String> {
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => {}
        Some(other) => {
            return Err(format!("its export memory is {}, not a memory", signature(&other)));
        }
        None => return Err("it exports no memory".into()),
    }
    for (name, of) in REQUIRED {
        if !has(module, name, of)? {
            return Err(format!("it does not export {name} {of}"));
        }
    }
    let mut found = TRANSFORMS.iter().filter(|(name, _)| module.get_export(name).is_some());
    let (transform, kind) =
        *found.next().ok_or("it exports no transform: array_map, filter, map, filter_map or aggregate")?;
    if let Some((second, _)) = found.next() {
        return Err(format!("it exports two transforms, {transform} and {second}; one is expected"));
    }
    has(module, transform, TRANSFORM)?;
    let mut optional = [false; OPTIONAL.len()];
    for (present, (name, of)) in optional.iter_mut().zip(OPTIONAL) {
        *present = has(module, name, of)?;
    }
    let [dealloc, init, look_back, routed, panic, initialize] = optional;
    let (state, windows) = (all_or_none(module, &STATE)?, all_or_none(module, &WINDOWS)?);
    if windows && !state {
        return Err(format!("it exports {} and no {}", WINDOWS[0].0, STATE[1].0));
    }
    for (present, name) in [(routed, OPTIONAL[3].0), (state, STATE[0].0)] {
        if present && kind == Kind::Aggregate {
            return Err(format!("it exports {name} beside aggregate, whose state is the accumulator"));
        }
        if present && look_back {
            return Err(format!("it exports {name} beside look_back, by which it has no state of its own"));
        }
    }
    Ok(Exports { transform, kind, init, look_back, dealloc, routed, panic, initialize, state, windows })
}

/// Whether it exports a function of this name; one of another type is an error.
fn has(module: &wasmtime::Module, name: &str, of: &str) -> Result<bool, String> {
    match module.get_export(name).map(|export| signature(&export)) {
        None => Ok(false),
        Some(found) if found == of => Ok(true),
        Some(found) => Err(format!("its export {name} is {found}, expected {of}")),
    }
}

fn all_or_none(module: &wasmtime::Module, names: &[(&str, &str)]) -> Result<bool, String> {
    let (mut present, mut missing) = (None, None);
    for (name, of) in names {
        if has(module, name, of)? { present = Some(name) } else { missing = Some(name) }
    }
    match (present, missing) {
        (Some(present), Some(missing)) => Err(format!("it exports {present} but not {missing}")),
        (present, _) => Ok(present.is_some()),
    }
}

/// A function's type as the tables here write it, or what it is instead.
pub(crate) fn signature(of: &ExternType) -> String {
    fn list(types: impl Iterator<Item = wasmtime::ValType>) -> String {
        types.map(|t| t.to_string()).collect::<Vec<_>>().join(", ")
    }
    let func = |f: &FuncType| format!("({}) -> ({})", list(f.params()), list(f.results()));
    match of {
        ExternType::Func(f) => func(f),
        ExternType::Memory(_) => "a memory".into(),
        ExternType::Table(_) => "a table".into(),
        ExternType::Global(_) => "a global".into(),
        ExternType::Tag(_) => "a tag".into(),
    }
}
