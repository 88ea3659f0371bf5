//! Session tickets across takeovers: what a process has given out, its successors open.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Place;
use crate::authority::{Authority, text};
use crate::common::Served;
use crate::partner::{END, HELLO, Partner, READY, SOCKETS, STATE, YOURS, frame, hello, settle};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];
/// The name of the state that has the keys.
const STATE_NAME: &[u8] = b"\x0ftls-ticket-keys";
/// The digest of the rules for clients is before the keys.
const DIGEST_BYTES: usize = 32;
/// A name, a secret, and the seconds since the epoch at which the key was made.
const KEY_BYTES: usize = 16 + 32 + 8;

/// Sets of arguments that give a server the certificate of an authority.
fn settings(authority: &Authority) -> [String; 2] {
    let pair = authority.server();
    [("certificate", pair.certificate), ("key", pair.key)]
        .map(|(name, path)| format!("--set=tls.{name}={}", path.display()))
}

/// A client that keeps its sessions in files.
struct OpenSsl {
    authority: Authority,
}

impl OpenSsl {
    /// `None` if the program is not installed.
    fn new() -> Option<OpenSsl> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped: openssl is not installed");
            return None;
        }
        Some(OpenSsl { authority: Authority::new() })
    }

    /// Makes a request over a new connection; returns whether the session was resumed.
    fn connect(&self, address: &str, version: &str, option: &str, more: &[&str]) -> bool {
        let (ca, session) = (text(&self.authority.ca()), text(&self.authority.path(version)));
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", address, "-CAfile", &ca, version, "-ign_eof"]);
        command.args([option, &session]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        child.stdin.take().expect("piped").write_all(request).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("HTTP/1.1 200 "), "{shown}{}", String::from_utf8_lossy(&output.stderr));
        let is_resumed = shown.contains("\nReused, TLSv1.");
        assert!(is_resumed || shown.contains("\nNew, TLSv1."), "{shown}");
        is_resumed
    }

    /// Begins sessions of both versions.
    fn begin(&self, address: &str) {
        for version in VERSIONS {
            assert!(!self.connect(address, version, "-sess_out", &[]), "{version}");
        }
    }

    /// Returns whether the sessions are resumed.
    fn resume(&self, address: &str, more: &[&str]) -> [bool; 2] {
        VERSIONS.map(|version| self.connect(address, version, "-sess_in", more))
    }
}

/// Begins to take over, and gives up; returns what would be passed for TLS.
fn ticket_state(place: &Place) -> Vec<u8> {
    let states = Partner::begin(place).read_offer();
    settle(place);
    let state = states.iter().find_map(|state| state.strip_prefix(STATE_NAME));
    let state = state.expect("there are keys of tickets").to_vec();
    assert!(state.len() > DIGEST_BYTES && (state.len() - DIGEST_BYTES).is_multiple_of(KEY_BYTES));
    state
}

fn start<'a>(place: &Place, settings: &'a [String], more: &[&'a str]) -> Served {
    let args: Vec<&str> = settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
    place.start(&args)
}

#[test]
fn a_session_goes_on_in_the_processes_after() {
    let Some(openssl) = OpenSsl::new() else { return };
    let (place, settings) = (Place::new(), settings(&openssl.authority));
    let mut server = start(&place, &settings, &[]);
    let address = server.address().to_owned();
    openssl.begin(&address);
    let state = ticket_state(&place);
    for cores in ["2", "1"] {
        let next = start(&place, &settings, &["--cores", cores]);
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        server = next;
        assert_eq!(openssl.resume(&address, &[]), [true, true]);
    }
    assert_eq!(ticket_state(&place), state, "the keys are those of the first process");
    // A process that was not taken over has keys of its own.
    assert_eq!(server.stop().code, Some(0));
    let other = start(&place, &settings, &[]);
    assert_eq!(openssl.resume(other.address(), &[]), [false, false]);
    assert_ne!(ticket_state(&place), state);
}

#[test]
fn a_session_ends_with_the_rules_under_which_it_began() {
    let Some(openssl) = OpenSsl::new() else { return };
    let (place, settings) = (Place::new(), settings(&openssl.authority));
    let first = start(&place, &settings, &[]);
    let address = first.address().to_owned();
    openssl.begin(&address);
    // The new process asks for certificates: a session without one must not be resumed.
    let ca = format!("tls.client_ca={}", openssl.authority.ca().display());
    let second = start(&place, &settings, &["--set", &ca, "--set", "tls.client_auth=optional"]);
    assert_eq!(first.wait().code, Some(0));
    assert_eq!(openssl.resume(&address, &[]), [false, false]);
    assert_eq!(second.stop().code, Some(0));
}

#[test]
fn keys_that_have_rotated_travel_with_the_one_before() {
    let Some(openssl) = OpenSsl::new() else { return };
    let settings = settings(&openssl.authority);
    let before = Place::new();
    let first = start(&before, &settings, &[]);
    openssl.begin(first.address());
    let state = ticket_state(&before);
    assert_eq!(first.stop().code, Some(0));
    // Its key was made seven hours ago: another one seals since an hour.
    let hours_ago = |hours: u64| {
        let time = SystemTime::now() - Duration::from_secs(hours * 3600);
        time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs().to_le_bytes()
    };
    let (digest, key) = state.split_at(DIGEST_BYTES);
    let old = [&key[..KEY_BYTES - 8], &hours_ago(7)].concat();
    let new = [&[7; KEY_BYTES - 8][..], &hours_ago(1)].concat();
    let rotated = [digest, &new, &old].concat();
    let place = Place::new();
    let second = take_over_from_test(&place, &settings, &rotated);
    assert_eq!(openssl.resume(second.address(), &[]), [true, true]);
    assert_eq!(ticket_state(&place), rotated);
    let ended = second.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // Keys that are too old, or no keys, are as none: the server starts, and handshakes are complete.
    let aged = [digest, &key[..KEY_BYTES - 8], &hours_ago(13)].concat();
    for state in [&aged[..], &rotated[..rotated.len() - 1], digest, b"", b"secrets"] {
        let place = Place::new();
        let server = take_over_from_test(&place, &settings, state);
        assert_eq!(openssl.resume(server.address(), &[]), [false, false], "{} bytes", state.len());
        assert_eq!(server.stop().code, Some(0));
    }
}

/// Starts a server that takes over from this test, which passes this state.
fn take_over_from_test(place: &Place, settings: &[String], state: &[u8]) -> Served {
    let control = UnixListener::bind(place.path()).expect("the path is free");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (accepting, state) = (control.try_clone().expect("a descriptor"), state.to_vec());
    let old = std::thread::spawn(move || {
        let (stream, _) = accepting.accept().expect("it connects");
        let mut partner = Partner::of(stream);
        assert_eq!(partner.next(), Some((HELLO, hello(1))));
        partner.send(&frame(HELLO, &hello(1)));
        let named = |name: &str| [&[1], &(name.len() as u16).to_le_bytes()[..], name.as_bytes()].concat();
        let names = [named("takeover"), named("127.0.0.1:0")].concat();
        let passed: [OwnedFd; 2] = [control.into(), listener.into()];
        partner.send_with(&frame(SOCKETS, &names), &passed);
        partner.send(&frame(STATE, b"\x05other of no meaning"));
        partner.send(&frame(STATE, &[STATE_NAME, &state].concat()));
        partner.send(&frame(END, &2_u32.to_le_bytes()));
        assert_eq!(partner.next().expect("it is ready").0, READY);
        partner.send(&frame(YOURS, &[]));
    });
    let server = start(place, settings, &[]);
    old.join().expect("no panic");
    server
}
