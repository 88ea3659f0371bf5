//! What a service manager passes in the environment, as systemd does it: listening sockets (`LISTEN_FDS`), and the socket
//! for notices (`NOTIFY_SOCKET`).
//!
//! sd_listen_fds(3) and sd_notify(3) describe both. Variables for another process (`LISTEN_PID`, `WATCHDOG_PID`) are
//! ignored; what is wrong in those for this one is an error.

use std::io;
use std::net::SocketAddr as IpAddress;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use coreloop_poller::os::fds;
use socket2::{SockRef, Type};

use super::error::RestartError;
use super::sockets::Given;
use crate::wire::ProtocolId;

/// The number of the first descriptor that is passed.
const FIRST: RawFd = 3;
/// More sockets than a service has.
const SOCKETS_MAX: i32 = 1024;
/// The name of the socket of the admin listener (`FileDescriptorName=`).
const ADMIN: &str = "admin";

/// The variables of the environment.
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// Returns the number in a variable; `None` if it is not set.
    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, RestartError> {
        let Some(text) = (self.0)(name) else { return Ok(None) };
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_digits);
        number.map(Some).ok_or_else(|| broken(format!("{name}: expected a number; found {text:?}")))
    }

    /// Returns whether the variables are for this process: the one with its number says so.
    fn are_ours(&self, name: &str, process: u32) -> Result<Option<bool>, RestartError> {
        Ok(self.number::<u32>(name)?.map(|number| number == process))
    }
}

fn broken(text: String) -> RestartError {
    RestartError::Systemd { text }
}

/// The sockets that were passed.
#[derive(Debug, Default)]
pub(super) struct PassedSockets {
    /// The listeners' addresses, each with the protocol that its name restricts it to: `http:127.0.0.1:80`.
    pub(super) listen: Vec<String>,
    /// The address of the admin listener.
    pub(super) admin: Option<String>,
    pub(super) sockets: Vec<Given>,
}

/// Returns the sockets that were passed to this process.
pub(super) fn passed_sockets(
    environment: &Environment<'_>,
    process: u32,
) -> Result<PassedSockets, RestartError> {
    let mut passed = PassedSockets::default();
    if environment.are_ours("LISTEN_PID", process)? != Some(true) {
        return Ok(passed);
    }
    let Some(count) = environment.number::<i32>("LISTEN_FDS")? else { return Ok(passed) };
    if !(1..=SOCKETS_MAX).contains(&count) {
        return Err(broken(format!("LISTEN_FDS: expected a number from 1 to {SOCKETS_MAX}; found {count}")));
    }
    let names: Vec<String> = match (environment.0)("LISTEN_FDNAMES") {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec![String::new(); count as usize],
    };
    if names.len() != count as usize {
        return Err(broken(format!(
            "LISTEN_FDNAMES: expected {count} names (LISTEN_FDS), with colons between them; found {}",
            names.len()
        )));
    }
    for (number, name) in (FIRST..).zip(names) {
        let wrong = |what: &str| broken(format!("LISTEN_FDS={count}: descriptor {number} {what}"));
        let socket = fds::duplicate(number).map_err(|error| wrong(&format!("cannot be used: {error}")))?;
        let address = address_of(&socket).map_err(wrong)?;
        let is_listed = passed.sockets.iter().any(|given| given.name == address);
        if name == ADMIN {
            passed.admin = Some(address.clone());
        } else if !is_listed {
            let protocol =
                ProtocolId::ALL.iter().map(|protocol| protocol.name()).find(|known| *known == name);
            passed.listen.push(match protocol {
                Some(protocol) => format!("{protocol}:{address}"),
                None => address.clone(),
            });
        }
        passed.sockets.push(Given { name: address, socket, is_owned: false });
    }
    Ok(passed)
}

/// Returns the address at which a socket listens.
fn address_of(socket: &OwnedFd) -> Result<String, &'static str> {
    let socket = SockRef::from(socket);
    let local = socket.local_addr().map_err(|_| "is not a socket")?;
    if socket.r#type().ok() != Some(Type::STREAM) {
        return Err("is a socket, but not one for streams");
    }
    if !socket.is_listener().unwrap_or(false) {
        return Err("is a socket that does not listen");
    }
    let tcp = local.as_socket().map(|address: IpAddress| address.to_string());
    let unix = || local.as_pathname().map(|path| format!("unix:{}", path.display()));
    tcp.or_else(unix).ok_or("listens neither on TCP nor at a path")
}

