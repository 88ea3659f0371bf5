//! The destination of answers: a connection's write queue, or the answers of an incomplete batch.

use crate::message::SendBody;
use crate::wire::Out;

/// A destination that bytes are appended to.
pub(super) trait ByteSink {
    /// Copies bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Takes a body, copied or linked.
    fn put_body(&mut self, body: SendBody<'_>);

    /// Writes a number in decimal.
    fn put_number(&mut self, number: u64) {
        // A u64 has at most twenty digits.
        let (mut room, mut at, mut rest) = ([0; 20], 20, number);
        loop {
            at -= 1;
            room[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&room[at..]);
    }
}

impl ByteSink for Out<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        Out::put(self, bytes);
    }

    #[inline]
    fn put_body(&mut self, body: SendBody<'_>) {
        match body {
            SendBody::Bytes(bytes) => Out::put(self, bytes),
            SendBody::Chunk(chunk) => self.link(chunk),
        }
    }
}

impl ByteSink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_body(&mut self, body: SendBody<'_>) {
        match body {
            SendBody::Bytes(bytes) => self.extend_from_slice(bytes),
            SendBody::Chunk(chunk) => self.extend_from_slice(&chunk),
        }
    }
}
