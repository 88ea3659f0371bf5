//! `--trace`: a share of the calls carry a sampled `traceparent`, and the slowest of them are listed with their trace ids.
//!
//! The requests of such calls are built once, like all others, with a placeholder in place of the ids. When a call is made, the
//! placeholder in its bytes is replaced: the field has a fixed length, so that this works in each protocol with metadata.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use coreloop::Code;
use serde::Serialize;

use super::headers::Entry;
use super::mix;
use super::speech::AddressProtocol;
use super::tally::Call;
use super::units;

/// The header field of W3C Trace Context.
pub const FIELD: &str = "traceparent";
/// A `traceparent` whose ids are not valid: no other text of a request is the same.
const PLACEHOLDER: &[u8; 55] = b"00-00000000000000000000000000000000-0000000000000000-01";
/// Number of traces that a result lists.
const LISTED_MAX: usize = 10;
/// Unanswered calls have this in place of a status.
const UNANSWERED: &str = "unanswered";

/// Parses `1/1000`, one in a thousand.
pub fn share(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
    let number = number.filter(|number| (1..=1_000_000_000).contains(number));
    number.ok_or_else(|| format!("expected a share of the form 1/N, such as 1/1000; found {text:?}"))
}

/// Returns the entries of a traced call.
pub fn entries(speaks: AddressProtocol, entries: &[Entry]) -> Result<Vec<Entry>, String> {
    if matches!(speaks, AddressProtocol::Gob | AddressProtocol::GobHttp | AddressProtocol::JsonRpc) {
        return Err(format!("{speaks}: cannot carry --trace: use native:, http: or grpc:"));
    }
    if entries.iter().any(|(name, _)| name.eq_ignore_ascii_case(FIELD)) {
        return Err(format!("--trace: sends {FIELD} itself: leave it out of --header and --metadata"));
    }
    let placeholder = String::from_utf8_lossy(PLACEHOLDER).into_owned();
    Ok(entries.iter().cloned().chain([(FIELD.to_owned(), placeholder)]).collect())
}

/// Decides which calls of a thread are traced.
#[derive(Clone, Debug)]
pub struct TraceSampler {
    /// One call in this many; 0: none.
    one_in: u64,
    until_next: u64,
    /// The trace of the next such call.
    next: u64,
    /// Number of methods: the requests of traced calls follow those of the others.
    methods: u32,
}

impl TraceSampler {
    /// Creates the sampler of a thread.
    pub fn new(one_in: u64, thread: usize, methods: usize) -> TraceSampler {
        // Threads and runs begin at different numbers, so that no id is used twice.
        let first = ((thread as u64) << 48) + 1;
        TraceSampler { one_in, until_next: one_in, next: first, methods: methods as u32 }
    }

    /// Returns the request and the trace of the next call of a method; 0: it is not traced.
    #[inline]
    pub fn request(&mut self, method: u16) -> (u32, u64) {
        if self.one_in == 0 {
            return (u32::from(method), 0);
        }
        self.until_next -= 1;
        if self.until_next > 0 {
            return (u32::from(method), 0);
        }
        self.until_next = self.one_in;
        let trace = self.next;
        self.next += 1;
        (self.methods + u32::from(method), trace)
    }
}

/// Returns the first half of this process's trace ids: at random, since other runs reach the same servers.
fn first_half() -> u64 {
    static HALF: OnceLock<u64> = OnceLock::new();
    *HALF.get_or_init(|| RandomState::new().build_hasher().finish() | 1)
}

