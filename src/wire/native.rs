//! The native frame, version 1, in both directions: 32 bytes of header, metadata, body, all little-endian.
//!
//! ```text
//!  0  2  3  4  5  6     8               16      20      24      28      32
//! |19 96|v |k |c |f |meta |   call id     |method |schema |time   |body   | metadata … | body …
//!                                          status  queued  handler           (a reply)
//! ```
//!
//! It has no buffer: the caller keeps the bytes until a frame is complete. An unacceptable frame whose end is certain
//! is answered and skipped; any other closes the connection.

mod encode;
mod frame;

pub use self::encode::{ping, request_header};
use self::encode::{reply_words, send_other, to_bytes};
use self::frame::{Header, kind};
use crate::message::{
    BrokenCall, IncomingData, IncomingReply, Message, Metadata, Outgoing, Refusal, Request, SendBody, Span,
    method_hash,
};
use crate::status::Code;
use crate::wire::{Broken, ForeignProtocol, Out, Protocol, Received, StreamSupport};

/// The length of the header.
pub const HEADER_BYTES: usize = 32;
/// The first two bytes of every frame.
pub const MAGIC: [u8; 2] = [0x19, 0x96];
/// The supported version.
pub const VERSION: u8 = 1;
/// A refused argument of up to this many times the limit is skipped; a larger one is not worth the traffic.
const SKIP_FACTOR: u64 = 2;
const FLAG_COMPRESSED: u8 = 1;
/// On a request: the messages of the argument follow in data frames, and this frame has no body.
const FLAG_STREAMS: u8 = 2;
/// The first eight bytes of a request without metadata, as a number: magic, version, kind. The codec and the
/// compression flag may have any value.
const PLAIN_REQUEST: u64 = 0x01_9619;
const PLAIN_MASK: u64 = 0xffff_fe00_ffff_ffff;

/// The side of the connection that decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameSide {
    Server,
    Client,
}

/// The server's end of a native connection.
pub type NativeServer = NativeEnd<true>;
/// The client's end of a native connection.
pub type NativeClient = NativeEnd<false>;

/// One end of a native connection.
#[derive(Debug)]
pub struct NativeEnd<const IS_SERVER: bool> {
    frame_bytes_max: usize,
    /// Remaining bytes of a refused frame, which are skipped.
    skip_bytes: u64,
    /// The error that closes the connection once the preceding refusal was returned.
    broken: Option<Broken>,
    /// Whether this is a server with nothing to skip and no error: most requests take the fast path.
    is_plain: bool,
    /// Whether no frame was read yet: a client may still find another protocol, and a hello is still valid.
    is_fresh: bool,
}

impl<const IS_SERVER: bool> NativeEnd<IS_SERVER> {
    const SIDE: FrameSide = if IS_SERVER { FrameSide::Server } else { FrameSide::Client };

    /// Creates the end. A server refuses a body over `frame_bytes_max` before any of it is stored.
    pub fn new(frame_bytes_max: usize) -> Self {
        NativeEnd { frame_bytes_max, skip_bytes: 0, broken: None, is_plain: IS_SERVER, is_fresh: true }
    }

    /// Handles an incomplete header, or one that cannot be trusted.
    #[cold]
    fn short_or_foreign(&mut self, input: &[u8]) -> Received<Message> {
        // Both bytes are checked together, so that the result does not depend on the split.
        let Some(magic) = input.first_chunk::<2>() else { return Received::NeedMore { bytes_min: 2 } };
        if *magic != MAGIC {
            let foreign =
                ForeignProtocol::of(*magic).filter(|_| self.is_fresh && Self::SIDE == FrameSide::Client);
            return Received::Broken(foreign.map_or(Broken::Magic(*magic), Broken::Foreign));
        }
        if input.len() < HEADER_BYTES {
            return Received::NeedMore { bytes_min: HEADER_BYTES };
        }
        self.broken = Some(Broken::Version(input[2]));
        if Self::SIDE == FrameSide::Client {
            return Received::Broken(Broken::Version(input[2]));
        }
        // The header of another version may have another layout, but an answer to these 8 bytes is the best choice.
        let id = u64::from_le_bytes([
            input[8], input[9], input[10], input[11], input[12], input[13], input[14], input[15],
        ]);
        Received::Message {
            message: Message::Refused(Refusal {
                id,
                codec: input[4],
                one_way: false,
                code: Code::Unimplemented,
                message: Broken::Version(input[2]).to_string(),
            }),
            consumed: HEADER_BYTES,
        }
    }

