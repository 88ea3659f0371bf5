//! Several apps on one reactor: their connections stay apart, and each ends alone or with the reactor.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::context::Peer;
use crate::reactor::{App, ConnCx, Conns, Reactor, ReactorConfig, Remote, Transport, UnbuiltReactor};
use crate::wire::{Out, Protocol, Received};

const PATIENCE: Duration = Duration::from_secs(20);

/// Single bytes.
struct Bytes;

impl Protocol for Bytes {
    type Message = u8;
    type Outgoing<'a> = [u8; 2];

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<u8> {
        match input.first() {
            Some(byte) => Received::Message { message: *byte, consumed: 1 },
            None => Received::NeedMore { bytes_min: 1 },
        }
    }

    fn send(&mut self, bytes: [u8; 2], out: &mut Out<'_>) {
        out.put(&bytes);
    }
}

/// Answers each byte with its own name and the byte; passes mail to the test.
struct Named {
    name: u8,
    mail: mpsc::Sender<(u8, std::thread::ThreadId)>,
    alarm: Option<Instant>,
}

enum Mail {
    Say(u8),
    WakeIn(Duration),
}

impl App for Named {
    type Protocol = Bytes;
    type Session = ();
    type Mail = Mail;

    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (Bytes, ()) {
        (Bytes, ())
    }

    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, byte: u8) {
        cx.send([self.name, byte]);
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, Self>, mail: Mail) {
        match mail {
            Mail::Say(byte) => drop(self.mail.send((byte, std::thread::current().id()))),
            Mail::WakeIn(time) => self.alarm = Some(conns.now() + time),
        }
    }

    fn next_at(&self) -> Option<Instant> {
        self.alarm
    }

    fn on_time(&mut self, _conns: &mut Conns<'_, Self>) {
        self.alarm = None;
        let _ = self.mail.send((b'!', std::thread::current().id()));
    }
}

struct Rig {
    main: Remote<Mail>,
    thread: JoinHandle<()>,
    mail: mpsc::Receiver<(u8, std::thread::ThreadId)>,
    to_test: mpsc::Sender<(u8, std::thread::ThreadId)>,
}

impl Rig {
    fn start() -> Rig {
        let (to_test, mail) = mpsc::channel();
        let app = Named { name: b'm', mail: to_test.clone(), alarm: None };
        let mut reactor = Reactor::new(app, ReactorConfig::default()).unwrap();
        let main = reactor.remote();
        let thread = std::thread::spawn(move || reactor.run().unwrap());
        Rig { main, thread, mail, to_test }
    }

    fn add(&self, name: u8) -> Remote<Mail> {
        let mail = self.to_test.clone();
        self.main.roles().add(ReactorConfig::default(), |_| Named { name, mail, alarm: None }).unwrap()
    }

    fn next(&self) -> (u8, std::thread::ThreadId) {
        self.mail.recv_timeout(PATIENCE).unwrap()
    }

    fn end(self) {
        self.main.stop();
        self.thread.join().unwrap();
    }
}

/// Gives a role one end of a new connection.
fn connect(role: &Remote<Mail>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(role.adopt(Transport::Unix(mio::net::UnixStream::from_std(theirs)), Peer::Unix, 0));
    ours
}

fn ask(mut stream: &UnixStream, byte: u8) -> [u8; 2] {
    stream.write_all(&[byte]).unwrap();
    let mut reply = [0; 2];
    stream.read_exact(&mut reply).unwrap();
    reply
}

fn is_closed(mut stream: &UnixStream) -> bool {
    stream.read(&mut [0]).map_or(true, |read| read == 0)
}

#[test]
fn events_reach_the_connections_of_their_role() {
    let rig = Rig::start();
    let roles: Vec<_> = std::iter::once((b'm', rig.main.clone()))
        .chain((b'a'..=b'e').map(|name| (name, rig.add(name))))
        .collect();
    let streams: Vec<_> =
        roles.iter().flat_map(|(name, role)| (0..10).map(|_| (*name, connect(role)))).collect();
    for byte in 0..20 {
        for (name, stream) in &streams {
            assert_eq!(ask(stream, byte), [*name, byte]);
        }
    }
    rig.end();
    assert!(streams.iter().all(|(_, stream)| is_closed(stream)));
}

#[test]
fn mail_and_time_wake_a_role_on_the_reactors_thread() {
    let rig = Rig::start();
    let role = rig.add(b'a');
    for byte in 0..50 {
        role.mail(Mail::Say(byte)).ok().unwrap();
        assert_eq!(rig.next(), (byte, rig.thread.thread().id()));
    }
    role.mail(Mail::WakeIn(Duration::from_millis(3))).ok().unwrap();
    assert_eq!(rig.next(), (b'!', rig.thread.thread().id()));
    rig.end();
    assert!(role.mail(Mail::Say(1)).is_err());
}

