//! The table of the streams that are not closed, found by id in O(1).
//!
//! The ids are chosen by the peer, so the hash has a key that the peer does not know.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use coreloop_bufpool::Chunk;

use super::flow::{Http2ReceiveWindow, SendWindow};

/// The state of a stream that was opened by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2StreamState {
    /// The peer may send more.
    Open,
    /// The peer has ended its side: half-closed (remote).
    PeerEnded,
    /// The stream was reset by a side, but the call that it began has not ended. It is closed for the peer, and
    /// counts against `streams_max`, so that resets do not let calls pile up.
    GivenUp,
}

/// Output that waits for credit.
#[derive(Debug, Default)]
pub(super) struct HeldOutput {
    /// The rest of the body.
    pub(super) body: VecDeque<Chunk>,
    /// The bytes of the body.
    pub(super) bytes: usize,
    /// What follows the body.
    pub(super) end: HeldEnd,
    /// Whether the stream is in the queue of those that wait for the connection's window only.
    pub(super) is_queued: bool,
    /// Whether anything was written since the last check for stalls.
    pub(super) has_progress: bool,
    /// When the last check found no progress.
    pub(super) stalled_since: Option<std::time::Instant>,
}

/// What ends a held body.
#[derive(Debug, Default)]
pub(super) enum HeldEnd {
    /// More output may follow.
    #[default]
    Open,
    /// The last part of the body ends the stream.
    WithBody,
    /// Trailers, not encoded yet: the order of blocks is the order of the peer's table.
    Trailers(Vec<OwnedField>),
}

/// A field of trailers that wait.
#[derive(Debug)]
pub(super) struct OwnedField {
    pub(super) name: Box<[u8]>,
    pub(super) value: Box<[u8]>,
    pub(super) indexing: super::hpack::Indexing,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Http2Stream {
    pub(super) state: Http2StreamState,
    pub(super) send: SendWindow,
    pub(super) receive: Http2ReceiveWindow,
    /// Bytes of the body that are still to arrive, if the head has announced them.
    pub(super) body_left: Option<u64>,
    pub(super) held: Option<Box<HeldOutput>>,
}

impl Http2Stream {
    /// Whether the whole answer was submitted and waits for credit.
    pub(super) fn is_answered(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !matches!(held.end, HeldEnd::Open))
    }
}

/// Hashes ids with a key of the table.
#[derive(Clone, Copy, Debug)]
struct KeyedIds(u64);

#[derive(Clone, Copy, Debug)]
struct IdHasher {
    key: u64,
    hash: u64,
}

impl BuildHasher for KeyedIds {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { key: self.0, hash: 0 }
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, id: u32) {
        // The high half of the product depends on all bits of the key and of the id.
        let product = u128::from(self.hash ^ u64::from(id) ^ self.key) * u128::from(self.key | 1);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Http2Streams {
    streams: HashMap<u32, Http2Stream, KeyedIds>,
}

/// A table with more room than this is freed once it is empty.
const KEPT_STREAMS_MAX: usize = 8;

impl Http2Streams {
    pub(super) fn new() -> Http2Streams {
        Http2Streams { streams: HashMap::with_hasher(KeyedIds(RandomState::new().hash_one(0))) }
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    #[inline]
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Http2Stream> {
        self.streams.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: u32, stream: Http2Stream) {
        self.streams.insert(id, stream);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Http2Stream> {
        let removed = self.streams.remove(&id);
        if self.streams.is_empty() && self.streams.capacity() > KEPT_STREAMS_MAX {
            self.streams.shrink_to(KEPT_STREAMS_MAX / 2);
        }
        removed
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Http2Stream)> {
        self.streams.iter_mut().map(|(id, stream)| (*id, stream))
    }
}
