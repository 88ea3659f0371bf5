//! See `targets::streams_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::streams_client(data));