    /// Refuses a frame whose end is known: its bytes are skipped. A server answers it; a client fails its call, which
    /// would otherwise wait forever.
    #[cold]
    fn refuse(&mut self, header: &Header, code: Code, message: String) -> Received<Message> {
        self.skip_bytes = header.metadata_bytes as u64 + header.body_bytes as u64;
        if Self::SIDE == FrameSide::Client && header.kind != kind::REPLY {
            return Received::Skip { consumed: HEADER_BYTES };
        }
        Received::Message {
            message: Message::Refused(Refusal {
                id: header.id,
                codec: header.codec,
                // An answer to a cancel frame would be taken for the answer of the call that it names.
                one_way: matches!(header.kind, kind::ONE_WAY | kind::CANCEL),
                code,
                message,
            }),
            consumed: HEADER_BYTES,
        }
    }

    /// Ends the call that a frame belongs to; the frame's bytes are skipped.
    #[cold]
    fn break_call(&mut self, header: &Header, code: Code, message: String) -> Received<Message> {
        self.skip_bytes = header.metadata_bytes as u64 + header.body_bytes as u64;
        let frame_bytes = if header.kind == kind::DATA { header.window_bytes() } else { 0 };
        // To a client, a server that breaks a rule is a failure, not a wrong argument.
        let code = match (Self::SIDE, code) {
            (FrameSide::Client, Code::InvalidArgument) => Code::Internal,
            (_, code) => code,
        };
        let broken = BrokenCall { id: header.id, code, message, frame_bytes };
        Received::Message { message: Message::CallBroken(broken), consumed: HEADER_BYTES }
    }

    /// Whether a rule that this frame breaks ends a call in flight, and is not answered by itself.
    fn is_part_of_call(&self, header: &Header) -> bool {
        match header.kind {
            kind::DATA => true,
            kind::WINDOW => header.id != 0,
            kind::END => Self::SIDE == FrameSide::Server,
            kind::HEADERS => Self::SIDE == FrameSide::Client,
            _ => false,
        }
    }

    #[cold]
    fn too_large(&mut self, header: &Header) -> Received<Message> {
        let why =
            Broken::TooLarge { bytes: header.body_bytes as u64, bytes_max: self.frame_bytes_max as u64 };
        let message = why.to_string();
        if header.kind >= kind::OPTIONAL {
            return self.skip_frame(header);
        }
        let is_worth_skipping = Self::SIDE == FrameSide::Client
            || header.body_bytes as u64 <= SKIP_FACTOR * self.frame_bytes_max as u64;
        if self.is_part_of_call(header) && is_worth_skipping {
            return self.break_call(header, Code::ResourceExhausted, message);
        }
        if Self::SIDE == FrameSide::Client && header.kind != kind::REPLY {
            return Received::Broken(why);
        }
        // A client skips any size: the other calls of the connection wait for replies after this one.
        let refused = self.refuse(header, Code::ResourceExhausted, message);
        if !is_worth_skipping {
            self.skip_bytes = 0;
            self.broken = Some(why);
        }
        refused
    }

    /// Drops a frame without an answer.
    fn skip_frame(&mut self, header: &Header) -> Received<Message> {
        self.skip_bytes = header.metadata_bytes as u64 + header.body_bytes as u64;
        Received::Skip { consumed: HEADER_BYTES }
    }

    /// Drops the received bytes of a refused frame. Returns `None` if there are none.
    fn skip(&mut self, input: &[u8]) -> Option<Received<Message>> {
        if self.skip_bytes == 0 || input.is_empty() {
            return None;
        }
        let consumed = self.skip_bytes.min(input.len() as u64) as usize;
        self.skip_bytes -= consumed as u64;
        Some(Received::Skip { consumed })
    }

    #[cold]
    fn not_plain(&mut self, input: &[u8]) -> Option<Received<Message>> {
        if let Some(why) = self.broken.clone() {
            return Some(Received::Broken(why));
        }
        self.skip(input).or((self.skip_bytes > 0).then_some(Received::NeedMore { bytes_min: 1 }))
    }

