//! In-memory connections: a bounded pipe for each direction between two threads, and listeners found by name.
//!
//! Each end is driven by a reactor, to which readiness is sent as a message ([`ReadinessSender`]), or by a thread that
//! waits. A pipe reports a change once, as an edge-triggered poller does: the first bytes in an empty pipe, room in a
//! pipe whose writer found it full, and an end. It holds at most 64 KiB, so a writer without a reader stops there, as
//! with a socket; the memory is allocated as it is needed and kept until the connection ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use coreloop_poller::{Key, Ready};

use super::readiness::{ReadinessSender, ReadinessTarget};

/// The most bytes in one direction that are written and not read.
const PIPE_BYTES_MAX: usize = 64 * 1024;
/// A writer that found the pipe full is resumed when it holds at most this many bytes: fewer, larger writes.
const RESUME_BYTES: usize = PIPE_BYTES_MAX / 2;

/// One end of an in-memory connection. Dropping it closes the connection: the peer reads what was written before, and
/// then the end, or a reset if this end had not read everything.
pub struct MemoryStream {
    input: Arc<Pipe>,
    output: Arc<Pipe>,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
}

#[derive(Default)]
struct PipeState {
    bytes: VecDeque<u8>,
    writer: WriterState,
    /// The reading end was dropped.
    is_abandoned: bool,
    /// The writer found the pipe full, and has not been resumed since.
    writer_waits: bool,
    /// The reactor of the reading end.
    reader_target: Option<ReadinessTarget>,
    /// The reactor of the writing end.
    writer_target: Option<ReadinessTarget>,
    /// The number of threads that wait for a change.
    threads_waiting: usize,
}

/// The writing end of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WriterState {
    #[default]
    Open,
    /// It writes no more.
    Ended,
    /// It was dropped before it had read everything.
    Reset,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a change: releases the lock, and reports the change to waiting threads and to `target`.
    fn report(&self, state: MutexGuard<'_, PipeState>, target: Option<ReadinessTarget>, ready: Ready) {
        let wakes = state.threads_waiting > 0;
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        if let Some(target) = target {
            target.send(ready);
        }
    }

    /// Waits until the pipe is ready, or until then.
    fn wait(&self, until: Option<Instant>, is_ready: impl Fn(&PipeState) -> bool) {
        let mut state = self.lock();
        while !is_ready(&state) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            state.threads_waiting += 1;
            state = match left {
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.threads_waiting -= 1;
        }
    }
}

impl PipeState {
    /// Moves bytes out: as many as there are or fit. `WouldBlock` if there are none and more may follow.
    fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && !into.is_empty() {
            return match self.writer {
                WriterState::Open => Err(io::ErrorKind::WouldBlock.into()),
                WriterState::Ended => Ok(0),
                WriterState::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        let len = self.bytes.len().min(into.len());
        self.bytes.read_exact(&mut into[..len])?;
        Ok(len)
    }

    /// Moves bytes in: as many as fit. `WouldBlock` if none do.
    fn put(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_abandoned || self.writer != WriterState::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = self.bytes.len();
        for slice in slices {
            let room = PIPE_BYTES_MAX.saturating_sub(self.bytes.len());
            self.bytes.extend(&slice[..slice.len().min(room)]);
        }
        if self.bytes.len() == before && before >= PIPE_BYTES_MAX {
            self.writer_waits = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.bytes.len() - before)
    }
}

impl MemoryStream {
    /// Creates a connection; returns both ends.
    pub fn pair() -> (MemoryStream, MemoryStream) {
        let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
        let near = MemoryStream { input: back.clone(), output: there.clone() };
        (near, MemoryStream { input: there, output: back })
    }

    /// Reads without waiting. A read that returns fewer bytes than it has space for has emptied the pipe.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.input.lock();
        let read = state.take(into)?;
        let resumes = state.writer_waits && state.bytes.len() <= RESUME_BYTES;
        let target = if resumes { state.writer_target.clone() } else { None };
        state.writer_waits &= !resumes;
        self.input.report(state, target, Ready::WRITE);
        Ok(read)
    }

