//! What goes out on a stream: headers and bodies, each type defined before the first value that needs it, once.

use super::KEEP_BYTES_MAX;
use super::head::{Head, Kind};
use crate::codec::gob::stream::{NOTHING_ID, Sent, StreamError, StructWriter, parts, put_struct_definition};
use crate::message::SendBody;
use crate::wire::Out;

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Sender {
    kind: Kind,
    sent: Sent,
    is_head_defined: bool,
    is_nothing_defined: bool,
    /// There is a definition in front of the value at hand.
    has_defined: bool,
    /// What stands in front of a value, put together.
    front: Vec<u8>,
}

impl Sender {
    pub(super) fn new(kind: Kind) -> Sender {
        Sender {
            kind,
            sent: Sent::new(),
            is_head_defined: false,
            is_nothing_defined: false,
            has_defined: false,
            front: Vec::new(),
        }
    }

    #[inline]
    fn begin(&mut self, head: &Head<'_>) {
        self.front.clear();
        let is_first = !self.is_head_defined;
        if !self.is_head_defined {
            self.is_head_defined = true;
            self.kind.define(&mut self.front);
        }
        self.kind.put(head, &mut self.front);
        self.has_defined = is_first;
    }

    /// What definitions needed, which come once, is not kept for headers.
    #[inline]
    fn end(&mut self) {
        if self.has_defined || self.front.capacity() > KEEP_BYTES_MAX {
            self.front = Vec::new();
        }
    }

    #[inline]
    fn append_new(&mut self, definitions: &[u8]) {
        let len = self.front.len();
        self.sent.append_new(definitions, &mut self.front);
        self.has_defined |= self.front.len() > len;
    }

    /// A header and a self-contained body. One that is none is not written, nor is its header.
    #[inline]
    pub(super) fn put(
        &mut self,
        head: &Head<'_>,
        body: SendBody<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), StreamError> {
        let value = match body {
            SendBody::Bytes(bytes) => {
                let (definitions, value) = parts(bytes)?;
                self.begin(head);
                self.append_new(definitions);
                SendBody::Bytes(value)
            }
            SendBody::Chunk(chunk) => {
                let (definitions, _) = parts(&chunk)?;
                self.begin(head);
                self.append_new(definitions);
                SendBody::Chunk(chunk.slice(definitions.len()..chunk.len()))
            }
        };
        out.frame(&self.front, value);
        self.end();
        Ok(())
    }

    /// A header, and a struct without fields for a body (Go's invalidRequest).
    pub(super) fn put_nothing(&mut self, head: &Head<'_>, out: &mut Out<'_>) {
        self.begin(head);
        if !self.is_nothing_defined {
            self.is_nothing_defined = true;
            put_struct_definition(&mut self.front, NOTHING_ID, "", &[]);
        }
        StructWriter::new(&mut self.front, NOTHING_ID).end();
        out.put(&self.front);
        self.end();
    }
}
