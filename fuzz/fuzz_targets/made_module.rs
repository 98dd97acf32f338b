//! Hands libFuzzer's bytes to [`clickmill_fuzz::made_module`], which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::made_module(data));
