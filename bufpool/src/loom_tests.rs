//! The way home, in every interleaving that loom finds: `RUSTFLAGS="--cfg loom" cargo test --lib --release`.
//! Each buffer must be returned or freed exactly once, and the counts must say which. Ownership rules out a second
//! time; what is checked here is that none is forgotten, in the lane or in the counts.

use loom::thread;

use crate::{Chunk, Pool, PoolConfig, RecvBuf};

/// As small as it can be: loom's work grows with every step.
fn pool(lane_len: usize) -> Pool {
    Pool::new(PoolConfig { retained_bytes_max: 512, shrink_after_ms: 0, lane_len })
}

fn chunks(pool: &mut Pool, count: usize) -> Vec<Chunk> {
    (0..count).map(|_| pool.lend(256).into_chunk(0..256)).collect()
}

#[test]
fn chunks_dropped_on_two_threads_come_home_while_the_pool_collects_and_shrinks() {
    loom::model(|| {
        // One place in the lane: the second to arrive may find it full.
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
fn two_halves_of_one_buffer_bring_it_home_once() {
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
fn chunks_dropped_while_the_pool_goes_are_freed_and_accounted_for() {
    loom::model(|| {
        let mut pool = pool(1);
        let home = pool.home();
        let mut threads = Vec::new();
        for chunk in chunks(&mut pool, 2) {
            threads.push(thread::spawn(move || drop(chunk)));
        }
        pool.collect();
        // Read before the losses it does not yet know of, so that those can only add to it.
        let lost_before = home.lost();
        let returned = pool.stats().returned_remotely;
        drop(pool);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(home.lost() >= lost_before);
        assert_eq!(returned + home.lost() + home.closed_with() as u64, 2);
        // loom reports it if a pointer to the home is leaked.
    });
}

#[test]
fn a_settling_receive_buffer_and_the_last_chunk_of_its_memory_agree_who_returns_it() {
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
