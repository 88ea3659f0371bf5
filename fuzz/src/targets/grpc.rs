//! gRPC, on the server's side.

use std::sync::Arc;

use coreloop::message::{Message, Refusal, Request, method_hash};
use coreloop::status::Code;
use coreloop::wire::http2::PREFACE;
use coreloop::wire::{DirectoryEntry, GrpcServer, MethodDirectory, ServerContext, StreamSupport};

use super::connection::{Answer, connection, small_limits};
use super::{cut, pieces_of};

struct GrpcFuzzed;

impl MethodDirectory for GrpcFuzzed {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let is_known = matches!(name, "A.B" | "A.S");
        is_known.then_some(DirectoryEntry {
            hash: method_hash(name),
            takes_several: false,
            is_idempotent: false,
            streams: if name == "A.S" { StreamSupport::Both } else { StreamSupport::Unary },
        })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "A"
    }

    fn page(&self, path: &str) -> Option<u32> {
        (path == "/page").then_some(8)
    }

    fn date(&self) -> [u8; 29] {
        *b"Sun, 06 Nov 1994 08:49:37 GMT"
    }
}

/// Returns what the server has sent, and whether the connection is open.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let context = ServerContext { site: Box::new(GrpcFuzzed), ..ServerContext::bare(small_limits()) };
    let answer = |(message, body): (Message, Vec<u8>)| -> Option<Answer> {
        match message {
            // Metadata and message, or every other time an error that repeats them.
            Message::Request(Request { id, .. }) => {
                let code = if id % 4 == 1 { Code::Ok } else { Code::Internal };
                Some((id, code, body))
            }
            Message::Refused(Refusal { id, code, message, .. }) => Some((id, code, message.into_bytes())),
            Message::Cancel { id } => Some((id, Code::Cancelled, Vec::new())),
            other => panic!("{other:?}"),
        }
    };
    connection(GrpcServer::server(Arc::new(context)), pieces, answer)
}

/// Frames after the preface, whole and in pieces.
pub fn grpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let whole = run([&PREFACE[..], stream].into_iter());
    assert_eq!(run(std::iter::once(&PREFACE[..]).chain(pieces_of(stream, &cuts))), whole);
}
