#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clickmill_fuzz::window_partial(data));
