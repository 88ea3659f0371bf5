//! Buffers for encoded messages, which each thread uses again: what a callback on a reactor's thread sends in the steady
//! state needs no allocation.

use std::cell::RefCell;

use coreloop_bufpool::{Chunk, LINK_BYTES_MIN};

use crate::conn::streams::{StreamBody, StreamMessage};
use crate::message::{Outgoing, OutgoingData, SendBody};

/// Buffers that a thread keeps.
const KEEP_BUFFERS_MAX: usize = 32;
/// A buffer with a larger capacity is not kept, in bytes.
const KEEP_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer.
pub(super) fn buffer() -> Vec<u8> {
    // A thread that ends has none any more.
    BUFFERS.try_with(|buffers| buffers.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Sends a message of the call with this id, and keeps its memory where it was copied.
pub(crate) fn send_message(id: u64, codec: u8, message: StreamMessage, send: impl FnOnce(Outgoing<'_>)) {
    let StreamMessage { body, compressed } = message;
    if body.len() < LINK_BYTES_MIN {
        send(Outgoing::Data(OutgoingData { id, codec, compressed, body: SendBody::Bytes(&body) }));
        return recycle(body);
    }
    let chunk = match body {
        StreamBody::Owned(bytes) => Chunk::from(bytes),
        StreamBody::Shared(chunk) => chunk,
    };
    send(Outgoing::Data(OutgoingData { id, codec, compressed, body: SendBody::Chunk(chunk) }));
}

/// Keeps the memory of a message that was sent.
pub(super) fn recycle(body: StreamBody) {
    let StreamBody::Owned(mut bytes) = body else { return };
    if bytes.capacity() > KEEP_BYTES_MAX || bytes.capacity() == 0 {
        return;
    }
    bytes.clear();
    let _ = BUFFERS.try_with(|buffers| {
        let mut buffers = buffers.borrow_mut();
        if buffers.len() < KEEP_BUFFERS_MAX {
            buffers.push(bytes);
        }
    });
}
