//! The server's side: reads headers and arguments, and writes headers and results in any order.
//!
//! A fault that Go's server answers before it continues is answered here with the same text. A fault that makes it
//! close the connection (an unreadable header, a broken stream) closes it here, too.

use std::sync::Arc;

use super::CODEC_GOB;
use super::head::{HeaderKind, RpcHeader};
use super::methods::{ConnMethods, MethodText};
use super::outstanding::{OutstandingCall, OutstandingCalls};
use super::receive::{RpcReceiver, StreamPiece, broken};
use super::send::RpcSender;
use crate::codec::gob::stream::{self as gob, StreamError};
use crate::message::{Message, Outgoing, OutgoingReply, Refusal, Request, SendBody, Span};
use crate::status::Code;
use crate::wire::{Broken, DrainNotice, Out, Protocol, Received, ServerContext};

/// The maximum bytes of a header: enough for a name, and for fields that newer callers may add.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The server's side of a net/rpc connection.
#[derive(Debug)]
pub struct NetRpc {
    side: Arc<ServerContext>,
    receiver: RpcReceiver,
    sender: RpcSender,
    /// The call whose argument follows.
    parsed: Option<ParsedRequest>,
    pending: OutstandingCalls,
    methods: ConnMethods,
    /// The error that closes the connection once the preceding refusal was returned.
    broken: Option<Box<Broken>>,
}

/// A call whose header was read.
#[derive(Debug)]
struct ParsedRequest {
    outstanding: OutstandingCall,
    /// The method's hash, or why there is none.
    method: Result<u32, Box<str>>,
}

impl NetRpc {
    /// Creates the server's side.
    pub fn server(side: Arc<ServerContext>) -> NetRpc {
        let limits = &side.limits;
        let head_bytes_max = limits.frame_bytes_max.min(HEAD_BYTES_MAX);
        NetRpc {
            receiver: RpcReceiver::new(
                limits.gob_types_max,
                limits.gob_type_bytes_max,
                head_bytes_max,
                limits.frame_bytes_max,
            ),
            side,
            sender: RpcSender::new(HeaderKind::Response),
            parsed: None,
            pending: OutstandingCalls::default(),
            methods: ConnMethods::default(),
            broken: None,
        }
    }

    /// The fast path: a complete call of a kept method, with an argument of the same type as the previous one.
    /// Otherwise nothing is consumed.
    #[inline]
    fn call_again(&mut self, input: &[u8]) -> Option<(Message, usize)> {
        let (header, at) = self.receiver.whole_head(input)?;
        let (method, seq) = self.methods.in_header(header)?;
        let (body, bytes) = self.receiver.body_again(&input[at..], at)?;
        let outstanding = OutstandingCall { method: MethodText::Kept(method), seq };
        Some((self.request(outstanding, self.methods.hash(method), body), at + bytes))
    }

    #[inline]
    fn head(&mut self, input: &[u8]) -> Result<StreamPiece<ParsedRequest>, StreamError> {
        Ok(match self.receiver.head(input)? {
            StreamPiece::Found { what, bytes } => {
                let parsed = match self.methods.in_header(what.payload()) {
                    Some((at, seq)) => {
                        let outstanding = OutstandingCall { method: MethodText::Kept(at), seq };
                        ParsedRequest { outstanding, method: Ok(self.methods.hash(at)) }
                    }
                    None => self.other_head(what)?,
                };
                StreamPiece::Found { what: parsed, bytes }
            }
            StreamPiece::Definition { bytes } => StreamPiece::Definition { bytes },
            StreamPiece::NeedMore(bytes_min) => StreamPiece::NeedMore(bytes_min),
        })
    }

    /// Parses a header in full.
    #[inline(never)]
    fn other_head(&mut self, header: gob::GobMessage<'_>) -> Result<ParsedRequest, StreamError> {
        let definitions = self.receiver.definitions();
        let head = RpcHeader::read(header, definitions)?;
        let own = || MethodText::Own(head.method.into());
        let (name, method) = match self.methods.find(head.method) {
            Some(at) => (MethodText::Kept(at), Ok(self.methods.hash(at))),
            None => match method(head.method, &self.side) {
                Ok(hash) => {
                    let id = header.id()?;
                    let is_plain = HeaderKind::Request.is_of(id, definitions);
                    let is_unused = self.pending.is_empty();
                    let kept =
                        is_plain.then(|| self.methods.keep(head.method, hash, id, is_unused)).flatten();
                    (kept.map_or_else(own, MethodText::Kept), Ok(hash))
                }
                Err(why) => (own(), Err(why.into())),
            },
        };
        Ok(ParsedRequest { outstanding: OutstandingCall { method: name, seq: head.seq }, method })
    }

    /// Reads the argument of the current call at the start of `input`, which `at` received bytes precede.
    #[inline]
    fn body(
        &mut self,
        parsed: ParsedRequest,
        input: &[u8],
        at: usize,
    ) -> Result<StreamPiece<Message>, StreamError> {
        let piece = match &parsed.method {
            Ok(_) => self.receiver.body(input, at),
            Err(_) => self.receiver.pass_over(input).map(without_body),
        };
        Ok(match piece {
            Ok(StreamPiece::Found { what, bytes }) => {
                StreamPiece::Found { what: self.message(parsed, what), bytes }
            }
            Ok(StreamPiece::Definition { bytes }) => {
                self.parsed = Some(parsed);
                StreamPiece::Definition { bytes }
            }
            Ok(StreamPiece::NeedMore(bytes_min)) => {
                self.parsed = Some(parsed);
                StreamPiece::NeedMore(bytes_min)
            }
            Err(error @ StreamError::TooLarge { .. }) => {
                let why = broken(error);
                let method = Err(why.to_string().into());
                self.broken = Some(Box::new(why));
                StreamPiece::Found {
                    what: self.refusal(parsed.outstanding, Code::ResourceExhausted, method),
                    bytes: 0,
                }
            }
            Err(error) => return Err(error),
        })
    }

