//! Waiting for readiness: mio's poll with keys and the bell.
//!
//! Sources are registered once, edge-triggered: after an event, read (or write) until would-block, or remember that
//! the source may still be ready. The poller never reads a socket and keeps no list of sources. The wake-up protocol
//! is in `wake.rs`, the tests with real sockets in `tests/readiness.rs`.

use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::{fmt, io, time::Duration};

use mio::{Events, Poll, Token, Waker, event::Source};

use crate::{Doorbell, Key, Wake};

/// The kinds of readiness to report for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(mio::Interest);

impl Interest {
    /// The source has bytes, a connection to accept, or the end of the peer's stream.
    pub const READABLE: Interest = Interest(mio::Interest::READABLE);
    /// The source has room to write, or a connect has finished.
    pub const WRITABLE: Interest = Interest(mio::Interest::WRITABLE);
    /// Either: a connection registers this once, for its whole life.
    pub const BOTH: Interest = Interest(mio::Interest::READABLE.add(mio::Interest::WRITABLE));
}

/// The readiness of a source. A hint, as in mio: act, and be prepared for would-block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    const READABLE: u8 = 1;
    const WRITABLE: u8 = 2;
    const READ_CLOSED: u8 = 4;
    const WRITE_CLOSED: u8 = 8;
    const ERROR: u8 = 16;

    #[inline]
    fn of(event: &mio::event::Event) -> Ready {
        Ready(
            (event.is_readable() as u8 * Ready::READABLE)
                | (event.is_writable() as u8 * Ready::WRITABLE)
                | (event.is_read_closed() as u8 * Ready::READ_CLOSED)
                | (event.is_write_closed() as u8 * Ready::WRITE_CLOSED)
                | (event.is_error() as u8 * Ready::ERROR),
        )
    }

    /// The readiness of a source that the kernel does not know: a read would not wait.
    pub const READ: Ready = Ready(Ready::READABLE);
    /// The readiness of a source that the kernel does not know: a write would not wait.
    pub const WRITE: Ready = Ready(Ready::WRITABLE);
    /// The peer of a source that the kernel does not know has closed its sending half.
    pub const READ_END: Ready = Ready(Ready::READABLE | Ready::READ_CLOSED);
    /// The peer of a source that the kernel does not know is gone.
    pub const GONE: Ready =
        Ready(Ready::READABLE | Ready::WRITABLE | Ready::READ_CLOSED | Ready::WRITE_CLOSED);

    /// Returns whether a read would return bytes, the end, or an error.
    #[inline]
    pub fn is_readable(self) -> bool {
        self.0 & Ready::READABLE != 0
    }

    /// Returns whether a write would accept bytes, or fail.
    #[inline]
    pub fn is_writable(self) -> bool {
        self.0 & Ready::WRITABLE != 0
    }

    /// Returns whether the peer has closed its sending half (or both); bytes may still wait to be read.
    #[inline]
    pub fn is_read_closed(self) -> bool {
        self.0 & Ready::READ_CLOSED != 0
    }

    /// Returns whether nothing can be sent any more.
    #[inline]
    pub fn is_write_closed(self) -> bool {
        self.0 & Ready::WRITE_CLOSED != 0
    }

    /// Returns whether the socket has a pending error; the next operation on it returns the error.
    #[inline]
    pub fn is_error(self) -> bool {
        self.0 & Ready::ERROR != 0
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.is_readable(), "readable"),
            (self.is_writable(), "writable"),
            (self.is_read_closed(), "read closed"),
            (self.is_write_closed(), "write closed"),
            (self.is_error(), "error"),
        ];
        f.debug_set().entries(names.iter().filter(|(set, _)| *set).map(|(_, name)| name)).finish()
    }
}

/// A readiness poller for one thread: epoll on Linux, kqueue on macOS and the BSDs.
///
/// The events of a wait are kept until the next one and read by index, so that the caller can change its own state
/// while it iterates over them.
pub struct Poller {
    poll: Poll,
    events: Events,
    /// The events of the last wait without those of the bell. mio's own list cannot be indexed.
    ready: Vec<(Key, Ready)>,
    door: Arc<Doorbell<PollerWaker>>,
}

impl Poller {
    /// Maximum number of events per wait.
    const EVENTS_MAX: usize = 65_536;

