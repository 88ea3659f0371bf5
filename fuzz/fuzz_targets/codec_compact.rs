//! See `targets::codec_compact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::codec_compact(data));
