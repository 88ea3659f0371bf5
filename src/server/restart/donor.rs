//! The running process's side of a takeover: a thread that listens on a Unix socket, passes the listening sockets to a
//! new process, and reports when that process serves.
//!
//! One takeover is served at a time, others are refused. Whatever a new process does or fails to do, this one serves on
//! until it has confirmed the takeover.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coreloop_poller::os::fds;
use coreloop_poller::{Bell, Interest, Key, Poller};
use mio::net::UnixStream;

use super::protocol::{self, Donor, DonorStep, Fault, PassedState, SOCKETS_PER_FRAME, VERSION};
use super::sockets::PassedOn;
use crate::reactor::Listener;
use crate::transport::{ReadinessSender, Transport};

/// The key of the listener; sessions have others.
const LISTENER: Key = Key::new(0, 0);
/// The pause after an error of accept.
const PAUSE: Duration = Duration::from_millis(50);

/// The thread. Dropping it ends the thread: a takeover that has begun is refused.
pub(super) struct DonorThread {
    bell: Bell,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for DonorThread {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is passed on, and when it is over.
pub(super) struct DonorPlan {
    /// Where new processes connect. It is passed on too.
    pub(super) listener: Listener,
    pub(super) sockets: Vec<PassedOn>,
    /// Returns other things that live on, as they are when they are offered.
    pub(super) states: Box<dyn Fn() -> Vec<PassedState> + Send>,
    /// The time for one takeover.
    pub(super) patience: Duration,
    /// Called once a new process has everything: this one must drain.
    pub(super) on_handed_over: Box<dyn FnOnce() + Send>,
}

/// Starts the thread.
pub(super) fn start(mut plan: DonorPlan) -> io::Result<DonorThread> {
    let mut poller = Poller::new(8)?;
    let bell = poller.bell();
    plan.listener.register(&mut poller, LISTENER, &ReadinessSender::new(|_, _| {}))?;
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = is_over.clone();
    let thread = std::thread::Builder::new().name("coreloop-takeover".to_owned()).spawn(move || {
        let mut donor = DonorLoop { plan, session: None, sessions: 0, resume_at: None };
        donor.run(&mut poller, &ends);
    })?;
    Ok(DonorThread { bell, is_over, thread: Some(thread) })
}

struct DonorLoop {
    plan: DonorPlan,
    session: Option<Session>,
    sessions: u32,
    /// When accepting resumes after an error.
    resume_at: Option<Instant>,
}

/// One takeover.
struct Session {
    stream: UnixStream,
    donor: Donor,
    /// What is to be sent: bytes, and the indices of the sockets that travel with the first of them.
    out: VecDeque<(Vec<u8>, Vec<usize>)>,
    ends_at: Instant,
    /// Set once the new process serves: the names of the sockets that it has adopted.
    adopted: Option<Vec<String>>,
}

/// Why a session has ended.
enum SessionEnd {
    /// The new process has gone.
    Gone,
    /// The takeover is refused, for this reason.
    Refused(String),
}

impl From<Fault> for SessionEnd {
    fn from(fault: Fault) -> SessionEnd {
        match fault {
            Fault::Refused(text) => SessionEnd::Refused(text),
            Fault::Version(theirs) => SessionEnd::Refused(format!(
                "the running process speaks version {VERSION} of the takeover protocol, the new one version {theirs}"
            )),
            Fault::Broken(what) => SessionEnd::Refused(what.to_owned()),
        }
    }
}

impl DonorLoop {
    fn run(&mut self, poller: &mut Poller, ends: &AtomicBool) {
        loop {
            let next_at = self.session.iter().map(|session| session.ends_at).chain(self.resume_at).min();
            let timeout = next_at.map(|at| at.saturating_duration_since(Instant::now()));
            if poller.wait(timeout, || ends.load(Ordering::Acquire)).is_err() {
                return;
            }
            if ends.load(Ordering::Acquire) {
                if let Some(session) = self.session.take() {
                    refuse(session.stream, "the running process stops");
                }
                return;
            }
            self.accept(poller);
            if self.go_on(poller) {
                return;
            }
        }
    }

    /// Accepts new processes: one is served, others are refused.
    fn accept(&mut self, poller: &mut Poller) {
        if self.resume_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.resume_at = None;
        loop {
            let stream = match self.plan.listener.accept() {
                Ok((Transport::Unix(stream), _)) => stream,
                Ok(_) => continue,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => {
                        self.resume_at = Some(Instant::now() + PAUSE);
                        return;
                    }
                },
            };
            if let Err(why) = check_user(&stream) {
                refuse(stream, &why);
            } else if self.session.is_some() {
                refuse(stream, "another takeover is under way");
            } else {
                self.begin(stream, poller);
            }
        }
    }

    fn begin(&mut self, mut stream: UnixStream, poller: &mut Poller) {
        self.sessions = self.sessions.wrapping_add(1);
        let both = Interest::BOTH;
        if poller.register(&mut stream, Key::new(1, self.sessions), both).is_err() {
            return;
        }
        self.session = Some(Session {
            stream,
            donor: Donor::default(),
            out: VecDeque::new(),
            ends_at: Instant::now() + self.plan.patience,
            adopted: None,
        });
    }

    /// Reads and writes what the session allows. Returns true once everything is handed over.
    fn go_on(&mut self, poller: &mut Poller) -> bool {
        let Some(session) = &mut self.session else { return false };
        let stepped = session.read(&self.plan).and_then(|()| session.write(&self.plan.sockets));
        let late = session.ends_at <= Instant::now();
        match stepped {
            Ok(true) => {
                let adopted = session.adopted.take().unwrap_or_default();
                self.hand_over(&adopted);
                return true;
            }
            Ok(false) if late => self.end(
                poller,
                SessionEnd::Refused(format!(
                    "the new process did not serve within {} ms (restart.takeover_ms)",
                    self.plan.patience.as_millis()
                )),
            ),
            Ok(false) => {}
            Err(end) => self.end(poller, end),
        }
        false
    }

    fn end(&mut self, poller: &mut Poller, end: SessionEnd) {
        let Some(mut session) = self.session.take() else { return };
        let _ = poller.deregister(&mut session.stream);
        if let SessionEnd::Refused(text) = end {
            refuse(session.stream, &text);
        }
    }

    /// The new process has the sockets: they are not this process's any more.
    fn hand_over(&mut self, adopted: &[String]) {
        for socket in self.plan.sockets.iter().filter(|socket| adopted.contains(&socket.name)) {
            socket.ownership.set(false);
        }
        // Its file remains for the new process.
        self.plan.listener.ownership().set(false);
        std::mem::replace(&mut self.plan.on_handed_over, Box::new(|| {}))();
    }
}

impl Session {
    fn read(&mut self, plan: &DonorPlan) -> Result<(), SessionEnd> {
        let mut bytes = [0; 4096];
        loop {
            // A new process has no descriptors to pass: those that come are closed.
            match fds::receive_with_fds(self.stream.as_fd(), &mut bytes, &mut Vec::new()) {
                // After `yours` the new process may close.
                Ok(0) if self.adopted.is_some() => return Ok(()),
                Ok(0) => return Err(SessionEnd::Gone),
                Ok(n) => match self.donor.receive(&bytes[..n])? {
                    DonorStep::Wait => {}
                    DonorStep::Offer => self.offer(plan),
                    DonorStep::Ready(names) => {
                        self.adopted = Some(names);
                        self.out.push_back((protocol::yours(), Vec::new()));
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(SessionEnd::Gone),
            }
        }
    }

    fn offer(&mut self, plan: &DonorPlan) {
        self.out.push_back((protocol::hello(VERSION), Vec::new()));
        let indices: Vec<usize> = (0..plan.sockets.len()).collect();
        for indices in indices.chunks(SOCKETS_PER_FRAME) {
            let sockets = indices.iter().map(|index| &plan.sockets[*index]);
            let frame = protocol::sockets(sockets.map(|socket| (socket.name.as_str(), socket.is_owned)));
            self.out.push_back((frame, indices.to_vec()));
        }
        let states = (plan.states)();
        let states = states.iter().filter_map(|state| protocol::state(&state.name, &state.bytes));
        self.out.extend(states.map(|frame| (frame, Vec::new())));
        self.out.push_back((protocol::end(plan.sockets.len()), Vec::new()));
    }

    /// Sends what the socket takes. Returns true once `yours` is sent.
    fn write(&mut self, sockets: &[PassedOn]) -> Result<bool, SessionEnd> {
        while let Some((bytes, indices)) = self.out.front_mut() {
            let passed: Vec<_> = indices.iter().map(|index| sockets[*index].socket.as_fd()).collect();
            match fds::send_with_fds(self.stream.as_fd(), bytes, &passed) {
                Ok(n) => {
                    indices.clear();
                    bytes.drain(..n);
                    if bytes.is_empty() {
                        self.out.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(SessionEnd::Gone),
            }
        }
        Ok(self.adopted.is_some())
    }
}

/// Checks that the new process has the rights of this one.
fn check_user(stream: &UnixStream) -> Result<(), String> {
    match fds::peer_process(stream.as_fd()) {
        Ok((user, _)) if user == fds::own_user() || user == 0 => Ok(()),
        Ok((user, _)) => {
            Err(format!("only user {} and root may take over, not user {user}", fds::own_user()))
        }
        Err(error) => Err(format!("the user of the new process is not known: {error}")),
    }
}

/// Sends a new process the reason why it may not take over.
fn refuse(mut stream: UnixStream, text: &str) {
    // A socket without unread bytes has room for that. If not, the process sees the end of the connection.
    let _ = stream.write_all(&[protocol::hello(VERSION), protocol::refused(text)].concat());
    let _ = stream.shutdown(Shutdown::Write);
}
