//! See `targets::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::http2(data));
