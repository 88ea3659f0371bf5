//! Restarts that lose no connection: a new process takes the listening sockets of the running one, or they come from a
//! service manager, which is also told how the server is.
//!
//! `protocol` has the takeover without I/O, `donor` and `heir` its two ends; `sockets` has what was given and what can
//! be passed on; `systemd` reads the environment and sends notices, `watchdog` those that this server is alive.

#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod detached;
mod donor;
mod error;
mod heir;
mod protocol;
mod sockets;
mod systemd;
mod watchdog;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coreloop_poller::os;

pub use self::error::RestartError;
pub(crate) use self::sockets::SocketStore;

use self::donor::{DonorPlan, DonorThread};
use self::heir::Takeover;
use self::protocol::{PassedSocket, PassedState};
use self::sockets::{Given, PassedOn};
use self::systemd::{Environment, Notifier};
use self::watchdog::Watchdog;
use super::reload::ReloadPhase;
use super::{Error, Server, ServerBuilder, ServerEvent};
use crate::config::ValidConfig;
use crate::reactor::{Address, Listener, UnixSocketAccess};
use crate::transport::Ownership;
use crate::wire::ProtocolSet;

/// The name under which the socket for takeovers is itself passed on. No address is like it.
const CONTROL: &str = "takeover";
/// The name of the state that has the keys of TLS tickets. Other contents would need another name.
#[cfg(feature = "tls-core")]
const TICKET_KEYS: &str = "tls-ticket-keys";
/// The permissions of the file of that socket.
const CONTROL_MODE: u32 = 0o600;

impl From<RestartError> for Error {
    fn from(error: RestartError) -> Error {
        Error::Restart(error)
    }
}

impl ServerBuilder {
    /// Takes over from the process that listens at this path, if there is one, and lets the next process take over from
    /// this one (`restart.takeover`). The listening sockets pass from process to process, so that no connection is
    /// refused or reset: see `docs/operation.md`. A server that was taken over drains as at a request to stop:
    /// [`Server::wait`] returns then.
    ///
    /// The file of the socket can be used by this process's user alone. [`ServerBuilder::start`] fails, and the running
    /// process serves on, if the takeover fails.
    pub fn takeover(self, path: impl AsRef<Path>) -> ServerBuilder {
        let path = path.as_ref().display().to_string();
        self.configure(|config| config.restart.takeover = path)
    }

    /// Listens on the sockets that the service manager has passed (`LISTEN_FDS`, as systemd sets it), instead of the
    /// addresses of the configuration, and sends it notices (`NOTIFY_SOCKET`, `WATCHDOG_USEC`): `restart.systemd`. Without
    /// these variables it has no effect.
    pub fn systemd(self) -> ServerBuilder {
        self.configure(|config| config.restart.systemd = true)
    }

    /// Takes sockets from this store, and adds its own to it.
    #[cfg(feature = "admin")]
    pub(crate) fn sharing_sockets(mut self, sockets: SocketStore) -> ServerBuilder {
        self.sockets = sockets;
        self
    }

    /// Replaces the addresses to listen on by those of the sockets that were passed.
    pub(super) fn take_passed_sockets(&mut self) -> Result<(), Error> {
        if !self.config.restart.systemd {
            return Ok(());
        }
        let lookup = |name: &str| std::env::var(name).ok();
        let passed = systemd::passed_sockets(&Environment(&lookup), std::process::id())?;
        if !passed.listen.is_empty() {
            self.protocols = vec![ProtocolSet::SERVED; passed.listen.len()];
            self.listens = passed.listen;
        }
        if let Some(admin) = passed.admin {
            self.config.admin.listen = admin;
        }
        self.sockets.give(passed.sockets);
        Ok(())
    }
}

/// A restart of which the beginning is made: everything is prepared for the server to start.
pub(super) struct PlannedRestart {
    /// `None`: sockets neither come from another process nor go to one.
    sockets: Option<SocketStore>,
    patience: Duration,
    /// The takeover from another process.
    takeover: Option<Takeover>,
    /// What the other process has passed besides sockets.
    states: Vec<PassedState>,
    /// Where the next process takes over, and its ownership.
    control: Option<Listener>,
    notifier: Option<Notifier>,
    watchdog: Option<Duration>,
}

impl PlannedRestart {
    /// Takes the sockets of the running process, if there is one.
    pub(super) fn begin(config: &ValidConfig, sockets: &SocketStore) -> Result<PlannedRestart, Error> {
        let restart = &config.restart;
        let mut planned = PlannedRestart {
            sockets: (restart.systemd || !restart.takeover.is_empty()).then(|| sockets.clone()),
            patience: Duration::from_millis(restart.takeover_ms),
            takeover: None,
            states: Vec::new(),
            control: None,
            notifier: None,
            watchdog: None,
        };
        if restart.systemd {
            let lookup = |name: &str| std::env::var(name).ok();
            planned.notifier = Notifier::new(&Environment(&lookup))?;
            planned.watchdog = systemd::watchdog(&Environment(&lookup), std::process::id())?;
        }
        if !restart.takeover.is_empty() {
            planned.begin_takeover(Path::new(&restart.takeover), sockets)?;
        }
        Ok(planned)
    }

