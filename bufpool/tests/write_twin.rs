//! Compares the write queue with a model, a `VecDeque<u8>`: all bytes put or linked leave in order, through writes
//! that stop anywhere; and every buffer is returned at the end.

#![cfg(not(loom))]

use std::collections::VecDeque;
use std::io::IoSlice;

use coreloop_bufpool::{Chunk, LINK_BYTES_MIN, Pool, PoolConfig, WriteQueue};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    PutPair(usize, usize),
    /// A lent chunk, or one over memory of the caller's; kept by the caller for a while, or not.
    Link {
        bytes: usize,
        lent: bool,
        kept: bool,
    },
    /// A write that takes this part (in thousandths) of the bytes offered in this number of slices.
    Write {
        slices: usize,
        part: usize,
    },
    Clear,
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..64usize, 2 => 200..1_100usize, 2 => 3_900..4_300usize, 1 => 60_000..140_000usize]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => bytes().prop_map(Step::Put),
        5 => (bytes(), bytes()).prop_map(|(head, body)| Step::PutPair(head, body)),
        4 => (bytes(), any::<bool>(), any::<bool>()).prop_map(|(bytes, lent, kept)| Step::Link { bytes, lent, kept }),
        4 => (0..70usize, prop_oneof![Just(1_000usize), 0..=1_000usize]).prop_map(|(slices, part)| Step::Write { slices, part }),
        1 => Just(Step::Clear),
    ]
}

/// Bytes that differ from those made before.
fn fresh(salt: &mut u8, n: usize) -> Vec<u8> {
    *salt = salt.wrapping_add(31);
    (0..n).map(|i| (i as u8).wrapping_mul(7) ^ *salt).collect()
}

/// The bytes that a vectored write is given.
fn shown(queue: &WriteQueue, slices_max: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); slices_max];
    let count = queue.slices(&mut slices);
    assert_eq!(count, slices_max.min(queue.segments()));
    assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
    assert_eq!(slices[..count].first().map(|slice| &**slice), queue.first().filter(|_| slices_max > 0));
    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_deque(steps in prop::collection::vec(step(), 1..60)) {
        let mut pool = Pool::new(PoolConfig::default());
        let mut queue = WriteQueue::new();
        let mut twin: VecDeque<u8> = VecDeque::new();
        let mut kept_chunks: Vec<(Chunk, Vec<u8>)> = Vec::new();
        let mut salt = 0;
        for step in steps {
            match step {
                Step::Put(n) => {
                    let bytes = fresh(&mut salt, n);
                    queue.put(&mut pool, &bytes);
                    twin.extend(bytes);
                }
                Step::PutPair(head, body) => {
                    let (head, body) = (fresh(&mut salt, head), fresh(&mut salt, body));
                    queue.put_pair(&mut pool, &head, &body);
                    twin.extend(head);
                    twin.extend(body);
                }
                Step::Link { bytes: n, lent, kept } => {
                    let bytes = fresh(&mut salt, n);
                    let chunk = if lent {
                        let mut buf = pool.lend(n);
                        buf.as_mut_slice()[..n].copy_from_slice(&bytes);
                        buf.into_chunk(0..n)
                    } else {
                        Chunk::from(bytes.clone())
                    };
                    if kept {
                        kept_chunks.push((chunk.clone(), bytes.clone()));
                    }
                    queue.link(&mut pool, chunk);
                    twin.extend(bytes);
                }
                Step::Write { slices, part } => {
                    let shown = shown(&queue, slices);
                    let n = shown.len() * part / 1_000;
                    let sent: Vec<u8> = twin.drain(..n).collect();
                    prop_assert_eq!(&shown[..n], &sent[..]);
                    queue.written(&mut pool, n);
                }
                Step::Clear => {
                    queue.clear(&mut pool);
                    twin.clear();
                }
            }
            prop_assert_eq!((queue.len(), queue.is_empty()), (twin.len(), twin.is_empty()));
            prop_assert_eq!(queue.segments() == 0, twin.is_empty());
        }
        prop_assert_eq!(shown(&queue, queue.segments()), Vec::from(twin.clone()));
        queue.written(&mut pool, twin.len());
        prop_assert!(queue.is_empty());
        for (chunk, bytes) in kept_chunks {
            prop_assert_eq!(&*chunk, &bytes[..]);
            pool.give_back_chunk(chunk);
        }
        // All of it on the owner's thread, so no buffer used the return lane.
        let stats = pool.stats();
        prop_assert_eq!((stats.outstanding, stats.outstanding_bytes, stats.returned_remotely), (0, 0, 0));
    }

    #[test]
    fn joined_bytes_waste_little_memory(sizes in prop::collection::vec(bytes(), 1..200)) {
        let mut pool = Pool::new(PoolConfig::default());
        let mut queue = WriteQueue::new();
        for n in sizes {
            queue.put(&mut pool, &vec![0; n]);
        }
        prop_assert!(pool.stats().outstanding_bytes <= queue.len() as u64 + (64 << 10));
        // A dropped queue returns its memory, too.
        drop(queue);
        pool.collect();
        prop_assert_eq!(pool.stats().outstanding, 0);
    }
}

#[test]
fn a_write_may_stop_at_every_byte() {
    let mut pool = Pool::new(PoolConfig::default());
    let mut salt = 0;
    let (head, body, tail) = (fresh(&mut salt, 40), fresh(&mut salt, LINK_BYTES_MIN), fresh(&mut salt, 50));
    let all = [&head[..], &body, &tail].concat();
    for stop in 0..=all.len() {
        let mut queue = WriteQueue::new();
        queue.put(&mut pool, &head);
        queue.link(&mut pool, Chunk::from(body.clone()));
        queue.put(&mut pool, &tail);
        queue.written(&mut pool, stop);
        assert_eq!(shown(&queue, 64), &all[stop..]);
        queue.written(&mut pool, all.len() - stop);
        assert!(queue.is_empty());
        assert_eq!(pool.stats().outstanding, 0);
    }
}
