//! The fuzz targets: each takes any bytes and must neither panic, nor hold much more memory than its input has, nor
//! behave differently when the same bytes arrive in other pieces.
//!
//! Nothing here depends on the fuzzer, so that a plain test can run the stored corpus, too.

mod codecs;
mod configuration;
mod connection;
mod dns;
mod endpoints;
mod grpc;
mod http;
mod http2;
mod http_json_rpc;
mod native;
mod protobuf;
mod registry;
mod rpc;
mod streams;
mod takeover;
mod tls;

pub use codecs::{
    Everything, User, codec_compact, codec_fixed_raw, codec_gob, codec_json, codec_messagepack, decompress,
};
pub use configuration::configuration;
pub use dns::dns;
pub use endpoints::endpoints;
pub use grpc::grpc;
pub use http::http;
pub use http_json_rpc::http_json_rpc;
pub use http2::{hpack, http2};
pub use native::{forwarded, frame, metadata, proxy, sniff, trace_headers};
pub use protobuf::{Tree, codec_protobuf};
pub use registry::registry;
pub use rpc::{connect, jsonrpc, netrpc};
pub use streams::{streams_client, streams_server};
pub use takeover::takeover;
pub use tls::{tls, tls_pair};

/// A target: its name, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 30] = [
    ("frame", frame),
    ("metadata", metadata),
    ("jsonrpc", jsonrpc),
    ("netrpc", netrpc),
    ("connect", connect),
    ("sniff", sniff),
    ("proxy", proxy),
    ("forwarded", forwarded),
    ("trace_headers", trace_headers),
    ("dns", dns),
    ("codec_json", codec_json),
    ("codec_compact", codec_compact),
    ("codec_messagepack", codec_messagepack),
    ("codec_gob", codec_gob),
    ("codec_protobuf", codec_protobuf),
    ("codec_fixed_raw", codec_fixed_raw),
    ("decompress", decompress),
    ("http", http),
    ("http_json_rpc", http_json_rpc),
    ("hpack", hpack),
    ("http2", http2),
    ("grpc", grpc),
    ("registry", registry),
    ("streams_server", streams_server),
    ("streams_client", streams_client),
    ("tls", tls),
    ("tls_pair", tls_pair),
    ("configuration", configuration),
    ("endpoints", endpoints),
    ("takeover", takeover),
];

/// The largest body that the protocol targets accept: small, so that the fuzzer finds both sides of the limit.
pub const BODY_MAX: usize = 256;

/// Splits the input: the first byte counts cuts, each of two bytes; then the stream. Returns the stream and its cuts.
fn cut(input: &[u8]) -> Option<(&[u8], Vec<usize>)> {
    let (cuts, rest) = input.split_first()?;
    let (cuts, stream) = rest.split_at_checked(2 * (*cuts as usize % 8))?;
    let at = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]) as usize % (stream.len() + 1);
    let mut cuts: Vec<usize> = cuts.chunks_exact(2).map(at).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    Some((stream, cuts))
}

fn pieces_of<'a>(stream: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut from = 0;
    cuts.iter().map(move |cut| &stream[std::mem::replace(&mut from, *cut)..*cut])
}
