//! The server's side of an HTTP/2 connection (RFC 9113): frames in, events and frames out. No socket, no clock.
//!
//! [`Http2Connection::receive`] reads one frame at a time from bytes that the caller keeps, so its result does not
//! depend on how they were split. `blocks.rs` assembles header blocks, `control.rs` handles the frames that concern
//! the connection, `output.rs` sends answers and holds what the windows forbid.

mod blocks;
mod control;
mod output;

use std::collections::VecDeque;
use std::fmt;

use coreloop_bufpool::Pool;

use super::budget::NuisanceBudget;
use super::fault::{Http2Code, Http2Fault};
use super::flow::{Http2ReceiveWindow, SendWindow};
use super::frame::{self, FRAME_BYTES_DEFAULT, FRAME_HEAD_BYTES, FrameHead, Http2Frame, kind};
use super::head::Http2Head;
use super::hpack::{FieldList, HpackDecoder, HpackEncoder};
use super::settings::{PeerSettings, TABLE_BYTES_DEFAULT, WINDOW_DEFAULT};
use super::streams::{Http2StreamState, Http2Streams};
use crate::wire::Out;

pub use output::{BodyPart, OutField};

/// The bytes that a client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is remembered of the streams that this side has reset: frames that were on their way are no fault.
const RESETS_REMEMBERED: usize = 128;
/// The table of the encoder: an answer repeats a few short fields.
const ENCODER_TABLE_BYTES: usize = 1024;

/// The bounds of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2Limits {
    /// Streams that are open, or whose calls have not ended. Default 128, which is announced. At the limit:
    /// REFUSED_STREAM.
    pub streams_max: u32,
    /// Bytes that may arrive on a stream before credit is returned. Default 256 KiB; at most 2^31 - 1.
    pub stream_window_bytes: u32,
    /// The same for the connection. Default 16 MiB; at least 65 535, which cannot be lowered.
    pub connection_window_bytes: u32,
    /// Bytes of a header list, with 32 for each field. Default 16 KiB, which is announced. At the limit: the event
    /// [`Http2Event::HeadTooLarge`]. A compressed block of more than twice that ends the connection.
    pub header_list_bytes_max: usize,
    /// Bytes of the table for the peer's header blocks. Default 1 KiB. Until the peer has confirmed it, the table may
    /// have the 4 KiB that the protocol starts with.
    pub header_table_bytes: u32,
    /// Bytes of answers that wait for credit. Default 16 MiB; one more answer may exceed it. At the limit: new streams
    /// get REFUSED_STREAM, and streams whose answers would wait too are reset with ENHANCE_YOUR_CALM.
    pub held_bytes_max: usize,
    /// Frames per second that cause work without use. Default 1,000. At the limit: GOAWAY, ENHANCE_YOUR_CALM.
    pub nuisances_per_second: u32,
}

impl Default for Http2Limits {
    fn default() -> Http2Limits {
        Http2Limits {
            streams_max: 128,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 16 << 20,
            header_list_bytes_max: 16 << 10,
            header_table_bytes: 1 << 10,
            held_bytes_max: 16 << 20,
            nuisances_per_second: 1000,
        }
    }
}

/// What the application learns from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Http2Event {
    /// A request begins. Its fields are [`Http2Connection::fields`] until the next call.
    Head {
        /// The stream.
        stream: u32,
        /// The places of the pseudo-header fields.
        head: Http2Head,
        /// Whether the request has no body.
        is_last: bool,
    },
    /// A request begins whose header list is over the limit. It is to be answered.
    HeadTooLarge {
        /// The stream.
        stream: u32,
        /// Whether the request has no body.
        is_last: bool,
    },
    /// A part of a body. The bytes have been taken from the windows: see [`Http2Connection::consume`].
    Data {
        /// The stream.
        stream: u32,
        /// The first byte, in the input that was passed to [`Http2Connection::receive`].
        start: usize,
        /// The bytes; may be 0.
        bytes: usize,
        /// Whether the request ends.
        is_last: bool,
    },
    /// Trailers, which end the request. Its fields are [`Http2Connection::fields`] until the next call.
    Trailers {
        /// The stream.
        stream: u32,
    },
    /// The stream has ended with an error before it was answered. Its call is to be cancelled, and
    /// [`Http2Connection::close`] called when it has ended.
    Reset {
        /// The stream.
        stream: u32,
        /// The reason.
        code: Http2Code,
        /// Whether the peer has reset the stream; otherwise it has broken a rule.
        is_by_peer: bool,
    },
}

