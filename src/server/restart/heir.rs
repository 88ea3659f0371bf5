//! The new process's side of a takeover. It runs on the thread that starts the server, which waits for the old process,
//! for a limited time.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coreloop_poller::os::fds;
use socket2::{Domain, SockAddr, Socket, Type};

use super::error::RestartError;
use super::protocol::{Fault, Heir, HeirStep, Offer, VERSION};

/// A takeover that has begun. Dropping it lets the old process serve on.
pub(super) struct Takeover {
    stream: UnixStream,
    heir: Heir<OwnedFd>,
    path: PathBuf,
    patience: Duration,
    ends_at: Instant,
    /// The old process, if the system tells it.
    pub(super) process: Option<u32>,
}

/// Connects to the process that listens at the path, and takes its offer. `None` if no process listens there.
pub(super) fn begin(
    path: &Path,
    patience: Duration,
) -> Result<Option<(Takeover, Offer<OwnedFd>)>, RestartError> {
    let failed = |error| RestartError::Io { path: path.to_owned(), error };
    let stream = match connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let (user, process) = fds::peer_process(stream.as_fd()).map_err(failed)?;
    if user != fds::own_user() && user != 0 {
        let what = format!("it belongs to user {user}, this process to user {}", fds::own_user());
        return Err(RestartError::Broken { path: path.to_owned(), what });
    }
    let (heir, hello) = Heir::new();
    let ends_at = Instant::now() + patience;
    let mut takeover = Takeover { stream, heir, path: path.to_owned(), patience, ends_at, process };
    takeover.send(&hello)?;
    match takeover.receive()? {
        Some(HeirStep::Adopt(offer)) => Ok(Some((takeover, offer))),
        Some(HeirStep::Wait | HeirStep::Yours) | None => {
            Err(takeover.broken("it closed the connection before it had passed its sockets"))
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that is stopped and whose queue is full must not hold up this one.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(OwnedFd::from(socket).into())
}

impl Takeover {
    /// Says that this process accepts connections on these sockets, and waits until the old process has confirmed that
    /// they are this process's. An old process that has ended by now has left them too.
    pub(super) fn complete(mut self, taken: &[String]) -> Result<(), RestartError> {
        let ready = self.heir.ready(taken.iter().map(String::as_str));
        self.send(&ready)?;
        match self.receive()? {
            Some(HeirStep::Yours) | None => Ok(()),
            Some(HeirStep::Wait | HeirStep::Adopt(_)) => Err(self.broken("it made a second offer")),
        }
    }

    fn broken(&self, what: &str) -> RestartError {
        RestartError::Broken { path: self.path.clone(), what: what.to_owned() }
    }

    fn fault(&self, fault: Fault) -> RestartError {
        let path = self.path.clone();
        match fault {
            Fault::Refused(text) => RestartError::Refused { path, text },
            Fault::Version(theirs) => RestartError::Version { path, ours: VERSION, theirs },
            Fault::Broken(what) => RestartError::Broken { path, what: what.to_owned() },
        }
    }

    /// Returns an error of the socket, or that the time is over.
    fn failed(&self, error: io::Error) -> RestartError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                RestartError::Late { path, ms: self.patience.as_millis() as u64 }
            }
            _ => RestartError::Io { path, error },
        }
    }

    /// Returns what is left of the time, as a timeout of the socket.
    fn left(&self) -> Result<Option<Duration>, RestartError> {
        let left = self.ends_at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.failed(io::ErrorKind::TimedOut.into())) } else { Ok(Some(left)) }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), RestartError> {
        let left = self.left()?;
        match self.stream.set_write_timeout(left).and_then(|()| self.stream.write_all(bytes)) {
            // An old process that has refused, or ended: what it has sent tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(|error| self.failed(error)),
        }
    }

    /// Waits for the next step; `None` if the old process has ended.
    fn receive(&mut self) -> Result<Option<HeirStep<OwnedFd>>, RestartError> {
        let mut bytes = [0; 4096];
        loop {
            let left = self.left()?;
            let mut passed = Vec::new();
            let received = self
                .stream
                .set_read_timeout(left)
                .and_then(|()| fds::receive_with_fds(self.stream.as_fd(), &mut bytes, &mut passed));
            let n = match received {
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            };
            match self.heir.receive(&bytes[..n], passed).map_err(|fault| self.fault(fault))? {
                HeirStep::Wait => {}
                step => return Ok(Some(step)),
            }
        }
    }
}
