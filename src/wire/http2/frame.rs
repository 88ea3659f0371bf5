//! The frames of HTTP/2 (RFC 9113 sections 4 and 6): parsed from a whole payload, and printed.
//!
//! Parsing checks what can be checked without state: sizes, padding, and whether the type belongs to a stream. It
//! keeps nothing and allocates nothing.

use super::fault::{Http2Code, Http2Fault};

/// The bytes of a frame's head.
pub const FRAME_HEAD_BYTES: usize = 9;
/// The largest payload that a peer may send unless a larger one was announced, and the least that may be announced.
pub const FRAME_BYTES_DEFAULT: u32 = 16_384;
/// The largest payload that can be announced.
pub const FRAME_BYTES_MAX: u32 = (1 << 24) - 1;
/// The largest stream id, window, and increment.
pub const MAX_31_BITS: u32 = (1 << 31) - 1;

/// The types of frames.
pub mod kind {
    /// A part of a body.
    pub const DATA: u8 = 0;
    /// The begin of a header block.
    pub const HEADERS: u8 = 1;
    /// The priority of a stream; deprecated, read and ignored.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream by an error.
    pub const RST_STREAM: u8 = 3;
    /// Parameters of the connection.
    pub const SETTINGS: u8 = 4;
    /// A pushed request; only servers may send it, and this one does not.
    pub const PUSH_PROMISE: u8 = 5;
    /// A liveness check.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// Credit of a window.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// The flags of frames.
pub mod flag {
    /// On SETTINGS and PING: the answer.
    pub const ACK: u8 = 0x1;
    /// On DATA and HEADERS: the last of this side's stream.
    pub const END_STREAM: u8 = 0x1;
    /// On HEADERS, PUSH_PROMISE and CONTINUATION: the header block ends here.
    pub const END_HEADERS: u8 = 0x4;
    /// On DATA, HEADERS and PUSH_PROMISE: the first byte of the payload counts the padding at its end.
    pub const PADDED: u8 = 0x8;
    /// On HEADERS: five bytes of priority precede the block.
    pub const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload; 24 bits.
    pub length: u32,
    /// The type.
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The stream, 0 for the connection; 31 bits.
    pub stream: u32,
}

impl FrameHead {
    /// Reads a head. The reserved bit is ignored.
    #[inline]
    pub fn read(bytes: &[u8; FRAME_HEAD_BYTES]) -> FrameHead {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        FrameHead {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31_BITS,
        }
    }

    /// Returns the bytes of the head. Of the length, 24 bits are written.
    #[inline]
    pub fn to_bytes(self) -> [u8; FRAME_HEAD_BYTES] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = (self.stream & MAX_31_BITS).to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }

    #[inline]
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The priority of a stream, as RFC 7540 defined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPriority {
    /// The stream that this one depends on; 31 bits.
    pub depends_on: u32,
    /// Whether this stream is to be the only one that depends on it.
    pub is_exclusive: bool,
    /// The weight, less one.
    pub weight: u8,
}

impl StreamPriority {
    fn read(bytes: [u8; 5]) -> StreamPriority {
        let [a, b, c, d, weight] = bytes;
        let word = u32::from_be_bytes([a, b, c, d]);
        StreamPriority { depends_on: word & MAX_31_BITS, is_exclusive: word > MAX_31_BITS, weight }
    }

    fn to_bytes(self) -> [u8; 5] {
        let exclusive = if self.is_exclusive { 1 << 31 } else { 0 };
        let [a, b, c, d] = (self.depends_on & MAX_31_BITS | exclusive).to_be_bytes();
        [a, b, c, d, self.weight]
    }
}

/// The entries of a SETTINGS frame: a multiple of six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingEntries<'a>(&'a [u8]);

impl<'a> SettingEntries<'a> {
    /// Creates the entries from the payload of a frame. `None` if it is not a multiple of six bytes.
    pub fn new(payload: &'a [u8]) -> Option<SettingEntries<'a>> {
        payload.len().is_multiple_of(6).then_some(SettingEntries(payload))
    }

    /// Returns the settings in order: number and value.
    pub fn iter(self) -> impl Iterator<Item = (u16, u32)> + 'a {
        self.0.as_chunks::<6>().0.iter().map(|&[i0, i1, v0, v1, v2, v3]| {
            (u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))
        })
    }
}

