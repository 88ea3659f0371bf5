//! Waiting for readiness: mio's poll behind keys, with the bell folded in.
//!
//! Registered once, edge-triggered: after an event, read (or write) until would-block, or remember that you did
//! not. It never reads a socket and keeps no list of sources. The wake-up protocol is in `wake.rs`, the tests
//! with real sockets in `tests/readiness.rs`.

use std::{fmt, io, os::fd::AsRawFd, sync::Arc, time::Duration};

use mio::{Events, Poll, Token, Waker, event::Source};

use crate::{Bell, Doorbell, Key};

/// What to hear of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(mio::Interest);

impl Interest {
    /// There are bytes, or a connection to accept, or the peer's end of sending.
    pub const READABLE: Interest = Interest(mio::Interest::READABLE);
    /// There is room to write, or a connect has ended.
    pub const WRITABLE: Interest = Interest(mio::Interest::WRITABLE);
    /// Either: what a connection registers, once, for its whole life.
    pub const BOTH: Interest = Interest(mio::Interest::READABLE.add(mio::Interest::WRITABLE));
}

/// What a source is ready for. A hint, as in mio: act, and be prepared for would-block.
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

    /// A read would give bytes, the end, or an error.
    #[inline]
    pub fn is_readable(self) -> bool {
        self.0 & Ready::READABLE != 0
    }

    /// A write would take bytes, or fail.
    #[inline]
    pub fn is_writable(self) -> bool {
        self.0 & Ready::WRITABLE != 0
    }

    /// The peer has closed its sending half (or all); bytes may still wait to be read.
    #[inline]
    pub fn is_read_closed(self) -> bool {
        self.0 & Ready::READ_CLOSED != 0
    }

    /// Nothing can be sent any more.
    #[inline]
    pub fn is_write_closed(self) -> bool {
        self.0 & Ready::WRITE_CLOSED != 0
    }

    /// The socket has a pending error; the next operation on it says which.
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

/// One thread's window to the kernel: epoll on Linux, kqueue on macOS and the BSDs.
///
/// The events of a wait are kept until the next one and read by index, so that a caller can walk them while it
/// changes everything else it owns.
pub struct Poller {
    poll: Poll,
    events: Events,
    /// The last wait's events without the bell's. mio's own list can only be iterated.
    ready: Vec<(Key, Ready)>,
    door: Arc<Doorbell<Waker>>,
}

impl Poller {
    /// Most events that one wait can be asked to fetch.
    const EVENTS_MAX: usize = 65_536;

    /// A poller that fetches up to `events_max` events per wait (at least 1, at most 65 536; what does not fit
    /// comes with the next wait). Some 512 are plenty: more only delay the first one's answer.
    ///
    /// # Errors
    ///
    /// Those of the kernel when it has no descriptors left: the poller needs two.
    pub fn new(events_max: usize) -> io::Result<Poller> {
        let events_max = events_max.clamp(1, Poller::EVENTS_MAX);
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), token(Key::BELL))?;
        Ok(Poller {
            poll,
            // One more for the bell.
            events: Events::with_capacity(events_max + 1),
            ready: Vec::with_capacity(events_max + 1),
            door: Arc::new(Doorbell::new(waker)),
        })
    }

    /// Starts to report readiness of `source` under `key`, edge-triggered. What is already ready is reported
    /// too, by the next wait.
    ///
    /// # Errors
    ///
    /// The kernel's, among them `AlreadyExists`; `InvalidInput` for the one key (all bits set) that is the
    /// bell's.
    pub fn register<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        self.poll.registry().register(source, tenant_token(key)?, interest.0)
    }

    /// Changes key or interest of a registered source. If it is ready now, it is reported again.
    ///
    /// # Errors
    ///
    /// The kernel's, among them `NotFound`; `InvalidInput` as for [`register`](Poller::register).
    pub fn reregister<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        self.poll.registry().reregister(source, tenant_token(key)?, interest.0)
    }

    /// Stops to report `source`. Closing a socket does the same; events of the last wait stay as they are, and
    /// are harmless where the key's generation is checked.
    ///
    /// # Errors
    ///
    /// The kernel's, among them `NotFound`.
    pub fn deregister<S: Source + ?Sized>(&mut self, source: &mut S) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }

    /// Waits for readiness, for the bell, or for `timeout` to pass (none: for ever; fractions of a millisecond
    /// may be rounded up). Returns the number of events, the bell not among them. A signal that interrupts the
    /// wait is no error: it ends with 0 events.
    ///
    /// `has_mail` is asked once more after the poller has said that it is asleep, so that nothing rung in
    /// between is lost; if there is mail, the wait only collects what is ready. With a timeout of zero the
    /// question isn't asked, and bells keep quiet: look at the mail afterwards.
    ///
    /// # Errors
    ///
    /// The kernel's; none is known to occur with a healthy descriptor.
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
            // A process that was stopped and continues is interrupted (signal(7)): what has become ready meanwhile
            // must be known before its caller looks at the clock.
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

    /// Starts to report under `key`, edge-triggered, that another poller has something to report: it may then be
    /// waited on with a timeout of zero by the thread that waits on this one. Both epoll and kqueue descriptors
    /// can be watched like any other (epoll(7), kqueue(2)).
    ///
    /// # Errors
    ///
    /// As [`register`](Poller::register).
    pub fn watch(&mut self, other: &Poller, key: Key) -> io::Result<()> {
        let fd = other.poll.as_raw_fd();
        self.poll.registry().register(&mut mio::unix::SourceFd(&fd), tenant_token(key)?, Interest::READABLE.0)
    }

    /// Stops to report what [`watch`](Poller::watch) began to. Closing the other poller does the same.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn unwatch(&mut self, other: &Poller) -> io::Result<()> {
        let fd = other.poll.as_raw_fd();
        self.poll.registry().deregister(&mut mio::unix::SourceFd(&fd))
    }

    /// For a poller that another one watches, when its events and its mail have been seen to: bells ring from here
    /// on, as for a sleeper. False if there is mail after all; then nothing has changed.
    #[inline]
    pub fn doze(&self, has_mail: impl Fn() -> bool) -> bool {
        self.door.doze(has_mail)
    }

    /// The end of a [`doze`](Poller::doze): bells keep quiet again.
    #[inline]
    pub fn rouse(&self) {
        self.door.rouse();
    }

    /// How many events the last wait brought.
    #[inline]
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether the last wait brought no event.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Event `i` of the last wait. One source can have several (kqueue tells reading and writing apart).
    ///
    /// # Panics
    ///
    /// If `i` is not below [`len`](Poller::len).
    #[inline]
    pub fn event(&self, i: usize) -> (Key, Ready) {
        self.ready[i]
    }

    /// A handle with which other threads wake this poller.
    pub fn bell(&self) -> Bell {
        Bell::new(self.door.clone())
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("ready", &self.ready).finish_non_exhaustive()
    }
}

#[inline]
fn token(key: Key) -> Token {
    Token(key.to_bits() as usize)
}

#[inline]
fn tenant_token(key: Key) -> io::Result<Token> {
    if key == Key::BELL {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this key is the bell's"));
    }
    Ok(token(key))
}
