//! Writes a client's call. No name or metadata of a caller can end a line or change the framing.

use coreloop_bufpool::LINK_BYTES_MIN;

use super::chunks::is_token;
use super::framing::is_hop_by_hop;
use crate::message::{Metadata, OutgoingCall, SendBody};
use crate::method_name::write_http_path;
use crate::wire::Out;

/// Writes a call as a Connect unary request.
pub(super) fn write(host: &str, call: OutgoingCall<'_>, out: &mut Out<'_>) {
    out.put(b"POST ");
    write_http_path(call.name, |bytes| out.put(bytes));
    out.put(b" HTTP/1.1\r\nHost: ");
    out.put(host.as_bytes());
    out.put(b"\r\nContent-Type: application/json\r\nConnect-Protocol-Version: 1\r\n");
    if call.time_left_us != 0 {
        put_number(b"Connect-Timeout-Ms: ", u64::from(call.time_left_us.div_ceil(1000)), out);
    }
    for (name, value) in Metadata::checked_before(call.metadata).iter() {
        put_field(name, value, out);
    }
    put_number(b"Content-Length: ", call.body.len() as u64, out);
    match call.body {
        SendBody::Bytes(bytes) => out.queue.put_pair(out.pool, b"\r\n", bytes),
        SendBody::Chunk(chunk) if chunk.len() < LINK_BYTES_MIN => {
            out.queue.put_pair(out.pool, b"\r\n", &chunk)
        }
        SendBody::Chunk(chunk) => {
            out.put(b"\r\n");
            out.link(chunk);
        }
    }
}

/// Writes a metadata entry as a field. Skips an entry that does not fit; a caller that must know checks
/// [`fits_field`] first.
fn put_field(name: &str, value: &[u8], out: &mut Out<'_>) {
    if fits_field(name, value) {
        out.queue.put_pair(out.pool, name.as_bytes(), b": ");
        out.queue.put_pair(out.pool, value, b"\r\n");
    }
}

/// Whether a metadata entry can be sent as a header field: its name is a token, its value has no control characters
/// (RFC 9110 sections 5.1 and 5.5), and it concerns neither the connection nor the message's framing.
pub(in crate::wire) fn fits_field(name: &str, value: &[u8]) -> bool {
    const OURS: [&str; 8] = [
        "host",
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "expect",
        "method",
    ];
    let is_field = name.bytes().all(is_token)
        && value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
        && !name.is_empty();
    let is_ours = OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) || is_hop_by_hop(name);
    let is_protocol = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("connect-"));
    is_field && !is_ours && !is_protocol
}

/// Whether an entry can be a field of a response, as a header or behind `Trailer-`: it is one that [`fits_field`], and not
/// one that the server or the Connect protocol sets.
pub(super) fn fits_response_field(name: &str, value: &[u8]) -> bool {
    const OURS: [&str; 4] = ["date", "server-timing", "allow", "accept-encoding"];
    let begins_with =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    fits_field(name, value)
        && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
        && !begins_with("trailer-")
        && !begins_with("access-control-")
}

fn put_number(name: &[u8], number: u64, out: &mut Out<'_>) {
    let (mut text, mut at, mut rest) = ([0; 22], 20, number);
    text[20..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.queue.put_pair(out.pool, name, &text[at..]);
}
