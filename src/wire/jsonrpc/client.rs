//! The client's side: writes calls in the form of Go's client, and reads answers of both dialects in any order.
//!
//! A call is written as 1.0 without a `jsonrpc` member, which Go's servers and ours accept. A one-way call is written
//! as a notification of 2.0: our server and those of 2.0 send no answer; Go's answers with a null id, and such an
//! answer is skipped. The protocol has no messages to cancel a call or to ping.

use super::escape::put_string;
use super::members::{ErrorMembers, ResponseMembers};
use super::oversize::OversizedAnswer;
use super::sink::ByteSink;
use super::{CODEC_JSON, MESSAGE_BYTES_MAX};
use crate::json_text::{
    ContainerStack, FoundValue, JsonFault, JsonReader, ValueSearch, parts, space_len, unescape,
};
use crate::message::trailers::{self, RETRY_AFTER_MS};
use crate::message::{
    DETAILS, IncomingReply, JsonDialect, Message, MetadataBuf, Outgoing, OutgoingCall, Refusal, Span,
};
use crate::status::{Code, Detail, jsonrpc};
use crate::wire::{Broken, ForeignProtocol, Out, Protocol, Received, details};

/// The maximum nesting in an answer: that of the largest argument that a server accepts.
const DEPTH_MAX: usize = 128;

/// The client's side of a JSON-RPC connection.
#[derive(Debug)]
pub struct JsonRpcClient {
    bytes_max: usize,
    frame: ValueSearch,
    /// The metadata of an error, and then its message if it contained escapes.
    scratch: Vec<u8>,
    /// The answer that is being skipped because it is over the limit.
    oversized: Option<Box<OversizedAnswer>>,
}

/// The longest data of an error that are read.
const DATA_BYTES_MAX: usize = 64 << 10;

/// Replaces a message that is missing or not a string.
const UNSPECIFIED: &str = "unspecified error";

