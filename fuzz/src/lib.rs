//! What the fuzz targets do, apart from the fuzzer: `tests/codecs/fuzz_corpus.rs` of the root crate runs the same.

pub mod targets;
