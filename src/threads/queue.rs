//! A bounded queue that a thread of its own empties: for what may wait, such as writing to a sink.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// The entries of a queue; `None` asks for the end.
pub(crate) type QueueEntries<T> = Receiver<Option<T>>;

/// The senders' end of the queue. It never waits, except for the end of the thread.
pub(crate) struct ThreadQueue<T> {
    entries: Sender<Option<T>>,
    /// Nothing is sent; disconnected when the thread has ended.
    ended: Receiver<Infallible>,
}

/// The thread's end of the queue, until the thread is started.
pub(crate) struct QueueThread<T> {
    entries: QueueEntries<T>,
    running: Sender<Infallible>,
}

impl<T: Send + 'static> ThreadQueue<T> {
    /// Creates a queue of at most this number of entries; at least one.
    pub(crate) fn new(entries_max: usize) -> (ThreadQueue<T>, QueueThread<T>) {
        let (sender, entries) = bounded(entries_max.max(1));
        let (running, ended) = bounded(0);
        (ThreadQueue { entries: sender, ended }, QueueThread { entries, running })
    }

    /// Adds an entry. Returns false if there is no room for it.
    pub(crate) fn try_send(&self, entry: T) -> bool {
        self.entries.try_send(Some(entry)).is_ok()
    }

    /// Adds an entry, and waits for room at most this long. Returns false if there was none.
    pub(crate) fn send_timeout(&self, entry: T, patience: Duration) -> bool {
        self.entries.send_timeout(Some(entry), patience).is_ok()
    }

    /// Ends the thread when it has handled the entries so far, and waits for that. It gives up after this time without
    /// room in the queue, and after the same time without the end.
    pub(crate) fn end(&self, patience: Duration) {
        if self.entries.send_timeout(None, patience).is_ok() {
            let _ = self.ended.recv_timeout(patience);
        }
    }
}

impl<T: Send + 'static> QueueThread<T> {
    /// Starts the thread. It runs until the function returns, which it does at the end of the entries.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub(crate) fn start(
        self,
        name: &str,
        run: impl FnOnce(&QueueEntries<T>) + Send + 'static,
    ) -> io::Result<()> {
        super::detached(name, move || {
            let QueueThread { entries, running } = self;
            run(&entries);
            drop(running);
        })
    }
}
