//! The limits and timeouts of a client, each with what happens when it is reached.

use std::fmt;

use super::pending::PENDING_MAX;
use crate::conn::streams::WINDOW_BYTES_MAX;
use crate::policy::backoff::Backoff;

/// What happens to a call when `in_flight_max` calls are in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The call waits for a free place, until its deadline; at most `waiting_max` calls do.
    #[default]
    Wait,
    /// The call fails at once with `resource_exhausted`.
    Refuse,
}

/// The limits of a client, for each of its endpoints (addresses). Sizes are in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Time to resolve the name and connect. Default 5 000. At the limit: the calls that wait for the connection fail
    /// with [`CallError::Connect`](super::CallError::Connect). Too small: slow links never connect. Too large:
    /// callers of an address that drops packets wait that long.
    pub connect_timeout_ms: u64,

    /// Calls in flight: sent, or about to be. Default 1024, at most 1 048 576. At the limit: see
    /// [`ClientConfig::when_full`]. Too small: a fast server idles. Larger than the server's own limit (its
    /// `in_flight_max`, also 1024 by default): the server stops reading, and the calls beyond its limit wait in the
    /// sockets, where they cannot be cancelled.
    pub in_flight_max: usize,

    /// Bytes of the arguments of calls in flight, or of what waits to be written, if that is more. Default 64 MiB; a
    /// single larger call is still sent, alone. At the limit: calls wait, whatever [`ClientConfig::when_full`] is.
    /// Too small: large calls are sent one after the other. Too large: a server that reads nothing costs that much
    /// memory.
    pub in_flight_bytes_max: usize,

    /// Whether calls beyond [`ClientConfig::in_flight_max`] wait. Default: they do.
    pub when_full: WhenFull,

    /// Calls that wait for a free place or for a connection. Default 16 384. At the limit: `resource_exhausted`. Too
    /// small: bursts are refused. Too large: calls wait longer than their results are useful.
    pub waiting_max: usize,

    /// Whether calls wait until their deadline while the address cannot be reached. Default: no; between two attempts
    /// they fail at once with `unavailable`, so that the caller can use another server. While an attempt is running
    /// they wait for it in either case. If set, calls without a deadline wait forever for an address that is never
    /// reachable, and so do [`Client::ready`](super::Client::ready) and
    /// [`ClientBuilder::connect`](super::ClientBuilder::connect).
    pub waits_for_connection: bool,

    /// Connections to each server, where each takes many calls: all protocols but `http:`. Default 1, at most 64; together
    /// they have at most [`ClientConfig::in_flight_max`] calls. A call takes the one with the fewest. More help where one
    /// core of the server or one TCP flow is the limit. Too large: calls share fewer writes.
    pub connections_per_endpoint: usize,

    /// Servers of a client with several to which connections are opened ahead and kept, instead of with the first call
    /// that goes there. Default 16; 0 opens none. With more servers each client chooses at random. A kept connection that
    /// ends is made again after a pause by [`ClientConfig::backoff`]; with `http:` one is kept. Too small: calls wait for
    /// connections when a server fails. Too large: servers have connections of clients that never call them.
    pub warm_endpoints_max: usize,

    /// Connections to an `http:` address. Default 8, from 1 to 1024; at most [`ClientConfig::in_flight_max`] are
    /// made. Each has one call at a time, so that no call waits for the reply to another and a server may close a
    /// connection after any reply. They are made as calls need them and kept until [`ClientConfig::idle_ms`]. At the
    /// limit: calls wait. Too small: quick calls wait behind slow ones. Too large: a server has that many connections
    /// of each client. The other protocols use one connection.
    pub http_connections_max: usize,

    /// Calls that are written to one `http:` connection before the first of them is answered. Default 1: no
    /// pipelining. More saves round trips to a server that is known to answer all of them. Through a proxy that
    /// closes a connection, the calls after the unanswered one may have run and fail.
    pub http_pipelined_max: usize,

    /// Streaming calls that have not ended. Default 1024, as on the server, at most 1 048 576; they do not count
    /// against [`ClientConfig::in_flight_max`]. At the limit: `resource_exhausted`. Too large: a server with a smaller
    /// limit refuses them.
    pub streams_max: usize,

    /// Bytes of the messages of one stream that the server may send before they are taken. Default 256 KiB, from
    /// 64 KiB to 2 GiB - 1; smaller values count as 64 KiB. At the limit: the server waits. Too small: each message
    /// costs a round trip. Too large: a stream that is not read holds that much memory.
    pub stream_window_bytes: usize,

    /// The same for all streams of a connection together. Default 16 MiB, from 1 MiB to 2 GiB - 1; smaller values count
    /// as 1 MiB.
    pub connection_window_bytes: usize,

    /// Bytes that wait to be written on a connection above which its sinks are not ready; they are ready again below
    /// half of it. Default 1 MiB. Too small: senders pause often. Too large: unary calls wait behind that many bytes.
    pub stream_queue_bytes_max: usize,

    /// Bytes of messages on a connection that wait for the server's credit above which its sinks are not ready; they
    /// are ready again below half of it. Default 16 MiB.
    pub held_bytes_max: usize,

    /// Bytes of an argument or of a reply. Default 16 MiB, as on the server. At the limit: an argument is refused
    /// before it is sent; a larger reply fails only its own call, with `resource_exhausted`, and is skipped as it
    /// arrives.
    pub frame_bytes_max: usize,

    /// The pauses between attempts to connect.
    pub backoff: Backoff,

    /// With calls in flight and nothing received for this time, the client pings the server; with nothing received
    /// for the same time again, it closes the connection and the calls fail. Default 30 000; 0 disables pings. Too
    /// small: a server that stops for a moment loses its calls. Too large: calls without a deadline wait long for a
    /// machine that is gone.
    pub ping_ms: u64,

    /// A connection that is unused for this time is closed; the next call opens one. Default 300 000: less than the
    /// server's own 600 000, so that no call is sent while the server closes the connection. 0 never closes it.
    pub idle_ms: u64,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            connect_timeout_ms: 5_000,
            in_flight_max: 1024,
            in_flight_bytes_max: 64 << 20,
            when_full: WhenFull::Wait,
            waiting_max: 16_384,
            waits_for_connection: false,
            connections_per_endpoint: 1,
            warm_endpoints_max: 16,
            http_connections_max: 8,
            http_pipelined_max: 1,
            streams_max: 1024,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 16 << 20,
            stream_queue_bytes_max: 1 << 20,
            held_bytes_max: 16 << 20,
            frame_bytes_max: 16 << 20,
            backoff: Backoff::default(),
            ping_ms: 30_000,
            idle_ms: 300_000,
        }
    }
}

