//! The client's end: calls out as Go's client writes them, answers in, in any order.
//!
//! The number of a call is its id. Every call is answered in this protocol; one that wants no answer has the highest
//! bit of its number set, by which its answer is known and dropped. Nothing can be cancelled or pinged: the protocol
//! has no words for it.

use super::CODEC_GOB;
use super::head::{HeaderKind, RpcHeader};
use super::receive::{RpcReceiver, StreamPiece, broken};
use super::send::RpcSender;
use crate::codec::gob::stream::StreamError;
use crate::message::{IncomingReply, Message, Outgoing, OutgoingCall, Refusal, Span};
use crate::status::Code;
use crate::wire::{Broken, Decoded, ForeignProtocol, Out, Protocol};

/// Types that a server may define, at the most: those that ours takes from a client by default.
const TYPES_MAX: usize = 1024;
/// Bytes of one definition, at the most.
const TYPE_BYTES_MAX: usize = 64 << 10;
/// Marks the numbers of calls that want no answer.
const ONE_WAY: u64 = 1 << 63;

/// What is called instead, when an argument is no body that could be put into the stream.
const NO_BODY: &[u8] = b"the argument is not a gob body of this process";

/// The client's end of a connection that speaks Go's net/rpc.
#[derive(Debug)]
pub struct NetRpcClient {
    receiver: RpcReceiver,
    sender: RpcSender,
    /// The answer whose body is to come.
    parsed: Option<ParsedResponse>,
    /// Bytes to come of a body that is over the limit.
    skip_bytes: u64,
    /// Nothing was read yet.
    is_fresh: bool,
}

/// An answer whose header was read.
#[derive(Debug)]
struct ParsedResponse {
    seq: u64,
    /// What the server says went wrong.
    error: Option<Box<[u8]>>,
}

impl NetRpcClient {
    /// The end that receives answers, of up to so many bytes.
    pub fn new(frame_bytes_max: usize) -> NetRpcClient {
        NetRpcClient {
            receiver: RpcReceiver::new(TYPES_MAX, TYPE_BYTES_MAX, frame_bytes_max, frame_bytes_max),
            sender: RpcSender::new(HeaderKind::Request),
            parsed: None,
            skip_bytes: 0,
            is_fresh: true,
        }
    }

    #[inline]
    fn head(&mut self, input: &[u8]) -> Result<StreamPiece<Option<Message>>, StreamError> {
        Ok(match self.receiver.head(input)? {
            StreamPiece::Found { what, bytes } => {
                let head = RpcHeader::read(what, self.receiver.definitions())?;
                let error = (!head.error.is_empty()).then(|| head.error.into());
                self.parsed = Some(ParsedResponse { seq: head.seq, error });
                StreamPiece::Definition { bytes }
            }
            StreamPiece::Definition { bytes } => StreamPiece::Definition { bytes },
            StreamPiece::NeedMore(bytes_min) => StreamPiece::NeedMore(bytes_min),
        })
    }

    /// The body of the answer that was told; `at` of the bytes at hand stand in front of it. `None`: nobody wants it.
    #[inline]
    fn body(
        &mut self,
        parsed: ParsedResponse,
        input: &[u8],
        at: usize,
    ) -> Result<StreamPiece<Option<Message>>, StreamError> {
        let is_dropped = parsed.seq & ONE_WAY != 0;
        if is_dropped || parsed.error.is_some() {
            let piece = match self.receiver.pass_over(input) {
                Err(StreamError::TooLarge { .. }) => match self.receiver.oversized(input)? {
                    StreamPiece::Found { what, bytes } => {
                        self.skip_bytes = what;
                        StreamPiece::Found { what: (), bytes }
                    }
                    StreamPiece::Definition { bytes } => StreamPiece::Definition { bytes },
                    StreamPiece::NeedMore(bytes_min) => StreamPiece::NeedMore(bytes_min),
                },
                other => other?,
            };
            return Ok(match piece {
                StreamPiece::Found { what: (), bytes } if is_dropped => {
                    StreamPiece::Found { what: None, bytes }
                }
                StreamPiece::Found { what: (), bytes } => {
                    let text = parsed.error.unwrap_or_default();
                    let code = code_of(&text);
                    let text = self.receiver.put_scratch(&text);
                    StreamPiece::Found { what: Some(answer(parsed.seq, code, text)), bytes }
                }
                StreamPiece::Definition { bytes } => {
                    self.parsed = Some(parsed);
                    StreamPiece::Definition { bytes }
                }
                StreamPiece::NeedMore(bytes_min) => {
                    self.parsed = Some(parsed);
                    StreamPiece::NeedMore(bytes_min)
                }
            });
        }
        let piece = match self.receiver.body(input, at) {
            Err(error @ StreamError::TooLarge { .. }) => return self.oversized_body(parsed, input, error),
            other => other?,
        };
        Ok(match piece {
            StreamPiece::Found { what, bytes } => {
                StreamPiece::Found { what: Some(answer(parsed.seq, Code::Ok, what)), bytes }
            }
            StreamPiece::Definition { bytes } => {
                self.parsed = Some(parsed);
                StreamPiece::Definition { bytes }
            }
            StreamPiece::NeedMore(bytes_min) => {
                self.parsed = Some(parsed);
                StreamPiece::NeedMore(bytes_min)
            }
        })
    }

