//! What systemd passes: listening sockets, also when the variables lie, and the socket for notices. A launcher in Python
//! opens the sockets and becomes the server; systemd-socket-activate does the same where it is installed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{PATIENCE, Ran, Served, coreloop};
use crate::{call, exists, wait_until};

/// Opens the descriptors that the first argument lists, from 3 on, sets variables, and becomes the server.
const LAUNCHER: &str = r#"
import os, socket, sys
what, variables, command = sys.argv[1], sys.argv[2], sys.argv[3:]
kept = []
for part in what.split():
    kind, _, where = part.partition("=")
    if kind in ("tcp", "bound"):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = where.rsplit(":", 1)
        s.bind((host, int(port)))
        if kind == "tcp":
            s.listen(64)
    elif kind == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.bind(where)
        s.listen(64)
    elif kind == "udp":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
    elif kind == "connected":
        listener = socket.create_server(("127.0.0.1", 0))
        s = socket.create_connection(listener.getsockname())
    elif kind == "pair":
        s, other = socket.socketpair()
    elif kind == "datagrams":
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(where)
    else:
        s = open("/dev/null")
    kept.append(s)
# Above the numbers that are passed, then into their places.
high = [os.dup2(s.fileno(), 100 + i, inheritable=False) for i, s in enumerate(kept)]
for i, s in enumerate(high):
    os.dup2(s, 3 + i, inheritable=True)
os.closerange(3 + len(kept), 64)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(kept))
for pair in variables.split():
    name, _, text = pair.partition("=")
    os.environ[name] = text
os.execv(command[0], command)
"#;

/// Returns the command of a server that is started with these descriptors and variables.
fn launched(descriptors: &str, variables: &str, args: &[&str]) -> Command {
    let server = coreloop(&["serve", "--admin", "off"]);
    let mut command = Command::new("python3");
    command.args(["-c", LAUNCHER, descriptors, variables]).arg(server.get_program());
    command.args(server.get_args()).args(args).stdin(Stdio::null());
    for (name, _) in server.get_envs() {
        command.env_remove(name);
    }
    command
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Receives notices, as a service manager does.
pub struct Manager(pub UnixDatagram);

impl Manager {
    pub fn at(path: &Path) -> Manager {
        Manager::of(UnixDatagram::bind(path).expect("the path is free"))
    }

    pub fn of(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Manager(socket)
    }

    pub fn next(&self) -> String {
        let mut bytes = [0; 256];
        let n = self.0.recv(&mut bytes).expect("a notice comes");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }
}

#[test]
fn passed_sockets_replace_the_addresses_and_notices_are_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, unix) = (folder.path().join("notify"), folder.path().join("s"));
    let manager = Manager::at(&notify);
    let (tcp, http) = (free_port(), free_port());
    let descriptors = format!("tcp={tcp} tcp={http} unix={}", unix.display());
    let variables = format!("NOTIFY_SOCKET={} LISTEN_FDNAMES=main:http:s", notify.display());
    for cores in ["1", "3"] {
        let command = launched(&descriptors, &variables, &["--listen", "127.0.0.1:1", "--cores", cores]);
        let server = Served::start_command(command, 3);
        let unix_address = format!("unix:{}", unix.display());
        assert_eq!(server.addresses, [tcp.clone(), http.clone(), unix_address.clone()]);
        assert_eq!(manager.next(), "READY=1");
        (0..8).for_each(|_| call(&tcp));
        call(&unix_address);
        // The name of the second socket restricts it to HTTP.
        let mut native = TcpStream::connect(&http).expect("it listens");
        native.write_all(b"\x19\x96\x01\x04\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        native.read_to_string(&mut answer).expect("it closes the connection");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(manager.next(), "STOPPING=1");
        assert!(exists(&unix), "the file is systemd's");
        std::fs::remove_file(&unix).expect("it is there");
    }
}

#[test]
fn a_connection_that_came_before_the_server_is_served() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-socket-activate is not installed");
        return;
    }
    let address = free_port();
    let server = coreloop(&["serve", "--admin", "off"]);
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", &address]).arg(server.get_program()).args(server.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it runs");
    let mut stream = None;
    wait_until("systemd-socket-activate listens", || {
        stream = TcpStream::connect(&address).ok();
        stream.is_some()
    });
    // The connection starts the server.
    let mut stream = stream.expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is accepted");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let status = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn variables_that_lie_keep_the_server_from_starting() {
    let bound = format!("bound={}", free_port());
    let tcp = format!("tcp={}", free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let datagrams = format!("datagrams={}", folder.path().join("s").display());
    for (descriptors, variables, expected) in [
        (tcp.as_str(), "LISTEN_FDS=2", "LISTEN_FDS=2: descriptor 4 "),
        (&tcp, "LISTEN_FDS=0", "LISTEN_FDS: expected a number from 1 to 1024; found 0"),
        (&tcp, "LISTEN_FDS=1025", "LISTEN_FDS: expected a number from 1 to 1024; found 1025"),
        (&tcp, "LISTEN_FDS=-1", "LISTEN_FDS: expected a number; found \"-1\""),
        (&tcp, "LISTEN_FDS=", "LISTEN_FDS: expected a number; found \"\""),
        (&tcp, "LISTEN_PID=-1", "LISTEN_PID: expected a number; found \"-1\""),
        (&datagrams, "", "LISTEN_FDS=1: descriptor 3 is a socket, but not one for streams"),
        ("connected=", "", "LISTEN_FDS=1: descriptor 3 is a socket that does not listen"),
        ("pair=", "", "LISTEN_FDS=1: descriptor 3 is a socket that does not listen"),
        ("file=", "", "LISTEN_FDS=1: descriptor 3 is not a socket"),
        ("udp=", "", "LISTEN_FDS=1: descriptor 3 is a socket, but not one for streams"),
        (&bound, "", "LISTEN_FDS=1: descriptor 3 is a socket that does not listen"),
        (&tcp, "LISTEN_FDS=many", "LISTEN_FDS: expected a number; found \"many\""),
        (&tcp, "LISTEN_FDNAMES=a:b", "LISTEN_FDNAMES: expected 1 names (LISTEN_FDS)"),
        (&tcp, "NOTIFY_SOCKET=nowhere", "NOTIFY_SOCKET: expected a path, or @ and an abstract name"),
        (&tcp, "WATCHDOG_USEC=soon", "WATCHDOG_USEC: expected a number; found \"soon\""),
    ] {
        let output = launched(descriptors, variables, &[]).output().expect("python3 runs");
        let ran: Ran = output.into();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{variables}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{variables}: {}", ran.stderr);
    }
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let command = launched("tcp=127.0.0.1:0", "LISTEN_PID=1", &["--listen", "127.0.0.1:0"]);
    let server = Served::start_command(command, 1);
    call(server.address());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn signs_of_life_go_to_the_manager() {
    let folder = tempfile::tempdir().expect("a folder");
    let notify = folder.path().join("notify");
    let manager = Manager::at(&notify);
    let tcp = format!("tcp={}", free_port());
    let variables = format!("NOTIFY_SOCKET={} WATCHDOG_USEC=200000", notify.display());
    let server = Served::start_command(launched(&tcp, &variables, &["--cores", "2"]), 1);
    assert_eq!(manager.next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    // A process that is stopped as a whole gives none.
    server.signal("STOP");
    manager.0.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    while manager.0.recv(&mut [0; 64]).is_ok() {}
    server.signal("CONT");
    manager.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(manager.next(), "WATCHDOG=1");
    assert_eq!(server.stop().code, Some(0));
}