/// Spreads consecutive numbers over all 64 bits, each to one of its own (the finalizer of SplitMix64); 0 stays 0.
fn spread(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns the trace id of a traced call.
pub fn trace_id(trace: u64) -> String {
    format!("{:016x}{:016x}", first_half(), spread(trace))
}

/// Replaces the placeholder in the bytes of a request.
#[cold]
pub fn fill(trace: u64, request: &mut [u8]) {
    let at = request.windows(PLACEHOLDER.len()).position(|bytes| bytes == PLACEHOLDER);
    debug_assert!(at.is_some(), "the request of a traced call has a placeholder");
    if let Some(at) = at {
        let value = format!("00-{}-{:016x}-01", trace_id(trace), spread(trace));
        request[at..at + PLACEHOLDER.len()].copy_from_slice(value.as_bytes());
    }
}

/// A traced call that has ended.
#[derive(Clone, Copy, Debug)]
struct EndedTrace {
    call: Call,
    /// From the intended time.
    latency_ns: u64,
    status: &'static str,
    queue_ns: u64,
    handler_ns: u64,
}

/// The traced calls of the measured window.
#[derive(Clone, Debug, Default)]
pub struct TraceTally {
    ended: u64,
    /// The slowest first.
    slowest: Vec<EndedTrace>,
}

impl TraceTally {
    /// Records a call; `parts` are its times in queue and handler, in ns. `status` is `None` for a call without an answer.
    #[cold]
    pub fn on_ended(&mut self, call: &Call, status: Option<usize>, latency_ns: u64, parts: (u64, u64)) {
        let status =
            status.map_or(UNANSWERED, |number| Code::ALL.get(number).map_or("unknown", |code| code.name()));
        self.ended += 1;
        self.insert(EndedTrace { call: *call, latency_ns, status, queue_ns: parts.0, handler_ns: parts.1 });
    }

    fn insert(&mut self, ended: EndedTrace) {
        let at = self.slowest.partition_point(|known| known.latency_ns >= ended.latency_ns);
        if at < LISTED_MAX {
            self.slowest.truncate(LISTED_MAX - 1);
            self.slowest.insert(at, ended);
        }
    }

    /// Adds the calls of another thread.
    pub fn add(&mut self, other: &TraceTally) {
        self.ended += other.ended;
        other.slowest.iter().for_each(|ended| self.insert(*ended));
    }

    /// Returns the stored form, with the names of the methods. The window began at `from_ns`.
    pub fn figures(
        &self,
        calls: &[mix::Call],
        one_in: u64,
        from_ns: u64,
        console: Option<&str>,
    ) -> TraceFigures {
        let slowest = self.slowest.iter().map(|ended| SlowTrace {
            trace_id: trace_id(ended.call.trace),
            method: calls
                .get(usize::from(ended.call.method))
                .map_or_else(String::new, |call| call.method.clone()),
            status: ended.status,
            at_s: ended.call.intended_ns.saturating_sub(from_ns) as f64 / 1e9,
            latency_ns: ended.latency_ns,
            queue_ns: ended.queue_ns,
            handler_ns: ended.handler_ns,
        });
        let console = console.map(|address| {
            let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
            format!("http://{bare}")
        });
        TraceFigures { one_in, ended: self.ended, slowest: slowest.collect(), console }
    }
}

/// The traces of a run.
#[derive(Clone, Debug, Serialize)]
pub struct TraceFigures {
    /// One call in this many was traced.
    pub one_in: u64,
    /// Traced calls that were due in the measured window.
    pub ended: u64,
    /// The slowest of them, the slowest first.
    pub slowest: Vec<SlowTrace>,
    /// URL of the server's admin listener, if `--metrics` names it.
    pub console: Option<String>,
}

/// A traced call among the slowest.
#[derive(Clone, Debug, Serialize)]
pub struct SlowTrace {
    /// The trace, in hexadecimal.
    pub trace_id: String,
    /// The method.
    pub method: String,
    /// The name of the status, or `unanswered`.
    pub status: &'static str,
    /// When it was due, in seconds from the beginning of the measured window.
    pub at_s: f64,
    /// Latency from when it was due, in ns.
    pub latency_ns: u64,
    /// Time in the server's queue, as the server reports it, in ns.
    pub queue_ns: u64,
    /// Time in the handler, as the server reports it, in ns.
    pub handler_ns: u64,
}

impl TraceFigures {
    /// Returns the page of the console that shows a trace.
    pub fn link(&self, trace: &SlowTrace) -> Option<String> {
        self.console.as_ref().map(|console| format!("{console}/traces?id={}", trace.trace_id))
    }

    /// Returns headings and rows of the slowest traces.
    pub fn rows(&self) -> ([&'static str; 7], Vec<[String; 7]>) {
        let time = |ns: u64| units::latency(ns as f64);
        let row = |trace: &SlowTrace| {
            [
                trace.trace_id.clone(),
                trace.method.clone(),
                trace.status.to_owned(),
                format!("{:.3} s", trace.at_s),
                time(trace.latency_ns),
                time(trace.queue_ns),
                time(trace.handler_ns),
            ]
        };
        let headings = ["slowest traces", "method", "status", "due at", "latency", "queue", "handler"];
        (headings, self.slowest.iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_n_is_traced_with_an_id_of_its_own() {
        let mut sampler = TraceSampler::new(3, 1, 2);
        let requests: Vec<_> = (0..6).map(|_| sampler.request(1)).collect();
        let first = (1 << 48) + 1;
        assert_eq!(requests, [(1, 0), (1, 0), (3, first), (1, 0), (1, 0), (3, first + 1)]);
        let mut off = TraceSampler::new(0, 0, 2);
        assert!((0..100).all(|_| off.request(1) == (1, 0)));
    }

    #[test]
    fn the_placeholder_is_replaced_by_a_valid_traceparent() {
        let entries = entries(AddressProtocol::Http, &[("a".into(), "b".into())]).expect("it carries them");
        let mut request = super::super::headers::fields(&entries).into_bytes();
        fill(7, &mut request);
        let text = String::from_utf8(request).expect("text");
        let value = text.split("traceparent: ").nth(1).expect("the field").trim_end();
        let parts: Vec<&str> = value.split('-').collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("00", &*trace_id(7), "01"));
        assert_eq!((parts[1].len(), parts[2].len()), (32, 16));
        assert!(parts[1..3].iter().all(|id| id.bytes().all(|digit| b"0123456789abcdef".contains(&digit))));
        assert!(parts[1..3].iter().all(|id| id.bytes().any(|digit| digit != b'0')), "{value}");
        assert_ne!(trace_id(7), trace_id(8));
    }

    #[test]
    fn the_slowest_calls_are_kept_in_order() {
        let (mut one, mut other) = (TraceTally::default(), TraceTally::default());
        for latency_ns in [5, 100, 7, 3, 90, 1, 2, 4, 6, 8, 9, 50] {
            let call = Call { trace: latency_ns, ..Call::default() };
            let tally = if latency_ns % 2 == 0 { &mut one } else { &mut other };
            tally.on_ended(&call, Some(0), latency_ns, (1, 2));
        }
        one.add(&other);
        let figures = one.figures(&[], 10, 0, Some("a:1"));
        let latencies: Vec<u64> = figures.slowest.iter().map(|trace| trace.latency_ns).collect();
        assert_eq!(latencies, [100, 90, 50, 9, 8, 7, 6, 5, 4, 3]);
        assert_eq!(figures.ended, 12);
        let link = figures.link(&figures.slowest[0]).expect("the console is known");
        assert_eq!(link, format!("http://a:1/traces?id={}", trace_id(100)));
    }

    #[test]
    fn shares_and_protocols_are_checked() {
        assert_eq!(share("1/1000"), Ok(1000));
        for text in ["", "1000", "2/3", "1/0", "1/-1"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert!(
            entries(AddressProtocol::Gob, &[]).expect_err("no place").contains("gob: cannot carry --trace")
        );
        let own = [("Traceparent".to_owned(), "x".to_owned())];
        assert!(entries(AddressProtocol::Native, &own).is_err());
    }
}