/// The result of reading the start of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Http2Step {
    /// A frame and what it means.
    Event {
        /// The meaning.
        event: Http2Event,
        /// Bytes to consume.
        consumed: usize,
    },
    /// A frame that concerns the connection only.
    Skip {
        /// Bytes to consume.
        consumed: usize,
    },
    /// Not enough bytes yet.
    NeedMore {
        /// The least number of bytes, those already present included, at which progress is made.
        bytes_min: usize,
    },
    /// The connection has ended with GOAWAY, which is written. Nothing more is read.
    Failed(Http2Fault),
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// Nothing was read yet.
    Preface,
    /// The preface was read; SETTINGS must follow.
    FirstSettings,
    /// Frames are read.
    Running,
    /// GOAWAY was written because of a fault.
    Failed(Http2Fault),
}

/// How far a graceful end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainPhase {
    /// None was begun.
    None,
    /// The notice is written; streams that cross it are served.
    Announced,
    /// The last stream was named; later ones are refused.
    Final,
}

/// A header block that is not complete.
#[derive(Debug)]
struct OpenBlock {
    stream: u32,
    bytes: Vec<u8>,
    frames: u32,
    is_last: bool,
    depends_on_itself: bool,
}

/// The last request head. Clients repeat theirs, and a block that neither changes the table nor follows a change has the
/// same fields again.
#[derive(Debug)]
struct KnownHead {
    block: Box<[u8]>,
    head: Http2Head,
}

impl KnownHead {
    /// Longer blocks are decoded each time.
    const BYTES_MAX: usize = 128;
}

/// The server's side of a connection.
pub struct Http2Connection {
    limits: Http2Limits,
    phase: ConnectionPhase,
    drain: DrainPhase,
    budget: NuisanceBudget,
    peer: PeerSettings,
    /// Whether the peer has acknowledged the settings of this side.
    is_acknowledged: bool,
    decoder: HpackDecoder,
    encoder: HpackEncoder,
    fields: FieldList,
    /// How often the fields were replaced.
    fields_version: u32,
    /// The head that the fields were decoded from, if its block has the same meaning again.
    known_head: Option<Box<KnownHead>>,
    block: Option<Box<OpenBlock>>,
    streams: Http2Streams,
    /// The newest stream of the peer.
    last_stream: u32,
    resets: VecDeque<u32>,
    send: SendWindow,
    receive: Http2ReceiveWindow,
    /// Streams with output that waits for the connection's window, in turn.
    queue: VecDeque<u32>,
    held_bytes: usize,
    scratch: Vec<u8>,
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection")
            .field("phase", &self.phase)
            .field("drain", &self.drain)
            .field("streams", &self.streams.len())
            .field("last_stream", &self.last_stream)
            .field("held_bytes", &self.held_bytes)
            .finish_non_exhaustive()
    }
}

impl Http2Connection {
    /// Creates a connection on which nothing was read yet.
    pub fn server(limits: Http2Limits) -> Http2Connection {
        Http2Connection {
            phase: ConnectionPhase::Preface,
            drain: DrainPhase::None,
            budget: NuisanceBudget::new(limits.nuisances_per_second),
            peer: PeerSettings::default(),
            is_acknowledged: false,
            decoder: HpackDecoder::new(TABLE_BYTES_DEFAULT as usize),
            encoder: HpackEncoder::new(ENCODER_TABLE_BYTES, TABLE_BYTES_DEFAULT as usize, false),
            fields: FieldList::new(),
            fields_version: 0,
            known_head: None,
            block: None,
            streams: Http2Streams::new(),
            last_stream: 0,
            resets: VecDeque::new(),
            send: SendWindow::new(WINDOW_DEFAULT),
            receive: Http2ReceiveWindow::new(limits.connection_window_bytes.max(WINDOW_DEFAULT)),
            queue: VecDeque::new(),
            held_bytes: 0,
            scratch: Vec::new(),
            limits,
        }
    }

