//! The layout of a native frame: its kinds and the fixed part of its header.

use super::HEADER_BYTES;
use crate::message::Span;

/// The kinds of frames in version 1.
pub(super) mod kind {
    pub const REQUEST: u8 = 0;
    pub const REPLY: u8 = 1;
    pub const ONE_WAY: u8 = 2;
    pub const CANCEL: u8 = 3;
    pub const PING: u8 = 4;
    pub const PONG: u8 = 5;
    pub const DRAIN: u8 = 6;
    pub const HELLO: u8 = 7;
    pub const DATA: u8 = 8;
    pub const WINDOW: u8 = 9;
    pub const HEADERS: u8 = 10;
    pub const END: u8 = 11;
    /// The first of the kinds that a receiver which does not know them skips without an answer.
    pub const OPTIONAL: u8 = 128;
}

/// The decoded fixed part of a frame.
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) codec: u8,
    pub(super) flags: u8,
    pub(super) metadata_bytes: usize,
    pub(super) id: u64,
    /// Method, or status.
    pub(super) word_16: u32,
    /// Schema, or microseconds queued.
    pub(super) word_20: u32,
    /// Time left, or microseconds in the handler.
    pub(super) word_24: u32,
    pub(super) body_bytes: usize,
}

impl Header {
    #[inline]
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Header {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Header {
            kind: bytes[3],
            codec: bytes[4],
            flags: bytes[5],
            metadata_bytes: u16::from_le_bytes([bytes[6], bytes[7]]) as usize,
            id: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            word_16: u32_at(16),
            word_20: u32_at(20),
            word_24: u32_at(24),
            body_bytes: u32_at(28) as usize,
        }
    }

    #[inline]
    pub(super) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.metadata_bytes + self.body_bytes
    }

    /// Returns the bytes that a data frame takes from the windows.
    pub(super) fn window_bytes(&self) -> u32 {
        // The sum fits: a body of this kind is at most `frame_bytes_max`, or skipped.
        (HEADER_BYTES as u64 + self.body_bytes as u64).min(u64::from(u32::MAX)) as u32
    }

    #[inline]
    pub(super) fn metadata(&self) -> Span {
        Span::new(HEADER_BYTES as u32, self.metadata_bytes as u32)
    }

    #[inline]
    pub(super) fn body(&self) -> Span {
        Span::new((HEADER_BYTES + self.metadata_bytes) as u32, self.body_bytes as u32)
    }
}
