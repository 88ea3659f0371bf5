//! Writes headers and bodies to a stream, and defines each type once, before the first value that needs it.

use super::KEEP_BYTES_MAX;
use super::head::{HeaderKind, RpcHeader};
use crate::codec::gob::stream::{
    NOTHING_ID, SentTypes, StreamError, StructWriter, number_bytes, parts, put_struct_definition,
};
use crate::message::SendBody;
use crate::wire::Out;

/// The id of a header's type, encoded.
const HEAD_ID: [u8; 2] = [0xff, 0x80];
/// The longest header, with its length, whose length takes one byte.
const HEAD_MAX: usize = 0x80;

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct RpcSender {
    kind: HeaderKind,
    sent: SentTypes,
    is_head_defined: bool,
    is_nothing_defined: bool,
    /// A definition precedes the current value.
    has_defined: bool,
    /// The bytes before a value.
    front: Vec<u8>,
}

impl RpcSender {
    pub(super) fn new(kind: HeaderKind) -> RpcSender {
        RpcSender {
            kind,
            sent: SentTypes::new(),
            is_head_defined: false,
            is_nothing_defined: false,
            has_defined: false,
            front: Vec::new(),
        }
    }

    #[inline]
    fn begin(&mut self, head: &RpcHeader<'_>) {
        self.front.clear();
        let is_first = !self.is_head_defined;
        if !self.is_head_defined {
            self.is_head_defined = true;
            self.kind.define(&mut self.front);
        }
        self.kind.put(head, &mut self.front);
        self.has_defined = is_first;
    }

    /// Releases memory that was needed for definitions, which are sent only once.
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

    /// Writes a header and a self-contained body. If the body is invalid, writes neither.
    #[inline]
    pub(super) fn put(
        &mut self,
        head: &RpcHeader<'_>,
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

    /// The fast path: writes a header, whose encoded `fields` before the number are given, and a self-contained body
    /// whose types were already sent, in place. Returns false if this is not the case; then nothing was written.
    #[inline]
    pub(super) fn put_again(
        &mut self,
        fields: &[u8],
        seq: u64,
        body: &SendBody<'_>,
        out: &mut Out<'_>,
    ) -> bool {
        let SendBody::Bytes(body) = body else { return false };
        let Some(value) = self.sent.value_of(body) else { return false };
        if !self.is_head_defined || seq == 0 {
            return false;
        }
        let (number, from) = number_bytes(seq);
        let number = &number[from..];
        let len = 1 + HEAD_ID.len() + fields.len() + number.len() + 1;
        if len > HEAD_MAX {
            return false;
        }
        let write = |head: &mut [u8]| {
            head[0] = (len - 1) as u8;
            head[1..3].copy_from_slice(&HEAD_ID);
            head[3..3 + fields.len()].copy_from_slice(fields);
            head[3 + fields.len()..len - 1].copy_from_slice(number);
            head[len - 1] = 0;
        };
        match out.queue.room(len + value.len()) {
            Some(room) => {
                let (head, rest) = room.split_at_mut(len);
                write(head);
                rest.copy_from_slice(value);
            }
            None => {
                let mut head = [0; HEAD_MAX];
                write(&mut head[..len]);
                out.frame(&head[..len], SendBody::Bytes(value));
            }
        }
        true
    }

    /// Writes a header, and a struct without fields as the body (Go's invalidRequest).
    pub(super) fn put_nothing(&mut self, head: &RpcHeader<'_>, out: &mut Out<'_>) {
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

#[cfg(test)]
mod tests {
    use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};

    use super::*;
    use crate::codec::gob;

    /// Returns the queued bytes.
    fn written(queue: &mut WriteQueue, pool: &mut Pool) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(first) = queue.first() {
            bytes.extend_from_slice(first);
            let len = first.len();
            queue.written(pool, len);
        }
        bytes
    }

    fn number_len(number: u64) -> usize {
        let (bytes, from) = number_bytes(number);
        bytes.len() - from
    }

    #[test]
    fn fast_and_slow_path_write_the_same_bytes() {
        let mut body = Vec::new();
        gob::encode(&13_i64, &mut body).unwrap();
        let mut sender = RpcSender::new(HeaderKind::Response);
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        for len in [1, 9, 64, 100, 126] {
            let method = vec![b'm'; len];
            let fields = [&[1, len as u8], &method[..], &[1]].concat();
            for seq in [0, 1, 127, 128, 70_000, u64::MAX] {
                let head = RpcHeader { method: &method, seq, error: b"" };
                sender
                    .put(&head, SendBody::Bytes(&body), &mut Out { queue: &mut queue, pool: &mut pool })
                    .unwrap();
                // Without the definition before the first one.
                let long = written(&mut queue, &mut pool);
                let (_, expected) = parts(&long).unwrap();
                // Into an empty queue, and after existing bytes.
                for before in [&[][..], b"before"] {
                    let out = &mut Out { queue: &mut queue, pool: &mut pool };
                    out.put(before);
                    let is_short = sender.put_again(&fields, seq, &SendBody::Bytes(&body), out);
                    assert_eq!(is_short, seq > 0 && 5 + len + number_len(seq) < HEAD_MAX, "{len} {seq}");
                    let expected = if is_short { expected } else { &[] };
                    assert_eq!(written(&mut queue, &mut pool), [before, expected].concat());
                }
            }
        }
    }

    #[test]
    fn unsent_types_take_the_slow_path() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct DefinedPair {
            one: i64,
            other: String,
        }
        let mut body = Vec::new();
        gob::encode(&DefinedPair { one: 1, other: "x".into() }, &mut body).unwrap();
        let mut sender = RpcSender::new(HeaderKind::Response);
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        let out = &mut Out { queue: &mut queue, pool: &mut pool };
        let fields = [1, 1, b'm', 1];
        assert!(!sender.put_again(&fields, 1, &SendBody::Bytes(&body), out));
        let head = RpcHeader { method: b"m", seq: 1, error: b"" };
        sender.put(&head, SendBody::Bytes(&body), out).unwrap();
        assert!(sender.put_again(&fields, 1, &SendBody::Bytes(&body), out));
        // An invalid body, or the types of one alone, is left to the slow path to refuse.
        let (definitions, _) = parts(&body).unwrap();
        for wrong in [&b""[..], definitions, &body[..body.len() - 1]] {
            assert!(!sender.put_again(&fields, 1, &SendBody::Bytes(wrong), out));
        }
    }
}
