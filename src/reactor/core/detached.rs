//! One connection without a socket: bytes in, bytes out, on the same path as a read. For micro-benchmarks only; and a
//! reactor that runs turn by turn, at a time that the caller gives, for simulation and fuzzing.
//!
//! It does what [`Core::read`](super::Core::read) does with a connection, without the system calls and the flags of
//! the turn. It can also run whole turns with a real socket. Behind the feature `bench-internals`; not part of the
//! public interface.

use std::io;
use std::time::{Duration, Instant};

use coreloop_poller::Key;

use super::{App, ConnCx, Transport, take_message};
use crate::conn::Conn;
use crate::context::Peer;
use crate::reactor::app_role::AppRole;
use crate::reactor::{Reactor, Remote};
use crate::threads::{self, ThreadRole};

/// A reactor that does not run by itself, with one connection of its app that has no socket.
pub struct DetachedConn<A: App> {
    reactor: Reactor<A>,
    conn: Conn<A::Protocol>,
    session: A::Session,
}

impl<A: App> DetachedConn<A> {
    /// A key that no connection of the reactor has: its connections never reach such a generation.
    const KEY: Key = Key::new(0, u32::MAX - 2);

    /// Creates the connection as if the first listener had accepted it.
    pub fn new(mut reactor: Reactor<A>) -> DetachedConn<A> {
        reactor.main.app.begin_thread();
        let (protocol, session) = reactor.main.app.open(DetachedConn::<A>::KEY, Peer::Unix, 0);
        let conn = Conn::new(protocol, Instant::now());
        DetachedConn { reactor, conn, session }
    }

    /// Does the work of one read that received these bytes: every whole message is answered or handed over. The bytes
    /// must fit the space of one read.
    #[inline(never)]
    pub fn feed(&mut self, bytes: &[u8]) {
        let DetachedConn { reactor, conn, session } = self;
        let AppRole { app, core, .. } = &mut reactor.main;
        core.now = Instant::now();
        conn.space(&mut core.pool)[..bytes.len()].copy_from_slice(bytes);
        conn.on_bytes(bytes.len(), core.now);
        let (pool, limits, now) = (&mut core.pool, &core.limits, core.now);
        let mut cx =
            ConnCx { key: DetachedConn::<A>::KEY, peer: Peer::Unix, conn, session, pool, limits, now };
        loop {
            if let Some((message, consumed)) = cx.conn.try_fast_receive() {
                app.on_message(&mut cx, message);
                cx.conn.consume(consumed);
            } else if !take_message(app, &mut cx) {
                break;
            }
        }
        app.on_read_end();
        conn.settle(&mut core.pool, now);
        reactor.main.schedule(&mut reactor.poller);
    }

    /// Does the work of one write: passes the queued bytes to `take`, in slices, and removes them.
    #[inline(never)]
    pub fn write(&mut self, mut take: impl FnMut(&[u8])) {
        let core = &mut self.reactor.main.core;
        while let Some(bytes) = self.conn.to_write().first() {
            let written = bytes.len();
            take(bytes);
            self.conn.on_written(written, &mut core.pool, core.now, &core.limits);
        }
    }

    /// Returns the app.
    pub fn app_mut(&mut self) -> &mut A {
        &mut self.reactor.main.app
    }

    /// Adds a connected socket, which is served in whole turns ([`DetachedConn::turn`]).
    ///
    /// # Errors
    ///
    /// The reactor's wait fails.
    pub fn adopt(&mut self, stream: Transport) -> io::Result<()> {
        self.reactor.remote().adopt(stream, Peer::Unix, 0);
        self.turn()
    }

    /// Runs one whole turn at this time, whatever the clock shows, without a wait; listeners are left out. From then on
    /// the thread counts as a reactor's.
    ///
    /// # Errors
    ///
    /// The poller fails.
    pub fn turn_at(&mut self, now: Instant) -> io::Result<()> {
        threads::set_role(ThreadRole::Reactor);
        let reactor = &mut self.reactor;
        reactor.poller.wait(Some(Duration::ZERO), || false)?;
        reactor.main.core.now = now;
        reactor.note_events();
        reactor.after_wait();
        Ok(())
    }

    /// Returns a handle on the reactor.
    pub fn remote(&self) -> Remote<A::Mail> {
        self.reactor.remote()
    }

    /// Calls the function with the session of each connection that was adopted.
    pub fn for_each_session(&mut self, mut check: impl FnMut(&A::Session)) {
        let core = &mut self.reactor.main.core;
        let mut keys = Vec::new();
        core.slots.keys_into(&mut keys);
        for key in keys {
            if let Some((cx, _)) = core.conn_cx(key) {
                check(cx.session);
            }
        }
    }

    /// Returns the buffers that connections hold.
    pub fn buffers(&mut self) -> u64 {
        let pool = &mut self.reactor.main.core.pool;
        pool.collect();
        pool.stats().outstanding
    }

    /// Runs one whole turn. Blocks until there is something to do.
    ///
    /// # Errors
    ///
    /// The reactor's wait fails.
    pub fn turn(&mut self) -> io::Result<()> {
        self.reactor.turn()
    }
}
