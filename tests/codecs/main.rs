//! Tests of the codecs against Go itself, and the fuzz corpus.

#![allow(missing_docs)]

#[cfg(all(feature = "full", feature = "grpc"))]
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

#[cfg(all(
    feature = "jsonrpc",
    feature = "netrpc",
    feature = "http",
    feature = "fixed",
    feature = "compact",
    feature = "messagepack",
    feature = "protobuf",
    feature = "lz4",
    feature = "grpc"
))]
mod fuzz_corpus;
#[cfg(all(feature = "gob", feature = "json"))]
mod gob_go;
