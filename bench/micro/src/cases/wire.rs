//! Parsing and writing in each protocol: detecting the protocol, reading a request, writing its reply, and both on
//! the client side.
//!
//! A protocol that records what it has read must be answered before it reads on. That is counted in `exchange`, and
//! excluded from `decode` and `encode`.

use std::hint::black_box;
use std::sync::Arc;

use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::codec::{Codec, encode_plain};
use coreloop::config::Limits;
use coreloop::demo::{Args, Arith};
use coreloop::message::{
    IncomingReply, Message, Outgoing, OutgoingCall, OutgoingReply, Request, SendBody, method_hash,
};
use coreloop::wire::sniff::sniff;
use coreloop::wire::{
    ClientProtocol, DirectoryEntry, MethodDirectory, Out, Protocol, ProtocolSet, Received, Scheme,
    ServerContext, ServerProtocol, StreamSupport,
};
use coreloop::{Code, Service};

use super::Case;
use crate::meter::uncounted;

/// The call that is made in every protocol.
const ADD: &str = "Arith.Add";
/// The native equivalent, in fixed layout.
const ADD_FIXED: &str = "Arith.AddFixed";
/// The id of every call, as only one is in flight at a time.
const ID: u64 = 7;

/// The schemes with different bytes on the wire; after HTTP's CONNECT, gob is the same.
pub(super) const SPOKEN: &[Scheme] = &[Scheme::Native, Scheme::Gob, Scheme::JsonRpc, Scheme::Http];

pub(super) fn add(cases: &mut Vec<Case>) {
    for scheme in SPOKEN {
        let scheme = *scheme;
        cases.push(Case::new(format!("sniff/{}", scheme.name()), move || {
            let first = bytes_of(scheme).first;
            move || {
                black_box(sniff(black_box(&first)));
            }
        }));
        let name = |what: &str| format!("wire/{}/{what}", scheme.name());
        cases.push(Case::new(name("exchange"), move || {
            let (mut end, bytes) = (Server::begun(scheme), bytes_of(scheme));
            move || {
                let request = end.decode(&bytes.request);
                end.encode(&request, &bytes.result);
            }
        }));
        let decode = Case::new(name("decode"), move || {
            let (mut end, bytes) = (Server::begun(scheme), bytes_of(scheme));
            move || {
                let request = end.decode(&bytes.request);
                uncounted(|| end.encode(&request, &bytes.result));
            }
        });
        cases.push(decode.mixed());
        let encode = Case::new(name("encode"), move || {
            let (mut end, bytes) = (Server::begun(scheme), bytes_of(scheme));
            move || {
                let request = uncounted(|| end.decode(&bytes.request));
                end.encode(&request, &bytes.result);
            }
        });
        cases.push(encode.mixed());
        cases.push(Case::new(name("client"), move || {
            let (mut end, bytes) = (Client::begun(scheme), bytes_of(scheme));
            move || {
                end.encode(&bytes.argument);
                black_box(end.decode(&bytes.reply));
            }
        }));
    }
}

/// The bytes of a call in a protocol.
pub(super) struct Bytes {
    pub(super) argument: Vec<u8>,
    pub(super) result: Vec<u8>,
    /// The first request of a connection and its reply, which define gob's types.
    pub(super) first: Vec<u8>,
    pub(super) first_reply: Vec<u8>,
    /// Any later request.
    pub(super) request: Vec<u8>,
    reply: Vec<u8>,
}

/// Returns the method called in a protocol, and the codec of its body.
pub(super) fn method_of(scheme: Scheme) -> (&'static str, Codec) {
    match scheme {
        Scheme::Native => (ADD_FIXED, Codec::Fixed),
        Scheme::JsonRpc | Scheme::Http => (ADD, Codec::Json),
        Scheme::Gob | Scheme::GobHttp => (ADD, Codec::Gob),
        _ => unreachable!("the cases name no other scheme"),
    }
}

/// Generates the bytes by connecting a client end and a server end.
pub(super) fn bytes_of(scheme: Scheme) -> Bytes {
    let (argument, result) = match method_of(scheme).1 {
        Codec::Fixed => ([6_i64.to_le_bytes(), 7_i64.to_le_bytes()].concat(), 13_i64.to_le_bytes().to_vec()),
        codec => {
            let (mut argument, mut result) = (Vec::new(), Vec::new());
            encode_plain(codec, &Args { a: 6, b: 7 }, &mut argument).expect("arguments can be written");
            encode_plain(codec, &13_i64, &mut result).expect("a number can be written");
            (argument, result)
        }
    };
    let (mut client, mut server) = (Client::new(scheme), Server::new());
    let mut exchange = || {
        client.encode(&argument);
        let said = client.end.said.clone();
        let request = server.decode(&said);
        server.encode(&request, &result);
        let answered = server.end.said.clone();
        assert_eq!(client.decode(&answered).id, ID);
        (said, answered)
    };
    let (first, first_reply) = exchange();
    let (request, reply) = exchange();
    Bytes { argument, result, first, first_reply, request, reply }
}

