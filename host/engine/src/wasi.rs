//! What modules built for wasm32-wasip1 import: the functions of WASI preview 1 that reach nothing outside.
//!
//! Clocks and random numbers are constants, since results may depend on records alone. There are no files, arguments or
//! variables; what is written to standard output and standard error goes to the stage's log. Everything else is refused
//! when the module is compiled.

use wasmtime::{Caller, Linker, Memory, Result, bail};

use crate::guest::Host;
use crate::log::MAX_LINE_BYTES;

/// The imports' module.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// The functions that there are.
pub(crate) const FUNCTIONS: [(&str, &str); 15] = [
    ("args_get", "(i32, i32) -> (i32)"),
    ("args_sizes_get", "(i32, i32) -> (i32)"),
    ("clock_res_get", "(i32, i32) -> (i32)"),
    ("clock_time_get", "(i32, i64, i32) -> (i32)"),
    ("environ_get", "(i32, i32) -> (i32)"),
    ("environ_sizes_get", "(i32, i32) -> (i32)"),
    ("fd_close", "(i32) -> (i32)"),
    ("fd_fdstat_get", "(i32, i32) -> (i32)"),
    ("fd_prestat_dir_name", "(i32, i32, i32) -> (i32)"),
    ("fd_prestat_get", "(i32, i32) -> (i32)"),
    ("fd_seek", "(i32, i64, i32, i32) -> (i32)"),
    ("fd_write", "(i32, i32, i32, i32) -> (i32)"),
    ("proc_exit", "(i32) -> ()"),
    ("random_get", "(i32, i32) -> (i32)"),
    ("sched_yield", "() -> (i32)"),
];

const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
const FAULT: i32 = 21;
const INVALID: i32 = 28;
const NOT_SEEKABLE: i32 = 70;

/// What every clock shows, nanoseconds: 1970-01-01.
const NOW: u64 = 0;
const RESOLUTION: u64 = 1_000_000;
/// Buffers of one `fd_write`, and random bytes of one call: the host works on them where no time limit interrupts it.
const MAX_BUFFERS: u32 = 1_024;
const MAX_RANDOM_BYTES: u32 = 1 << 20;
/// `fdstat` of a standard stream: a character device with no flags; all but the file type is zero.
const CHARACTER_DEVICE: u8 = 2;
const FDSTAT_LEN: usize = 24;

/// Defines the functions.
pub(crate) fn define(linker: &mut Linker<Host>) -> Result<()> {
    type Call<'a> = Caller<'a, Host>;
    let none = |mut call: Call<'_>, count: i32, bytes: i32| {
        both(put(&mut call, count, &0u32.to_le_bytes()), put(&mut call, bytes, &0u32.to_le_bytes()))
    };
    linker
        .func_wrap(MODULE, "args_get", |_: i32, _: i32| SUCCESS)?
        .func_wrap(MODULE, "args_sizes_get", none)?
        .func_wrap(MODULE, "environ_get", |_: i32, _: i32| SUCCESS)?
        .func_wrap(MODULE, "environ_sizes_get", none)?
        .func_wrap(MODULE, "clock_res_get", |mut call: Call<'_>, _: i32, to: i32| {
            put(&mut call, to, &RESOLUTION.to_le_bytes())
        })?
        .func_wrap(MODULE, "clock_time_get", |mut call: Call<'_>, _: i32, _: i64, to: i32| {
            put(&mut call, to, &NOW.to_le_bytes())
        })?
        .func_wrap(MODULE, "fd_close", |_: i32| BAD_DESCRIPTOR)?
        .func_wrap(MODULE, "fd_fdstat_get", |mut call: Call<'_>, fd: i32, to: i32| {
            let mut stat = [0; FDSTAT_LEN];
            stat[0] = CHARACTER_DEVICE;
            if is_standard(fd) { put(&mut call, to, &stat) } else { BAD_DESCRIPTOR }
        })?
        .func_wrap(MODULE, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| BAD_DESCRIPTOR)?
        .func_wrap(MODULE, "fd_prestat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?
        .func_wrap(
            MODULE,
            "fd_seek",
            |fd: i32, _: i64, _: i32, _: i32| {
                if is_standard(fd) { NOT_SEEKABLE } else { BAD_DESCRIPTOR }
            },
        )?
        .func_wrap(MODULE, "fd_write", fd_write)?
        .func_wrap(MODULE, "proc_exit", |code: i32| -> Result<()> { bail!("it called proc_exit({code})") })?
        .func_wrap(MODULE, "random_get", random_get)?
        .func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    Ok(())
}

const fn is_standard(fd: i32) -> bool {
    matches!(fd, 0..=2)
}

const fn both(first: i32, second: i32) -> i32 {
    if first == SUCCESS { second } else { first }
}

/// The module's memory; a module without one was refused when it was compiled.
pub(crate) fn memory(call: &mut Caller<'_, Host>) -> Option<Memory> {
    call.get_export("memory")?.into_memory()
}

fn put(call: &mut Caller<'_, Host>, to: i32, bytes: &[u8]) -> i32 {
    let Some(memory) = memory(call) else { return FAULT };
    match memory.write(call, to.cast_unsigned() as usize, bytes) {
        Ok(()) => SUCCESS,
        Err(_) => FAULT,
    }
}

/// The same bytes in every call, and not all alike: what draws until it has a number that fits comes to an end.
fn random_get(mut call: Caller<'_, Host>, to: i32, len: i32) -> i32 {
    if len.cast_unsigned() > MAX_RANDOM_BYTES {
        return INVALID;
    }
    let mut bytes = vec![0; len as usize];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for byte in &mut bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    put(&mut call, to, &bytes)
}

fn fd_write(mut call: Caller<'_, Host>, fd: i32, buffers: i32, count: i32, written: i32) -> i32 {
    let stream = match fd {
        1 => 0,
        2 => 1,
        _ => return BAD_DESCRIPTOR,
    };
    if count.cast_unsigned() > MAX_BUFFERS {
        return INVALID;
    }
    let Some(memory) = memory(&mut call) else { return FAULT };
    let (data, host) = memory.data_and_store_mut(&mut call);
    let Some((text, len)) = gather(data, buffers.cast_unsigned(), count.cast_unsigned()) else { return FAULT };
    host.wrote(stream, &text);
    put(&mut call, written, &len.to_le_bytes())
}

/// The first bytes of `count` buffers, more than a line, and how many there are in all.
fn gather(data: &[u8], buffers: u32, count: u32) -> Option<(Vec<u8>, u32)> {
    const MAX: usize = 4 * MAX_LINE_BYTES;
    let list = data.get(buffers as usize..)?.get(..count as usize * 8)?;
    let (mut text, mut total) = (Vec::new(), 0u32);
    for entry in list.as_chunks::<8>().0 {
        let [address, len] = [&entry[..4], &entry[4..]].map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]));
        let bytes = data.get(address as usize..)?.get(..len as usize)?;
        text.extend_from_slice(&bytes[..bytes.len().min(MAX - text.len())]);
        total = total.checked_add(len)?;
    }
    Some((text, total))
}
