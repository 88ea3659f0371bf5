//! Connects through HTTP: the request that Go's `rpc.DialHTTP` sends first, and the only answer that it accepts.
//!
//! A server with `rpc.HandleHTTP` switches a connection to net/rpc after one CONNECT (server.go, ServeHTTP). Bytes
//! that arrive between the CONNECT and its answer are lost in a buffer of net/http. The dialer therefore waits for
//! the answer before it sends anything else, and before the connection is used.

use std::fmt;

/// The first bytes of the connection (client.go, DialHTTPPath, with rpc.DefaultRPCPath).
pub const CONNECT: &[u8] = b"CONNECT /_goRPC_ HTTP/1.0\n\n";
/// The maximum bytes of the answer's head. Go's own has 34.
pub const ANSWER_BYTES_MAX: usize = 4096;

/// The start of the answer's status line, for any minor version.
const HTTP: &[u8] = b"HTTP/1.";
/// The status that grants the connection (server.go, connected).
const CONNECTED: &[u8] = b"200 Connected to Go RPC";
/// The maximum bytes of a refusal that an error shows.
const SHOWN_BYTES_MAX: usize = 128;

/// The state of the answer, from the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectReply {
    /// Granted: gob follows.
    Yes {
        /// The length of the answer.
        bytes: usize,
    },
    /// The answer is incomplete.
    NeedMore,
    /// There is no gob on this connection.
    No(ConnectError),
}

/// The reason why a server does not use Go's net/rpc after CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// It answers with another status: it is no server with `rpc.HandleHTTP`, or not on this path.
    Refused {
        /// The status line of the answer.
        line: String,
    },
    /// The answer is not HTTP: the server uses another protocol.
    NotHttp {
        /// The start of the answer.
        begins: String,
    },
    /// The answer has no end within [`ANSWER_BYTES_MAX`].
    TooLong,
    /// Bytes follow the answer, although a net/rpc server sends nothing without a request.
    Unasked,
    /// The server closed the connection before the answer was complete.
    Closed,
}

