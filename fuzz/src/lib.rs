//! The fuzz targets, without the fuzzer: `tests/codecs/fuzz_corpus.rs` of the root crate runs the same functions. The
//! fuzzer is `main.rs`.

pub mod targets;
