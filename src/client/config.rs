//! What a client may use and how long it waits; each bound with what happens at it.

use std::fmt;

use super::pending::PENDING_MAX;
use crate::policy::backoff::Backoff;

/// What happens to a call when there are `in_flight_max` already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for its turn, until its deadline; at most `waiting_max` do.
    #[default]
    Wait,
    /// It fails at once with `resource_exhausted`.
    Refuse,
}

/// The bounds of a client, for each line (address) of it. Sizes are in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Time to look up the name and connect. Default 5 000. At the limit: the calls that wait for the connection fail
    /// with [`CallError::Connect`](super::CallError::Connect). Too small: slow links never connect. Too large: callers of
    /// an address that swallows packets wait that long.
    pub connect_timeout_ms: u64,

    /// Calls that are on their way or with the server. Default 1024, at most 1 048 576. At the limit: as
    /// [`ClientConfig::when_full`] says. Too small: a fast server is kept waiting. Larger than the server's own bound
    /// (`in_flight_max` there, too 1024 by default): the server stops reading, and what is over it waits in the
    /// sockets, where it cannot be cancelled.
    pub in_flight_max: usize,

    /// Bytes of their arguments, or of what waits to be written, if that is more. Default 64 MiB; one larger call still
    /// passes, alone. At the limit: calls wait for their turn, whatever [`ClientConfig::when_full`] says. Too small:
    /// large calls go one after the other. Too large: a server that reads nothing costs that much memory.
    pub in_flight_bytes_max: usize,

    /// Whether calls over [`ClientConfig::in_flight_max`] wait. Default: they do.
    pub when_full: WhenFull,

    /// Calls that wait for their turn or for a connection. Default 16 384. At the limit: `resource_exhausted`.
    /// Too small: bursts are refused. Too large: callers wait for what no longer matters to them.
    pub waiting_max: usize,

    /// Whether calls wait while the address cannot be reached, until their deadline. Default: no; between two tries
    /// they fail at once with `unavailable`, so that the caller can turn elsewhere. While a try is under way they wait
    /// for it in any case. With it, calls without a deadline wait for an address that is never there for ever, and so do
    /// [`Client::ready`](super::Client::ready) and [`ClientBuilder::connect`](super::ClientBuilder::connect).
    pub waits_for_connection: bool,

    /// Connections to an `http:` address. Default 8, from 1 to 1024; not more than [`ClientConfig::in_flight_max`] are
    /// made. Each has one call at a time, so that no call waits for the reply to another and a server may close one
    /// after any reply. They are made as calls need them and kept until [`ClientConfig::idle_ms`]. At the limit: calls
    /// wait for their turn. Too small: quick calls wait behind slow ones. Too large: a server has that many connections
    /// of each client. The other protocols have one connection.
    pub http_connections_max: usize,

    /// Calls that are written to one `http:` connection before the first of them is answered. Default 1: none behind
    /// another. More saves round trips to a server that is known to answer all of them; through a proxy that closes a
    /// connection, calls behind the one that had no answer may have run and fail.
    pub http_pipelined_max: usize,

    /// Bytes of an argument or of a reply. Default 16 MiB, as the server's. At the limit: an argument is refused before
    /// it is sent; a larger reply fails its call alone, with `resource_exhausted`, and is skipped as it arrives.
    pub frame_bytes_max: usize,

    /// The pauses between tries to connect.
    pub backoff: Backoff,

    /// With calls in flight and nothing heard for so long, the server is asked for a sign of life; with nothing heard
    /// for as long again, the connection is given up and its calls fail. Default 30 000; 0 never asks. Too small: a
    /// server that is stopped for a moment loses its calls. Too large: calls without deadline wait long for a machine
    /// that is gone.
    pub ping_ms: u64,

    /// A connection that was not used for so long is closed; the next call opens one. Default 300 000: below the
    /// server's own 600 000, so that no call crosses the server's closing. 0 never closes.
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
            http_connections_max: 8,
            http_pipelined_max: 1,
            frame_bytes_max: 16 << 20,
            backoff: Backoff::default(),
            ping_ms: 30_000,
            idle_ms: 300_000,
        }
    }
}

/// A bound that cannot be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientConfigError {
    /// Which one.
    pub field: &'static str,
    /// What it is.
    pub value: u64,
    /// The least and the most that it can be.
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

/// Longer than this is for ever, and still adds up with any time of day.
const MS_MAX: u64 = 1_000 * 86_400 * 3_650;

impl ClientConfig {
    /// Whether every bound can be.
    ///
    /// # Errors
    ///
    /// The first that cannot.
    pub fn check(&self) -> Result<(), ClientConfigError> {
        let fields = [
            ("connect_timeout_ms", self.connect_timeout_ms, (1, MS_MAX)),
            ("in_flight_max", self.in_flight_max as u64, (1, PENDING_MAX as u64)),
            ("in_flight_bytes_max", self.in_flight_bytes_max as u64, (1, u64::MAX)),
            ("waiting_max", self.waiting_max as u64, (1, u64::from(u32::MAX))),
            ("http_connections_max", self.http_connections_max as u64, (1, 1024)),
            ("http_pipelined_max", self.http_pipelined_max as u64, (1, PENDING_MAX as u64)),
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
        // Debug names every field there is.
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
    fn the_defaults_can_be_and_nonsense_cannot() {
        assert_eq!(ClientConfig::default().check(), Ok(()));
        let none = ClientConfig { in_flight_max: 0, ..ClientConfig::default() };
        let error = none.check().unwrap_err();
        assert_eq!(error.to_string(), "in_flight_max: expected a value from 1 to 1048576; found 0");
        let backoff = Backoff { base_ms: 100, max_ms: 10 };
        let error = ClientConfig { backoff, ..ClientConfig::default() }.check().unwrap_err();
        assert_eq!(error.field, "backoff.max_ms");
    }
}
