//! See `targets::codec_fixed_raw`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::codec_fixed_raw(data));