/// A parsed frame. It borrows its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Frame<'a> {
    /// A part of a body.
    Data {
        /// The stream.
        stream: u32,
        /// The bytes, without the padding.
        data: &'a [u8],
        /// The length of the padding if the frame is padded. It counts against the windows, its length byte too.
        padding: Option<u8>,
        /// Whether the stream ends.
        is_last: bool,
    },
    /// The begin of a header block.
    Headers {
        /// The stream.
        stream: u32,
        /// The priority, if there is one.
        priority: Option<StreamPriority>,
        /// The begin of the compressed block.
        fragment: &'a [u8],
        /// The length of the padding if the frame is padded.
        padding: Option<u8>,
        /// Whether the stream ends with this block.
        is_last: bool,
        /// Whether the fragment is the whole block.
        is_end_of_block: bool,
    },
    /// The priority of a stream.
    Priority {
        /// The stream.
        stream: u32,
        /// The priority.
        priority: StreamPriority,
    },
    /// The end of a stream by an error.
    Reset {
        /// The stream.
        stream: u32,
        /// The reason.
        code: Http2Code,
    },
    /// Parameters of the connection.
    Settings(SettingEntries<'a>),
    /// The answer to SETTINGS.
    SettingsAck,
    /// A pushed request.
    PushPromise {
        /// The stream that the promise belongs to.
        stream: u32,
        /// The promised stream.
        promised: u32,
        /// The begin of the compressed block.
        fragment: &'a [u8],
        /// The length of the padding if the frame is padded.
        padding: Option<u8>,
        /// Whether the fragment is the whole block.
        is_end_of_block: bool,
    },
    /// A liveness check, or its answer.
    Ping {
        /// Whether it is the answer.
        is_ack: bool,
        /// Bytes that the answer repeats.
        payload: [u8; 8],
    },
    /// The end of the connection.
    GoAway {
        /// The last stream that was or may be processed.
        last_stream: u32,
        /// The reason.
        code: Http2Code,
        /// Text for the log.
        debug: &'a [u8],
    },
    /// Credit of a window.
    WindowUpdate {
        /// The stream, or 0 for the connection.
        stream: u32,
        /// The bytes; at least 1.
        increment: u32,
    },
    /// The rest of a header block.
    Continuation {
        /// The stream.
        stream: u32,
        /// More of the compressed block.
        fragment: &'a [u8],
        /// Whether the block ends here.
        is_end_of_block: bool,
    },
    /// A frame of an unknown type, which is ignored.
    Unknown {
        /// The type.
        kind: u8,
    },
}

/// Removes the padding: returns the content and the length of the padding.
#[inline]
fn without_padding(head: FrameHead, payload: &[u8]) -> Result<(&[u8], Option<u8>), Http2Fault> {
    if !head.has(flag::PADDED) {
        return Ok((payload, None));
    }
    let (padding, rest) = payload
        .split_first()
        .ok_or(Http2Fault::frame_size("a padded frame without the length of its padding"))?;
    let bytes = rest
        .len()
        .checked_sub(usize::from(*padding))
        .ok_or(Http2Fault::protocol("the padding is longer than the frame"))?;
    Ok((&rest[..bytes], Some(*padding)))
}

fn of_a_stream(head: FrameHead, why: &'static str) -> Result<u32, Http2Fault> {
    if head.stream == 0 { Err(Http2Fault::protocol(why)) } else { Ok(head.stream) }
}

fn of_the_connection(head: FrameHead, why: &'static str) -> Result<(), Http2Fault> {
    if head.stream == 0 { Ok(()) } else { Err(Http2Fault::protocol(why)) }
}

fn u32_of(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes)
}

