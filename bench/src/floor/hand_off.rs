//! The floor with hand-off: one worker thread, fed one batch per turn over a bounded channel.
//!
//! ```text
//! loop   ── batch: frames, (token, end) … ──▶ worker      answers into the batch's second buffer
//! loop   ◀── the same batch, with replies ── worker      rings the bell only if the loop is asleep
//! ```
//!
//! A batch goes round for ever, so nothing is allocated once its buffers have grown.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::connections::{Connection, Connections, Left};
use super::{BELL, LISTENER, answer};
use crate::epoll::{Bell, Epoll};

/// Batches on the way to the worker. A turn that finds no room adds its frames to the next turn's batch.
const BATCHES_MAX: usize = 16;

#[derive(Default)]
struct Batch {
    input: Vec<u8>,
    replies: Vec<u8>,
    spans: Vec<Span>,
}

/// The frames of one read, and later their replies: each span begins where the one before it ends.
struct Span {
    token: u64,
    input_end: usize,
    replies_end: usize,
}

struct Wake {
    bell: Bell,
    /// Set before the loop looks at the mail for the last time, so that a sender who misses it is seen.
    asleep: AtomicBool,
}

pub fn serve(mut epoll: Epoll, mut connections: Connections) -> io::Result<()> {
    let (to_worker, work) = bounded::<Batch>(BATCHES_MAX);
    // One more than can be under way at once: the worker never waits here.
    let (to_loop, mail) = bounded::<Batch>(BATCHES_MAX + 2);
    let wake = Arc::new(Wake { bell: Bell::new()?, asleep: AtomicBool::new(false) });
    epoll.add(wake.bell.as_raw_fd(), BELL)?;
    let worker_wake = Arc::clone(&wake);
    thread::Builder::new().name("worker".into()).spawn(move || work_off(&work, &to_loop, &worker_wake))?;

    let mut batch = Batch::default();
    let mut idle: Vec<Batch> = Vec::new();
    loop {
        let count = wait(&mut epoll, &wake.asleep, &mail)?;
        for at in 0..count {
            let event = epoll.event(at);
            match event.token {
                LISTENER => connections.accept(&epoll)?,
                BELL => {}
                token => {
                    let Some(connection) = connections.find(token) else { continue };
                    let mut read_once = |connection: &mut Connection| batch.take_from(connection, token);
                    if connection.on_event(event, &mut read_once).is_err() {
                        connections.close(token);
                    }
                }
            }
        }
        if !batch.spans.is_empty() {
            batch = match to_worker.try_send(batch) {
                Ok(()) => idle.pop().unwrap_or_default(),
                // Each batch that comes back ends a wait, so this one is tried again in time.
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
    // Pairs with the fence in `work_off`: of flag and mail at least one is seen by the other side.
    fence(Ordering::SeqCst);
    let timeout_ms = if mail.is_empty() { -1 } else { 0 };
    let count = epoll.wait(timeout_ms);
    asleep.store(false, Ordering::Relaxed);
    count
}

fn work_off(work: &Receiver<Batch>, to_loop: &Sender<Batch>, wake: &Wake) {
    while let Ok(mut batch) = work.recv() {
        let mut start = 0;
        for span in &mut batch.spans {
            answer(&batch.input[start..span.input_end], &mut batch.replies);
            span.replies_end = batch.replies.len();
            start = span.input_end;
        }
        if to_loop.send(batch).is_err() {
            return;
        }
        fence(Ordering::SeqCst);
        if wake.asleep.load(Ordering::Relaxed) && wake.asleep.swap(false, Ordering::Relaxed) {
            wake.bell.ring();
        }
    }
}

impl Batch {
    /// Reads once; what is complete becomes a span.
    #[inline]
    fn take_from(&mut self, connection: &mut Connection, token: u64) -> io::Result<Left> {
        let start = self.spans.last().map_or(0, |span| span.input_end);
        let read = connection.read(&mut self.input, start)?;
        if read.complete > start {
            self.spans.push(Span { token, input_end: read.complete, replies_end: 0 });
        }
        Ok(read.left)
    }

    /// Writes each span's replies to its connection, and empties the batch for its next round.
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
