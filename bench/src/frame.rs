//! The raw native frame: just enough to build and split frames, for the floor and the bare client.
//!
//! It checks the announced length against a bound and nothing else; the server's further checks are part of what the
//! comparison measures. Written independently of the server's own codec, on purpose.

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 32;
/// Maximum body size; a longer body breaks the connection.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// `kind` of a request.
pub const REQUEST: u8 = 0;
/// `kind` of a reply.
pub const REPLY: u8 = 1;
/// `kind` of a cancel: the caller gives up a call.
pub const CANCEL: u8 = 3;
/// `kind` of a ping.
pub const PING: u8 = 4;
/// `kind` of an answer to a ping.
pub const PONG: u8 = 5;
/// `kind` of the server's request to make no new calls on this connection.
pub const DRAIN: u8 = 6;
/// `kind` of what a side grants beyond the defaults.
pub const HELLO: u8 = 7;
/// `kind` of a message of a stream.
pub const DATA: u8 = 8;
/// `kind` of a grant: bytes of messages that may be sent in addition.
pub const WINDOW: u8 = 9;
/// `kind` of metadata before the first message of a result.
pub const HEADERS: u8 = 10;
/// `kind` of the end of an argument that streams.
pub const END: u8 = 11;
/// The flag of a request whose argument is a stream.
pub const ARGUMENT_STREAMS: u8 = 2;

const MAGIC_AND_VERSION: [u8; 3] = [0x19, 0x96, 1];

/// The header fields that the floor and the client use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of frame: [`REQUEST`] or [`REPLY`] here.
    pub kind: u8,
    /// The body's codec, echoed in the reply.
    pub codec: u8,
    /// Bytes of metadata between header and body.
    pub metadata_bytes: u16,
    /// Chosen by the caller, and echoed in the reply.
    pub call: u64,
    /// In a request the method's hash, in a reply the status code.
    pub word: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
}

impl Header {
    /// Parses a header, without checking the magic bytes (see [`is_native`]).
    #[inline]
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Header {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Header {
            kind: bytes[3],
            codec: bytes[4],
            metadata_bytes: u16::from_le_bytes([bytes[6], bytes[7]]),
            call: u64::from(word(8)) | u64::from(word(12)) << 32,
            word: word(16),
            body_bytes: word(28),
        }
    }

    /// Returns the header's bytes; flags, schema and durations are zero.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..3].copy_from_slice(&MAGIC_AND_VERSION);
        bytes[3] = self.kind;
        bytes[4] = self.codec;
        bytes[6..8].copy_from_slice(&self.metadata_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.call.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.word.to_le_bytes());
        bytes[28..].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes
    }
}

/// Returns whether a frame begins with the magic bytes and the version.
pub fn is_native(frame: &[u8]) -> bool {
    frame.starts_with(&MAGIC_AND_VERSION)
}

/// Returns whether these first bytes, however few, could begin a frame.
pub fn may_be_native(bytes: &[u8]) -> bool {
    let known = bytes.len().min(MAGIC_AND_VERSION.len());
    bytes[..known] == MAGIC_AND_VERSION[..known]
}

/// The state of the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// One complete frame.
    Frame {
        /// Its header.
        header: Header,
        /// Its body, metadata skipped.
        body: &'a [u8],
        /// Bytes of the complete frame.
        len: usize,
    },
    /// An incomplete frame: at least `need` bytes in total are required.
    Short {
        /// Bytes from the frame's start that the next step requires.
        need: usize,
    },
    /// The announced body exceeds the bound: close the connection.
    Broken,
}

/// Splits the first frame off `bytes`.
#[inline]
pub fn next(bytes: &[u8]) -> Next<'_> {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Next::Short { need: HEADER_BYTES };
    };
    let header = Header::parse(head);
    if header.body_bytes as usize > BODY_BYTES_MAX {
        return Next::Broken;
    }
    let body_at = HEADER_BYTES + usize::from(header.metadata_bytes);
    let len = body_at + header.body_bytes as usize;
    match bytes.get(body_at..len) {
        Some(body) => Next::Frame { header, body, len },
        None => Next::Short { need: len },
    }
}

/// Returns the method's number on the wire: 32-bit FNV-1a of its full name.
pub const fn method_hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        kind: REQUEST,
        codec: 1,
        metadata_bytes: 8,
        call: 0x0102_0304_0506_0708,
        word: 77,
        body_bytes: 3,
    };

    #[test]
    fn header_survives_a_round_trip_and_begins_with_the_magic() {
        let bytes = HEADER.to_bytes();
        assert_eq!(Header::parse(&bytes), HEADER);
        assert!(is_native(&bytes));
        assert_eq!(bytes[8], 0x08, "little-endian");
    }

    #[test]
    fn every_short_prefix_needs_more_bytes() {
        let mut frame = HEADER.to_bytes().to_vec();
        frame.extend_from_slice(&[0; 8]);
        frame.extend_from_slice(b"abc");
        for cut in 0..frame.len() {
            let Next::Short { need } = next(&frame[..cut]) else { panic!("cut at {cut}") };
            assert!(need > cut && need <= frame.len());
        }
        frame.extend_from_slice(b"the next one");
        assert_eq!(next(&frame), Next::Frame { header: HEADER, body: b"abc", len: 43 });
    }

    #[test]
    fn body_beyond_the_bound_breaks() {
        let header = Header { body_bytes: BODY_BYTES_MAX as u32 + 1, ..HEADER };
        assert_eq!(next(&header.to_bytes()), Next::Broken);
    }

    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(method_hash(""), 0x811c_9dc5);
        assert_eq!(method_hash("a"), 0xe40c_292c);
        assert_eq!(method_hash("foobar"), 0xbf9c_f968);
    }
}
