//! See `targets::streams_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::streams_server(data));
