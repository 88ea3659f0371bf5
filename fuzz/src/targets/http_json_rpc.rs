//! JSON-RPC in the bodies of HTTP requests.

use std::sync::Arc;

use coreloop::codec::{self, Codec};
use coreloop::wire::{Http, ServerContext};
use serde::de::IgnoredAny;

use super::connection::{connection, small_limits};
use super::rpc::{EchoSite, echo};
use super::{cut, pieces_of};

/// Passes a JSON-RPC body in one request with a length and in one with a chunk for each piece. The first byte counts
/// cuts, as in [`super::frame`]. Each request has one response, which is JSON or empty, and is the same for both
/// forms of the body.
pub fn http_json_rpc(input: &[u8]) {
    let Some((body, cuts)) = cut(input) else { return };
    let mut limits = small_limits();
    limits.http_head_bytes_max = 64 << 10;
    let responses = |stream: &[u8], piece_bytes: usize| {
        let (limits, cors_origins) = (limits.clone(), Vec::new());
        let side = ServerContext { cors_origins, site: Box::new(EchoSite), ..ServerContext::bare(limits) };
        connection(Http::server(Arc::new(side)), stream.chunks(piece_bytes), echo).0
    };
    let head = "POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let with_length = [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    let mut in_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in pieces_of(body, &cuts).filter(|piece| !piece.is_empty()) {
        in_chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        in_chunks.extend_from_slice(piece);
        in_chunks.extend_from_slice(b"\r\n");
    }
    in_chunks.extend_from_slice(b"0\r\n\r\n");
    let whole = responses(&with_length, with_length.len());
    assert_eq!(responses(&with_length, 1), whole);
    let chunked = responses(&in_chunks, in_chunks.len());
    assert_eq!(responses(&in_chunks, 1), chunked);
    if body.len() <= super::BODY_MAX {
        assert_eq!(chunked, whole);
        let end = whole.windows(4).position(|four| four == b"\r\n\r\n").expect("a response") + 4;
        let body = &whole[end..];
        let is_json = codec::decode::<IgnoredAny>(Codec::Json, body).is_ok();
        assert!(is_json && whole.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", whole.escape_ascii());
    }
}