impl JsonRpcClient {
    /// Creates the client's side, for answers of up to `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> JsonRpcClient {
        JsonRpcClient {
            bytes_max: frame_bytes_max.min(MESSAGE_BYTES_MAX),
            frame: ValueSearch::default(),
            scratch: Vec::new(),
            oversized: None,
        }
    }

    /// The slow path: every input but an answer that is complete at the first attempt.
    fn decode_slow(&mut self, input: &[u8]) -> Received<Message> {
        let window = &input[..input.len().min(self.bytes_max)];
        match self.frame.look(window, ContainerStack::depth_max(DEPTH_MAX)) {
            FoundValue::End(end) => {
                self.frame = ValueSearch::default();
                match ResponseMembers::read(&mut JsonReader::new(
                    &input[..end],
                    ContainerStack::depth_max(DEPTH_MAX),
                )) {
                    Ok(response) => self.answer(&response, end, input),
                    Err(fault) => not_json(fault),
                }
            }
            FoundValue::Open if input.len() > self.bytes_max => {
                self.frame = ValueSearch::default();
                self.pass_over(Box::default(), input)
            }
            FoundValue::Open => Received::NeedMore { bytes_min: input.len() + 1 },
            FoundValue::TooDeep => broken(format!("an answer is nested deeper than {DEPTH_MAX}")),
            FoundValue::Unbalanced => broken("in an answer a bracket closes what is not open"),
        }
    }

    /// Skips an answer over the limit: its call fails at its end, other calls continue.
    #[cold]
    fn pass_over(&mut self, mut answer: Box<OversizedAnswer>, input: &[u8]) -> Received<Message> {
        if input.is_empty() {
            self.oversized = Some(answer);
            return Received::NeedMore { bytes_min: 1 };
        }
        let Some(consumed) = answer.pass(input) else {
            self.oversized = Some(answer);
            return Received::Skip { consumed: input.len() };
        };
        let why = Broken::TooLarge { bytes: answer.bytes(), bytes_max: self.bytes_max as u64 };
        match number(answer.id()) {
            Some(id) => {
                let (code, message) = (Code::ResourceExhausted, why.to_string());
                let refusal = Refusal { id, codec: CODEC_JSON, one_way: false, code, message };
                Received::Message { message: Message::Refused(refusal), consumed }
            }
            // It answers a one-way call.
            None if answer.id() == b"null" => Received::Skip { consumed },
            None => Received::Broken(why),
        }
    }

    /// Handles an answer that is complete before `end`.
    #[inline]
    fn answer(&mut self, response: &ResponseMembers, end: usize, input: &[u8]) -> Received<Message> {
        if let Some(name) = response.twice {
            return broken(format!("the member {name} occurs twice in an answer"));
        }
        let consumed = end + space_len(&input[end..]);
        let error = response.error.clone().filter(|error| input[error.clone()] != *b"null");
        let mut metadata_bytes = 0;
        let (code, body) = match (error, &response.result) {
            (Some(error), _) => {
                metadata_bytes = self.read_data(&input[error.clone()]);
                self.failed(Span::new(error.start as u32, error.len() as u32), input)
            }
            (None, Some(_)) if response.null.clone().is_some_and(|null| input[null] == *b"true") => {
                self.scratch.extend_from_slice(b"null");
                (Code::Ok, Span::scratch(0, 4))
            }
            (None, Some(result)) => (Code::Ok, Span::new(result.start as u32, result.len() as u32)),
            (None, None) => return broken("an answer has neither a result nor an error"),
        };
        let Some(id) = response.id.clone().filter(|id| input[id.clone()] != *b"null") else {
            return self.answers_no_call(response, body, consumed, input);
        };
        let Some(id) = number(&input[id]) else { return broken("the id of an answer belongs to no call") };
        let message = Message::Reply(IncomingReply {
            id,
            codec: JsonDialect::GoRpc.codec_number(),
            compressed: false,
            status: code.number(),
            queue_us: 0,
            handler_us: 0,
            metadata: Span::scratch(0, metadata_bytes),
            body,
        });
        Received::Message { message, consumed }
    }

    /// Reads what the data of an error say besides its code, as metadata in the scratch bytes. Returns their length.
    #[cold]
    fn read_data(&mut self, error: &[u8]) -> u32 {
        let members = ErrorMembers::read(&mut JsonReader::new(error, ContainerStack::ROOM)).ok();
        let data = members.and_then(|members| members.data);
        let text = data.filter(|data| data.len() <= DATA_BYTES_MAX).and_then(|data| error.get(data));
        let Some(data) = text.and_then(parts::members) else { return 0 };
        let mut metadata = MetadataBuf::new();
        if let Some(ms) = parts::member(&data, "retry_after_ms").and_then(trailers::parse) {
            let _ = metadata.push(RETRY_AFTER_MS, ms.to_string().as_bytes());
        }
        let list = parts::member(&data, "details").map(details::read).unwrap_or_default();
        if !list.is_empty() {
            // Within the limits of details it fits.
            let _ = metadata.push(DETAILS, &Detail::encode_all(&list));
        }
        self.scratch.extend_from_slice(metadata.as_bytes());
        metadata.as_bytes().len() as u32
    }

    /// Handles an answer without a call: that of a one-way call, or a server's report that it could not read a
    /// message; then the unanswered call is unknown.
    #[cold]
    fn answers_no_call(
        &self,
        response: &ResponseMembers,
        body: Span,
        consumed: usize,
        input: &[u8],
    ) -> Received<Message> {
        let failed = response.error.clone().and_then(|error| read_failed(&input[error])?.1);
        let unread = [jsonrpc::PARSE_ERROR, jsonrpc::INVALID_REQUEST].map(i64::from);
        if !failed.is_some_and(|number| unread.contains(&number)) {
            return Received::Skip { consumed };
        }
        let text = if body.is_scratch() { &self.scratch } else { input };
        let text = String::from_utf8_lossy(&text[body.range()]);
        broken(format!("the server reports an unreadable request: {text}"))
    }

    /// Returns the status of an error, and the span of its message.
    #[cold]
    fn failed(&mut self, error: Span, input: &[u8]) -> (Code, Span) {
        let bytes = &input[error.range()];
        if bytes[0] == b'"' {
            let text = self.text(error, input);
            let source = if text.is_scratch() { &self.scratch } else { input };
            let code = if source[text.range()].starts_with(b"rpc: can't find ") {
                Code::Unimplemented
            } else {
                Code::Unknown
            };
            return (code, text);
        }
        let Some((failed, number)) = read_failed(bytes) else {
            // Neither dialect has such an error; it is reported as received.
            return (Code::Unknown, error);
        };
        let message = failed.message.filter(|message| bytes[message.start] == b'"');
        let text = match message {
            Some(message) => {
                self.text(Span::new((error.start() + message.start) as u32, message.len() as u32), input)
            }
            None => error,
        };
        (number.map_or(Code::Unknown, Code::from_jsonrpc_number), text)
    }

    /// Returns the contents of a string: the span between its quotes, or the scratch text if it contains escapes.
    fn text(&mut self, quoted: Span, input: &[u8]) -> Span {
        let inside = Span::new(quoted.start() as u32 + 1, quoted.len() as u32 - 2);
        let text = &input[inside.range()];
        if !text.is_empty() && !text.contains(&b'\\') {
            return inside;
        }
        let start = self.scratch.len();
        if text.is_empty() {
            self.scratch.extend_from_slice(UNSPECIFIED.as_bytes());
        } else {
            let mut plain = String::new();
            unescape(text, &mut plain);
            self.scratch.extend_from_slice(plain.as_bytes());
        }
        Span::scratch(start as u32, (self.scratch.len() - start) as u32)
    }

    fn encode_call(call: OutgoingCall<'_>, out: &mut Out<'_>) {
        debug_assert!(call.codec == CODEC_JSON && !call.compressed, "JSON alone is spoken here");
        debug_assert!(!call.name.is_empty(), "this protocol calls methods by name, not by hash");
        out.put(if call.one_way { b"{\"jsonrpc\":\"2.0\",\"method\":" } else { b"{\"method\":" });
        put_string(out, call.name.as_bytes());
        out.put(b",\"params\":[");
        if call.body.is_empty() {
            out.put(b"null");
        } else {
            out.put_body(call.body);
        }
        if call.one_way {
            out.put(b"]}\n");
        } else {
            out.put(b"],\"id\":");
            out.put_number(call.id);
            out.put(b"}\n");
        }
    }
}

