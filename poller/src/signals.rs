//! Signals, such as SIGTERM and SIGHUP, delivered to a separate thread, which may run any code.
//!
//! A signal handler may do almost nothing: this one writes one byte into a socket pair, and a thread reads it. The
//! handler shares its signals with the rest of the process (`signal-hook-registry`). The `unsafe` half is in `os.rs`.

use std::{
    fmt,
    io::{self, Read},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use signal_hook_registry::SigId;

use crate::os;

pub use crate::os::raise;

/// SIGTERM's number: a request to stop.
pub const TERM: i32 = libc::SIGTERM;
/// SIGINT's number: Ctrl-C at the terminal.
pub const INT: i32 = libc::SIGINT;
/// SIGHUP's number: the terminal has gone, or, for a service, a request to read its configuration again.
pub const HUP: i32 = libc::SIGHUP;

/// A guard that keeps signals delivered; dropping it ends the delivery and waits for the thread.
///
/// After the drop the signals do nothing (unless other code has registered for them): they no longer end the process, as
/// they did before the first [`on_signals`]. The previous disposition cannot be restored without taking it
/// away from other code.
#[must_use = "dropping it unregisters the signals"]
pub struct WatchedSignals {
    ids: Vec<SigId>,
    /// The writing end; each handler has its own copy.
    writer: UnixStream,
    /// Kept open in addition to the thread's: if the thread dies, a handler's write must not raise SIGPIPE.
    _reader: UnixStream,
    thread: Option<thread::JoinHandle<()>>,
}

/// Calls `f` with the number of each SIGTERM and SIGINT that arrives: [`on_signals`] for these two.
///
/// ```
/// use std::sync::mpsc;
/// use coreloop_poller::signals;
///
/// # fn main() -> std::io::Result<()> {
/// let (stop, stopped) = mpsc::channel();
/// let _signals = signals::on_stop(move |signal| stop.send(signal).unwrap_or(()))?;
/// signals::raise(signals::TERM)?;
/// assert_eq!(stopped.recv(), Ok(signals::TERM));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Errors of the kernel if descriptors or threads run out.
pub fn on_stop(f: impl FnMut(i32) + Send + 'static) -> io::Result<WatchedSignals> {
    on_signals(&[TERM, INT], f)
}

/// Calls `f` with the number of each of these signals that arrives, on a thread named `coreloop-signals`, one at a time.
/// Signals in quick succession may be merged, by the kernel and here.
///
/// # Errors
///
/// Errors of the kernel if descriptors or threads run out, or if a signal cannot be caught.
pub fn on_signals(signals: &[i32], mut f: impl FnMut(i32) + Send + 'static) -> io::Result<WatchedSignals> {
    let watched = signals;
    let (writer, reader) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    let mut signals = WatchedSignals {
        ids: Vec::with_capacity(watched.len()),
        writer,
        _reader: reader.try_clone()?,
        thread: None,
    };
    let body = move || {
        let mut reader = reader;
        let mut byte = [0];
        loop {
            match reader.read(&mut byte) {
                Ok(0) => return,
                Ok(_) => f(i32::from(byte[0])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    };
    signals.thread = Some(thread::Builder::new().name("coreloop-signals".into()).spawn(body)?);
    for &signal in watched {
        // From here on an early return drops `signals`, which undoes the registrations so far.
        let id = os::signal_to_stream(signal, signals.writer.try_clone()?)?;
        signals.ids.push(id);
    }
    Ok(signals)
}

/// Makes every write of this process beyond the file size limit (RLIMIT_FSIZE) fail with the error `FileTooLarge`,
/// instead of ending the process with SIGXFSZ. Programs that it starts begin with the signal's default.
///
/// For programs; a library should not change the effect of a signal on the process that embeds it.
///
/// # Errors
///
/// Errors of the kernel; none is known.
pub fn refuse_file_size_signal() -> io::Result<()> {
    os::signal_to_nothing(libc::SIGXFSZ).map(drop)
}

impl Drop for WatchedSignals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook_registry::unregister(id);
        }
        // The thread reads the remaining bytes, then the end.
        let _ = self.writer.shutdown(Shutdown::Write);
        if let Some(thread) = self.thread.take()
            // Dropped by `f` itself: a thread cannot wait for its own end.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for WatchedSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedSignals").finish_non_exhaustive()
    }
}
