//! The return path in every interleaving that loom finds: `RUSTFLAGS="--cfg loom" cargo test --lib --release`. Each
//! buffer must be returned or freed exactly once, and the counters must record which. Ownership excludes a second
//! time; these tests check that no buffer is forgotten, in the lane or in the counters.

use loom::thread;

use crate::{Chunk, Pool, PoolConfig, RecvBuf};

/// As small as possible: loom's work grows with every step.
fn pool(lane_len: usize) -> Pool {
    Pool::new(PoolConfig { retained_bytes_max: 512, shrink_after_ms: 0, lane_len })
}

fn chunks(pool: &mut Pool, count: usize) -> Vec<Chunk> {
    (0..count).map(|_| pool.lend(256).into_chunk(0..256)).collect()
}

#[test]
fn chunks_dropped_on_two_threads_return_during_collect_and_shrink() {
    loom::model(|| {
        // Capacity 1: the second buffer may find the lane full.
        let mut pool = pool(1);
        let mut threads = Vec::new();
        for chunk in chunks(&mut pool, 2) {
            threads.push(thread::spawn(move || drop(chunk)));
        }
        let now = std::time::Instant::now();
        pool.collect();
        pool.shrink(now);
        pool.shrink(now);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        pool.collect();
        let stats = pool.stats();
        assert_eq!((stats.outstanding, stats.outstanding_bytes), (0, 0));
        assert_eq!(stats.returned_remotely + stats.discarded, 2);
        assert_eq!(stats.retained_bytes + stats.freed_bytes, 2 * 256);
    });
}

#[test]
fn two_chunks_of_a_buffer_return_it_once() {
    loom::model(|| {
        let mut pool = pool(2);
        let whole = pool.lend(256).into_chunk(0..256);
        let halves = [whole.slice(0..128), whole.slice(128..256)];
        drop(whole);
        let threads = halves.map(|half| thread::spawn(move || drop(half)));
        pool.collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        pool.collect();
        let stats = pool.stats();
        assert_eq!((stats.outstanding, stats.returned_remotely, stats.discarded), (0, 1, 0));
    });
}

#[test]
fn chunks_dropped_during_pool_drop_are_counted() {
    loom::model(|| {
        let mut pool = pool(1);
        let return_lane = pool.return_lane();
        let mut threads = Vec::new();
        for chunk in chunks(&mut pool, 2) {
            threads.push(thread::spawn(move || drop(chunk)));
        }
        pool.collect();
        // Read before the losses that it does not include yet, so that those can only add to it.
        let lost_before = return_lane.lost();
        let returned = pool.stats().returned_remotely;
        drop(pool);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(return_lane.lost() >= lost_before);
        assert_eq!(returned + return_lane.lost() + return_lane.closed_with() as u64, 2);
        // loom reports a leaked pointer to `Home`.
    });
}

#[test]
fn settle_and_last_chunk_return_the_memory_once() {
    loom::model(|| {
        let mut pool = pool(1);
        let mut received = RecvBuf::new();
        received.space(&mut pool, 256);
        received.filled(8);
        let chunk = received.cut(0..4);
        let thread = thread::spawn(move || assert_eq!(chunk.len(), 4));
        received.consume(4);
        received.settle(&mut pool, 0);
        assert_eq!(received.len(), 4);
        received.consume(4);
        received.settle(&mut pool, 0);
        thread.join().unwrap();
        pool.collect();
        assert_eq!((received.capacity(), pool.stats().outstanding, pool.stats().discarded), (0, 0, 0));
    });
}