#[test]
fn a_role_ends_alone_and_its_index_serves_the_next() {
    let rig = Rig::start();
    let (first, second) = (rig.add(b'a'), rig.add(b'b'));
    let (of_first, of_second) = (connect(&first), connect(&second));
    assert_eq!((ask(&of_first, 1), ask(&of_second, 2)), ([b'a', 1], [b'b', 2]));
    first.stop();
    assert!(is_closed(&of_first));
    let third = rig.add(b'c');
    let of_third = connect(&third);
    assert_eq!((ask(&of_third, 3), ask(&of_second, 4)), ([b'c', 3], [b'b', 4]));
    second.drain();
    assert!(is_closed(&of_second));
    assert_eq!(ask(&of_third, 5), [b'c', 5]);
    rig.end();
}

#[test]
fn a_role_can_add_roles() {
    let rig = Rig::start();
    let role = rig.add(b'a');
    let mail = rig.to_test.clone();
    let next =
        role.roles().add(ReactorConfig::default(), |_| Named { name: b'n', mail, alarm: None }).unwrap();
    assert_eq!(ask(&connect(&next), 7), [b'n', 7]);
    rig.end();
}

#[test]
fn a_drained_reactor_ends_its_roles_after_its_main_app() {
    let rig = Rig::start();
    let role = rig.add(b'a');
    let (of_main, of_role) = (connect(&rig.main), connect(&role));
    assert_eq!((ask(&of_main, 1), ask(&of_role, 2)), ([b'm', 1], [b'a', 2]));
    // What was sent before the drain is answered, on either.
    (&of_role).write_all(&[3]).unwrap();
    (&of_main).write_all(&[4]).unwrap();
    rig.main.drain();
    rig.thread.join().unwrap();
    for (stream, want) in [(of_main, [b'm', 4]), (of_role, [b'a', 3])] {
        let mut rest = Vec::new();
        (&stream).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, want);
    }
    assert!(role.mail(Mail::Say(1)).is_err());
}

#[test]
fn a_role_of_a_reactor_that_is_not_built_yet_waits_for_it() {
    let (to_test, mail) = mpsc::channel();
    let unbuilt = UnbuiltReactor::<Mail>::new().unwrap();
    let app = |name| Named { name, mail: to_test.clone(), alarm: None };
    let role = unbuilt.remote().roles().add(ReactorConfig::default(), |_| app(b'a')).unwrap();
    role.mail(Mail::Say(9)).ok().unwrap();
    let mut reactor = unbuilt.build(app(b'm'), ReactorConfig::default());
    let remote = reactor.remote();
    let thread = std::thread::spawn(move || reactor.run().unwrap());
    assert_eq!(mail.recv_timeout(PATIENCE).unwrap().0, 9);
    remote.stop();
    thread.join().unwrap();
}

#[test]
fn a_role_of_a_reactor_that_is_never_built_is_dropped() {
    let (to_test, mail) = mpsc::channel();
    let unbuilt = UnbuiltReactor::<Mail>::new().unwrap();
    let app = |_| Named { name: b'a', mail: to_test, alarm: None };
    let (handle, role) = {
        let handle = unbuilt.remote().roles();
        let role = handle.add(ReactorConfig::default(), app).unwrap();
        (handle, role)
    };
    drop(unbuilt);
    assert!(mail.recv_timeout(PATIENCE).is_err(), "the app is dropped, and its sender with it");
    assert!(role.mail(Mail::Say(1)).is_err());
    let (late, _mail) = mpsc::channel();
    let refused = handle.add(ReactorConfig::default(), |_| Named { name: b'z', mail: late, alarm: None });
    assert_eq!(refused.err().unwrap().kind(), std::io::ErrorKind::NotConnected);
}

#[test]
fn a_role_beyond_the_maximum_ends_at_once() {
    let (to_test, _mail) = mpsc::channel();
    let bell = Poller::new(8).unwrap().bell();
    let (sent, received) = mpsc::channel();
    let handle = RoleHandle::new(bell, move |role| sent.send(role).is_ok());
    let mut roles = Roles::default();
    for _ in 0..=ROLES_MAX {
        let mail = to_test.clone();
        let remote =
            handle.add(ReactorConfig::default(), |_| Named { name: b'a', mail, alarm: None }).unwrap();
        let is_beyond = roles.roles.len() == ROLES_MAX;
        roles.add(received.recv().unwrap());
        assert_eq!(remote.mail(Mail::Say(1)).is_err(), is_beyond);
    }
}
