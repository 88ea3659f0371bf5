//! The protocols of Go's net/rpc, JSON-RPC and gob, on the server's and the client's side.

use std::cell::RefCell;
use std::sync::Arc;

use coreloop::codec::{self, Codec};
use coreloop::message::{Message, Outgoing, method_hash};
use coreloop::status::Code;
use coreloop::wire::netrpc::connect::{ANSWER_BYTES_MAX, ConnectError, ConnectReply, granted};
use coreloop::wire::{
    DirectoryEntry, JsonRpc, JsonRpcClient, MethodDirectory, NetRpc, NetRpcClient, Protocol, ServerContext,
    StreamSupport,
};
use serde::de::IgnoredAny;

use super::connection::{Answer, connection, small_limits};
use super::{BODY_MAX, cut, pieces_of};

/// A method directory with two methods, one of them with several arguments.
pub(super) struct EchoSite;

impl MethodDirectory for EchoSite {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let hash = method_hash(name);
        ["Echo.Echo", "Echo.Both"].contains(&name).then_some(DirectoryEntry {
            hash,
            is_idempotent: false,
            streams: StreamSupport::Unary,
            takes_several: name == "Echo.Both",
        })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Echo"
    }

    fn date(&self) -> [u8; 29] {
        [b' '; 29]
    }
}

/// Answers like a method that returns its argument.
pub(super) fn echo((message, body): (Message, Vec<u8>)) -> Option<Answer> {
    match message {
        Message::Request(request) => (!request.one_way).then_some((request.id, Code::Ok, body)),
        Message::Refused(refused) => {
            (!refused.one_way).then(|| (refused.id, refused.code, refused.message.into_bytes()))
        }
        other => unreachable!("{other:?} is not for a server"),
    }
}

/// Asserts that a client decodes the same replies from a stream however it is cut.
fn check_client<W>(client: impl Fn() -> W, stream: &[u8])
where
    W: for<'b> Protocol<Message = Message, Outgoing<'b> = Outgoing<'b>>,
{
    let received = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let received = RefCell::new(Vec::new());
        let (_, is_open) = connection(client(), pieces, |(message, body)| {
            received.borrow_mut().push(match message {
                Message::Reply(reply) => (reply.id, reply.status, body),
                // A reply over the size limit.
                Message::Refused(refused) => {
                    (refused.id, refused.code.number(), refused.message.into_bytes())
                }
                other => unreachable!("{other:?} is not for a client"),
            });
            None
        });
        (received.into_inner(), is_open)
    };
    let whole = received(&mut [stream].into_iter());
    assert_eq!(received(&mut stream.chunks(1)), whole);
    assert_eq!(received(&mut stream.chunks(7)), whole);
}

/// Passes JSON-RPC to both sides; the server's answers must be JSON, and its client must be able to decode them.
pub fn jsonrpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let server = || {
        let (limits, cors_origins) = (small_limits(), Vec::new());
        JsonRpc::server(Arc::new(ServerContext {
            cors_origins,
            site: Box::new(EchoSite),
            ..ServerContext::bare(limits)
        }))
    };
    let whole = connection(server(), [stream].into_iter(), echo);
    assert_eq!(connection(server(), pieces_of(stream, &cuts), echo), whole);
    assert_eq!(connection(server(), stream.chunks(1), echo), whole);
    // Two bytes of an array can be answered by an error of some hundred, and an id is echoed at twice its length.
    assert!(whole.0.len() <= 160 * stream.len() + 1024, "{} for {}", whole.0.len(), stream.len());
    for line in whole.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        codec::decode::<IgnoredAny>(Codec::Json, line).unwrap_or_else(|error| {
            panic!("{} is not JSON: {error}", line.escape_ascii());
        });
    }
    [stream, &whole.0].into_iter().for_each(|stream| check_client(|| JsonRpcClient::new(BODY_MAX), stream));
}

/// Passes Go's net/rpc to both sides. A type definition has at most 64 bytes.
pub fn netrpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let server = || {
        let mut limits = small_limits();
        limits.gob_types_max = 16;
        limits.gob_type_bytes_max = 64;
        NetRpc::server(Arc::new(ServerContext { site: Box::new(EchoSite), ..ServerContext::bare(limits) }))
    };
    let whole = connection(server(), [stream].into_iter(), echo);
    assert_eq!(connection(server(), pieces_of(stream, &cuts), echo), whole);
    assert_eq!(connection(server(), stream.chunks(1), echo), whole);
    // A call of four bytes can be echoed with the definitions of all types that it may hold, and with a separate
    // error for each.
    assert!(whole.0.len() <= (16 * 64 + 160) * stream.len() + 1024, "{} for {}", whole.0.len(), stream.len());
    [stream, &whole.0].into_iter().for_each(|stream| check_client(|| NetRpcClient::new(BODY_MAX), stream));
}

/// Parses the answer to CONNECT. More bytes never change a result, and an answer without an end is not read without
/// limit.
pub fn connect(input: &[u8]) {
    /// The part of the result that must not depend on the number of bytes: the text of an error includes what has
    /// arrived.
    fn kind(result: ConnectReply) -> ConnectReply {
        match result {
            ConnectReply::No(ConnectError::NotHttp { .. }) => {
                ConnectReply::No(ConnectError::NotHttp { begins: String::new() })
            }
            other => other,
        }
    }
    let mut decided = None;
    // Every length in the range where results are usually decided; beyond it only some, as each attempt parses from
    // the start.
    let near = 0..=input.len().min(96);
    let far = (97..=input.len()).step_by(59).chain([input.len()]);
    for len in near.chain(far) {
        let result = kind(granted(&input[..len]));
        match (&result, &decided) {
            (ConnectReply::NeedMore, None) => assert!(len < ANSWER_BYTES_MAX),
            (ConnectReply::Yes { bytes }, None) => assert!(*bytes <= len && input[..*bytes].ends_with(b"\n")),
            (_, None) => {}
            (_, Some(before)) => assert_eq!(&result, before),
        }
        decided = decided.or((result != ConnectReply::NeedMore).then_some(result));
    }
    if let Some(ConnectReply::No(why)) = decided {
        assert!(why.to_string().len() <= 1024, "the peer's text must be truncated");
    }
}
