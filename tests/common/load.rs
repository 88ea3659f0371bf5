//! A load of native calls: 64 connections, each with 16 calls in flight, until the test ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use coreloop::reactor::Address;

use super::{Frame, Peer};

const THREADS: usize = 4;
const CONNECTIONS: usize = 64;
const DEPTH: u64 = 16;

/// A running load. A call that fails panics its thread, and with it [`Load::end`].
pub struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Calls a method that doubles a number.
    pub fn start(address: &Address, method: &'static str) -> Load {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..THREADS)
            .map(|_| {
                let peers: Vec<Peer> = (0..CONNECTIONS / THREADS).map(|_| Peer::connect(address)).collect();
                let (is_over, answered) = (is_over.clone(), answered.clone());
                std::thread::spawn(move || call_until(peers, method, &is_over, &answered))
            })
            .collect();
        Load { is_over, answered, threads }
    }

    /// Returns how many calls were answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it, and returns how many calls were made: all were answered.
    pub fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.answered.load(Ordering::Relaxed)
    }
}

fn call_until(mut peers: Vec<Peer>, method: &str, is_over: &AtomicBool, answered: &AtomicU64) {
    let frames: Vec<Frame> = (0..DEPTH).map(|id| Frame::call(id, method, id as i64)).collect();
    peers.iter_mut().for_each(|peer| peer.send_all(&frames));
    while !is_over.load(Ordering::Relaxed) {
        for peer in &mut peers {
            read(peer, answered);
            peer.send_all(&frames);
        }
    }
    peers.iter_mut().for_each(|peer| read(peer, answered));
}

fn read(peer: &mut Peer, answered: &AtomicU64) {
    for _ in 0..DEPTH {
        let answer = peer.answer();
        assert_eq!(answer.number(), 2 * answer.id as i64);
    }
    answered.fetch_add(DEPTH, Ordering::Relaxed);
}