    #[cold]
    fn wrong_direction(&mut self, header: &Header) -> Received<Message> {
        // Two servers that answered each other's replies would do so forever, so the connection closes after this
        // answer.
        let why = Broken::WrongDirection(header.kind);
        let message = why.to_string();
        let refused = self.refuse(header, Code::InvalidArgument, message);
        self.skip_bytes = 0;
        self.broken = Some(why.clone());
        if Self::SIDE == FrameSide::Client { Received::Broken(why) } else { refused }
    }

    /// Reads the full name in the metadata, and checks it against the method.
    #[cold]
    fn with_metadata(&mut self, header: &Header, input: &[u8], mut request: Request) -> Received<Message> {
        let metadata = match Metadata::check(&input[header.metadata().range()]) {
            Ok(metadata) => metadata,
            Err(error) => return self.refuse(header, Code::InvalidArgument, error.to_string()),
        };
        if let Some(name) = metadata.find("method") {
            let Ok(text) = std::str::from_utf8(name) else {
                return self.refuse(header, Code::InvalidArgument, "the method's name is not UTF-8".into());
            };
            let hash = method_hash(text);
            if request.method != 0 && request.method != hash {
                let message = format!(
                    "the header says method {:#010x}, the name {text} hashes to {hash:#010x}",
                    request.method
                );
                return self.refuse(header, Code::InvalidArgument, message);
            }
            request.method = hash;
            let start = name.as_ptr() as usize - input.as_ptr() as usize;
            request.name = Some(Span::new(start as u32, name.len() as u32));
        }
        Received::Message { message: opened(header, request), consumed: header.frame_bytes() }
    }

    /// Handles a complete frame of a kind that this side accepts.
    #[inline]
    fn whole(&mut self, header: &Header, input: &[u8], is_first: bool) -> Received<Message> {
        let consumed = header.frame_bytes();
        let message = match (header.kind, Self::SIDE) {
            (kind::REQUEST | kind::ONE_WAY, FrameSide::Server) => {
                let request = Request {
                    id: header.id,
                    method: header.word_16,
                    name: None,
                    codec: header.codec,
                    compressed: header.flags & FLAG_COMPRESSED != 0,
                    one_way: header.kind == kind::ONE_WAY,
                    schema: header.word_20,
                    time_left_us: header.word_24,
                    metadata: header.metadata(),
                    body: header.body(),
                };
                if header.metadata_bytes != 0 {
                    return self.with_metadata(header, input, request);
                }
                opened(header, request)
            }
            (kind::DATA, _) => Message::Data(IncomingData {
                id: header.id,
                codec: header.codec,
                compressed: header.flags & FLAG_COMPRESSED != 0,
                body: header.body(),
                frame_bytes: header.window_bytes(),
            }),
            (kind::END, FrameSide::Server) => Message::End { id: header.id },
            (kind::WINDOW, _) => return self.window(header, input),
            (kind::HEADERS, FrameSide::Client) => {
                if let Err(error) = Metadata::check(&input[header.metadata().range()]) {
                    return self.break_call(header, Code::Internal, error.to_string());
                }
                Message::Headers { id: header.id, metadata: header.metadata() }
            }
            (kind::HELLO, _) if is_first => {
                if let Err(error) = Metadata::check(&input[header.metadata().range()]) {
                    return self.refuse(header, Code::InvalidArgument, error.to_string());
                }
                Message::Hello { metadata: header.metadata() }
            }
            // A hello is valid before all other frames; a later one says nothing.
            (kind::HELLO, _) => return Received::Skip { consumed },
            (kind::CANCEL, FrameSide::Server) => Message::Cancel { id: header.id },
            (kind::PING, _) => Message::Ping { id: header.id },
            (kind::PONG, _) => Message::Pong { id: header.id },
            (kind::DRAIN, FrameSide::Client) => Message::Drain,
            (kind::REPLY, FrameSide::Client) => Message::Reply(IncomingReply {
                id: header.id,
                codec: header.codec,
                compressed: header.flags & FLAG_COMPRESSED != 0,
                status: header.word_16,
                queue_us: header.word_20,
                handler_us: header.word_24,
                metadata: header.metadata(),
                body: header.body(),
            }),
            (kind::REPLY | kind::DRAIN | kind::HEADERS, FrameSide::Server)
            | (kind::REQUEST | kind::ONE_WAY | kind::CANCEL | kind::END, FrameSide::Client) => {
                return self.wrong_direction(header);
            }
            (unknown, _) => {
                let message = format!("unknown frame kind {unknown} in version {VERSION}");
                return self.refuse(header, Code::Unimplemented, message);
            }
        };
        Received::Message { message, consumed }
    }

