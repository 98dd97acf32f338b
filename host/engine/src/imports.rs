//! What a module may import, and what it gets: the output of a call, a log, and the harmless part of WASI.

use wasmtime::{Caller, Linker, Result, bail};

use crate::guest::Host;
use crate::module::signature;
use crate::wasi;

/// The imports of module `env`.
const ENV: [(&str, &str); 2] = [("copy_records", "(i32, i32) -> ()"), ("clickmill_log", "(i32, i32) -> ()")];

/// Bytes of one call of `clickmill_log` that are looked at: more than a log takes between two drains.
const MAX_LOG_BYTES: usize = 64 << 10;

/// Whether the module imports nothing else; an error names the first import that is not there.
pub(crate) fn check(module: &wasmtime::Module) -> Result<(), String> {
    for import in module.imports() {
        let known = match import.module() {
            "env" => &ENV[..],
            wasi::MODULE => &wasi::FUNCTIONS,
            _ => &[],
        };
        let of = signature(&import.ty());
        if !known.contains(&(import.name(), of.as_str())) {
            return Err(format!("{}.{} {of}", import.module(), import.name()));
        }
    }
    Ok(())
}

/// The names of WASI's functions that are there, for the message of a refusal.
pub(crate) fn harmless() -> String {
    wasi::FUNCTIONS.map(|(name, _)| name).join(", ")
}

/// All of them, defined.
pub(crate) fn linker(engine: &wasmtime::Engine) -> Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker
        .func_wrap("env", "copy_records", |mut caller: Caller<'_, Host>, address: i32, len: i32| {
            caller.data_mut().copied_out(address, len);
        })?
        .func_wrap("env", "clickmill_log", |mut caller: Caller<'_, Host>, address: i32, len: i32| -> Result<()> {
            let (address, len) = (address.cast_unsigned() as usize, len.cast_unsigned() as usize);
            let memory = wasi::memory(&mut caller);
            let data = memory.as_ref().map_or(&[][..], |memory| memory.data(&caller));
            let Some(text) = data.get(address..).and_then(|data| data.get(..len)) else {
                bail!("clickmill_log outside memory: {len} bytes at {address}, memory has {}", data.len());
            };
            caller.data().said(&text[..len.min(MAX_LOG_BYTES)]);
            Ok(())
        })?;
    wasi::define(&mut linker)?;
    Ok(linker)
}
