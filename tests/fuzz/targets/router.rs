//! See `demolish_fuzz::router`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| demolish_fuzz::router::run(data));
