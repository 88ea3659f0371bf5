//! Whole inline calls: request bytes in, reply bytes out.
//!
//! `call` is everything that a server does between a read and a write, on a connection without a socket. `turn` is a
//! whole turn of the reactor, with a Unix socket: the wait, the read and the write, of which callgrind counts only
//! the part outside the kernel. With `x16`, sixteen requests come in one read; the figure is for one call.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use coreloop::Server;
use coreloop::config::TraceConfig;
use coreloop::interceptor::{Admit, AdmitCall, EndedCall, Hooks, Interceptor};
use coreloop::message::MetadataBuf;
use coreloop::reactor::Transport;
use coreloop::server::{DetachedServer, ServerBuilder};
use coreloop::trace::Tracer;
use coreloop::wire::Scheme;

use super::wire::{SPOKEN, bytes_of, method_of};
use super::{Case, TIMES};
use crate::meter::uncounted;

pub(super) fn add(cases: &mut Vec<Case>) {
    for scheme in SPOKEN {
        for depth in [1, 16] {
            let scheme = *scheme;
            let name = |what: &str| format!("{what}/{}/x{depth}", scheme.name());
            let call = Case::new(name("call"), move || {
                let (mut server, input, expected) = begun(scheme, depth);
                move || {
                    uncounted(|| server.hold_quick(method_of(scheme).0));
                    server.feed(&input);
                    let mut written = 0;
                    server.write(|bytes| written += bytes.len());
                    assert!(is_whole(written, expected, depth));
                }
            });
            cases.push(call.operations(depth as u64));
            let turn = Case::new(name("turn"), move || {
                let (mut server, input, expected) = begun(scheme, depth);
                let (mut peer, ours) = mio::net::UnixStream::pair().expect("the system has descriptors left");
                server.adopt(Transport::Unix(ours)).expect("the wait goes well");
                let mut output = vec![0; 64 << 10];
                let mut exchange = move |input: &[u8]| {
                    uncounted(|| {
                        server.hold_quick(method_of(scheme).0);
                        peer.write_all(input).expect("a socket takes so few bytes");
                    });
                    server.turn().expect("the wait goes well");
                    uncounted(|| peer.read(&mut output).expect("a turn answers what it reads"))
                };
                exchange(&bytes_of(scheme).first);
                move || {
                    assert!(is_whole(exchange(&input), expected, depth));
                }
            });
            cases.push(turn.operations(depth as u64));
        }
    }
    // Without the fast path for quick methods: the clock is read around every call.
    cases.push(Case::new("call/native/x1-timed", || {
        let (mut server, input, expected) = begun(Scheme::Native, 1);
        move || {
            uncounted(|| server.hold_exact(method_of(Scheme::Native).0));
            server.feed(&input);
            let mut written = 0;
            server.write(|bytes| written += bytes.len());
            assert!(is_whole(written, expected, 1));
        }
    }));
    // With an interceptor that reads a key of the metadata and counts ends.
    for depth in [1, 16] {
        let case = Case::new(format!("call/native/x{depth}-intercepted"), move || {
            let add = |builder: ServerBuilder| builder.interceptor(ReadsAndCounts::default());
            let (mut server, input, expected) = begun_with(Scheme::Native, depth, add);
            let input = with_metadata(&input, depth, "authorization", "Bearer 0123456789abcdef");
            move || {
                uncounted(|| server.hold_quick(method_of(Scheme::Native).0));
                server.feed(&input);
                let mut written = 0;
                server.write(|bytes| written += bytes.len());
                assert!(is_whole(written, expected, depth));
            }
        });
        cases.push(case.operations(depth as u64));
    }
    // With a tracer that samples one call in a thousand; metrics are made of what is counted anyway. Calls without trace
    // headers, then calls of a caller that does not sample, and of one that does: each has a span.
    for (what, depth, parent) in [
        ("traced", 1, None),
        ("traced", 16, None),
        ("unsampled", 1, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")),
        ("sampled", 1, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
    ] {
        let case = Case::new(format!("call/native/x{depth}-{what}"), move || {
            let tracer = Tracer::new(&TraceConfig::default());
            let exported = tracer.clone();
            let add = |builder: ServerBuilder| builder.tracer(tracer);
            let (mut server, mut input, expected) = begun_with(Scheme::Native, depth, add);
            if let Some(parent) = parent {
                input = with_metadata(&input, depth, "traceparent", parent);
            }
            move || {
                uncounted(|| {
                    server.hold_quick(method_of(Scheme::Native).0);
                    // As an exporter does: otherwise spans are not kept for it.
                    drop(exported.take(usize::MAX));
                });
                server.feed(&input);
                let mut written = 0;
                server.write(|bytes| written += bytes.len());
                assert!(is_whole(written, expected, depth));
            }
        });
        // Each has its share of sampled calls, wherever the countdown begins.
        let times = if parent.is_none() { 2000 } else { TIMES };
        cases.push(case.operations(depth as u64).times(times));
    }
}

/// Adds an entry of metadata to each of these native requests, which have none.
fn with_metadata(input: &[u8], depth: usize, key: &str, value: &str) -> Vec<u8> {
    const HEADER_BYTES: usize = 32;
    let mut metadata = MetadataBuf::new();
    metadata.push(key, value.as_bytes()).expect("it is short");
    let mut output = Vec::new();
    for request in input.chunks(input.len() / depth) {
        let (header, body) = request.split_at(HEADER_BYTES);
        output.extend_from_slice(&header[..6]);
        output.extend_from_slice(&(metadata.as_bytes().len() as u16).to_le_bytes());
        output.extend_from_slice(&header[8..]);
        output.extend_from_slice(metadata.as_bytes());
        output.extend_from_slice(body);
    }
    output
}

/// Reads one entry of the metadata of each call, and counts the ends of calls.
#[derive(Default)]
struct ReadsAndCounts {
    with_key: AtomicU64,
    ends: AtomicU64,
}

impl Interceptor for ReadsAndCounts {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT | Hooks::ON_END
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if call.metadata().find("authorization").is_some() {
            self.with_key.fetch_add(1, Ordering::Relaxed);
        }
        Admit::Continue
    }

    fn on_end(&self, _end: &EndedCall<'_>) {
        self.ends.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns whether these are all the replies. HTTP writes how long a call took, which varies in its number of digits.
fn is_whole(written: usize, expected: usize, depth: usize) -> bool {
    written.abs_diff(expected) <= 8 * depth && written > 0
}

/// Returns a server whose connection has had its first call, `depth` requests to feed it, and the length of their
/// replies.
fn begun(scheme: Scheme, depth: usize) -> (DetachedServer, Vec<u8>, usize) {
    begun_with(scheme, depth, |builder| builder)
}

/// As [`begun`], with additions to the server.
fn begun_with(
    scheme: Scheme,
    depth: usize,
    add: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (DetachedServer, Vec<u8>, usize) {
    // The server's threads have no work here, so the minimum of each suffices.
    let builder = Server::builder().configure(|config| {
        config.cores = 1;
        config.workers = 1;
        config.worker_spin_us = 0;
    });
    let mut server = DetachedServer::new(add(coreloop::demo::services(builder)))
        .expect("the demo's services are in order");
    let bytes = bytes_of(scheme);
    let mut answered = |input: &[u8]| {
        let mut replies = Vec::new();
        server.feed(input);
        server.write(|bytes| replies.extend_from_slice(bytes));
        replies
    };
    assert!(!answered(&bytes.first).is_empty());
    let input = bytes.request.repeat(depth);
    let replies = answered(&input);
    let sum: &[u8] = if scheme == Scheme::Native { &[13] } else { b"13" };
    let sum = if scheme == Scheme::Gob { &[26][..] } else { sum };
    assert!(replies.windows(sum.len()).any(|bytes| bytes == sum), "six and seven are thirteen: {replies:?}");
    let expected = replies.len();
    (server, input, expected)
}
