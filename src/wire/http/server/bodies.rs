//! Bodies that arrive in chunks, and bodies that are discarded.

use super::{HttpServerInner, RequestState};
use crate::message::{Message, Span};
use crate::status::Code;
use crate::wire::http::chunks::{BodyPiece, ChunkFault, Chunks};
use crate::wire::http::fault::RequestFault;
use crate::wire::http::reply::PendingResponse;
use crate::wire::http::request::BodyLength;
use crate::wire::http::skip_bytes_max;
#[cfg(feature = "jsonrpc")]
use crate::wire::http::target::CallTarget;
use crate::wire::http::target::RequestCall;
use crate::wire::{Out, Received};

impl HttpServerInner {
    /// Decides how to handle an unused body: it is skipped, or the connection closes.
    pub(super) fn pass_over(
        &mut self,
        mut pending: PendingResponse,
        body: BodyLength,
        expects_continue: bool,
    ) -> PendingResponse {
        let bytes_max = skip_bytes_max(&self.side.limits);
        let is_too_long = matches!(body, BodyLength::Bytes(bytes) if bytes > bytes_max);
        // A client without a 100 (Continue) may send the body or not: the next bytes could be either.
        pending.closes |= is_too_long || expects_continue || self.is_draining;
        self.state = match body {
            _ if pending.closes => RequestState::Ended,
            BodyLength::Bytes(0) => RequestState::Head,
            BodyLength::Bytes(bytes) => RequestState::Skip { bytes },
            BodyLength::Chunked => {
                let frame_bytes_max = self.side.limits.frame_bytes_max as u64;
                RequestState::SkipChunks { chunks: self.chunks(frame_bytes_max.min(bytes_max)) }
            }
        };
        pending
    }

    pub(super) fn chunks(&self, bytes_max: u64) -> Chunks {
        Chunks::new(bytes_max, self.side.limits.http_head_bytes_max as u64)
    }

    pub(super) fn chunked(
        &mut self,
        call: RequestCall,
        mut chunks: Chunks,
        input: &[u8],
        out: &mut Out<'_>,
    ) -> Received<Message> {
        #[cfg(not(feature = "jsonrpc"))]
        let _ = out;
        let mut at = 0;
        while at < input.len() {
            match chunks.next(&input[at..]) {
                Ok(BodyPiece::Data(bytes)) => {
                    self.gathered.extend_from_slice(&input[at..at + bytes]);
                    at += bytes;
                }
                Ok(BodyPiece::Framing(bytes)) => at += bytes,
                Ok(BodyPiece::End(bytes)) => {
                    let start = self.metadata.as_bytes().len();
                    #[cfg(feature = "jsonrpc")]
                    if call.target == CallTarget::JsonRpc {
                        let len = at + bytes;
                        return self.begin_json_rpc(call, Some(start), &input[..len], len, out);
                    }
                    let body = Span::scratch(start as u32, (self.gathered.len() - start) as u32);
                    return self.call(call, body, at + bytes);
                }
                Err(fault) => {
                    let fault = match fault {
                        ChunkFault::Malformed(what) => RequestFault::malformed(what),
                        ChunkFault::TooLarge => RequestFault::too_large(self.side.limits.frame_bytes_max),
                        ChunkFault::TooMuchFraming => {
                            let message = "size lines, extensions and trailers are over their limit";
                            RequestFault::new(413, Code::ResourceExhausted, message).and_close()
                        }
                    };
                    return self.refuse(call.pending, fault, BodyLength::Bytes(0), false, at);
                }
            }
        }
        self.state = RequestState::Chunked { call, chunks };
        if at == 0 { Received::NeedMore { bytes_min: 1 } } else { Received::Skip { consumed: at } }
    }

    pub(super) fn skip_chunks(&mut self, mut chunks: Chunks, input: &[u8]) -> Received<Message> {
        let mut at = 0;
        while at < input.len() {
            match chunks.next(&input[at..]) {
                Ok(BodyPiece::Data(bytes) | BodyPiece::Framing(bytes)) => at += bytes,
                Ok(BodyPiece::End(bytes)) => {
                    self.state = RequestState::Head;
                    return Received::Skip { consumed: at + bytes };
                }
                // The refusal was already answered.
                Err(_) => {
                    self.state = RequestState::Ended;
                    return Received::End;
                }
            }
        }
        self.state = RequestState::SkipChunks { chunks };
        Received::Skip { consumed: at }
    }
}