    /// Creates a poller that fetches up to `events_max` events per wait (at least 1, at most 65 536; further events
    /// come with the next wait). About 512 are enough: more only delay the answer to the first one.
    ///
    /// # Errors
    ///
    /// Errors of the kernel if no descriptors are left: the poller needs two.
    pub fn new(events_max: usize) -> io::Result<Poller> {
        let events_max = events_max.clamp(1, Poller::EVENTS_MAX);
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), token(Key::BELL))?;
        Ok(Poller {
            poll,
            // One more for the bell.
            events: Events::with_capacity(events_max + 1),
            ready: Vec::with_capacity(events_max + 1),
            door: Arc::new(Doorbell::new(PollerWaker { waker, standby: OnceLock::new() })),
        })
    }

    /// Starts to report readiness of `source` under `key`, edge-triggered. Existing readiness is reported by the next
    /// wait.
    ///
    /// # Errors
    ///
    /// Errors of the kernel, among them `AlreadyExists`; `InvalidInput` for the bell's key (all bits set).
    pub fn register<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        self.poll.registry().register(source, source_token(key)?, interest.0)
    }

    /// Changes the key or interest of a registered source. If it is ready now, it is reported again.
    ///
    /// # Errors
    ///
    /// Errors of the kernel, among them `NotFound`; `InvalidInput` as for [`register`](Poller::register).
    pub fn reregister<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        self.poll.registry().reregister(source, source_token(key)?, interest.0)
    }

    /// Stops to report `source`. Closing a socket does the same; events of the last wait are kept, and are harmless
    /// if the key's generation is checked.
    ///
    /// # Errors
    ///
    /// Errors of the kernel, among them `NotFound`.
    pub fn deregister<S: Source + ?Sized>(&mut self, source: &mut S) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }

    /// Waits for readiness, for the bell, or for `timeout` (none: no limit; fractions of a millisecond may be rounded
    /// up). Returns the number of events, without those of the bell. A signal that interrupts the wait is not an
    /// error: the call returns what is ready, possibly 0 events.
    ///
    /// The poller marks itself asleep and then calls `has_mail` once more, so that no concurrent ring is lost; if it
    /// returns true, the wait only collects what is ready. With a timeout of zero, `has_mail` is not called and rings
    /// send no wake-up: check for messages afterwards.
    ///
    /// # Errors
    ///
    /// Errors of the kernel; none is known to occur with a valid descriptor.
    pub fn wait(&mut self, timeout: Option<Duration>, has_mail: impl Fn() -> bool) -> io::Result<usize> {
        self.ready.clear();
        let (poll, events) = (&mut self.poll, &mut self.events);
        let polled = if timeout == Some(Duration::ZERO) {
            poll.poll(events, timeout)
        } else {
            self.door.sleep(has_mail, |may_sleep| {
                poll.poll(events, if may_sleep { timeout } else { Some(Duration::ZERO) })
            })
        };
        match polled {
            Ok(()) => {}
            // A process that was stopped and continued is interrupted (signal(7)): collect what has become ready
            // meanwhile before the caller looks at the clock.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.poll_now()?,
            Err(error) => return Err(error),
        }
        for event in &self.events {
            let key = Key::from_bits(event.token().0 as u64);
            if key != Key::BELL {
                self.ready.push((key, Ready::of(event)));
            }
        }
        Ok(self.ready.len())
    }

    /// Collects what is ready, without a wait.
    #[cold]
    fn poll_now(&mut self) -> io::Result<()> {
        loop {
            match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => return polled,
            }
        }
    }

    /// Returns the number of events of the last wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Returns whether the last wait returned no event.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Returns event `i` of the last wait. One source can have several (kqueue reports reading and writing
    /// separately).
    ///
    /// # Panics
    ///
    /// Panics if `i` is not below [`len`](Poller::len).
    #[inline]
    pub fn event(&self, i: usize) -> (Key, Ready) {
        self.ready[i]
    }

    /// Returns a handle with which other threads wake this poller.
    pub fn bell(&self) -> Bell {
        Bell { door: self.door.clone() }
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("ready", &self.ready).finish_non_exhaustive()
    }
}

/// Wakes one [`Poller`], from any thread. Cheap to clone; may outlive the poller.
///
/// Ring it after pushing a message that the poller's `has_mail` checks for. While the poller is awake, a ring is a
/// fence and a load: no system call, no write to a shared cache line.
#[derive(Clone)]
pub struct Bell {
    door: Arc<Doorbell<PollerWaker>>,
}

impl Bell {
    /// Wakes the poller if it sleeps or is about to; many rings cause one wake-up. Returns whether a wake-up was
    /// sent, which is one system call.
    #[inline]
    pub fn ring(&self) -> bool {
        self.door.ring()
    }

    /// Sets the thread that a wake-up also unparks, for a poller that several threads use in turn: the thread that
    /// waits on it when no other does. The first call counts; returns whether this was it.
    pub fn set_standby(&self, thread: Thread) -> bool {
        self.door.waker().standby.set(thread).is_ok()
    }

    /// Marks the poller as one on which no thread waits: the next ring unparks the standby thread
    /// ([`Bell::set_standby`]). Check for messages afterwards: a ring before this call sent no wake-up.
    #[inline]
    pub fn mark_unattended(&self) {
        self.door.mark_asleep();
    }
}

/// Ends a wait on the poller, and unparks the thread that would wait on it next.
struct PollerWaker {
    waker: Waker,
    standby: OnceLock<Thread>,
}

impl Wake for PollerWaker {
    fn wake(&self) -> bool {
        // Which of the two sleeps is not known here: the poller may change hands at this moment.
        if let Some(thread) = self.standby.get() {
            thread.unpark();
        }
        Wake::wake(&self.waker)
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

#[inline]
fn token(key: Key) -> Token {
    Token(key.to_bits() as usize)
}

#[inline]
fn source_token(key: Key) -> io::Result<Token> {
    if key == Key::BELL {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this key is the bell's"));
    }
    Ok(token(key))
}