    /// Reads a window frame, whose body is the number of bytes.
    fn window(&mut self, header: &Header, input: &[u8]) -> Received<Message> {
        if let Some(&bytes) = input[header.body().range()].first_chunk::<4>()
            && header.body_bytes == 4
        {
            let credit = Message::Credit { id: header.id, bytes: u32::from_le_bytes(bytes) };
            return Received::Message { message: credit, consumed: header.frame_bytes() };
        }
        let message = format!("a window frame has a body of 4 bytes, not {}", header.body_bytes);
        if header.id != 0 {
            return self.break_call(header, Code::InvalidArgument, message);
        }
        // Without the window of the connection, neither side can say how much may be sent.
        let refused = self.refuse(header, Code::InvalidArgument, message.clone());
        self.skip_bytes = 0;
        self.broken = Some(Broken::Other(message.clone()));
        if Self::SIDE == FrameSide::Client { Received::Broken(Broken::Other(message)) } else { refused }
    }

    /// Reads one frame: [`Protocol::receive`], which never writes for this protocol.
    pub fn receive_frame(&mut self, input: &[u8]) -> Received<Message> {
        let received = self.receive_any(input);
        self.is_plain = Self::SIDE == FrameSide::Server && self.skip_bytes == 0 && self.broken.is_none();
        self.is_fresh &= matches!(received, Received::NeedMore { .. } | Received::Broken(_));
        received
    }

    /// The slow path: every input but a complete plain request.
    #[inline(never)]
    fn receive_any(&mut self, input: &[u8]) -> Received<Message> {
        if (self.skip_bytes != 0 || self.broken.is_some())
            && let Some(decoded) = self.not_plain(input)
        {
            return decoded;
        }
        let Some(bytes) = input.first_chunk::<HEADER_BYTES>() else { return self.short_or_foreign(input) };
        if bytes[..3] != [MAGIC[0], MAGIC[1], VERSION] {
            return self.short_or_foreign(input);
        }
        let header = Header::read(bytes);
        let is_first = self.is_fresh;
        if header.body_bytes > self.frame_bytes_max {
            return self.too_large(&header);
        }
        let flags_known = match header.kind {
            kind::REQUEST | kind::ONE_WAY => FLAG_COMPRESSED | FLAG_STREAMS,
            kind::OPTIONAL.. => return self.skip_frame(&header),
            _ => FLAG_COMPRESSED,
        };
        if header.flags & !flags_known != 0 {
            let message = format!("unknown flags {:#04x} in version {VERSION}", header.flags & !flags_known);
            if self.is_part_of_call(&header) {
                return self.break_call(&header, Code::InvalidArgument, message);
            }
            return self.refuse(&header, Code::Unimplemented, message);
        }
        if Self::SIDE == FrameSide::Server
            && header.flags & FLAG_STREAMS != 0
            && let Some(why) = streams_refusal(&header)
        {
            return self.refuse(&header, Code::InvalidArgument, why.to_owned());
        }
        if header.kind == kind::END && header.body_bytes > 0 && Self::SIDE == FrameSide::Server {
            let message = format!("an end frame has no body; this one has {} bytes", header.body_bytes);
            return self.break_call(&header, Code::InvalidArgument, message);
        }
        if !header.metadata_bytes.is_multiple_of(8) {
            let message = format!("{} bytes of metadata are not a multiple of 8", header.metadata_bytes);
            if self.is_part_of_call(&header) {
                return self.break_call(&header, Code::InvalidArgument, message);
            }
            return self.refuse(&header, Code::InvalidArgument, message);
        }
        if input.len() < header.frame_bytes() {
            return Received::NeedMore { bytes_min: header.frame_bytes() };
        }
        self.whole(&header, input, is_first)
    }
}

/// Returns the event of a request, by whether its argument follows.
#[inline]
fn opened(header: &Header, request: Request) -> Message {
    if header.flags & FLAG_STREAMS == 0 { Message::Request(request) } else { Message::Open(request) }
}

