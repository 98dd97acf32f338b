//! Hands libFuzzer's bytes to [`clickmill_fuzz::checkpoint`], which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::checkpoint(data));
