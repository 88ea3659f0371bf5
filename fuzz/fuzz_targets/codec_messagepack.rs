//! See `targets::codec_messagepack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::codec_messagepack(data));