    /// Writes without waiting; may write a part.
    pub(super) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.output.lock();
        let was_empty = state.bytes.is_empty();
        let written = state.put(slices)?;
        let target = if was_empty && written > 0 { state.reader_target.clone() } else { None };
        self.output.report(state, target, Ready::READ);
        Ok(written)
    }

    /// Ends the sending half: the peer reads what was written before, and then the end.
    pub(super) fn shutdown_write(&self) {
        let mut state = self.output.lock();
        if state.writer == WriterState::Open {
            state.writer = WriterState::Ended;
            let target = state.reader_target.clone();
            self.output.report(state, target, Ready::READ_END);
        }
    }

    /// Sends readiness to a reactor from now on, including what is ready already.
    pub(super) fn register(&self, key: Key, readiness: &ReadinessSender) {
        let target = ReadinessTarget::new(key, readiness);
        let is_abandoned = {
            let mut state = self.output.lock();
            state.writer_target = Some(target.clone());
            state.is_abandoned
        };
        let (has_ended, has_bytes) = {
            let mut state = self.input.lock();
            state.reader_target = Some(target.clone());
            (state.writer != WriterState::Open, !state.bytes.is_empty())
        };
        if is_abandoned {
            target.send(Ready::GONE);
        } else if has_ended {
            target.send(Ready::READ_END);
        } else if has_bytes {
            target.send(Ready::READ);
        }
    }

    /// Sends no more readiness.
    pub(super) fn deregister(&self) {
        self.output.lock().writer_target = None;
        self.input.lock().reader_target = None;
    }

    /// Waits until a read would not return `WouldBlock`, or until then.
    pub(super) fn wait_readable(&self, until: Option<Instant>) {
        self.input.wait(until, |state| !state.bytes.is_empty() || state.writer != WriterState::Open);
    }

    /// Waits until a write would not return `WouldBlock`, or until then.
    pub(super) fn wait_writable(&self, until: Option<Instant>) {
        self.output.wait(until, |state| state.bytes.len() < PIPE_BYTES_MAX || state.is_abandoned);
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut state = self.input.lock();
        let has_unread = !state.bytes.is_empty();
        state.bytes = VecDeque::new();
        state.is_abandoned = true;
        state.reader_target = None;
        self.input.report(state, None, Ready::WRITE);
        let mut state = self.output.lock();
        match state.writer {
            WriterState::Open | WriterState::Ended if has_unread => state.writer = WriterState::Reset,
            WriterState::Open => state.writer = WriterState::Ended,
            WriterState::Ended | WriterState::Reset => {}
        }
        state.writer_target = None;
        let target = state.reader_target.clone();
        self.output.report(state, target, Ready::GONE);
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream").finish_non_exhaustive()
    }
}

/// The listeners of this process, by name: what the port table of the system is for sockets.
static LISTENERS: Mutex<BTreeMap<String, Arc<ListenerShared>>> = Mutex::new(BTreeMap::new());

/// A listener for in-memory connections of this process. Dropping it frees the name and closes the connections that
/// wait to be accepted.
pub(super) struct MemoryListener {
    shared: Arc<ListenerShared>,
}

/// What a listener shares with the threads that connect.
struct ListenerShared {
    name: String,
    waiting_max: usize,
    state: Mutex<ListenerState>,
}

#[derive(Default)]
struct ListenerState {
    /// The connections that wait to be accepted.
    waiting: VecDeque<MemoryStream>,
    target: Option<ReadinessTarget>,
    is_closed: bool,
}

impl ListenerShared {
    fn lock(&self) -> MutexGuard<'_, ListenerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryListener {
    /// Listens at a name, or at an unused one if the name is `0`; at most `waiting_max` connections wait to be
    /// accepted.
    pub(super) fn bind(name: &str, waiting_max: usize) -> io::Result<MemoryListener> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut name = name.to_owned();
        if name == "0" {
            // A number is given once: a client of a server that has ended must not reach another one.
            while name == "0" || listeners.contains_key(&name) {
                name = (LAST.fetch_add(1, Ordering::Relaxed) + 1).to_string();
            }
        }
        if listeners.contains_key(&name) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another listener of this process has this name",
            ));
        }
        let state = Mutex::new(ListenerState::default());
        let shared = Arc::new(ListenerShared { name: name.clone(), waiting_max, state });
        listeners.insert(name, shared.clone());
        Ok(MemoryListener { shared })
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Accepts one connection; `WouldBlock` if none waits.
    pub(super) fn accept(&self) -> io::Result<MemoryStream> {
        self.shared.lock().waiting.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Sends readiness to a reactor from now on, including what is ready already.
    pub(super) fn register(&self, key: Key, readiness: &ReadinessSender) {
        let target = ReadinessTarget::new(key, readiness);
        let is_ready = {
            let mut state = self.shared.lock();
            state.target = Some(target.clone());
            !state.waiting.is_empty()
        };
        if is_ready {
            target.send(Ready::READ);
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.shared.name);
        let mut state = self.shared.lock();
        state.is_closed = true;
        let target = state.target.take();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop((waiting, target));
    }
}

/// Connects to the listener of that name in this process.
pub(super) fn connect(name: &str) -> io::Result<MemoryStream> {
    let refused =
        |why: &str| io::Error::new(io::ErrorKind::ConnectionRefused, format!("memory:{name}: {why}"));
    let listener = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    let listener = listener.ok_or_else(|| refused("no listener of this process has this name"))?;
    let (near, far) = MemoryStream::pair();
    let mut state = listener.lock();
    if state.is_closed {
        return Err(refused("the listener has ended"));
    }
    if state.waiting.len() >= listener.waiting_max {
        return Err(refused("too many connections wait to be accepted"));
    }
    let was_empty = state.waiting.is_empty();
    state.waiting.push_back(far);
    let target = if was_empty { state.target.clone() } else { None };
    drop(state);
    if let Some(target) = target {
        target.send(Ready::READ);
    }
    Ok(near)
}

#[cfg(test)]
mod tests;
