//! See `demolish_fuzz::edits`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| demolish_fuzz::edits::run(data));
