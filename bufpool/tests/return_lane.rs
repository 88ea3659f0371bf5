//! Buffers that leave the reactor's thread return to the pool wherever they are dropped. Real threads; the
//! interleavings are tested with loom.

#![cfg(not(loom))]

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coreloop_bufpool::{Chunk, Pool, PoolConfig, RecvBuf};

const WORKERS: usize = 4;

/// Spreads frames over workers, which keep some for a while and drop all of them.
fn run(lane_len: usize, turns: usize) -> Pool {
    let mut pool = Pool::new(PoolConfig { lane_len, shrink_after_ms: 0, ..PoolConfig::default() });
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (sender, receiver) = mpsc::sync_channel::<(Chunk, u8)>(64);
                scope.spawn(move || {
                    let mut late = Vec::new();
                    for (chunk, byte) in receiver {
                        assert!(chunk.iter().all(|&at| at == byte));
                        if byte % 3 == 0 {
                            late.push((chunk.slice(0..chunk.len() / 2), byte));
                        }
                        if late.len() > 32 {
                            late.drain(..16)
                                .for_each(|(chunk, byte)| assert!(chunk.iter().all(|&at| at == byte)));
                        }
                    }
                });
                sender
            })
            .collect();
        let mut received = RecvBuf::new();
        for turn in 0..turns {
            let byte = turn as u8;
            let len = 1 + turn % 1_000;
            received.space(&mut pool, 4 << 10)[..len].fill(byte);
            received.filled(len);
            for (worker, sender) in workers.iter().enumerate() {
                let part = len * worker / WORKERS..len * (worker + 1) / WORKERS;
                sender.send((received.cut(part), byte)).unwrap();
            }
            received.consume(len);
            received.settle(&mut pool, 0);
            pool.collect();
            if turn % 64 == 0 {
                pool.shrink(Instant::now());
            }
        }
    });
    // The lane may hold more than one collect takes while other threads drop; now no thread does.
    pool.collect();
    pool
}

#[test]
fn every_buffer_returns_from_other_threads() {
    let turns = 20_000;
    let stats = run(1_024, turns).stats();
    assert_eq!((stats.outstanding, stats.outstanding_bytes), (0, 0));
    assert_eq!(stats.hits + stats.misses, turns as u64);
    assert!(stats.returned_remotely > 0);
}

#[test]
fn a_full_lane_frees_memory_and_counts_it() {
    let stats = run(1, 20_000).stats();
    assert_eq!((stats.outstanding, stats.outstanding_bytes), (0, 0));
}

#[test]
fn chunks_may_outlive_the_pool_on_other_threads() {
    let mut pool = Pool::new(PoolConfig::default());
    let threads: Vec<_> = (0..WORKERS as u8)
        .map(|byte| {
            let mut buf = pool.lend(1_000);
            buf.as_mut_slice().fill(byte);
            let chunk = buf.into_chunk(0..1_000);
            thread::spawn(move || chunk.iter().all(|&at| at == byte))
        })
        .collect();
    drop(pool);
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn memory_of_a_burst_is_freed_after_it() {
    let mut pool = Pool::new(PoolConfig::default());
    let start = Instant::now();
    pool.shrink(start);
    let burst: Vec<_> = (0..200).map(|_| pool.lend(64 << 10)).collect();
    assert_eq!(pool.stats().outstanding_bytes, 200 * (64 << 10));
    burst.into_iter().for_each(|buf| pool.give_back(buf));
    // The cap applies at once, the rest is freed within two periods.
    assert_eq!(pool.stats().retained_bytes, 8 << 20);
    assert_eq!(pool.stats().discarded, 72);
    let freed: usize = (1..=2).map(|period| pool.shrink(start + Duration::from_secs(2 * period))).sum();
    assert_eq!(freed, 8 << 20);
    assert_eq!((pool.stats().retained_bytes, pool.stats().freed_bytes), (0, 200 * (64 << 10)));
}