crate::error_text::debug_as_text!(ConnectError);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Refused { line } => write!(f, "no Go RPC behind CONNECT: the server says {line:?}"),
            ConnectError::NotHttp { begins } => {
                write!(
                    f,
                    "no Go RPC behind CONNECT: the server's answer is no HTTP, it begins with {begins:?}"
                )
            }
            ConnectError::TooLong => {
                write!(f, "the answer to CONNECT does not end within {ANSWER_BYTES_MAX} bytes")
            }
            ConnectError::Unasked => f.write_str("the server sent more bytes after its answer to CONNECT"),
            ConnectError::Closed => {
                f.write_str("the server closed the connection instead of answering CONNECT")
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// Checks all bytes received since [`CONNECT`] was sent.
///
/// ```
/// use coreloop::wire::netrpc::connect::{ConnectReply, granted};
/// assert_eq!(granted(b"HTTP/1.0 200 Connected to Go RPC\n\n"), ConnectReply::Yes { bytes: 34 });
/// assert_eq!(granted(b"HTTP/1.0 200 Conn"), ConnectReply::NeedMore);
/// ```
pub fn granted(input: &[u8]) -> ConnectReply {
    let common = input.len().min(HTTP.len());
    if input[..common] != HTTP[..common] {
        return ConnectReply::No(ConnectError::NotHttp { begins: parsed(input) });
    }
    let head = &input[..input.len().min(ANSWER_BYTES_MAX)];
    let mut at = 0;
    while let Some(end) = head[at..].iter().position(|byte| *byte == b'\n') {
        let line = &head[at..at + end];
        // Go ends lines with LF alone, others with CRLF; Go's client accepts both.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_first = at == 0;
        at += end + 1;
        if is_first && status(line) != CONNECTED {
            return ConnectReply::No(ConnectError::Refused { line: parsed(line) });
        }
        if line.is_empty() {
            return ConnectReply::Yes { bytes: at };
        }
    }
    if head.len() < ANSWER_BYTES_MAX {
        ConnectReply::NeedMore
    } else {
        ConnectReply::No(ConnectError::TooLong)
    }
}

/// Returns the text after the version.
fn status(line: &[u8]) -> &[u8] {
    line.iter().position(|byte| *byte == b' ').map_or(b"", |at| &line[at + 1..])
}

/// Returns the received text, cut to the length shown in an error.
fn parsed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the result for an answer in pieces: the first one that is not `NeedMore`.
    fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> ConnectReply {
        let mut held = Vec::new();
        for piece in pieces {
            held.extend_from_slice(piece);
            match granted(&held) {
                ConnectReply::NeedMore => {}
                parsed => return parsed,
            }
        }
        ConnectReply::NeedMore
    }

    #[test]
    fn a_grant_is_recognized_at_every_split() {
        for answer in [
            &b"HTTP/1.0 200 Connected to Go RPC\n\n"[..],
            b"HTTP/1.1 200 Connected to Go RPC\r\n\r\n",
            b"HTTP/1.1 200 Connected to Go RPC\r\nServer: x\r\nDate: now\n\r\n",
        ] {
            let yes = ConnectReply::Yes { bytes: answer.len() };
            for cut in 0..answer.len() {
                let (first, rest) = answer.split_at(cut);
                assert_eq!(granted(first), ConnectReply::NeedMore, "{cut}");
                assert_eq!(in_pieces([first, rest]), yes, "{cut}");
            }
            assert_eq!(in_pieces(answer.chunks(1)), yes);
            assert_eq!(granted(&[answer, b"more"].concat()), yes, "what follows is not part of it");
        }
    }

    #[test]
    fn a_refusal_shows_the_answer() {
        for (answer, line) in [
            (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], "HTTP/1.1 404 Not Found"),
            (b"HTTP/1.0 200 OK\n", "HTTP/1.0 200 OK"),
            (b"HTTP/1.0 200 Connected to Go RPC \n\n", "HTTP/1.0 200 Connected to Go RPC "),
            (b"HTTP/1.0\n\n", "HTTP/1.0"),
        ] {
            let refused = ConnectReply::No(ConnectError::Refused { line: line.to_owned() });
            assert_eq!(granted(answer), refused);
            assert_eq!(in_pieces(answer.chunks(1)), refused);
        }
        // Gob, a native frame, a mail server: recognized by the first bytes, without the end of a line.
        for (answer, begins) in
            [(&b"220 smtp"[..], "220 smtp"), (b"HTTP/2", "HTTP/2"), (b"\x19\x96", "\u{19}\u{fffd}")]
        {
            let other = ConnectReply::No(ConnectError::NotHttp { begins: begins.to_owned() });
            assert_eq!(granted(answer), other);
        }
        let long = format!("HTTP/1.0 {}\n", "x".repeat(1000));
        let ConnectReply::No(ConnectError::Refused { line }) = granted(long.as_bytes()) else {
            panic!("refused")
        };
        assert_eq!(line.len(), SHOWN_BYTES_MAX);
    }

    #[test]
    fn an_endless_head_is_refused() {
        let yes = b"HTTP/1.0 200 Connected to Go RPC\n";
        let endless: Vec<u8> =
            yes.iter().copied().chain(b"a: b\n".iter().copied().cycle()).take(5000).collect();
        assert_eq!(granted(&endless[..ANSWER_BYTES_MAX - 1]), ConnectReply::NeedMore);
        assert_eq!(granted(&endless[..ANSWER_BYTES_MAX]), ConnectReply::No(ConnectError::TooLong));
        assert_eq!(granted(&endless), ConnectReply::No(ConnectError::TooLong));
        let line = [&b"HTTP/1.0 "[..], &[b'x'; ANSWER_BYTES_MAX]].concat();
        assert_eq!(granted(&line), ConnectReply::No(ConnectError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_split_give_one_result(
            tail in proptest::collection::vec(any::<u8>(), 0..80),
            from in 0..35usize,
            step in 1..9usize,
        ) {
            let mut answer = b"HTTP/1.0 200 Connected to Go RPC\n\n"[..from.min(34)].to_vec();
            answer.extend_from_slice(&tail);
            let (whole, pieces) = (granted(&answer), in_pieces(answer.chunks(step)));
            match (&whole, &pieces) {
                // Only the number of shown bytes of an answer that is not HTTP may differ.
                (ConnectReply::No(ConnectError::NotHttp { .. }), ConnectReply::No(ConnectError::NotHttp { .. })) => {}
                _ => prop_assert_eq!(whole, pieces),
            }
        }
    }
}
