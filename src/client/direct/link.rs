//! The connection of a [`Direct`](super::Direct): it writes one call and reads its reply before the next, over the same
//! [`Conn`] as every connection.

use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use coreloop_bufpool::{Pool, PoolConfig};

use super::super::address::BuildError;
use super::super::call_slot::DecodeReply;
use super::super::error::closed;
use super::super::reply::{ReplyOutcome, as_bytes};
use super::super::{CallError, MethodId, codec_for};
use super::Times;
use crate::codec::{ArgumentEncode, Codec, ReplyDecode, ValueRules, compress};
use crate::config::Limits;
use crate::conn::{CloseReason, Conn, NextMessage, SocketAction};
use crate::message::{
    IncomingReply, Message, Metadata, MetadataBuf, Outgoing, OutgoingCall, ReplyExtras, SendBody,
    method_hash, time_left_us,
};
use crate::status::Status;
use crate::transport::{Address, BlockingTransport, TlsClient, TlsDial, dial_secured};
use crate::wire::{Broken, NativeClient, Scheme};

/// The buffers that one write takes together.
const SLICES_MAX: usize = 16;
/// Bytes that are read after a call's deadline, in addition to one frame of the largest size: late replies and the
/// like.
const LATE_BYTES_EXTRA: usize = 1 << 20;

/// One connection and its current call.
pub(super) struct DirectConn {
    /// The address, without its scheme.
    address: String,
    stream: BlockingTransport,
    /// The server has sent a message.
    is_heard: bool,
    conn: Conn<NativeClient>,
    pool: Pool,
    limits: Limits,
    /// The argument of the current call, encoded.
    body: Vec<u8>,
    pub(super) metadata: MetadataBuf,
    next_id: u64,
    pub(super) timeout: Option<Duration>,
    /// The timeout that the socket is set to now.
    socket_timeout: Option<Duration>,
    pub(super) codec: Option<Codec>,
    pub(super) compresses: bool,
    pub(super) times: Times,
    /// The headers and trailers of the last response.
    pub(super) response: Option<Box<ReplyExtras>>,
    pub(super) is_draining: bool,
    /// The connection failed, or a frame was left half-read or half-written.
    is_lost: bool,
    pub(super) unknown_replies: u64,
}

impl DirectConn {
    /// Connects. If the address asks for TLS, `tls` makes what it needs.
    pub(super) fn connect(
        address: &str,
        timeout: Option<Duration>,
        tls: impl FnOnce(bool) -> Result<Option<TlsClient>, BuildError>,
    ) -> Result<DirectConn, CallError> {
        let (scheme, is_secured, text) = Scheme::split_tls(address);
        if scheme != Scheme::Native {
            return Err(BuildError::OnlyNative { scheme }.into());
        }
        let parsed: Address = text.parse().map_err(BuildError::Address)?;
        let tls = tls(is_secured)?.map(|client| TlsDial::new(&client, &parsed, scheme.alpn()));
        let (stream, _) = dial_secured(&parsed, tls.as_ref(), timeout).map_err(CallError::Connect)?;
        // It never stops reading: if the server stopped reading until its own output is read, both would wait forever.
        let limits = Limits { write_queue_high_bytes: usize::MAX, ..Limits::default() };
        Ok(DirectConn {
            address: text.to_owned(),
            stream,
            is_heard: false,
            conn: Conn::new(NativeClient::new(limits.frame_bytes_max), Instant::now()),
            pool: Pool::new(PoolConfig::default()),
            limits,
            body: Vec::new(),
            metadata: MetadataBuf::new(),
            next_id: 1,
            timeout: None,
            socket_timeout: None,
            codec: None,
            compresses: false,
            times: Times::default(),
            response: None,
            is_draining: false,
            is_lost: false,
            unknown_replies: 0,
        })
    }