impl<'a> Http2Frame<'a> {
    /// Parses the payload of a frame, which must be whole: `payload.len() == head.length`.
    #[inline]
    pub fn parse(head: FrameHead, payload: &'a [u8]) -> Result<Http2Frame<'a>, Http2Fault> {
        match head.kind {
            kind::DATA => {
                let stream = of_a_stream(head, "DATA on stream 0")?;
                let (data, padding) = without_padding(head, payload)?;
                Ok(Http2Frame::Data { stream, data, padding, is_last: head.has(flag::END_STREAM) })
            }
            kind::HEADERS => Http2Frame::parse_headers(head, payload),
            _ => Http2Frame::parse_control(head, payload),
        }
    }

    fn parse_headers(head: FrameHead, payload: &'a [u8]) -> Result<Http2Frame<'a>, Http2Fault> {
        let stream = of_a_stream(head, "HEADERS on stream 0")?;
        let (mut fragment, padding) = without_padding(head, payload)?;
        let mut priority = None;
        if head.has(flag::PRIORITY) {
            let (bytes, rest) = fragment
                .split_first_chunk::<5>()
                .ok_or(Http2Fault::frame_size("HEADERS too short for its priority"))?;
            priority = Some(StreamPriority::read(*bytes));
            fragment = rest;
        }
        Ok(Http2Frame::Headers {
            stream,
            priority,
            fragment,
            padding,
            is_last: head.has(flag::END_STREAM),
            is_end_of_block: head.has(flag::END_HEADERS),
        })
    }

    fn parse_control(head: FrameHead, payload: &'a [u8]) -> Result<Http2Frame<'a>, Http2Fault> {
        Ok(match head.kind {
            kind::PRIORITY => {
                let stream = of_a_stream(head, "PRIORITY on stream 0")?;
                let bytes = <[u8; 5]>::try_from(payload).map_err(|_| {
                    Http2Fault::stream(stream, Http2Code::FRAME_SIZE_ERROR, "PRIORITY is not of 5 bytes")
                })?;
                Http2Frame::Priority { stream, priority: StreamPriority::read(bytes) }
            }
            kind::RST_STREAM => {
                let stream = of_a_stream(head, "RST_STREAM on stream 0")?;
                let bytes = <[u8; 4]>::try_from(payload)
                    .map_err(|_| Http2Fault::frame_size("RST_STREAM is not of 4 bytes"))?;
                Http2Frame::Reset { stream, code: Http2Code(u32_of(bytes)) }
            }
            kind::SETTINGS => {
                of_the_connection(head, "SETTINGS on a stream")?;
                if head.has(flag::ACK) {
                    if !payload.is_empty() {
                        return Err(Http2Fault::frame_size("an acknowledgement of SETTINGS has a payload"));
                    }
                    Http2Frame::SettingsAck
                } else {
                    let entries = SettingEntries::new(payload)
                        .ok_or(Http2Fault::frame_size("SETTINGS is not a multiple of 6 bytes"))?;
                    Http2Frame::Settings(entries)
                }
            }
            kind::PUSH_PROMISE => {
                let stream = of_a_stream(head, "PUSH_PROMISE on stream 0")?;
                let (fragment, padding) = without_padding(head, payload)?;
                let (promised, fragment) = fragment
                    .split_first_chunk::<4>()
                    .ok_or(Http2Fault::frame_size("PUSH_PROMISE too short for a stream id"))?;
                Http2Frame::PushPromise {
                    stream,
                    promised: u32_of(*promised) & MAX_31_BITS,
                    fragment,
                    padding,
                    is_end_of_block: head.has(flag::END_HEADERS),
                }
            }
            kind::PING => {
                of_the_connection(head, "PING on a stream")?;
                let payload = <[u8; 8]>::try_from(payload)
                    .map_err(|_| Http2Fault::frame_size("PING is not of 8 bytes"))?;
                Http2Frame::Ping { is_ack: head.has(flag::ACK), payload }
            }
            kind::GOAWAY => {
                of_the_connection(head, "GOAWAY on a stream")?;
                let (last_stream, rest) = payload
                    .split_first_chunk::<4>()
                    .ok_or(Http2Fault::frame_size("GOAWAY is shorter than 8 bytes"))?;
                let (code, debug) = rest
                    .split_first_chunk::<4>()
                    .ok_or(Http2Fault::frame_size("GOAWAY is shorter than 8 bytes"))?;
                Http2Frame::GoAway {
                    last_stream: u32_of(*last_stream) & MAX_31_BITS,
                    code: Http2Code(u32_of(*code)),
                    debug,
                }
            }
            kind::WINDOW_UPDATE => {
                let bytes = <[u8; 4]>::try_from(payload)
                    .map_err(|_| Http2Fault::frame_size("WINDOW_UPDATE is not of 4 bytes"))?;
                let (stream, increment) = (head.stream, u32_of(bytes) & MAX_31_BITS);
                match (stream, increment) {
                    (0, 0) => return Err(Http2Fault::protocol("WINDOW_UPDATE by 0")),
                    (stream, 0) => {
                        let code = Http2Code::PROTOCOL_ERROR;
                        return Err(Http2Fault::stream(stream, code, "WINDOW_UPDATE by 0"));
                    }
                    (stream, increment) => Http2Frame::WindowUpdate { stream, increment },
                }
            }
            kind::CONTINUATION => Http2Frame::Continuation {
                stream: of_a_stream(head, "CONTINUATION on stream 0")?,
                fragment: payload,
                is_end_of_block: head.has(flag::END_HEADERS),
            },
            kind => Http2Frame::Unknown { kind },
        })
    }

    /// Appends the frame. A payload must fit in 24 bits; an unknown frame is written without a payload.
    pub fn print(&self, out: &mut Vec<u8>) {
        let flag_if = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        let (kind, flags, stream) = match *self {
            Http2Frame::Data { stream, data, padding, is_last } => {
                out.extend(padding);
                out.extend_from_slice(data);
                pad(out, padding);
                let flags = flag_if(is_last, flag::END_STREAM) | flag_if(padding.is_some(), flag::PADDED);
                (kind::DATA, flags, stream)
            }
            Http2Frame::Headers { stream, priority, fragment, padding, is_last, is_end_of_block } => {
                out.extend(padding);
                out.extend(priority.iter().flat_map(|priority| priority.to_bytes()));
                out.extend_from_slice(fragment);
                pad(out, padding);
                let flags = flag_if(is_last, flag::END_STREAM)
                    | flag_if(is_end_of_block, flag::END_HEADERS)
                    | flag_if(padding.is_some(), flag::PADDED)
                    | flag_if(priority.is_some(), flag::PRIORITY);
                (kind::HEADERS, flags, stream)
            }
            Http2Frame::Priority { stream, priority } => {
                out.extend_from_slice(&priority.to_bytes());
                (kind::PRIORITY, 0, stream)
            }
            Http2Frame::Reset { stream, code } => {
                out.extend_from_slice(&code.0.to_be_bytes());
                (kind::RST_STREAM, 0, stream)
            }
            Http2Frame::Settings(entries) => {
                out.extend_from_slice(entries.0);
                (kind::SETTINGS, 0, 0)
            }
            Http2Frame::SettingsAck => (kind::SETTINGS, flag::ACK, 0),
            Http2Frame::PushPromise { stream, promised, fragment, padding, is_end_of_block } => {
                out.extend(padding);
                out.extend_from_slice(&(promised & MAX_31_BITS).to_be_bytes());
                out.extend_from_slice(fragment);
                pad(out, padding);
                let flags =
                    flag_if(is_end_of_block, flag::END_HEADERS) | flag_if(padding.is_some(), flag::PADDED);
                (kind::PUSH_PROMISE, flags, stream)
            }
            Http2Frame::Ping { is_ack, payload } => {
                out.extend_from_slice(&payload);
                (kind::PING, flag_if(is_ack, flag::ACK), 0)
            }
            Http2Frame::GoAway { last_stream, code, debug } => {
                out.extend_from_slice(&(last_stream & MAX_31_BITS).to_be_bytes());
                out.extend_from_slice(&code.0.to_be_bytes());
                out.extend_from_slice(debug);
                (kind::GOAWAY, 0, 0)
            }
            Http2Frame::WindowUpdate { stream, increment } => {
                out.extend_from_slice(&(increment & MAX_31_BITS).to_be_bytes());
                (kind::WINDOW_UPDATE, 0, stream)
            }
            Http2Frame::Continuation { stream, fragment, is_end_of_block } => {
                out.extend_from_slice(fragment);
                (kind::CONTINUATION, flag_if(is_end_of_block, flag::END_HEADERS), stream)
            }
            Http2Frame::Unknown { kind } => (kind, 0, 0),
        };
        let length = (out.len() - start - FRAME_HEAD_BYTES).min(FRAME_BYTES_MAX as usize) as u32;
        let head = FrameHead { length, kind, flags, stream }.to_bytes();
        out[start..start + FRAME_HEAD_BYTES].copy_from_slice(&head);
    }
}

fn pad(out: &mut Vec<u8>, padding: Option<u8>) {
    out.resize(out.len() + usize::from(padding.unwrap_or(0)), 0);
}

/// Returns a RST_STREAM.
pub(super) fn reset(stream: u32, code: Http2Code) -> [u8; 13] {
    with_word(kind::RST_STREAM, stream, code.0)
}

/// Returns a WINDOW_UPDATE.
pub(super) fn window_update(stream: u32, increment: u32) -> [u8; 13] {
    with_word(kind::WINDOW_UPDATE, stream, increment)
}

fn with_word(kind: u8, stream: u32, word: u32) -> [u8; 13] {
    let mut bytes = [0; 13];
    let (head, payload) = bytes.split_at_mut(FRAME_HEAD_BYTES);
    head.copy_from_slice(&FrameHead { length: 4, kind, flags: 0, stream }.to_bytes());
    payload.copy_from_slice(&word.to_be_bytes());
    bytes
}

/// Returns a PING, or the answer to one.
pub(super) fn ping(is_ack: bool, payload: [u8; 8]) -> [u8; 17] {
    let flags = if is_ack { flag::ACK } else { 0 };
    let mut bytes = [0; 17];
    let (head, rest) = bytes.split_at_mut(FRAME_HEAD_BYTES);
    head.copy_from_slice(&FrameHead { length: 8, kind: kind::PING, flags, stream: 0 }.to_bytes());
    rest.copy_from_slice(&payload);
    bytes
}
