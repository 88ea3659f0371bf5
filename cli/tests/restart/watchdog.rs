//! Notices of a real process, at a path and at an abstract name: a reactor that stalls, reloads, the begin and the end.

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use coreloop::client::Direct;
use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::{Context, Server};

use crate::common::{PATIENCE, Served, coreloop};
use crate::systemd::Manager;

/// Names the socket at which the handler of [`the_server_that_stalls`] waits.
const STALL_AT: &str = "TEST_STALL_AT";
/// The time between two signs of life is half of it.
const WATCHDOG_USEC: &str = "40000";

/// No test: what the process runs that the test below starts.
#[test]
#[ignore = "a server, for the test of stalls"]
fn the_server_that_stalls() {
    let Ok(path) = std::env::var(STALL_AT) else { return };
    let stall = move |_: &Context<'_>, n: i64| {
        // Blocks the reactor until the test closes the other end.
        let mut stream = UnixStream::connect(&path).expect("the test listens");
        stream.read_to_end(&mut Vec::new()).expect("the test closes it");
        Ok(n)
    };
    let server = Server::builder()
        .configure(|config| config.cores = 2)
        .method_of_kind("Test.Stall", Kind::Inline, stall)
        .listen("127.0.0.1:0")
        .systemd()
        .start()
        .expect("it starts");
    println!("\nlistening on {}", server.addresses()[0]);
    server.wait().expect("it ends by itself");
}

#[test]
fn a_reactor_that_stalls_silences_the_whole_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, stall) = (folder.path().join("notify"), folder.path().join("stall"));
    let manager = Manager::at(&notify);
    let stalls = UnixListener::bind(&stall).expect("the path is free");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "watchdog::the_server_that_stalls", "--ignored", "--nocapture"]);
    command.env(STALL_AT, &stall).env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", WATCHDOG_USEC);
    command.env_remove("WATCHDOG_PID").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let address = listening(child.stdout.take().expect("piped"));
    assert_eq!(manager.next(), "READY=1");
    // Signs come although no call is made.
    (0..3).for_each(|_| assert_eq!(manager.next(), "WATCHDOG=1"));

    let caller = std::thread::spawn(move || {
        let mut client = Direct::connect(&address).expect("it listens");
        client.set_timeout(Some(PATIENCE));
        client.call_bytes("Test.Stall", Codec::Json, b"7").expect("it answers")
    });
    let (stalled, _) = stalls.accept().expect("the handler connects");
    // One sign may be on its way, of a round that had seen every reactor; another one would need a turn of the one that
    // stalls. The time is that of 50 signs.
    manager.0.set_nonblocking(true).expect("a flag");
    while manager.0.recv(&mut [0; 64]).is_ok() {}
    manager.0.set_nonblocking(false).expect("a flag");
    manager.0.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let signs = (0..2).take_while(|_| manager.0.recv(&mut [0; 64]).is_ok()).count();
    assert!(signs <= 1, "a sign of life while a reactor stalls");

    manager.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    drop(stalled);
    assert_eq!(caller.join().expect("no panic"), b"7");
    assert_eq!(manager.next(), "WATCHDOG=1", "it goes on");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// Reads the address that a server prints.
fn listening(mut stdout: impl Read) -> String {
    let mut text = Vec::new();
    loop {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).expect("it is open"), 1, "{}", String::from_utf8_lossy(&text));
        match byte[0] {
            b'\n' => match text.strip_prefix(b"listening on ") {
                Some(address) => return String::from_utf8(address.to_vec()).expect("text"),
                None => text.clear(),
            },
            byte => text.push(byte),
        }
    }
}

#[test]
fn a_reload_is_announced_and_ended_at_a_path_and_at_an_abstract_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("coreloop-restart-{}", std::process::id());
    let path = folder.path().join("notify");
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let abstract_socket = UnixDatagram::bind_addr(&address).expect("the name is free");
    let config = folder.path().join("server.toml");
    let sockets = [
        (path.display().to_string(), Manager::at(&path)),
        (format!("@{name}"), Manager::of(abstract_socket)),
    ];
    for (notify, manager) in sockets {
        std::fs::write(&config, "[limits]\nidle_ms = 5000\n").expect("a folder");
        let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--config"]);
        command.arg(&config).env("NOTIFY_SOCKET", &notify);
        let served = Served::start_command(command, 1);
        assert_eq!(manager.next(), "READY=1");
        let mut last = 0;
        // Whether the reload succeeds or not, the service is ready afterwards.
        for text in ["[limits]\nidle_ms = 6000\n", "[limits", "workers = 3\n"] {
            std::fs::write(&config, text).expect("a folder");
            let before = coreloop_poller::os::monotonic_micros();
            served.signal("HUP");
            let notice = manager.next();
            let at = notice.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the notice of a reload");
            let at: u64 = at.parse().expect("microseconds");
            let after = coreloop_poller::os::monotonic_micros();
            assert!(at >= before.max(last) && at <= after, "{before} {at} {after}");
            assert_eq!(manager.next(), "READY=1");
            last = at;
        }
        let ran = served.stop();
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(manager.next(), "STOPPING=1");
    }
}

#[test]
fn after_a_takeover_the_notices_are_those_of_the_new_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let notify = folder.path().join("notify");
    let manager = Manager::at(&notify);
    let start = || {
        let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--takeover"]);
        command.arg(folder.path().join("takeover")).env("NOTIFY_SOCKET", &notify);
        Served::start_command(command, 1)
    };
    let first = start();
    assert_eq!(manager.next(), "READY=1");
    let second = start();
    assert_eq!(manager.next(), format!("READY=1\nMAINPID={}", second.pid));
    assert_eq!(first.wait().code, Some(0));
    second.signal("HUP");
    assert!(manager.next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(second.stop().code, Some(0));
    assert_eq!(manager.next(), "STOPPING=1", "the first process said nothing at its end");
}
