//! The server's side: reads requests of both dialects, and writes each answer in the dialect of its request.
//!
//! A fault in a message whose end is certain is answered, and the connection continues. If the end is uncertain (a
//! stray byte, mismatched brackets, a message that is too long or nested too deeply), one error is answered and the
//! input ends.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::MESSAGE_BYTES_MAX;
use super::answer::{note_dropped, put_answer, put_result_line};
use super::batch::{self, BatchRemainder, Batches};
use super::deliver::{CallDetails, message};
use super::known::KnownRequestPrefix;
use super::members::RequestMembers;
use super::outstanding::{Dialect, OutstandingReplies, OutstandingReply, PeerId};
use super::request::{JudgedRequest, RequestAction, RequestRefusal, judge};
use crate::json_text::{ContainerStack, FoundValue, JsonFault, JsonReader, ValueSearch, space_len};
use crate::message::{Message, Outgoing, OutgoingReply, ReplyExtras, SendBody, Span};
use crate::status::Code;
use crate::wire::{DrainNotice, Out, Protocol, Received, ServerContext};

/// The server's side of a JSON-RPC connection, 1.0 and 2.0.
///
/// The `jsonrpc` member of a request selects the dialect. Batches exist in 2.0 only, and have at most
/// [`in_flight_max`](crate::config::Limits::in_flight_max) requests. In 1.0, a request without an id or with a null
/// id is answered like any other, as in Go; in 2.0 a request without an id is a notification.
pub struct JsonRpc {
    side: Arc<ServerContext>,
    depth_max: usize,
    frame: ValueSearch,
    known: KnownRequestPrefix,
    pending: OutstandingReplies,
    /// Present while a batch is open.
    batches: Option<Box<Batches>>,
    /// The batch whose requests are being returned.
    gathered: Option<Box<BatchRemainder>>,
    /// The peer's last dialect, for answers to unreadable input.
    dialect: Dialect,
    /// The final error was written.
    is_over: bool,
}

impl JsonRpc {
    /// Creates the server's side.
    pub fn server(side: Arc<ServerContext>) -> JsonRpc {
        JsonRpc {
            depth_max: ContainerStack::depth_max(side.limits.depth_max),
            side,
            frame: ValueSearch::default(),
            known: KnownRequestPrefix::default(),
            pending: OutstandingReplies::new(),
            batches: None,
            gathered: None,
            dialect: Dialect::Two,
            is_over: false,
        }
    }

    fn bytes_max(&self) -> usize {
        self.side.limits.frame_bytes_max.min(MESSAGE_BYTES_MAX)
    }

    /// Returns the message of a request, alone or of a batch. Its bytes start `base` bytes after the origin of its
    /// ranges.
    #[inline]
    fn message(&mut self, judged: JudgedRequest, base: usize, batch: Option<(u32, u32)>) -> Message {
        let in_place = |body: Range<usize>| Span::new((body.start - base) as u32, body.len() as u32);
        let call = CallDetails { time_left_us: 0, metadata: Span::default() };
        message(&mut self.pending, judged, batch, call, in_place)
    }

    /// Refuses a message that is not a request, and continues after it.
    #[cold]
    fn refuse(&mut self, refused: RequestRefusal, dialect: Dialect, consumed: usize) -> Received<Message> {
        let message = self.message(refused.judged_in(dialect), 0, None);
        Received::Message { message, consumed }
    }

    /// Refuses input whose end is uncertain; nothing after it is read.
    #[cold]
    fn refuse_and_end(&mut self, refused: RequestRefusal, input: &[u8]) -> Received<Message> {
        self.is_over = true;
        self.refuse(refused, self.dialect, input.len())
    }

    #[cold]
    fn not_json(&mut self, fault: JsonFault, consumed: usize) -> Received<Message> {
        let message = fault.message(self.side.limits.depth_max);
        self.refuse(RequestRefusal::parse(message), self.dialect, consumed)
    }

    /// Handles a request that is complete before `end`.
    #[inline]
    fn one(&mut self, members: &RequestMembers, end: usize, input: &[u8]) -> Received<Message> {
        let judged = judge(members, input, &self.side, false);
        self.dialect = judged.dialect;
        if let RequestAction::Call { method, .. } = judged.what
            && members.known.is_none()
        {
            self.known.remember(members, input, method);
        }
        let message = self.message(judged, 0, None);
        Received::Message { message, consumed: end + space_len(&input[end..]) }
    }

    /// The slow path: every input but a request that is complete at the first attempt.
    fn decode_slow(&mut self, input: &[u8]) -> Received<Message> {
        let bytes_max = self.bytes_max();
        let window = &input[..input.len().min(bytes_max)];
        let end = match self.frame.look(window, self.depth_max) {
            FoundValue::End(end) => end,
            FoundValue::Open if input.len() > bytes_max => {
                let message = format!("a message of more than {bytes_max} bytes (frame_bytes_max)");
                return self.refuse_and_end(RequestRefusal::new(Code::ResourceExhausted, message), input);
            }
            FoundValue::Open => return Received::NeedMore { bytes_min: input.len() + 1 },
            FoundValue::TooDeep => {
                let depth_max = self.side.limits.depth_max;
                let message = format!("parse error: nested deeper than {depth_max} (depth_max)");
                return self.refuse_and_end(RequestRefusal::parse(message), input);
            }
            FoundValue::Unbalanced => {
                let message = "parse error: a bracket closes what is not open";
                return self.refuse_and_end(RequestRefusal::parse(message), input);
            }
        };
        self.frame = ValueSearch::default();
        let consumed = end + space_len(&input[end..]);
        let whole = &input[..end];
        if whole[0] == b'[' {
            return match batch::read(&mut JsonReader::new(whole, self.depth_max), whole, &self.side) {
                Ok(Ok(elements)) => self.begin_batch(elements, input, consumed),
                Ok(Err(refused)) => self.refuse(refused, Dialect::Two, consumed),
                Err(fault) => self.not_json(fault, consumed),
            };
        }
        match RequestMembers::read(&mut JsonReader::new(whole, self.depth_max)) {
            Ok(members) => self.one(&members, end, input),
            Err(fault) => self.not_json(fault, consumed),
        }
    }