/// Sends notices to the service manager.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Returns what sends to the socket in `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(super) fn new(environment: &Environment<'_>) -> Result<Option<Notifier>, RestartError> {
        let Some(text) = (environment.0)("NOTIFY_SOCKET") else { return Ok(None) };
        let address = match text.strip_prefix('@') {
            Some(name) => abstract_address(name),
            None if text.starts_with('/') => SocketAddr::from_pathname(&text),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        let address = address.map_err(|_| {
            broken(format!("NOTIFY_SOCKET: expected a path, or @ and an abstract name; found {text:?}"))
        })?;
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| broken(format!("NOTIFY_SOCKET: {error}")))?;
        Ok(Some(Notifier { socket, address }))
    }

    /// Sends a notice. A service manager that does not take it has gone, or is too busy: the next one may arrive.
    pub(super) fn send(&self, notice: &str) {
        let _ = self.socket.send_to_addr(notice.as_bytes(), &self.address);
    }

    /// Returns another handle on the same socket.
    pub(super) fn try_clone(&self) -> io::Result<Notifier> {
        Ok(Notifier { socket: self.socket.try_clone()?, address: self.address.clone() })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_name: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns within what time this process must give a sign of life, if it must.
pub(super) fn watchdog(
    environment: &Environment<'_>,
    process: u32,
) -> Result<Option<Duration>, RestartError> {
    if environment.are_ours("WATCHDOG_PID", process)? == Some(false) {
        return Ok(None);
    }
    let micros = environment.number::<u64>("WATCHDOG_USEC")?;
    Ok(micros.filter(|micros| *micros > 0).map(Duration::from_micros))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        move |name| variables.get(name).cloned()
    }

    fn sockets(variables: &[(&str, &str)]) -> Result<PassedSockets, String> {
        passed_sockets(&Environment(&environment(variables)), 7).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_for_another_process_are_ignored() {
        for variables in [
            &[][..],
            &[("LISTEN_FDS", "1")],
            &[("LISTEN_PID", "8"), ("LISTEN_FDS", "nonsense")],
            &[("LISTEN_PID", "7")],
        ] {
            assert!(sockets(variables).unwrap().sockets.is_empty(), "{variables:?}");
        }
    }

    #[test]
    fn variables_that_lie_are_errors() {
        for (variables, expected) in [
            (&[("LISTEN_PID", "+7"), ("LISTEN_FDS", "1")][..], "LISTEN_PID: expected a number; found \"+7\""),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "x")], "LISTEN_FDS: expected a number; found \"x\""),
            (
                &[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")],
                "LISTEN_FDS: expected a number from 1 to 1024; found 0",
            ),
            (
                &[("LISTEN_PID", "7"), ("LISTEN_FDS", "1025")],
                "LISTEN_FDS: expected a number from 1 to 1024; found 1025",
            ),
            (
                &[("LISTEN_PID", "7"), ("LISTEN_FDS", "99999999999")],
                "LISTEN_FDS: expected a number; found \"99999999999\"",
            ),
            (
                &[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b:c")],
                "LISTEN_FDNAMES: expected 2 names (LISTEN_FDS), with colons between them; found 3",
            ),
        ] {
            assert_eq!(sockets(variables).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_socket_is_one_that_listens_for_streams() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        assert_eq!(address_of(&listener.into()), Ok(local.to_string()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(address_of(&unix.into()), Ok(format!("unix:{}", path.display())));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(address_of(&file.into()), Err("is not a socket"));
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(address_of(&datagrams.into()), Err("is a socket, but not one for streams"));
        let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(address_of(&pair.into()), Err("is a socket that does not listen"));
    }

    #[test]
    fn notices_arrive_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        let mut sockets = vec![(path.display().to_string(), at_path)];
        if cfg!(target_os = "linux") {
            let name = format!("coreloop-test-{}", std::process::id());
            let address = abstract_address(&name).unwrap();
            sockets.push((format!("@{name}"), UnixDatagram::bind_addr(&address).unwrap()));
        }
        for (text, socket) in sockets {
            let lookup = environment(&[("NOTIFY_SOCKET", &text)]);
            let notifier = Notifier::new(&Environment(&lookup)).unwrap().unwrap();
            notifier.send("READY=1");
            let mut bytes = [0; 64];
            let n = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..n], b"READY=1");
            drop(socket);
            notifier.send("STOPPING=1");
        }
        let lookup = environment(&[("NOTIFY_SOCKET", "vsock:2:1234")]);
        let error = Notifier::new(&Environment(&lookup)).unwrap_err();
        assert!(error.to_string().starts_with("NOTIFY_SOCKET: expected a path"), "{error}");
    }

    #[test]
    fn a_watchdog_for_another_process_is_none() {
        let of = |variables: &[(&str, &str)]| watchdog(&Environment(&environment(variables)), 7).unwrap();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "2000000")]), Some(Duration::from_secs(2)));
        assert_eq!(of(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")]), Some(Duration::from_secs(2)));
        assert_eq!(of(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "0")]), None);
    }
}
