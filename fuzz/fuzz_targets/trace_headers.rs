//! See `targets::trace_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::trace_headers(data));