    fn begin_batch(
        &mut self,
        elements: VecDeque<batch::BatchElement>,
        input: &[u8],
        len: usize,
    ) -> Received<Message> {
        self.dialect = Dialect::Two;
        let answers = elements.iter().filter(|element| element.judged.id.is_some()).count();
        let mut batch = 0;
        if answers > 0 {
            let Some(begun) = self.batches.get_or_insert_default().begin(answers, 0, &self.side.limits)
            else {
                let message = "the unanswered batches of this connection contain too many requests";
                return self.refuse(RequestRefusal::new(Code::ResourceExhausted, message), Dialect::Two, len);
            };
            batch = begun;
        }
        self.gathered = Some(Box::new(BatchRemainder { elements, consumed: 0, len, batch, place: 0 }));
        self.next_of_batch(input)
    }

    /// Returns the next request of the current batch.
    fn next_of_batch(&mut self, input: &[u8]) -> Received<Message> {
        let Some(mut gathered) = self.gathered.take() else { return Received::NeedMore { bytes_min: 1 } };
        let left = gathered.len - gathered.consumed;
        if input.len() < left {
            // The caller has dropped bytes that it had already passed.
            self.gathered = Some(gathered);
            return Received::NeedMore { bytes_min: left };
        }
        let Some(element) = gathered.elements.pop_front() else { return Received::Skip { consumed: left } };
        let base = gathered.consumed;
        gathered.consumed = if gathered.elements.is_empty() { gathered.len } else { element.end };
        let consumed = gathered.consumed - base;
        let batch = element.judged.id.is_some().then(|| {
            gathered.place += 1;
            (gathered.batch, gathered.place - 1)
        });
        let message = self.message(element.judged, base, batch);
        if !gathered.elements.is_empty() {
            self.gathered = Some(gathered);
        }
        Received::Message { message, consumed }
    }

    #[inline]
    fn encode_reply(&mut self, reply: OutgoingReply<'_>, out: &mut Out<'_>) {
        // A one-way call has no answer.
        let Some(outstanding) = self.pending.end(reply.id) else { return };
        match outstanding.batch {
            None => {
                note_dropped(&self.side, &outstanding, reply.extras);
                let is_said = match reply.body {
                    SendBody::Bytes(result) if reply.code == Code::Ok => {
                        put_result_line(&outstanding, result, out)
                    }
                    _ => false,
                };
                if !is_said {
                    put_answer(out, &outstanding, reply.code, reply.extras, reply.body);
                    out.put(b"\n");
                }
            }
            Some(place) => {
                let answer = (reply.code, reply.extras, reply.body);
                self.encode_in_batch(place, &outstanding, answer, out);
            }
        }
    }

    fn encode_in_batch(
        &mut self,
        place: (u32, u32),
        outstanding: &OutstandingReply,
        answer: (Code, Option<&ReplyExtras>, SendBody<'_>),
        out: &mut Out<'_>,
    ) {
        let Some(batches) = &mut self.batches else { return };
        if let Some(answered) = batches.answer(place, outstanding, answer, &self.side) {
            answered.put(out);
            out.put(b"\n");
        }
        if batches.is_empty() {
            self.batches = None;
        }
    }
}

impl Protocol for JsonRpc {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline(never)]
    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        if self.gathered.is_some() {
            return self.next_of_batch(input);
        }
        if self.is_over {
            return Received::End;
        }
        match input.first() {
            Some(b'{') if self.frame.is_fresh() => {
                let mut members = RequestMembers::default();
                match self.known.read(input, self.depth_max, &mut members) {
                    Ok(end) if end <= self.bytes_max() => self.one(&members, end, input),
                    _ => self.decode_slow(input),
                }
            }
            Some(b'{' | b'[') => self.decode_slow(input),
            Some(_) => match space_len(input) {
                0 => {
                    let message = "parse error: a message is an object or an array";
                    self.refuse_and_end(RequestRefusal::parse(message), input)
                }
                consumed => Received::Skip { consumed },
            },
            None => Received::NeedMore { bytes_min: 1 },
        }
    }

    #[inline]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // A server sends no requests, and the protocol has no form for the others.
        if let Outgoing::Reply(reply) = outgoing {
            self.encode_reply(reply, out);
        }
    }

    fn drain_notice(&self) -> DrainNotice {
        DrainNotice::None
    }

    /// Only 2.0 has an error that answers no call; a client of 1.0 would take it for the result of one of its calls.
    fn send_late(&mut self, out: &mut Out<'_>) {
        if self.dialect == Dialect::Two && !self.is_over {
            let outstanding =
                OutstandingReply { id: PeerId::NULL, dialect: Dialect::Two, number: None, batch: None };
            put_answer(
                out,
                &outstanding,
                Code::DeadlineExceeded,
                None,
                SendBody::Bytes(b"the message took too long to arrive (frame_ms)"),
            );
            out.put(b"\n");
        }
        self.is_over = true;
    }
}

impl fmt::Debug for JsonRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonRpc")
            .field("dialect", &self.dialect)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
