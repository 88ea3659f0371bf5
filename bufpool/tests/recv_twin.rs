//! Compares the receive buffer with a model, a `Vec<u8>`: for any order of calls, the same bytes; chunks stay
//! unchanged until they are dropped; and every buffer is returned when all is dropped.

#![cfg(not(loom))]

use coreloop_bufpool::{Chunk, Pool, PoolConfig, RecvBuf, capacity_for};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Get space, fill a part of it (in thousandths).
    Receive {
        bytes_min: usize,
        part: usize,
        strict: bool,
    },
    Consume {
        part: usize,
    },
    Cut {
        from: usize,
        to: usize,
    },
    /// Release one of the chunks, on this thread or through the pool.
    Release {
        which: usize,
        by_pool: bool,
    },
    Settle {
        bytes_expected: usize,
    },
    Collect,
    Clear,
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![0..40usize, 200..300usize, 3_000..5_000usize, 60_000..70_000usize, 1_000_000..1_100_000usize]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (bytes(), 0..=1_000usize, any::<bool>()).prop_map(|(bytes_min, part, strict)| Step::Receive { bytes_min, part, strict }),
        4 => prop_oneof![Just(1_000), 0..=1_000usize].prop_map(|part| Step::Consume { part }),
        3 => (0..=1_000usize, 0..=1_000usize).prop_map(|(a, b)| Step::Cut { from: a.min(b), to: a.max(b) }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, by_pool)| Step::Release { which, by_pool }),
        3 => prop_oneof![Just(0), bytes()].prop_map(|bytes_expected| Step::Settle { bytes_expected }),
        1 => Just(Step::Collect),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_vec(steps in prop::collection::vec(step(), 1..60), retained in prop_oneof![Just(0usize), Just(8 << 20)]) {
        let mut pool = Pool::new(PoolConfig { retained_bytes_max: retained, lane_len: 8, ..PoolConfig::default() });
        let mut received = RecvBuf::new();
        let mut twin: Vec<u8> = Vec::new();
        let mut chunks: Vec<(Chunk, Vec<u8>)> = Vec::new();
        // Each run of bytes differs from those before it.
        let mut salt = 0u8;
        for step in steps {
            match step {
                Step::Receive { bytes_min, part, strict } => {
                    let promised = bytes_min.max(1) - if strict { 0 } else { twin.len().min(bytes_min / 4) };
                    let space = if strict {
                        received.space(&mut pool, bytes_min)
                    } else {
                        received.read_space(&mut pool, bytes_min)
                    };
                    prop_assert!(space.len() >= promised);
                    let n = (promised * part / 1_000).min(space.len());
                    salt = salt.wrapping_add(29);
                    let fresh: Vec<u8> = (0..n).map(|i| (i as u8) ^ salt).collect();
                    space[..n].copy_from_slice(&fresh);
                    received.filled(n);
                    twin.extend(fresh);
                }
                Step::Consume { part } => {
                    let n = twin.len() * part / 1_000;
                    received.consume(n);
                    twin.drain(..n);
                }
                Step::Cut { from, to } => {
                    let range = twin.len() * from / 1_000..twin.len() * to / 1_000;
                    let chunk = received.cut(range.clone());
                    chunks.push((chunk, twin[range].to_vec()));
                }
                Step::Release { which, by_pool } => {
                    if !chunks.is_empty() {
                        let (chunk, bytes) = chunks.swap_remove(which % chunks.len());
                        prop_assert_eq!(&*chunk, &bytes[..]);
                        if by_pool { pool.give_back_chunk(chunk) } else { drop(chunk) }
                    }
                }
                Step::Settle { bytes_expected } => {
                    received.settle(&mut pool, bytes_expected);
                    if twin.is_empty() {
                        prop_assert_eq!(received.capacity(), 0);
                    } else {
                        // No held buffer is more than four times too large, up to the classes' own steps.
                        let fits = capacity_for(twin.len().max(bytes_expected));
                        prop_assert!(received.capacity() <= fits.max(4 * twin.len() + 3));
                    }
                }
                Step::Collect => pool.collect(),
                Step::Clear => {
                    received.clear(&mut pool);
                    twin.clear();
                    prop_assert_eq!(received.capacity(), 0);
                }
            }
            prop_assert_eq!(received.bytes(), &twin[..]);
            prop_assert_eq!((received.len(), received.is_empty()), (twin.len(), twin.is_empty()));
            prop_assert!(pool.stats().retained_bytes <= retained as u64);
        }
        for (chunk, bytes) in &chunks {
            prop_assert_eq!(&**chunk, &bytes[..]);
        }
        drop((received, chunks));
        pool.collect();
        let stats = pool.stats();
        prop_assert_eq!((stats.outstanding, stats.outstanding_bytes), (0, 0));
    }
}

#[test]
fn every_split_of_a_stream_decodes_to_the_same_frames() {
    // Frames of one length byte and a body; the decoder of the smallest possible protocol.
    let frames: Vec<Vec<u8>> = (0..60u8).map(|n| vec![n; usize::from(n)]).collect();
    let stream: Vec<u8> = frames.iter().flat_map(|body| [&[body.len() as u8], &body[..]].concat()).collect();
    let mut pool = Pool::new(PoolConfig::default());
    for step in 1..200 {
        let (mut received, mut seen) = (RecvBuf::new(), Vec::new());
        for piece in stream.chunks(step) {
            received.read_space(&mut pool, 64 << 10)[..piece.len()].copy_from_slice(piece);
            received.filled(piece.len());
            while let Some(&len) = received.bytes().first() {
                let end = 1 + usize::from(len);
                if received.len() < end {
                    break;
                }
                seen.push(received.cut(1..end));
                received.consume(end);
            }
            received.settle(&mut pool, 0);
        }
        assert_eq!(received.capacity(), 0);
        assert!(
            seen.iter().map(|chunk| &**chunk).eq(frames.iter().map(|body| &body[..])),
            "pieces of {step}"
        );
    }
    pool.collect();
    assert_eq!(pool.stats().outstanding, 0);
}
