//! See `targets::codec_protobuf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::codec_protobuf(data));
