//! The protocols of Go's net/rpc, JSON-RPC and gob, at both ends.

use std::cell::RefCell;
use std::sync::Arc;

use coreloop::codec::{self, Codec};
use coreloop::config::Limits;
use coreloop::message::{Message, Outgoing, method_hash};
use coreloop::status::Code;
use coreloop::wire::netrpc::connect::{ANSWER_BYTES_MAX, ConnectError, ConnectReply, granted};
use coreloop::wire::{
    DirectoryEntry, JsonRpc, JsonRpcClient, MethodDirectory, NetRpc, NetRpcClient, Page, Protocol,
    ServerContext,
};
use serde::de::IgnoredAny;

use super::connection::{Answer, connection, small_limits};
use super::{BODY_MAX, cut, pieces_of};

/// A site with one method.
pub(super) struct EchoSite;

impl MethodDirectory for EchoSite {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let hash = method_hash(name);
        (name == "Echo.Echo").then_some(DirectoryEntry { hash, is_idempotent: false })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Echo"
    }

    fn page(&self, _path: &str) -> Option<Page> {
        None
    }

    fn date(&self) -> [u8; 29] {
        [b' '; 29]
    }
}

/// Answers as a method that gives back its argument.
pub(super) fn echo((message, body): (Message, Vec<u8>)) -> Option<Answer> {
    match message {
        Message::Request(request) => (!request.one_way).then_some((request.id, Code::Ok, body)),
        Message::Refused(refused) => {
            (!refused.one_way).then(|| (refused.id, refused.code, refused.message.into_bytes()))
        }
        other => unreachable!("{other:?} is not for a server"),
    }
}

/// What a client's end hears of a stream is the same however it is cut.
fn client_hears<W>(client: impl Fn() -> W, stream: &[u8])
where
    W: for<'b> Protocol<Message = Message, Outgoing<'b> = Outgoing<'b>>,
{
    let heard = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let heard = RefCell::new(Vec::new());
        let (_, goes_on) = connection(client(), pieces, |(message, body)| {
            let Message::Reply(reply) = message else { unreachable!("{message:?} is not for a client") };
            heard.borrow_mut().push((reply.id, reply.status, body));
            None
        });
        (heard.into_inner(), goes_on)
    };
    let whole = heard(&mut [stream].into_iter());
    assert_eq!(heard(&mut stream.chunks(1)), whole);
    assert_eq!(heard(&mut stream.chunks(7)), whole);
}

/// JSON-RPC, to both ends; what the server answers is JSON, and its client understands it.
pub fn jsonrpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let server = || {
        let (limits, cors_origins) = (small_limits(), Vec::new());
        JsonRpc::server(Arc::new(ServerContext { limits, cors_origins, site: Box::new(EchoSite) }))
    };
    let whole = connection(server(), [stream].into_iter(), echo);
    assert_eq!(connection(server(), pieces_of(stream, &cuts), echo), whole);
    assert_eq!(connection(server(), stream.chunks(1), echo), whole);
    // Two bytes of an array can be answered by an error of some hundred, and an id that is echoed twice its length.
    assert!(whole.0.len() <= 160 * stream.len() + 1024, "{} for {}", whole.0.len(), stream.len());
    for line in whole.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        codec::decode::<IgnoredAny>(Codec::Json, line).unwrap_or_else(|error| {
            panic!("{} is not JSON: {error}", line.escape_ascii());
        });
    }
    [stream, &whole.0].into_iter().for_each(|stream| client_hears(|| JsonRpcClient::new(BODY_MAX), stream));
}

/// Go's net/rpc, to both ends. A type may be defined in 64 bytes at most.
pub fn netrpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let server = || {
        let limits = Limits { gob_types_max: 16, gob_type_bytes_max: 64, ..small_limits() };
        NetRpc::server(Arc::new(ServerContext { limits, cors_origins: Vec::new(), site: Box::new(EchoSite) }))
    };
    let whole = connection(server(), [stream].into_iter(), echo);
    assert_eq!(connection(server(), pieces_of(stream, &cuts), echo), whole);
    assert_eq!(connection(server(), stream.chunks(1), echo), whole);
    // A call of four bytes can be echoed with the definitions of all types that it may hold, and with an error of its
    // own for each.
    assert!(whole.0.len() <= (16 * 64 + 160) * stream.len() + 1024, "{} for {}", whole.0.len(), stream.len());
    [stream, &whole.0].into_iter().for_each(|stream| client_hears(|| NetRpcClient::new(BODY_MAX), stream));
}

/// The answer to CONNECT. More of it never changes what some of it has told, and no end means no end of reading.
pub fn connect(input: &[u8]) {
    /// What must not depend on how much has come: of what is no HTTP as much is told as there is.
    fn kind(told: ConnectReply) -> ConnectReply {
        match told {
            ConnectReply::No(ConnectError::NotHttp { .. }) => {
                ConnectReply::No(ConnectError::NotHttp { begins: String::new() })
            }
            other => other,
        }
    }
    let mut decided = None;
    // Every length where something is decided as a rule; further on each look reads all of it again.
    let near = 0..=input.len().min(96);
    let far = (97..=input.len()).step_by(59).chain([input.len()]);
    for len in near.chain(far) {
        let told = kind(granted(&input[..len]));
        match (&told, &decided) {
            (ConnectReply::NeedMore, None) => assert!(len < ANSWER_BYTES_MAX),
            (ConnectReply::Yes { bytes }, None) => assert!(*bytes <= len && input[..*bytes].ends_with(b"\n")),
            (_, None) => {}
            (_, Some(before)) => assert_eq!(&told, before),
        }
        decided = decided.or((told != ConnectReply::NeedMore).then_some(told));
    }
    if let Some(ConnectReply::No(why)) = decided {
        assert!(why.to_string().len() <= 1024, "a peer's words are told in part");
    }
}
