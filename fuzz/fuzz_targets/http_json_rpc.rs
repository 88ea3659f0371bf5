//! See `targets::http_json_rpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coreloop_fuzz::targets::http_json_rpc(data));
