//! The frames of streams that a caller writes, the ids of its calls, and what a hello says about windows.

use crate::frame::{self, Header};

/// A stream's id holds its place in the low bits, counted from 1, and above it how often the place was used.
const PLACE_BITS: u32 = 20;
/// Maximum number of streams of a connection.
pub const STREAMS_MAX: u32 = (1 << PLACE_BITS) - 1;

/// Returns the id of the call in a place that was used so often.
pub fn id_of(place: u32, uses: u64) -> u64 {
    uses << PLACE_BITS | u64::from(place + 1)
}

/// Returns the place of an id; `None` for that of the connection.
pub fn place_of(id: u64) -> Option<u64> {
    (id & u64::from(STREAMS_MAX)).checked_sub(1)
}

/// Returns a header without metadata and status.
pub fn header(kind: u8, codec: u8, call: u64, body_bytes: u32) -> Header {
    Header { kind, codec, metadata_bytes: 0, call, word: 0, body_bytes }
}

/// Appends a frame that was built once, with this id.
#[inline]
pub fn append(out: &mut Vec<u8>, frame: &[u8], id: u64) {
    let at = out.len();
    out.extend_from_slice(frame);
    out[at + 8..at + 16].copy_from_slice(&id.to_le_bytes());
}

/// Appends a window frame; the bytes are at most those of a window.
pub fn window(out: &mut Vec<u8>, id: u64, bytes: i64) {
    out.extend_from_slice(&header(frame::WINDOW, 0, id, 4).to_bytes());
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
}

/// Reads the windows of a hello, for a stream and for the connection; what is missing or no number is 0.
pub fn hello_windows(mut entries: &[u8]) -> (i64, i64) {
    let (mut stream, mut connection) = (0, 0);
    while let Some((key, value, rest)) = next_entry(entries) {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        match key {
            b"stream-window" => stream = number.unwrap_or(0),
            b"connection-window" => connection = number.unwrap_or(0),
            _ => {}
        }
        entries = rest;
    }
    (stream, connection)
}

/// Splits the first entry off metadata: key, value, and what follows. A key without bytes begins the padding.
fn next_entry(entries: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&key_len @ 1.., rest) = entries.split_first()? else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(key_len))?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((key, value, rest))
}