    /// Reads one frame from the start of the input, and writes what the protocol answers by itself.
    pub fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Http2Step {
        match self.phase {
            ConnectionPhase::Failed(fault) => return Http2Step::Failed(fault),
            ConnectionPhase::Preface => return self.receive_preface(input, out),
            ConnectionPhase::FirstSettings | ConnectionPhase::Running => {}
        }
        let Some(head) = input.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Http2Step::NeedMore { bytes_min: FRAME_HEAD_BYTES };
        };
        let head = FrameHead::read(head);
        // What is wrong with a head is known before its payload arrives, however the bytes are split.
        if let Err(fault) = self.check_head(head) {
            return self.fail(fault, out);
        }
        let consumed = FRAME_HEAD_BYTES + head.length as usize;
        let Some(payload) = input.get(FRAME_HEAD_BYTES..consumed) else {
            return Http2Step::NeedMore { bytes_min: consumed };
        };
        let event = match Http2Frame::parse(head, payload) {
            Ok(frame) => self.on_frame(head, frame, out),
            Err(fault) => Err(fault),
        };
        let event = match event {
            Ok(event) => event,
            Err(Http2Fault::Stream { stream, code, why }) => {
                match self.reset_for_fault(stream, code, why, out) {
                    Ok(event) => event,
                    Err(fault) => return self.fail(fault, out),
                }
            }
            Err(fault) => return self.fail(fault, out),
        };
        match event {
            Some(event) => Http2Step::Event { event, consumed },
            None => Http2Step::Skip { consumed },
        }
    }

    fn receive_preface(&mut self, input: &[u8], out: &mut Out<'_>) -> Http2Step {
        let known = input.len().min(PREFACE.len());
        if input[..known] != PREFACE[..known] {
            return self.fail(Http2Fault::protocol("the connection does not begin with the preface"), out);
        }
        if known < PREFACE.len() {
            return Http2Step::NeedMore { bytes_min: PREFACE.len() };
        }
        self.phase = ConnectionPhase::FirstSettings;
        self.write_settings(out);
        Http2Step::Skip { consumed: PREFACE.len() }
    }

    fn check_head(&self, head: FrameHead) -> Result<(), Http2Fault> {
        if head.length > FRAME_BYTES_DEFAULT {
            return Err(Http2Fault::frame_size("a frame is over 16384 bytes"));
        }
        let is_settings = head.kind == kind::SETTINGS && head.flags & frame::flag::ACK == 0;
        if self.phase == ConnectionPhase::FirstSettings && !is_settings {
            return Err(Http2Fault::protocol("the first frame is not SETTINGS"));
        }
        match &self.block {
            Some(block) if head.kind != kind::CONTINUATION || head.stream != block.stream => {
                Err(Http2Fault::protocol("a frame interrupts a header block"))
            }
            None if head.kind == kind::CONTINUATION => {
                Err(Http2Fault::protocol("CONTINUATION without a header block"))
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn on_frame(
        &mut self,
        head: FrameHead,
        frame: Http2Frame<'_>,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        match frame {
            Http2Frame::Data { stream, data, padding, is_last } => {
                let start = FRAME_HEAD_BYTES + usize::from(padding.is_some());
                self.on_data(stream, head.length, start, data.len(), is_last, out)
            }
            Http2Frame::Headers { stream, priority, fragment, is_last, is_end_of_block, padding: _ } => {
                let depends_on_itself = priority.is_some_and(|priority| priority.depends_on == stream);
                self.on_headers(stream, fragment, is_last, is_end_of_block, depends_on_itself, out)
            }
            Http2Frame::Continuation { stream: _, fragment, is_end_of_block } => {
                self.on_continuation(fragment, is_end_of_block, out)
            }
            Http2Frame::Reset { stream, code } => self.on_reset(stream, code, out),
            Http2Frame::WindowUpdate { stream, increment } => {
                self.on_window_update(stream, increment, out).map(|()| None)
            }
            other => self.on_control(other, out).map(|()| None),
        }
    }

    fn on_data(
        &mut self,
        id: u32,
        length: u32,
        start: usize,
        bytes: usize,
        is_last: bool,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        let fault = |code, why| Err(Http2Fault::stream(id, code, why));
        if self.is_idle(id) {
            return Err(Http2Fault::protocol("DATA on an idle stream"));
        }
        if self.receive.receive(length).is_err() {
            let why = "DATA beyond the connection's window";
            return Err(Http2Fault::connection(Http2Code::FLOW_CONTROL_ERROR, why));
        }
        let stream = match self.streams.get(id) {
            Some(stream) if stream.state != Http2StreamState::GivenUp => stream,
            _ => {
                // The connection's window covers closed streams, too.
                self.consume_on_connection(length, out);
                if self.was_reset(id) {
                    // An answer may come before the request has ended.
                    self.charge_excusable()?;
                    return Ok(None);
                }
                return fault(Http2Code::STREAM_CLOSED, "DATA on a closed stream");
            }
        };
        let checked = if stream.state == Http2StreamState::PeerEnded {
            Err((Http2Code::STREAM_CLOSED, "DATA after the end of the stream"))
        } else if stream.receive.receive(length).is_err() {
            Err((Http2Code::FLOW_CONTROL_ERROR, "DATA beyond the stream's window"))
        } else {
            match stream.body_left {
                Some(left) if left < bytes as u64 || (is_last && left > bytes as u64) => {
                    Err((Http2Code::PROTOCOL_ERROR, "the body's length is not its content-length"))
                }
                left => {
                    stream.body_left = left.map(|left| left - bytes as u64);
                    Ok(())
                }
            }
        };
        if let Err((code, why)) = checked {
            self.consume_on_connection(length, out);
            return fault(code, why);
        }
        if is_last {
            stream.state = Http2StreamState::PeerEnded;
        } else if bytes == 0 {
            self.charge()?;
        }
        // The data counts once the application has consumed it, the padding at once.
        self.consume(id, length as usize - bytes, out);
        if bytes == 0 && !is_last {
            return Ok(None);
        }
        Ok(Some(Http2Event::Data { stream: id, start, bytes, is_last }))
    }

    /// Returns credit to the peer for received bytes that the application no longer holds. A stream that has ended
    /// gets none, but the connection does.
    #[inline]
    pub fn consume(&mut self, id: u32, bytes: usize, out: &mut Out<'_>) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes == 0 {
            return;
        }
        let full = self.limits.stream_window_bytes;
        if let Some(stream) = self.streams.get(id)
            && stream.state == Http2StreamState::Open
            && let Some(increment) = stream.receive.consume(bytes, full)
        {
            out.put(&frame::window_update(id, increment));
        }
        self.consume_on_connection(bytes, out);
    }

    #[inline]
    fn consume_on_connection(&mut self, bytes: u32, out: &mut Out<'_>) {
        let full = self.limits.connection_window_bytes.max(WINDOW_DEFAULT);
        if let Some(increment) = self.receive.consume(bytes, full) {
            out.put(&frame::window_update(0, increment));
        }
    }

    /// Whether the peer has not opened the stream yet. Streams of this side are never opened.
    #[inline]
    fn is_idle(&self, id: u32) -> bool {
        id > self.last_stream || id.is_multiple_of(2)
    }

    /// Whether this side has reset the stream, or was about to: late frames on it are ignored.
    fn was_reset(&mut self, id: u32) -> bool {
        self.streams.get(id).is_some_and(|stream| stream.state == Http2StreamState::GivenUp)
            || self.resets.contains(&id)
    }

    /// Takes one frame from the nuisance budget.
    fn charge(&mut self) -> Result<(), Http2Fault> {
        if self.budget.charge() { Ok(()) } else { Err(TOO_MANY) }
    }

    /// Returns the fields of the last [`Http2Event::Head`] or [`Http2Event::Trailers`].
    pub fn fields(&self) -> &FieldList {
        &self.fields
    }

    /// Returns a number that changes with the fields: as long as it does not, heads are repeated.
    pub fn fields_version(&self) -> u32 {
        self.fields_version
    }

    /// Returns the number of streams that are open, or whose calls have not ended.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns the bytes of answers that wait for credit.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether a header block has begun and is not complete.
    pub fn is_in_head(&self) -> bool {
        self.block.is_some()
    }

    /// Whether a graceful end was announced and every stream has ended.
    pub fn is_drained(&self) -> bool {
        self.drain != DrainPhase::None && self.streams.is_empty()
    }

    /// Returns the bytes that the connection has allocated, without those of streams and held answers.
    pub fn allocated_bytes(&self) -> usize {
        self.decoder.table().allocated_bytes()
            + self.encoder.table().allocated_bytes()
            + self.fields.allocated_bytes()
            + self.scratch.capacity()
            + self.known_head.as_ref().map_or(0, |known| size_of::<KnownHead>() + known.block.len())
            + (self.resets.capacity() + self.queue.capacity()) * size_of::<u32>()
            + self.block.as_ref().map_or(0, |block| block.bytes.capacity())
    }

    /// Frees the memory of output that was not written. The connection is not used afterwards.
    pub fn release(&mut self, pool: &mut Pool) {
        for (_, stream) in self.streams.iter_mut() {
            if let Some(held) = stream.held.take() {
                held.body.into_iter().for_each(|chunk| pool.give_back_chunk(chunk));
            }
        }
        self.held_bytes = 0;
    }
}

/// The fault of a peer whose budget is used up.
const TOO_MANY: Http2Fault =
    Http2Fault::connection(Http2Code::ENHANCE_YOUR_CALM, "too many frames that cause work without use");