    /// Calls a method by name with an encoded argument; returns the encoded reply.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub(super) fn call_bytes(
        &mut self,
        method: &str,
        codec: Codec,
        argument: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let reply = self.exchange(method_hash(method), 0, codec, Some(argument), as_bytes);
        reply.map_err(|error| error.naming(method_hash(method), method, 0))
    }

    /// Sends a one-way call. Whether it arrives, and its result, are not known.
    ///
    /// # Errors
    ///
    /// The call could not be sent.
    pub(super) fn send_one_way<A: ArgumentEncode>(
        &mut self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError> {
        let codec = codec_for(self.codec, A::accepts);
        self.body.clear();
        let body = &mut self.body;
        ValueRules::default().apply(|| A::encode(argument, codec, body)).map_err(CallError::Argument)?;
        let deadline = self.begin()?;
        self.send(method.hash(), 0, codec, None, true, deadline).map(|_| ())
    }

    /// Pings the server and waits for its pong.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub(super) fn ping(&mut self) -> Result<(), CallError> {
        let deadline = self.begin()?;
        let id = self.take_id();
        self.send_now(Outgoing::Ping { id }, deadline)?;
        loop {
            let (message, consumed) = self.next_message(deadline)?;
            self.conn.consume(consumed);
            if message == (Message::Pong { id }) {
                self.conn.settle(&mut self.pool, Instant::now());
                return Ok(());
            }
            self.note(&message);
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Checks that the connection takes a new message; returns the call's deadline.
    fn begin(&mut self) -> Result<Option<Instant>, CallError> {
        if self.is_lost {
            let error = io::Error::new(io::ErrorKind::NotConnected, "the connection failed before");
            return Err(CallError::Lost { error, may_have_run: false });
        }
        self.look_for_drain()?;
        if self.is_draining {
            return Err(CallError::Draining);
        }
        Ok(self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Decodes what was read after the last reply: it may hold a drain notice.
    fn look_for_drain(&mut self) -> Result<(), CallError> {
        while self.conn.has_undecoded() {
            let Some((message, consumed)) = self.buffered_message()? else { break };
            self.note(&message);
            self.conn.consume(consumed);
        }
        Ok(())
    }

    fn note(&mut self, message: &Message) {
        match message {
            Message::Drain => self.is_draining = true,
            Message::Reply(_) | Message::Refused(_) => self.unknown_replies += 1,
            // A server's ping between calls is not answered; the server has its own idle timeout.
            _ => {}
        }
    }

    /// Sends one call (with `argument`, or the argument in `self.body`), waits for its reply, and decodes that.
    fn exchange<T>(
        &mut self,
        method: u32,
        schema: u32,
        codec: Codec,
        argument: Option<&[u8]>,
        decode: DecodeReply<T>,
    ) -> Result<T, CallError> {
        let deadline = self.begin()?;
        let id = self.send(method, schema, codec, argument, false, deadline)?;
        self.response = None;
        let result = loop {
            let (message, consumed) = self.next_message(deadline)?;
            let result = match &message {
                Message::Reply(answered) if answered.id == id => {
                    self.times = Times { queue_us: answered.queue_us, handler_us: answered.handler_us };
                    let mut response = self.response.take();
                    let result = self.decode(answered, decode, &mut response);
                    self.response = response;
                    Some(result)
                }
                Message::Headers { id: call, metadata } if *call == id && self.response.is_none() => {
                    let headers = MetadataBuf::of(Metadata::checked_before(self.conn.bytes_of(*metadata)));
                    self.response = Some(Box::new(ReplyExtras { headers, ..ReplyExtras::default() }));
                    None
                }
                Message::Refused(refusal) if refusal.id == id => {
                    Some(Err(CallError::ReplyRefused(Status::new(refusal.code, refusal.message.clone()))))
                }
                other => match broken_rule(other, id) {
                    Some(status) => {
                        self.send_now(Outgoing::Cancel { id }, deadline)?;
                        Some(Err(CallError::ReplyRefused(status)))
                    }
                    None => {
                        self.note(&message);
                        None
                    }
                },
            };
            self.conn.consume(consumed);
            if let Some(result) = result {
                break result;
            }
        };
        self.conn.settle(&mut self.pool, Instant::now());
        result
    }

    fn decode<T>(
        &self,
        answered: &IncomingReply,
        decode: DecodeReply<T>,
        response: &mut Option<Box<ReplyExtras>>,
    ) -> Result<T, CallError> {
        let body = self.conn.bytes_of(answered.body);
        let mut outcome = ReplyOutcome::of(answered, self.limits.frame_bytes_max);
        if !answered.metadata.is_empty() {
            let metadata = Metadata::checked_before(self.conn.bytes_of(answered.metadata));
            outcome.read_metadata(metadata, Scheme::Native);
        }
        let result = outcome.decode(body, decode);
        if let Some(extras) = outcome.extras {
            response.get_or_insert_default().trailers = extras.trailers;
        }
        result
    }

    fn send(
        &mut self,
        method: u32,
        schema: u32,
        codec: Codec,
        argument: Option<&[u8]>,
        one_way: bool,
        deadline: Option<Instant>,
    ) -> Result<u64, CallError> {
        let id = self.take_id();
        let body = std::mem::take(&mut self.body);
        let mut compressed = Vec::new();
        let plain = argument.unwrap_or(&body);
        if self.compresses {
            compress::compress(plain, &mut compressed).map_err(|_| {
                CallError::Argument(crate::codec::CodecError::NotCompiledIn { codec, feature: "lz4" })
            })?;
        }
        let bytes = if self.compresses { &compressed[..] } else { plain };
        let bytes_max = self.limits.frame_bytes_max;
        let sent = if bytes.len() > bytes_max {
            Err(CallError::TooLarge { bytes: bytes.len(), bytes_max })
        } else {
            let time_left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let metadata = std::mem::take(&mut self.metadata);
            let call = OutgoingCall {
                id,
                name: "",
                method,
                codec: codec.number(),
                compressed: self.compresses,
                one_way,
                schema,
                time_left_us: time_left_us(time_left),
                metadata: metadata.as_bytes(),
                body: SendBody::Bytes(bytes),
            };
            let sent = self.send_now(Outgoing::Request(call), deadline);
            self.metadata = metadata;
            sent
        };
        self.body = body;
        sent.map(|()| id)
    }

    /// Writes a message.
    fn send_now(&mut self, outgoing: Outgoing<'_>, deadline: Option<Instant>) -> Result<(), CallError> {
        if !self.arm(deadline)? {
            return Err(CallError::DeadlineExceeded);
        }
        let (now, mut sent) = (Instant::now(), 0);
        self.conn.send(outgoing, &mut self.pool, now, &self.limits);
        while self.conn.out_len() > 0 {
            if !self.arm(deadline)? {
                // Nothing can follow a frame that was not written completely.
                self.is_lost = true;
                return Err(CallError::DeadlineExceeded);
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.conn.to_write().slices(&mut slices);
            match self.stream.write_vectored(&slices[..count]) {
                Ok(0) => return Err(self.lost(io::ErrorKind::WriteZero.into(), sent > 0)),
                Ok(n) => {
                    sent += n;
                    self.conn.on_written(n, &mut self.pool, now, &self.limits);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        self.is_lost = true;
                        return Err(CallError::DeadlineExceeded);
                    }
                    _ => return Err(self.lost(error, sent > 0)),
                },
            }
        }
        Ok(())
    }

    fn broken(&mut self, why: Broken) -> CallError {
        self.is_lost = true;
        CallError::broken(why, Scheme::Native, &self.address)
    }

    fn lost(&mut self, error: io::Error, may_have_run: bool) -> CallError {
        self.is_lost = true;
        CallError::Lost { error, may_have_run }
    }

    /// Sets the socket's timeout to the time that is left, unless it is close enough. Returns false if no time is
    /// left.
    fn arm(&mut self, deadline: Option<Instant>) -> Result<bool, CallError> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        // A call usually takes less time than it is given. A timeout that is a little long costs nothing, since the
        // deadline is checked again, and it saves two system calls for each call.
        let fits = |set: Duration, left: Duration| set >= left && set <= left + left / 4;
        let is_set = match (self.socket_timeout, left) {
            (None, None) => true,
            (Some(set), Some(left)) => fits(set, left),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_set {
            self.stream.set_timeouts(left).map_err(|error| self.lost(error, false))?;
            self.socket_timeout = left;
        }
        Ok(true)
    }

    /// Returns the next message that has arrived.
    fn buffered_message(&mut self) -> Result<Option<(Message, usize)>, CallError> {
        loop {
            match self.conn.next_message(&mut self.pool, Instant::now(), &self.limits) {
                NextMessage::Message { message, consumed } => return Ok(Some((message, consumed))),
                NextMessage::Answered | NextMessage::Unread => {}
                NextMessage::Nothing => break,
            }
        }
        match self.conn.step() {
            SocketAction::Close(CloseReason::Broken(why)) => Err(self.broken(why)),
            _ => Ok(None),
        }
    }

    /// Returns the next message, which stays in the buffer until it is consumed.
    fn next_message(&mut self, deadline: Option<Instant>) -> Result<(Message, usize), CallError> {
        let mut late_bytes = 0;
        loop {
            if self.conn.has_undecoded()
                && let Some(message) = self.buffered_message()?
            {
                self.is_heard = true;
                return Ok(message);
            }
            late_bytes += self.read_more(deadline)?;
            if late_bytes > self.limits.frame_bytes_max + LATE_BYTES_EXTRA {
                return Err(CallError::DeadlineExceeded);
            }
        }
    }

    /// Reads at least one byte; returns how many arrived after the deadline.
    fn read_more(&mut self, deadline: Option<Instant>) -> Result<usize, CallError> {
        loop {
            let is_in_time = self.arm(deadline)?;
            let read = if is_in_time { self.read_some() } else { self.read_arrived() };
            match read {
                Ok(0) => {
                    let error = closed(self.is_heard, Scheme::Native, &self.address);
                    return Err(self.lost(error, true));
                }
                Ok(n) => {
                    self.conn.on_bytes(n, Instant::now());
                    return Ok(if is_in_time { 0 } else { n });
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock if !is_in_time => return Err(CallError::DeadlineExceeded),
                    // The reply may still arrive; its id shows then that it is late.
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                    _ => return Err(self.lost(error, true)),
                },
            }
        }
    }

    fn read_some(&mut self) -> io::Result<usize> {
        self.stream.read(self.conn.space(&mut self.pool))
    }

    /// Reads what has arrived by now. The process may have been suspended past a deadline that the reply met.
    #[cold]
    fn read_arrived(&mut self) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let read = self.read_some();
        self.stream.set_nonblocking(false)?;
        read
    }
}

impl DirectConn {
    /// Makes a typed call.
    pub(super) fn call<A: ArgumentEncode, R: ReplyDecode>(
        &mut self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError> {
        let codec = codec_for(self.codec, |codec| A::accepts(codec) && R::accepts(codec));
        self.body.clear();
        let body = &mut self.body;
        ValueRules::default().apply(|| A::encode(argument, codec, body)).map_err(CallError::Argument)?;
        let schema = if codec.is_self_describing() { 0 } else { method.schema::<A, R>() };
        let result = self.exchange(method.hash(), schema, codec, None, R::decode);
        result.map_err(|error| error.naming(method.hash(), method.name(), schema))
    }
}

/// Returns the failure of the call with this id, if the message belongs to it and is not valid for a call without
/// streams.
fn broken_rule(message: &Message, call_id: u64) -> Option<Status> {
    match message {
        Message::Data(data) if data.id == call_id => {
            Some(Status::internal("the server sent a data frame for a call without a stream"))
        }
        Message::CallBroken(broken) if broken.id == call_id => {
            Some(Status::new(broken.code, broken.message.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use coreloop_bufpool::WriteQueue;

    use super::*;
    use crate::message::OutgoingReply;
    use crate::status::Code;
    use crate::wire::Out;
    use crate::wire::Protocol;

    #[test]
    fn a_reply_that_has_arrived_is_taken_after_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut link = DirectConn::connect(&address, None, |_| Ok(None)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let past = Some(Instant::now());
        let late = |link: &mut DirectConn| match link.next_message(past) {
            Err(CallError::DeadlineExceeded) => true,
            Err(other) => panic!("{other}"),
            Ok((_, consumed)) => {
                link.conn.consume(consumed);
                false
            }
        };
        assert!(late(&mut link), "nothing has arrived");
        // A pong and a reply, as much as a socket holds without a reader.
        let mut bytes = vec![0x19, 0x96, 1, 5, 0, 0, 0, 0, 1];
        bytes.resize(32, 0);
        bytes.extend(reply(&vec![7; 40_000]));
        server.write_all(&bytes).unwrap();
        // Peeking shows when all of it has arrived.
        let BlockingTransport::Tcp(stream) = &link.stream else { panic!("it is TCP") };
        let mut seen = vec![0; bytes.len()];
        while stream.peek(&mut seen).unwrap() < bytes.len() {}
        assert!(!late(&mut link) && !late(&mut link));
        assert!(late(&mut link), "nothing is left");
        // The connection is still usable.
        server.write_all(&reply(b"more")).unwrap();
        assert!(link.next_message(None).is_ok());
    }

    fn reply(body: &[u8]) -> Vec<u8> {
        let (compressed, code, queue_us, handler_us) = (false, Code::Ok, 0, 0);
        let body = SendBody::Bytes(body);
        let reply =
            OutgoingReply { id: 1, codec: 0, compressed, code, queue_us, handler_us, extras: None, body };
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        let out = &mut Out { queue: &mut queue, pool: &mut pool };
        crate::wire::NativeServer::new(1 << 20).send(Outgoing::Reply(reply), out);
        let mut bytes = Vec::new();
        while let Some(first) = queue.first() {
            bytes.extend_from_slice(first);
            let n = first.len();
            queue.written(&mut pool, n);
        }
        bytes
    }
}
