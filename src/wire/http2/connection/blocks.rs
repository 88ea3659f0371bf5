//! Header blocks: assembled from HEADERS and CONTINUATION, decoded, checked, and turned into events.

use super::{DrainPhase, Http2Connection, Http2Event, KnownHead, OpenBlock};
use crate::wire::Out;
use crate::wire::http2::fault::{Http2Code, Http2Fault};
use crate::wire::http2::flow::{Http2ReceiveWindow, SendWindow};
use crate::wire::http2::head::{Http2Head, check_request, check_trailers};
use crate::wire::http2::hpack::ListFit;
use crate::wire::http2::settings::WINDOW_DEFAULT;
use crate::wire::http2::streams::{Http2Stream, Http2StreamState};

/// Frames of one block: 16 KiB fit in one, so more than a few are sent on purpose.
const BLOCK_FRAMES_MAX: u32 = 32;

impl Http2Connection {
    pub(super) fn on_headers(
        &mut self,
        stream: u32,
        fragment: &[u8],
        is_last: bool,
        is_end_of_block: bool,
        depends_on_itself: bool,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        if is_end_of_block {
            return self.on_block(stream, fragment, is_last, depends_on_itself, out);
        }
        self.check_block_bytes(fragment.len())?;
        let bytes = fragment.to_vec();
        self.block = Some(Box::new(OpenBlock { stream, bytes, frames: 1, is_last, depends_on_itself }));
        Ok(None)
    }

    pub(super) fn on_continuation(
        &mut self,
        fragment: &[u8],
        is_end_of_block: bool,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        self.charge()?;
        let Some(mut block) = self.block.take() else {
            return Err(Http2Fault::protocol("CONTINUATION without a header block"));
        };
        block.frames += 1;
        if block.frames > BLOCK_FRAMES_MAX {
            let why = "a header block of too many frames";
            return Err(Http2Fault::connection(Http2Code::ENHANCE_YOUR_CALM, why));
        }
        self.check_block_bytes(block.bytes.len().saturating_add(fragment.len()))?;
        block.bytes.extend_from_slice(fragment);
        if !is_end_of_block {
            self.block = Some(block);
            return Ok(None);
        }
        self.on_block(block.stream, &block.bytes, block.is_last, block.depends_on_itself, out)
    }

    fn check_block_bytes(&self, bytes: usize) -> Result<(), Http2Fault> {
        if bytes <= self.limits.header_list_bytes_max.saturating_mul(2) {
            return Ok(());
        }
        let why = "a compressed header block is over twice the announced limit";
        Err(Http2Fault::connection(Http2Code::ENHANCE_YOUR_CALM, why))
    }

    /// Handles a whole block.
    fn on_block(
        &mut self,
        id: u32,
        block: &[u8],
        is_last: bool,
        depends_on_itself: bool,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        if id.is_multiple_of(2) {
            return Err(Http2Fault::protocol("a client opened a stream with an even id"));
        }
        self.check_block_bytes(block.len())?;
        if id > self.last_stream
            && !depends_on_itself
            && let Some(known) = self.known_head.as_ref().filter(|known| *known.block == *block)
        {
            let head = known.head;
            self.last_stream = id;
            return self.open(id, Ok(Some(head)), is_last, out);
        }
        // Every block is decoded, even if its stream is refused: the table is shared by all.
        self.fields.clear();
        self.fields_version = self.fields_version.wrapping_add(1);
        self.known_head = None;
        let (list_bytes_max, changes) = (self.limits.header_list_bytes_max, self.decoder.table().changes());
        let fit = self
            .decoder
            .decode(block, list_bytes_max, &mut self.fields)
            .map_err(|fault| Http2Fault::connection(Http2Code::COMPRESSION_ERROR, fault.as_str()))?;
        if id > self.last_stream {
            self.last_stream = id;
            if depends_on_itself {
                return Err(self_dependency(id));
            }
            let head = match fit {
                ListFit::Whole => check_request(&self.fields).map(Some),
                ListFit::TooLarge => Ok(None),
            };
            if let Ok(Some(head)) = head
                && changes == self.decoder.table().changes()
                && block.len() <= KnownHead::BYTES_MAX
            {
                self.known_head = Some(Box::new(KnownHead { block: block.into(), head }));
            }
            return self.open(id, head, is_last, out);
        }
        let state = self.streams.get(id).map(|stream| stream.state);
        match state {
            Some(Http2StreamState::Open) => self.on_trailers(id, fit, is_last),
            Some(Http2StreamState::PeerEnded) => {
                let why = "HEADERS after the end of the stream";
                Err(Http2Fault::stream(id, Http2Code::STREAM_CLOSED, why))
            }
            Some(Http2StreamState::GivenUp) | None if self.was_reset(id) => {
                self.charge()?;
                Ok(None)
            }
            Some(Http2StreamState::GivenUp) | None => {
                Err(Http2Fault::connection(Http2Code::STREAM_CLOSED, "HEADERS on a closed stream"))
            }
        }
    }

