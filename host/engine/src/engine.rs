//! One wasmtime engine: how modules are compiled, and the clock that interrupts them.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, EngineWeak, OptLevel, WasmBacktraceDetails};

use crate::{EngineError, Module, cache};

/// Time between two ticks of the clock that interrupts modules; call times are kept to within about one tick.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// Stack of a module's calls, a quarter of what Rust gives a thread.
const STACK_BYTES: usize = 512 << 10;

/// How an [`Engine`] is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where compiled modules are kept; made if it is missing, refused if anyone else can write to it. Without it every
    /// start compiles anew (about 0.1 s a module).
    pub cache_dir: Option<PathBuf>,
    /// Count instructions ([`Chain::fuel`](crate::Chain::fuel)) and let [`Limits::call_fuel`](crate::Limits) bound them.
    /// The time limit holds without it and costs far less.
    pub fuel: bool,
    /// Let every call take the time it takes. For modules that are trusted, and to measure what the limit costs.
    pub without_time_limit: bool,
}

/// Compiles modules. Cheap to clone; one a process is enough.
#[derive(Clone, Debug)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    options: EngineOptions,
}

impl Engine {
    /// Sets up wasmtime and starts the thread that ticks for it, which ends with the last engine, module and chain.
    ///
    /// # Errors
    /// [`EngineError::CacheDir`], [`EngineError::Setup`].
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config
            .epoch_interruption(!options.without_time_limit)
            .consume_fuel(options.fuel)
            .cranelift_opt_level(OptLevel::Speed)
            .max_wasm_stack(STACK_BYTES)
            // The same bytes must give the same result on every machine, NaN bits too.
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true)
            // Not from the environment: messages of faults are written down.
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .wasm_multi_memory(false)
            .wasm_memory64(false);
        if let Some(dir) = &options.cache_dir {
            config.cache(Some(cache::open(dir)?));
        }
        let setup = |e: &dyn std::fmt::Display| EngineError::Setup(e.to_string());
        let wasmtime = wasmtime::Engine::new(&config).map_err(|e| setup(&format!("{e:#}")))?;
        let ticking = wasmtime.weak();
        thread::Builder::new().name("wasm-epoch".into()).spawn(move || tick(&ticking)).map_err(|e| setup(&e))?;
        Ok(Self { wasmtime, options: options.clone() })
    }

    /// Compiles a module and checks its imports and exports. Nothing of it runs yet.
    ///
    /// # Errors
    /// [`EngineError::TooLarge`], [`EngineError::TooMuch`], [`EngineError::Compile`], [`EngineError::Import`], [`EngineError::Export`].
    pub fn compile(&self, wasm: &[u8]) -> Result<Module, EngineError> {
        Module::compile(&self.wasmtime, wasm)
    }

    /// How it was set up.
    #[must_use]
    pub const fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Whether it counts instructions.
    pub(crate) const fn meters(&self) -> bool {
        self.options.fuel
    }

    pub(crate) fn is_of(&self, module: &Module) -> bool {
        wasmtime::Engine::same(&self.wasmtime, module.engine())
    }
}

fn tick(engine: &EngineWeak) {
    loop {
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        engine.increment_epoch();
    }
}
