//! See `demolish_fuzz::framer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| demolish_fuzz::framer::run(data));