/// Reads the members of an error object, and its number if it has one.
fn read_failed(error: &[u8]) -> Option<(ErrorMembers, Option<i64>)> {
    let failed = ErrorMembers::read(&mut JsonReader::new(error, ContainerStack::ROOM)).ok()?;
    let code = failed.code.clone().and_then(|code| {
        let text = &error[code];
        let below = text.strip_prefix(b"-");
        let number = i64::try_from(number(below.unwrap_or(text))?).ok()?;
        Some(if below.is_some() { -number } else { number })
    });
    Some((failed, code))
}

/// Parses a number of decimal digits only. The reader has already refused leading zeros.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cold]
fn broken(why: impl Into<String>) -> Received<Message> {
    Received::Broken(Broken::Other(why.into()))
}

#[cold]
fn not_json(fault: JsonFault) -> Received<Message> {
    broken(format!("an answer is not JSON: expected {} at byte {}", fault.expected, fault.at))
}

impl Protocol for JsonRpcClient {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        self.scratch.clear();
        if let Some(answer) = self.oversized.take() {
            return self.pass_over(answer, input);
        }
        match input.first() {
            Some(b'{') if self.frame.is_fresh() => {
                let mut reader = JsonReader::new(input, ContainerStack::depth_max(DEPTH_MAX));
                match ResponseMembers::read(&mut reader) {
                    Ok(response) if reader.at() <= self.bytes_max => {
                        self.answer(&response, reader.at(), input)
                    }
                    _ => self.decode_slow(input),
                }
            }
            Some(b'{') => self.decode_slow(input),
            Some(_) => match space_len(input) {
                0 if input.len() == 1 && ForeignProtocol::may_begin(input[0]) => {
                    Received::NeedMore { bytes_min: 2 }
                }
                0 => match ForeignProtocol::at_start(input, &[ForeignProtocol::Json]) {
                    Some(met) => Received::Broken(Broken::Foreign(met)),
                    None => broken("an answer is an object"),
                },
                consumed => Received::Skip { consumed },
            },
            None => Received::NeedMore { bytes_min: 1 },
        }
    }

    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // A client sends no replies, and the protocol has no form for the others.
        if let Outgoing::Request(call) = outgoing {
            JsonRpcClient::encode_call(call, out);
        }
    }

    fn is_inside_message(&self) -> bool {
        self.oversized.is_some()
    }

    fn scratch(&self) -> &[u8] {
        &self.scratch
    }
}