/// Returns why a request whose argument follows in data frames is not valid.
#[cold]
fn streams_refusal(header: &Header) -> Option<&'static str> {
    if header.body_bytes > 0 {
        return Some("a request whose argument follows in data frames has no body");
    }
    if header.kind == kind::ONE_WAY {
        return Some("a one-way call has its argument in the request");
    }
    (header.id == 0).then_some("a call whose argument follows in data frames has an id other than 0")
}

impl<const IS_SERVER: bool> Protocol for NativeEnd<IS_SERVER> {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        self.receive_frame(input)
    }

    #[inline(always)]
    fn try_fast_receive(&mut self, input: &[u8]) -> Option<(Message, usize)> {
        if !self.is_plain {
            return None;
        }
        // Four loads replace nine fields: with sixteen requests per read, this is the cost of a call.
        let header = input.first_chunk::<HEADER_BYTES>()?;
        let (words, _) = header.as_chunks::<8>();
        let [first, id, third, last] = [0, 1, 2, 3].map(|at| u64::from_le_bytes(words[at]));
        let body_bytes = (last >> 32) as usize;
        let is_whole = body_bytes <= self.frame_bytes_max && input.len() - HEADER_BYTES >= body_bytes;
        if first & PLAIN_MASK != PLAIN_REQUEST || !is_whole {
            return None;
        }
        let request = Request {
            id,
            method: third as u32,
            name: None,
            codec: (first >> 32) as u8,
            compressed: (first >> 40) as u8 & FLAG_COMPRESSED != 0,
            one_way: false,
            schema: (third >> 32) as u32,
            time_left_us: last as u32,
            metadata: Span::new(HEADER_BYTES as u32, 0),
            body: Span::new(HEADER_BYTES as u32, body_bytes as u32),
        };
        Some((Message::Request(request), HEADER_BYTES + body_bytes))
    }

    #[inline(always)]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match outgoing {
            Outgoing::Reply(reply) if reply.extras.is_none() => {
                send_frame(reply_words(&reply, 0), reply.body, out)
            }
            other => send_other(other, out),
        }
    }

    fn send_drain(&mut self, out: &mut Out<'_>) {
        // A client's notice would be a frame in the wrong direction; a client just sends no more requests.
        if Self::SIDE == FrameSide::Server {
            self.send(Outgoing::Drain, out);
        }
    }

    fn is_inside_message(&self) -> bool {
        self.skip_bytes > 0
    }

    fn is_caller(&self) -> bool {
        Self::SIDE == FrameSide::Client
    }

    fn waits_unread(&self, input: &[u8]) -> bool {
        if Self::SIDE == FrameSide::Client {
            return true;
        }
        let Some(bytes) = input.first_chunk::<HEADER_BYTES>() else { return false };
        if self.skip_bytes > 0 || self.broken.is_some() || bytes[..3] != [MAGIC[0], MAGIC[1], VERSION] {
            return false;
        }
        let header = Header::read(bytes);
        let is_unary = header.flags & FLAG_STREAMS == 0;
        matches!(header.kind, kind::REQUEST | kind::ONE_WAY) && is_unary && header.word_24 == 0
    }

    fn stream_support(&self) -> StreamSupport {
        StreamSupport::Both
    }
}

/// Writes a header and a body. The words are written directly to their destination, since a header that is assembled
/// elsewhere and copied as a whole stalls on its own stores. The slow path takes all of it by value: what it took by
/// reference would be stored in memory for the fast path, too.
#[inline(always)]
fn send_frame(header: [u64; 4], body: SendBody<'_>, out: &mut Out<'_>) {
    let [first, second, third, last] = header;
    match body {
        SendBody::Bytes(bytes) => {
            let Some(room) = out.queue.room(HEADER_BYTES + bytes.len()) else {
                return send_frame_slow(first, second, third, last, bytes, out);
            };
            let (head, rest) = room.split_at_mut(HEADER_BYTES);
            for (room, word) in head.as_chunks_mut::<8>().0.iter_mut().zip(header) {
                *room = word.to_le_bytes();
            }
            rest.copy_from_slice(bytes);
        }
        SendBody::Chunk(chunk) => {
            send_frame_slow(first, second, third, last, &[], out);
            out.link(chunk);
        }
    }
}

#[inline(never)]
fn send_frame_slow(first: u64, second: u64, third: u64, last: u64, body: &[u8], out: &mut Out<'_>) {
    out.frame(&to_bytes([first, second, third, last]), SendBody::Bytes(body));
}

#[cfg(test)]
mod tests;
