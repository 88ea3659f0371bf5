//! The client's side: writes calls as Go's client does, and reads answers in any order.
//!
//! The sequence number of a call is its id. Every call is answered in this protocol; the number of a one-way call has
//! its highest bit set, which marks the answer to be dropped. The protocol has no messages to cancel a call or to
//! ping.

use super::CODEC_GOB;
use super::head::{HeaderKind, RpcHeader};
use super::receive::{RpcReceiver, StreamPiece, broken};
use super::send::RpcSender;
use crate::codec::gob::stream::StreamError;
use crate::message::{IncomingReply, Message, Outgoing, OutgoingCall, Refusal, Span};
use crate::status::Code;
use crate::wire::{Broken, ForeignProtocol, Out, Protocol, Received};

/// The maximum number of types that a server may define: the default limit of our server for a client.
const TYPES_MAX: usize = 1024;
/// The maximum bytes of one definition.
const TYPE_BYTES_MAX: usize = 64 << 10;
/// Marks the numbers of one-way calls.
const ONE_WAY: u64 = 1 << 63;

/// The method that is called instead if an argument cannot be written to the stream.
const NO_BODY: &[u8] = b"the argument is not a gob body of this process";

/// The client's side of a net/rpc connection.
#[derive(Debug)]
pub struct NetRpcClient {
    receiver: RpcReceiver,
    sender: RpcSender,
    /// The answer whose body follows.
    parsed: Option<ParsedResponse>,
    /// Remaining bytes of a body that is over the limit.
    skip_bytes: u64,
    /// No answer has been read yet.
    is_fresh: bool,
}

/// An answer whose header was read.
#[derive(Debug)]
struct ParsedResponse {
    seq: u64,
    /// The error text of the server.
    error: Option<Box<[u8]>>,
}

impl NetRpcClient {
    /// Creates the client's side, for answers of up to `frame_bytes_max` bytes.
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

    /// Reads the body of the current answer at the start of `input`, which `at` received bytes precede. `None`: the answer
    /// is dropped.
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

    /// Handles a body over the limit: its call fails, and the body is skipped as it arrives.
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
            // The call must fail, and only a server can report that here: it answers that this is no method.
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

/// Returns the code of an error, for which Go sends only a text.
fn code_of(text: &[u8]) -> Code {
    if text.starts_with(b"rpc: can't find ") { Code::Unimplemented } else { Code::Unknown }
}

impl Protocol for NetRpcClient {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        self.receiver.release_scratch();
        if self.is_fresh {
            if input.len() < 2 {
                return Received::NeedMore { bytes_min: 2 };
            }
            self.is_fresh = false;
            // A server's first message defines a type, whose id has a distinct second byte.
            if let Some(met) = ForeignProtocol::at_start(input, &[]) {
                return Received::Broken(Broken::Foreign(met));
            }
        }
        let mut at = 0;
        loop {
            if self.skip_bytes > 0 {
                let skipped = self.skip_bytes.min((input.len() - at) as u64);
                self.skip_bytes -= skipped;
                at += skipped as usize;
                match at {
                    0 => return Received::NeedMore { bytes_min: 1 },
                    consumed if self.skip_bytes > 0 => return Received::Skip { consumed },
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
                    return Received::Message { message, consumed: at + bytes };
                }
                Ok(StreamPiece::NeedMore(bytes_min)) if at == 0 => return Received::NeedMore { bytes_min },
                Ok(StreamPiece::NeedMore(_)) => return Received::Skip { consumed: at },
                Err(error) => return Received::Broken(broken(error)),
            }
        }
    }

    #[inline]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // A client sends no replies, and the protocol has no form for the others.
        if let Outgoing::Request(call) = outgoing {
            self.encode_call(call, out);
        }
    }

    fn is_inside_message(&self) -> bool {
        self.parsed.is_some() || self.skip_bytes > 0
    }

    #[inline]
    fn scratch(&self) -> &[u8] {
        self.receiver.scratch()
    }
}
