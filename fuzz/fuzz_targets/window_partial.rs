//! Hands libFuzzer's bytes to [`clickmill_fuzz::window_partial`], which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::window_partial(data));
