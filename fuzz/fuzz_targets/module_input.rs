#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::module_input(data));