    /// Opens a stream, unless its head is malformed. `None` is a head that is too large.
    fn open(
        &mut self,
        id: u32,
        head: Result<Option<Http2Head>, &'static str>,
        is_last: bool,
        out: &mut Out<'_>,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        let is_full = self.streams.len() >= self.limits.streams_max as usize
            || self.held_bytes > self.limits.held_bytes_max;
        if is_full || self.drain == DrainPhase::Final {
            self.charge()?;
            self.write_reset(id, Http2Code::REFUSED_STREAM, out);
            return Ok(None);
        }
        let malformed = |why| Http2Fault::stream(id, Http2Code::PROTOCOL_ERROR, why);
        let head = head.map_err(malformed)?;
        let body_left = head.and_then(|head| head.content_length);
        if is_last && body_left.is_some_and(|bytes| bytes > 0) {
            return Err(malformed("the body's length is not its content-length"));
        }
        let window = if self.is_acknowledged { self.limits.stream_window_bytes } else { WINDOW_DEFAULT };
        let stream = Http2Stream {
            state: if is_last { Http2StreamState::PeerEnded } else { Http2StreamState::Open },
            send: SendWindow::new(self.peer.initial_window),
            receive: Http2ReceiveWindow::new(window),
            body_left,
            held: None,
        };
        self.streams.insert(id, stream);
        Ok(Some(match head {
            Some(head) => Http2Event::Head { stream: id, head, is_last },
            None => Http2Event::HeadTooLarge { stream: id, is_last },
        }))
    }

    fn on_trailers(
        &mut self,
        id: u32,
        fit: ListFit,
        is_last: bool,
    ) -> Result<Option<Http2Event>, Http2Fault> {
        let malformed = |why| Http2Fault::stream(id, Http2Code::PROTOCOL_ERROR, why);
        if !is_last {
            return Err(malformed("a second head, or trailers that do not end the stream"));
        }
        if fit == ListFit::TooLarge {
            return Err(Http2Fault::stream(
                id,
                Http2Code::ENHANCE_YOUR_CALM,
                "trailers are over the announced limit",
            ));
        }
        check_trailers(&self.fields).map_err(malformed)?;
        let Some(stream) = self.streams.get(id) else { return Ok(None) };
        if stream.body_left.is_some_and(|left| left > 0) {
            return Err(malformed("the body's length is not its content-length"));
        }
        stream.state = Http2StreamState::PeerEnded;
        Ok(Some(Http2Event::Trailers { stream: id }))
    }
}

/// The fault of a stream that is to depend on itself (RFC 7540 section 5.3.1).
pub(super) fn self_dependency(id: u32) -> Http2Fault {
    Http2Fault::stream(id, Http2Code::PROTOCOL_ERROR, "a stream depends on itself")
}
