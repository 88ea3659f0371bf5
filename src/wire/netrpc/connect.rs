//! The way in through HTTP: what Go's `rpc.DialHTTP` says first, and the one answer that it takes.
//!
//! A server behind `rpc.HandleHTTP` gives a connection over to net/rpc after one CONNECT (server.go, ServeHTTP). What
//! came behind that before its answer is lost, with the buffer of net/http: so nothing is said until the answer is
//! there, and whoever dials waits for it, before there is a connection to speak of.

use std::fmt;

/// What is said first (client.go, DialHTTPPath, with rpc.DefaultRPCPath).
pub const CONNECT: &[u8] = b"CONNECT /_goRPC_ HTTP/1.0\n\n";
/// Bytes of the answer's head, at the most. Go's own has 34.
pub const ANSWER_BYTES_MAX: usize = 4096;

/// What the status line of the answer begins with, whatever the version behind it.
const HTTP: &[u8] = b"HTTP/1.";
/// The status that means yes (server.go, connected).
const CONNECTED: &[u8] = b"200 Connected to Go RPC";
/// Bytes of a refusal that are told.
const TOLD_MAX: usize = 128;

/// What the bytes that came make of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectReply {
    /// Gob follows from here.
    Yes {
        /// Bytes of the answer.
        bytes: usize,
    },
    /// It is not all there: read on.
    NeedMore,
    /// There will be no gob on this connection.
    No(ConnectError),
}

/// Why a server does not speak Go's net/rpc behind CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// It answers with another status: this is no server of `rpc.HandleHTTP`, or not on this path.
    Refused {
        /// The line that it answered with.
        line: String,
    },
    /// It answers with something that is no HTTP: another protocol is spoken there.
    NotHttp {
        /// How that begins.
        begins: String,
    },
    /// Its answer has no end within [`ANSWER_BYTES_MAX`].
    TooLong,
    /// It went on behind its answer: a server of net/rpc speaks when it is asked.
    Unasked,
    /// It closed the connection before its answer was whole.
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

/// Looks at all that has come since [`CONNECT`] was said.
///
/// ```
/// use coreloop::wire::netrpc::connect::{Granted, granted};
/// assert_eq!(granted(b"HTTP/1.0 200 Connected to Go RPC\n\n"), Granted::Yes { bytes: 34 });
/// assert_eq!(granted(b"HTTP/1.0 200 Conn"), Granted::NeedMore);
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
        // Go's ends its lines with LF alone, others' with CRLF; its client takes both.
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

/// What follows the version.
fn status(line: &[u8]) -> &[u8] {
    line.iter().position(|byte| *byte == b' ').map_or(b"", |at| &line[at + 1..])
}

/// What came, as far as it is worth showing.
fn parsed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TOLD_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an answer comes to when it arrives in pieces: whatever is no longer open stays.
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
    fn the_answers_of_go_and_of_others_mean_yes_at_every_split() {
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
    fn a_refusal_says_what_came() {
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
        // Gob, a native frame, a mail server: told by the first bytes, without waiting for a line.
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
        assert_eq!(line.len(), TOLD_MAX);
    }

    #[test]
    fn a_head_without_end_is_not_read_without_end() {
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
        fn any_bytes_in_any_pieces_tell_the_same(
            tail in proptest::collection::vec(any::<u8>(), 0..80),
            from in 0..35usize,
            step in 1..9usize,
        ) {
            let mut answer = b"HTTP/1.0 200 Connected to Go RPC\n\n"[..from.min(34)].to_vec();
            answer.extend_from_slice(&tail);
            let (whole, pieces) = (granted(&answer), in_pieces(answer.chunks(step)));
            match (&whole, &pieces) {
                // How much of what is no HTTP had come is all that may differ.
                (ConnectReply::No(ConnectError::NotHttp { .. }), ConnectReply::No(ConnectError::NotHttp { .. })) => {}
                _ => prop_assert_eq!(whole, pieces),
            }
        }
    }
}
