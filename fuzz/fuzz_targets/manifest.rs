//! Hands libFuzzer's bytes to [`clickmill_fuzz::manifest`], which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::manifest(data));