    fn begin_takeover(&mut self, path: &Path, sockets: &SocketStore) -> Result<(), RestartError> {
        let failed = |error| RestartError::Io { path: path.to_owned(), error };
        let address = Address::Unix(PathBuf::from(path));
        sockets.pass_on();
        let Some((takeover, offer)) = heir::begin(path, self.patience)? else {
            let access = UnixSocketAccess { mode: Some(CONTROL_MODE), ..UnixSocketAccess::default() };
            self.control = Some(Listener::bind(&address, &access).map_err(failed)?);
            return Ok(());
        };
        let mut given = Vec::new();
        for PassedSocket { name, is_owned, socket } in offer.sockets {
            if name == CONTROL {
                let adopted = Listener::adopt(socket, &address, Ownership::of_another());
                self.control = Some(adopted.map_err(failed)?);
            } else {
                given.push(Given { name, socket, is_owned });
            }
        }
        if self.control.is_none() {
            let what = "it did not pass its socket for takeovers".to_owned();
            return Err(RestartError::Broken { path: path.to_owned(), what });
        }
        sockets.give(given);
        self.takeover = Some(takeover);
        self.states = offer.states;
        Ok(())
    }

    /// Returns the keys of TLS tickets of the process from which this one takes over, and what belongs to them.
    #[cfg(feature = "tls-core")]
    pub(super) fn take_ticket_state(&mut self) -> Option<Vec<u8>> {
        let index = self.states.iter().position(|state| state.name == TICKET_KEYS)?;
        Some(self.states.swap_remove(index).bytes)
    }

    /// Completes the restart: the server accepts connections.
    pub(super) fn complete(self, server: &Server) -> Result<RunningRestart, Error> {
        let mut running = RunningRestart::default();
        let Some(sockets) = self.sockets else { return Ok(running) };
        let mut ready = "READY=1".to_owned();
        if let Some(takeover) = self.takeover {
            running.predecessor = takeover.process;
            let mut taken = sockets.taken();
            taken.push(CONTROL.to_owned());
            takeover.complete(&taken)?;
            ready.push_str(&format!("\nMAINPID={}", std::process::id()));
        }
        running.unused = sockets.close_rest();
        let mut sockets = sockets.passed_on();
        if let Some(listener) = self.control {
            listener.ownership().set(true);
            if let Some(socket) = listener.duplicate()? {
                let ownership = listener.ownership().clone();
                sockets.push(PassedOn { name: CONTROL.to_owned(), socket, ownership, is_owned: true });
            }
            let (is_handed_over, events) = (running.is_handed_over.clone(), server.stop.clone());
            let plan = DonorPlan {
                listener,
                sockets,
                states: states_of(server),
                patience: self.patience,
                on_handed_over: Box::new(move || {
                    is_handed_over.store(true, Ordering::Release);
                    // If the channel is full, a stop is under way, which looks at the flag.
                    let _ = events.try_send(ServerEvent::HandedOver);
                }),
            };
            running.donor = Some(donor::start(plan)?);
        }
        if let Some(notifier) = self.notifier {
            if let Some(within) = self.watchdog {
                let notifier = notifier.try_clone()?;
                running.watchdog = Some(Watchdog::start(server.shared.clone(), notifier, within)?);
            }
            notifier.send(&ready);
            *lock(&running.notifier) = Some(notifier);
            let (notifier, is_handed_over) = (running.notifier.clone(), running.is_handed_over.clone());
            server.shared.reloads.report_to(move |phase| {
                // None once the server stops. After a takeover the notices are those of the new process.
                let notifier = lock(&notifier);
                if let Some(notifier) = notifier.as_ref().filter(|_| !is_handed_over.load(Ordering::Acquire))
                {
                    notifier.send(&reload_notice(phase));
                }
            });
        }
        Ok(running)
    }
}

/// Returns what finds out, at the time of an offer, what else the next process needs.
fn states_of(server: &Server) -> Box<dyn Fn() -> Vec<PassedState> + Send> {
    #[cfg(feature = "tls-core")]
    if let Some(tls) = server.shared.tls.clone() {
        return Box::new(move || {
            vec![PassedState { name: TICKET_KEYS.to_owned(), bytes: tls.ticket_state() }]
        });
    }
    let _ = server;
    Box::new(Vec::new)
}

/// Returns the notice of a reload (sd_notify(3), `Type=notify-reload`).
fn reload_notice(phase: ReloadPhase) -> String {
    match phase {
        ReloadPhase::Begun => format!("RELOADING=1\nMONOTONIC_USEC={}", os::monotonic_micros()),
        ReloadPhase::Over => "READY=1".to_owned(),
    }
}

fn lock(notifier: &Mutex<Option<Notifier>>) -> MutexGuard<'_, Option<Notifier>> {
    notifier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What runs beside a server for its restart.
#[derive(Default)]
pub(super) struct RunningRestart {
    donor: Option<DonorThread>,
    /// A new process has taken over.
    is_handed_over: Arc<AtomicBool>,
    /// Shared with what reports reloads; held to send a notice, which never waits.
    notifier: Arc<Mutex<Option<Notifier>>>,
    watchdog: Option<Watchdog>,
    /// The process from which this one has taken over.
    predecessor: Option<u32>,
    /// The sockets that it has passed and for which this server has no listener.
    unused: Vec<String>,
}

impl RunningRestart {
    /// Ends takeovers, because the server stops. Returns whether a new process has taken over.
    pub(super) fn stop(&mut self) -> bool {
        self.donor = None;
        let is_handed_over = self.is_handed_over.load(Ordering::Acquire);
        // After a takeover the notices are those of the new process.
        let mut notifier = lock(&self.notifier);
        if let Some(notifier) = notifier.take().filter(|_| !is_handed_over) {
            notifier.send("STOPPING=1");
        }
        drop(notifier);
        if is_handed_over {
            self.watchdog = None;
        }
        is_handed_over
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.unused.iter().map(|name| {
            format!(
                "a socket that was passed for {name} is closed: the server does not listen there (listen)"
            )
        })
    }

    pub(super) fn predecessor(&self) -> Option<u32> {
        self.predecessor
    }
}
