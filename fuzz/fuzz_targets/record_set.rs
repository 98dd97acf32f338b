//! Hands libFuzzer's bytes to [`clickmill_fuzz::record_set`], which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::record_set(data));