    /// A body over the limit: its call fails, and it is skipped as it comes.
    #[cold]
    fn oversized_body(
        &mut self,
        parsed: ParsedResponse,
        input: &[u8],
        error: StreamError,
    ) -> Result<StreamPiece<Option<Message>>, StreamError> {
        Ok(match self.receiver.oversized(input)? {
            StreamPiece::Found { what, bytes } => {
                self.skip_bytes = what;
                let refusal = Refusal {
                    id: parsed.seq,
                    codec: CODEC_GOB,
                    one_way: false,
                    code: Code::ResourceExhausted,
                    message: broken(error).to_string(),
                };
                StreamPiece::Found { what: Some(Message::Refused(refusal)), bytes }
            }
            StreamPiece::Definition { bytes } => StreamPiece::Definition { bytes },
            StreamPiece::NeedMore(bytes_min) => {
                self.parsed = Some(parsed);
                StreamPiece::NeedMore(bytes_min)
            }
        })
    }

    fn encode_call(&mut self, call: OutgoingCall<'_>, out: &mut Out<'_>) {
        debug_assert!(call.codec == CODEC_GOB && !call.compressed, "gob alone is spoken here");
        debug_assert!(!call.name.is_empty(), "this protocol calls methods by name, not by hash");
        let seq = if call.one_way { call.id | ONE_WAY } else { call.id };
        let head = RpcHeader { method: call.name.as_bytes(), seq, error: b"" };
        if self.sender.put(&head, call.body, out).is_err() {
            // The call is to fail, and only a server can say so here: it answers that this names no method.
            self.sender.put_nothing(&RpcHeader { method: NO_BODY, ..head }, out);
        }
    }
}

fn answer(id: u64, code: Code, body: Span) -> Message {
    Message::Reply(IncomingReply {
        id,
        codec: CODEC_GOB,
        compressed: false,
        status: code.number(),
        queue_us: 0,
        handler_us: 0,
        metadata: Span::default(),
        body,
    })
}

/// The code of an error, of which Go says the text alone.
fn code_of(text: &[u8]) -> Code {
    if text.starts_with(b"rpc: can't find ") { Code::Unimplemented } else { Code::Unknown }
}

impl Protocol for NetRpcClient {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn decode(&mut self, input: &[u8]) -> Decoded<Message> {
        self.receiver.release_scratch();
        if self.is_fresh {
            if input.len() < 2 {
                return Decoded::NeedMore { bytes_min: 2 };
            }
            self.is_fresh = false;
            // The first message of a server defines a type, whose id has a second byte of its own.
            if let Some(met) = ForeignProtocol::at_start(input, &[]) {
                return Decoded::Broken(Broken::Foreign(met));
            }
        }
        let mut at = 0;
        loop {
            if self.skip_bytes > 0 {
                let skipped = self.skip_bytes.min((input.len() - at) as u64);
                self.skip_bytes -= skipped;
                at += skipped as usize;
                match at {
                    0 => return Decoded::NeedMore { bytes_min: 1 },
                    consumed if self.skip_bytes > 0 => return Decoded::Skip { consumed },
                    _ => {}
                }
            }
            let piece = match self.parsed.take() {
                None => self.head(&input[at..]),
                Some(parsed) => self.body(parsed, &input[at..], at),
            };
            match piece {
                Ok(StreamPiece::Definition { bytes } | StreamPiece::Found { what: None, bytes }) => {
                    at += bytes
                }
                Ok(StreamPiece::Found { what: Some(message), bytes }) => {
                    return Decoded::Message { message, consumed: at + bytes };
                }
                Ok(StreamPiece::NeedMore(bytes_min)) if at == 0 => return Decoded::NeedMore { bytes_min },
                Ok(StreamPiece::NeedMore(_)) => return Decoded::Skip { consumed: at },
                Err(error) => return Decoded::Broken(broken(error)),
            }
        }
    }

    #[inline]
    fn encode(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match outgoing {
            Outgoing::Request(call) => self.encode_call(call, out),
            // The protocol has no words for these, and a reply is a server's.
            Outgoing::Reply(_)
            | Outgoing::Pong { .. }
            | Outgoing::Drain
            | Outgoing::Cancel { .. }
            | Outgoing::Ping { .. }
            | Outgoing::Prepared { .. } => {}
        }
    }

    fn is_inside_message(&self) -> bool {
        self.parsed.is_some() || self.skip_bytes > 0
    }

    #[inline]
    fn aside(&self) -> &[u8] {
        self.receiver.aside()
    }
}
