//! See `targets::tls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::tls(data));
