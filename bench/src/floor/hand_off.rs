//! The floor with hand-off: one worker thread receives one batch per turn over a bounded channel.
//!
//! ```text
//! loop   ── batch: frames, (token, end) … ──▶ worker      answers into the batch's second buffer
//! loop   ◀── the same batch, with replies ── worker      rings the bell only if the loop is asleep
//! ```
//!
//! Batches are reused, so nothing is allocated once their buffers have grown. By default the worker waits as the
//! channel does, which yields the core a few times before it sleeps; with `parks` it sleeps at once.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::connections::{Connection, Connections, Left};
use super::{BELL, answer};
use crate::epoll::{Bell, Epoll};

/// Maximum batches on the way to the worker. A turn that finds the channel full adds its frames to the next turn's
/// batch.
const BATCHES_MAX: usize = 16;

#[derive(Default)]
struct Batch {
    input: Vec<u8>,
    replies: Vec<u8>,
    spans: Vec<Span>,
}

/// The frames of one read, and later their replies: each span begins where the previous one ends.
struct Span {
    token: u64,
    input_end: usize,
    replies_end: usize,
}

/// The sleep flags of loop and worker. Each flag is set before its owner checks its queue for the last time, so that
/// either the owner sees what was sent or the sender sees the flag.
struct Wake {
    bell: Bell,
    loop_asleep: AtomicBool,
    worker_asleep: AtomicBool,
}

/// Serves until the process ends; `parks` selects how the worker waits.
pub fn serve(mut epoll: Epoll, mut connections: Connections, parks: bool) -> io::Result<()> {
    let (to_worker, work) = bounded::<Batch>(BATCHES_MAX);
    // One more than the batches that can be in flight: the worker never blocks here.
    let (to_loop, mail) = bounded::<Batch>(BATCHES_MAX + 2);
    let wake = Arc::new(Wake {
        bell: Bell::new()?,
        loop_asleep: AtomicBool::new(false),
        worker_asleep: AtomicBool::new(false),
    });
    epoll.add(wake.bell.as_raw_fd(), BELL)?;
    let worker_wake = Arc::clone(&wake);
    let worker = thread::Builder::new().name("worker".into());
    let worker = worker.spawn(move || work_off(&work, &to_loop, &worker_wake, parks))?;

    let mut batch = Batch::default();
    let mut idle: Vec<Batch> = Vec::new();
    loop {
        let count = if connections.wants_turn() {
            epoll.wait(0)
        } else {
            wait(&mut epoll, &wake.loop_asleep, &mail)
        }?;
        connections.on_turn(&epoll, count, |token, connection| batch.take_from(connection, token))?;
        if !batch.spans.is_empty() {
            batch = match to_worker.try_send(batch) {
                Ok(()) => {
                    if parks && was_asleep(&wake.worker_asleep) {
                        worker.thread().unpark();
                    }
                    idle.pop().unwrap_or_default()
                }
                // Each returned batch ends a wait, so this batch is retried soon.
                Err(TrySendError::Full(batch)) => batch,
                Err(TrySendError::Disconnected(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            };
        }
        while let Ok(mut done) = mail.try_recv() {
            done.deliver(&mut connections);
            idle.push(done);
        }
    }
}

fn wait(epoll: &mut Epoll, asleep: &AtomicBool, mail: &Receiver<Batch>) -> io::Result<usize> {
    asleep.store(true, Ordering::Relaxed);
    // Pairs with the fence in `was_asleep`: at least one side sees the other's store, the flag or the message.
    fence(Ordering::SeqCst);
    let timeout_ms = if mail.is_empty() { -1 } else { 0 };
    let count = epoll.wait(timeout_ms);
    asleep.store(false, Ordering::Relaxed);
    count
}

/// Returns, after a send, whether the sender must wake the receiver.
fn was_asleep(asleep: &AtomicBool) -> bool {
    fence(Ordering::SeqCst);
    asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::Relaxed)
}

fn next_work(work: &Receiver<Batch>, wake: &Wake, parks: bool) -> Option<Batch> {
    if !parks {
        return work.recv().ok();
    }
    loop {
        match work.try_recv() {
            Ok(batch) => return Some(batch),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        wake.worker_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if work.is_empty() {
            thread::park();
        }
        wake.worker_asleep.store(false, Ordering::Relaxed);
    }
}

fn work_off(work: &Receiver<Batch>, to_loop: &Sender<Batch>, wake: &Wake, parks: bool) {
    while let Some(mut batch) = next_work(work, wake, parks) {
        let mut start = 0;
        for span in &mut batch.spans {
            answer(&batch.input[start..span.input_end], &mut batch.replies);
            span.replies_end = batch.replies.len();
            start = span.input_end;
        }
        if to_loop.send(batch).is_err() {
            return;
        }
        if was_asleep(&wake.loop_asleep) {
            wake.bell.ring();
        }
    }
}

impl Batch {
    /// Reads once; the complete frames become a span.
    #[inline]
    fn take_from(&mut self, connection: &mut Connection, token: u64) -> io::Result<Left> {
        let start = self.spans.last().map_or(0, |span| span.input_end);
        let read = connection.read(&mut self.input, start)?;
        if read.complete > start {
            self.spans.push(Span { token, input_end: read.complete, replies_end: 0 });
        }
        Ok(read.left)
    }

    /// Writes each span's replies to its connection, and empties the batch for reuse.
    fn deliver(&mut self, connections: &mut Connections) {
        let mut start = 0;
        for span in self.spans.drain(..) {
            if let Some(connection) = connections.find(span.token)
                && connection.write(&self.replies[start..span.replies_end]).is_err()
            {
                connections.close(span.token);
            }
            start = span.replies_end;
        }
        self.replies.clear();
    }
}
