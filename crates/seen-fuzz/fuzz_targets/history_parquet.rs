#![no_main]
//! See `seen_fuzz::target(env!("CARGO_BIN_NAME"))`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seen_fuzz::run(env!("CARGO_BIN_NAME"), data));
