//! Lines for whoever runs the module. Clickmill's host alone takes them, some each second.

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn clickmill_log(address: *const u8, len: usize);
}

/// Says a line; on a native target to standard error. A module that calls this does not load in a Fluvio broker, which
/// lacks the import.
pub fn log(line: &str) {
    #[cfg(target_arch = "wasm32")]
    // SAFETY: the host reads `len` bytes at `address`, which `line` covers, and writes nothing.
    unsafe {
        clickmill_log(line.as_ptr(), line.len());
    }
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{line}");
}
