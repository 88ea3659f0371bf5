//! Native frames, their metadata, and the first bytes of a connection.

use std::sync::Arc;

use coreloop::config::ForwardedField;
use coreloop::message::{Message, Metadata, MetadataBuf};
use coreloop::trace::TraceContext;
use coreloop::wire::forwarded;
use coreloop::wire::native::NativeEnd;
use coreloop::wire::proxy::{HEADER_BYTES_MAX, parse};
use coreloop::wire::sniff::{Sniffed, UNDECIDED_BYTES_MAX, sniff as tell};
use coreloop::wire::{Broken, ProtocolSet, Received, ServerContext, ServerProtocol};

use super::connection::{connection, small_limits, spans_of};
use super::{BODY_MAX, cut, pieces_of};

/// The result of decoding a stream: each message with the bytes of its spans.
#[derive(Debug, Default, PartialEq)]
struct Story {
    received: Vec<(Message, Vec<u8>)>,
    broken: Option<Broken>,
    left: usize,
}

fn story<'a, const S: bool>(pieces: impl Iterator<Item = &'a [u8]>) -> Story {
    let mut native = NativeEnd::<S>::new(BODY_MAX);
    let (mut story, mut held, mut bytes_min) = (Story::default(), Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        while story.broken.is_none() && held.len() >= bytes_min {
            bytes_min = 0;
            match native.receive_frame(&held) {
                Received::Message { message, consumed } => {
                    let bytes =
                        spans_of(&message).into_iter().flat_map(|span| &held[..consumed][span.range()]);
                    let bytes = bytes.copied().collect();
                    story.received.push((message, bytes));
                    held.drain(..consumed);
                }
                Received::Skip { consumed } => {
                    assert!(consumed > 0);
                    held.drain(..consumed);
                }
                Received::NeedMore { bytes_min: needed } => {
                    assert!(needed > held.len() && needed <= 32 + 65_535 + BODY_MAX);
                    bytes_min = needed;
                }
                Received::Broken(why) => story.broken = Some(why),
                Received::End => unreachable!("the native protocol has no last word"),
            }
        }
    }
    story.left = if story.broken.is_none() { held.len() } else { 0 };
    story
}

fn same_for_every_split<'a, const S: bool>(stream: &'a [u8], pieces: impl Iterator<Item = &'a [u8]>) {
    let whole = story::<S>([stream].into_iter());
    assert_eq!(story::<S>(pieces), whole);
    assert_eq!(story::<S>(stream.chunks(1)), whole);
}

/// Passes bytes to a server's and a client's side.
pub fn frame(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let pieces = || pieces_of(stream, &cuts);
    same_for_every_split::<true>(stream, pieces());
    same_for_every_split::<false>(stream, pieces());
    let side = Arc::new(ServerContext::bare(small_limits()));
    connection(ServerProtocol::undecided(ProtocolSet::SERVED, side), pieces(), |_| None);
}

/// Asserts that metadata that pass the check are the same when they are written and read again.
pub fn metadata(input: &[u8]) {
    let Ok(metadata) = Metadata::check(input) else { return };
    let mut again = MetadataBuf::new();
    for (key, value) in metadata.iter() {
        // The only possible error is that they exceed a frame.
        if again.push(key, value).is_err() {
            assert!(input.len() > 65_528);
            return;
        }
        assert!(metadata.find(key).is_some());
    }
    let again = Metadata::check(again.as_bytes()).unwrap();
    assert!(again.iter().eq(metadata.iter()));
}

/// Asserts that the trace headers of a caller, one in each line with its name, give a context that is the same when it is
/// sent and received again, or none.
pub fn trace_headers(input: &[u8]) {
    let mut metadata = MetadataBuf::new();
    for line in input.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        let (key, value) = line.split_at(colon);
        if let Ok(key) = std::str::from_utf8(key) {
            // What does not fit is left out.
            let _ = metadata.push(key, value.strip_prefix(b":").unwrap_or_default());
        }
    }
    let Some(context) = TraceContext::extract(metadata.view()) else { return };
    for sends_b3 in [false, true] {
        let mut sent = metadata.clone();
        context.inject(&mut sent, sends_b3);
        let has_room = sent.view().find("traceparent").is_some();
        assert!(has_room || sent.as_bytes().len() > 60_000);
        if has_room {
            let again = TraceContext::extract(sent.view()).expect("it was sent");
            assert_eq!((again.trace_id, again.span_id), (context.trace_id, context.span_id));
            assert!(again.state.is_none() || again.state == context.state);
        }
    }
}

/// Asserts that the protocol, once recognised from the first bytes, does not change with more bytes.
pub fn sniff(input: &[u8]) {
    let mut decided = None;
    for len in 0..=input.len().min(128) {
        match (tell(&input[..len]), decided) {
            (Sniffed::NeedMore, None) => assert!(len < UNDECIDED_BYTES_MAX),
            (said, None) => decided = Some(said),
            (said, Some(before)) => assert_eq!(said, before),
        }
    }
}

/// Asserts that a header of the PROXY protocol, once read or refused, stays so with more bytes.
pub fn proxy(input: &[u8]) {
    let mut decided = None;
    for len in 0..=input.len().min(HEADER_BYTES_MAX + 1) {
        let read = parse(&input[..len]);
        match (&read, &decided) {
            (Ok(None), None) => assert!(len < HEADER_BYTES_MAX),
            (Ok(Some(header)), None) => {
                assert!(header.bytes <= len && header.bytes <= HEADER_BYTES_MAX);
                decided = Some(read);
            }
            (Err(_), None) => decided = Some(read),
            // The text of a refusal shows more of the input.
            (Err(_), Some(Err(_))) => {}
            (_, Some(before)) => assert_eq!(&read, before),
        }
    }
}

/// Reads lines as the field of HTTP proxies, and asserts that what a client has written before changes nothing of what its
/// proxy adds.
pub fn forwarded(input: &[u8]) {
    for (field, added) in [
        (ForwardedField::XForwardedFor, &b"192.0.2.1"[..]),
        (ForwardedField::Forwarded, b"for=\"192.0.2.1\";proto=http"),
    ] {
        let lines = || input.split(|byte| *byte == b'\n');
        let _ = forwarded::client(field, lines(), |ip| ip.is_loopback());
        let joined = [input, b", ", added].concat();
        let joined = joined.split(|byte| *byte == b'\n');
        let expected = Some(([192, 0, 2, 1], 0).into());
        assert_eq!(forwarded::client(field, joined, |ip| ip.is_loopback()), expected);
        assert_eq!(forwarded::client(field, lines().chain([added]), |ip| ip.is_loopback()), expected);
    }
}
