//! Hands libFuzzer's bytes to [`clickmill_fuzz::log_files`], which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::log_files(data));