    #[inline]
    fn message(&mut self, parsed: ParsedRequest, body: Span) -> Message {
        match parsed.method {
            Ok(method) => self.request(parsed.outstanding, method, body),
            why => self.refusal(parsed.outstanding, Code::Unimplemented, why),
        }
    }

    #[inline]
    fn request(&mut self, outstanding: OutstandingCall, method: u32, body: Span) -> Message {
        Message::Request(Request {
            id: self.pending.begin(outstanding),
            method,
            // The directory has already compared the name.
            name: None,
            codec: CODEC_GOB,
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us: 0,
            metadata: Span::default(),
            body,
        })
    }

    #[cold]
    fn refusal(&mut self, outstanding: OutstandingCall, code: Code, why: Result<u32, Box<str>>) -> Message {
        let id = self.pending.begin(outstanding);
        let message = why.err().unwrap_or_default().into();
        Message::Refused(Refusal { id, codec: CODEC_GOB, one_way: false, code, message })
    }

    #[inline]
    fn encode_reply(&mut self, reply: OutgoingReply<'_>, out: &mut Out<'_>) {
        let Some(outstanding) = self.pending.end(reply.id) else { return };
        if let Some(extras) = reply.extras {
            // An answer is a value, or a text.
            self.side.note_dropped(extras.entries() + extras.details.len());
        }
        if reply.code == Code::Ok
            && let Some(fields) = self.methods.fields(&outstanding.method)
            && self.sender.put_again(fields, outstanding.seq, &reply.body, out)
        {
            return;
        }
        let head =
            RpcHeader { method: self.methods.name(&outstanding.method), seq: outstanding.seq, error: b"" };
        if reply.code == Code::Ok {
            if let Err(error) = self.sender.put(&head, reply.body, out) {
                let error = format!("the reply cannot be sent: {error}");
                self.sender.put_nothing(&RpcHeader { error: error.as_bytes(), ..head }, out);
            }
            return;
        }
        let error: &[u8] = match &reply.body {
            SendBody::Bytes(text) => text,
            SendBody::Chunk(text) => text,
        };
        // Go does not take an empty text for an error.
        let error = if error.is_empty() { reply.code.name().as_bytes() } else { error };
        self.sender.put_nothing(&RpcHeader { error, ..head }, out);
    }

    /// The slow path: reads a header and its argument in one call, if both have arrived.
    #[inline(never)]
    fn decode_afresh(&mut self, input: &[u8]) -> Received<Message> {
        let mut at = 0;
        loop {
            let piece = match self.parsed.take() {
                Some(parsed) => self.body(parsed, &input[at..], at),
                None => match self.head(&input[at..]) {
                    Ok(StreamPiece::Found { what: parsed, bytes }) => {
                        at += bytes;
                        self.body(parsed, &input[at..], at)
                    }
                    Ok(StreamPiece::Definition { bytes }) => Ok(StreamPiece::Definition { bytes }),
                    Ok(StreamPiece::NeedMore(bytes_min)) => Ok(StreamPiece::NeedMore(bytes_min)),
                    Err(error) => Err(error),
                },
            };
            match piece {
                Ok(StreamPiece::Definition { bytes }) => at += bytes,
                Ok(StreamPiece::Found { what: message, bytes }) => {
                    return Received::Message { message, consumed: at + bytes };
                }
                Ok(StreamPiece::NeedMore(bytes_min)) if at == 0 => return Received::NeedMore { bytes_min },
                Ok(StreamPiece::NeedMore(_)) => return Received::Skip { consumed: at },
                Err(error) => {
                    let why = broken(error);
                    self.broken = Some(Box::new(why.clone()));
                    return Received::Broken(why);
                }
            }
        }
    }
}

fn without_body(piece: StreamPiece<()>) -> StreamPiece<Span> {
    match piece {
        StreamPiece::Found { what: (), bytes } => StreamPiece::Found { what: Span::default(), bytes },
        StreamPiece::Definition { bytes } => StreamPiece::Definition { bytes },
        StreamPiece::NeedMore(bytes_min) => StreamPiece::NeedMore(bytes_min),
    }
}

/// Returns the hash of a method, or the error text of Go's server for an unknown one (server.go, readRequestHeader).
#[inline]
fn method(name: &[u8], side: &ServerContext) -> Result<u32, String> {
    match std::str::from_utf8(name).ok().and_then(|name| side.site.method(name)) {
        Some(found) => Ok(found.hash),
        None => {
            let name = String::from_utf8_lossy(name);
            Err(side.unknown_method_in_go(&name, &name))
        }
    }
}

impl Protocol for NetRpc {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline(never)]
    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        self.receiver.release_scratch();
        if let Some(why) = &self.broken {
            return Received::Broken(Broken::clone(why));
        }
        if self.parsed.is_none()
            && let Some((message, consumed)) = self.call_again(input)
        {
            return Received::Message { message, consumed };
        }
        self.decode_afresh(input)
    }

    #[inline]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // A server sends no requests, and the protocol has no form for the others.
        if let Outgoing::Reply(reply) = outgoing {
            self.encode_reply(reply, out);
        }
    }

    fn is_inside_message(&self) -> bool {
        self.parsed.is_some()
    }

    fn drain_notice(&self) -> DrainNotice {
        DrainNotice::None
    }

    /// Go's client closes its connection and fails its calls (client.go, Close); it cannot half-close.
    fn is_end_of_reading(&self) -> bool {
        true
    }

    #[inline]
    fn scratch(&self) -> &[u8] {
        self.receiver.scratch()
    }
}