/// A limit that is out of range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientConfigError {
    /// The name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// The least and the greatest allowed value.
    pub range: (u64, u64),
}

crate::error_text::debug_as_text!(ClientConfigError);

impl fmt::Display for ClientConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientConfigError { field, value, range: (least, most) } = self;
        write!(f, "{field}: expected a value from {least} to {most}; found {value}")
    }
}

impl std::error::Error for ClientConfigError {}

/// Ten years, in effect forever; adding it to any time does not overflow.
const MS_MAX: u64 = 1_000 * 86_400 * 3_650;

impl ClientConfig {
    /// Checks that every limit is in its range.
    ///
    /// # Errors
    ///
    /// The first limit that is not.
    pub fn check(&self) -> Result<(), ClientConfigError> {
        let fields = [
            ("connect_timeout_ms", self.connect_timeout_ms, (1, MS_MAX)),
            ("in_flight_max", self.in_flight_max as u64, (1, PENDING_MAX as u64)),
            ("in_flight_bytes_max", self.in_flight_bytes_max as u64, (1, u64::MAX)),
            ("waiting_max", self.waiting_max as u64, (1, u64::from(u32::MAX))),
            ("connections_per_endpoint", self.connections_per_endpoint as u64, (1, 64)),
            ("warm_endpoints_max", self.warm_endpoints_max as u64, (0, 4096)),
            ("http_connections_max", self.http_connections_max as u64, (1, 1024)),
            ("http_pipelined_max", self.http_pipelined_max as u64, (1, PENDING_MAX as u64)),
            ("streams_max", self.streams_max as u64, (1, PENDING_MAX as u64)),
            ("stream_window_bytes", self.stream_window_bytes as u64, (1, u64::from(WINDOW_BYTES_MAX))),
            (
                "connection_window_bytes",
                self.connection_window_bytes as u64,
                (1, u64::from(WINDOW_BYTES_MAX)),
            ),
            ("stream_queue_bytes_max", self.stream_queue_bytes_max as u64, (1, u64::MAX)),
            ("held_bytes_max", self.held_bytes_max as u64, (1, u64::MAX)),
            ("frame_bytes_max", self.frame_bytes_max as u64, (1, u64::from(u32::MAX) - 65_568)),
            ("backoff.base_ms", self.backoff.base_ms, (1, MS_MAX)),
            ("backoff.max_ms", self.backoff.max_ms, (self.backoff.base_ms, MS_MAX)),
            ("ping_ms", self.ping_ms, (0, MS_MAX)),
            ("idle_ms", self.idle_ms, (0, MS_MAX)),
        ];
        for (field, value, range) in fields {
            if value < range.0 || value > range.1 {
                return Err(ClientConfigError { field, value, range });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../docs/client.md");

    #[test]
    fn every_bound_has_its_row_in_the_docs() {
        // `Debug` names every field.
        let (mut section, mut rows) = (String::new(), 0);
        for line in format!("{:#?}", ClientConfig::default()).lines() {
            match line.trim_end_matches(',').trim_start().split_once(": ") {
                Some((name, value)) if value.ends_with('{') => section = format!("{name}."),
                Some((name, value)) => {
                    let row = format!("| `{section}{name}` | {value} ");
                    assert!(DOCS.contains(&row), "docs/client.md lacks the row {row}");
                    rows += 1;
                }
                None => section.clear(),
            }
        }
        let table = DOCS.split("| field of `ClientConfig` |").nth(1).unwrap().split("\n\n").next().unwrap();
        assert_eq!(table.lines().skip(2).count(), rows, "docs/client.md has rows for fields that are gone");
    }

    #[test]
    fn defaults_pass_and_invalid_values_fail() {
        assert_eq!(ClientConfig::default().check(), Ok(()));
        let none = ClientConfig { in_flight_max: 0, ..ClientConfig::default() };
        let error = none.check().unwrap_err();
        assert_eq!(error.to_string(), "in_flight_max: expected a value from 1 to 1048576; found 0");
        let backoff = Backoff { base_ms: 100, max_ms: 10 };
        let error = ClientConfig { backoff, ..ClientConfig::default() }.check().unwrap_err();
        assert_eq!(error.field, "backoff.max_ms");
    }
}
