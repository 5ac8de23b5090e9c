//! See `demolish_fuzz::envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| demolish_fuzz::envelope::run(data));