/// A protocol and its output.
struct End<W> {
    wire: W,
    pool: Pool,
    queue: WriteQueue,
    /// The output of the last write.
    said: Vec<u8>,
}

impl<W> End<W>
where
    W: for<'a> Protocol<Message = Message, Outgoing<'a> = Outgoing<'a>>,
{
    fn new(wire: W) -> End<W> {
        End { wire, pool: Pool::new(PoolConfig::default()), queue: WriteQueue::new(), said: Vec::new() }
    }

    /// Decodes the message, which must use all of the bytes.
    fn decode(&mut self, input: &[u8]) -> Message {
        let mut rest = black_box(input);
        loop {
            if let Some((message, consumed)) = self.wire.try_fast_receive(rest) {
                assert_eq!(consumed, rest.len());
                return message;
            }
            match self.wire.receive(rest, &mut Out { queue: &mut self.queue, pool: &mut self.pool }) {
                Received::Message { message, consumed } => {
                    assert_eq!(consumed, rest.len());
                    return message;
                }
                Received::Skip { consumed } => rest = &rest[consumed..],
                other => panic!("a whole message, not {other:?}"),
            }
        }
    }

    fn encode(&mut self, outgoing: Outgoing<'_>) {
        let End { wire, pool, queue, said } = self;
        wire.send(outgoing, &mut Out { queue, pool });
        said.clear();
        while let Some(bytes) = queue.first() {
            said.extend_from_slice(bytes);
            let written = bytes.len();
            queue.written(pool, written);
        }
    }
}

/// The server's end.
pub(super) struct Server {
    end: End<ServerProtocol>,
}

impl Server {
    fn new() -> Server {
        let side = ServerContext { site: Box::new(Methods), ..ServerContext::bare(Limits::default()) };
        Server { end: End::new(ServerProtocol::undecided(ProtocolSet::SERVED, Arc::new(side))) }
    }

    /// Returns a server end that has had its first call.
    fn begun(scheme: Scheme) -> Server {
        let (mut server, bytes) = (Server::new(), bytes_of(scheme));
        let request = server.decode(&bytes.first);
        server.encode(&request, &bytes.result);
        server
    }

    fn decode(&mut self, input: &[u8]) -> Request {
        match self.end.decode(input) {
            Message::Request(request) => request,
            other => panic!("a request, not {other:?}"),
        }
    }

    fn encode(&mut self, request: &Request, result: &[u8]) {
        let Request { id, codec, .. } = *request;
        let body = SendBody::Bytes(black_box(result));
        let (queue_us, handler_us) = (0, 0);
        self.end.encode(Outgoing::Reply(OutgoingReply {
            id,
            codec,
            compressed: false,
            code: Code::Ok,
            queue_us,
            handler_us,
            extras: None,
            body,
        }));
    }
}

/// The client's end.
struct Client {
    end: End<ClientProtocol>,
    method: &'static str,
    codec: Codec,
}

impl Client {
    fn new(scheme: Scheme) -> Client {
        let (method, codec) = method_of(scheme);
        let wire = ClientProtocol::new(scheme, "localhost:6550", Limits::default().frame_bytes_max);
        Client { end: End::new(wire), method, codec }
    }

    fn begun(scheme: Scheme) -> Client {
        let (mut client, bytes) = (Client::new(scheme), bytes_of(scheme));
        client.encode(&bytes.argument);
        client.decode(&bytes.first_reply);
        client
    }

    fn encode(&mut self, argument: &[u8]) {
        self.end.encode(Outgoing::Request(OutgoingCall {
            id: ID,
            name: self.method,
            method: method_hash(self.method),
            codec: self.codec.number(),
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us: 0,
            metadata: &[],
            body: SendBody::Bytes(black_box(argument)),
        }));
    }

    fn decode(&mut self, input: &[u8]) -> IncomingReply {
        match self.end.decode(input) {
            Message::Reply(answered) => answered,
            other => panic!("a reply, not {other:?}"),
        }
    }
}

/// The methods that the cases call.
struct Methods;

impl MethodDirectory for Methods {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let hash = method_hash(name);
        [ADD, ADD_FIXED].contains(&name).then_some(DirectoryEntry {
            hash,
            takes_several: false,
            is_idempotent: false,
            streams: StreamSupport::Unary,
        })
    }

    fn has_service(&self, service: &str) -> bool {
        service == Arith.service_name()
    }

    fn date(&self) -> [u8; 29] {
        *b"Thu, 01 Jan 1970 00:00:00 GMT"
    }
}
