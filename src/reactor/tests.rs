//! The order of a turn.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use coreloop_poller::Key;

use super::{App, ConnCx, Conns, Reactor, ReactorConfig, Remote, Transport};
use crate::context::Peer;
use crate::wire::{Out, Protocol, Received};

/// Single bytes.
struct Bytes;

impl Protocol for Bytes {
    type Message = ();
    type Outgoing<'a> = ();

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<()> {
        match input.is_empty() {
            false => Received::Message { message: (), consumed: 1 },
            true => Received::NeedMore { bytes_min: 1 },
        }
    }

    fn send(&mut self, (): (), _out: &mut Out<'_>) {}
}

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Logs its calls. A message makes it due at once.
struct Logging {
    log: Log,
    due_at: Option<Instant>,
}

impl Logging {
    fn new() -> (Logging, Log) {
        let log = Log::default();
        (Logging { log: log.clone(), due_at: None }, log)
    }

    fn log(&self, call: &'static str) {
        self.log.lock().unwrap().push(call);
    }
}

impl App for Logging {
    type Protocol = Bytes;
    type Session = ();
    type Mail = ();

    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (Bytes, ()) {
        (Bytes, ())
    }

    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, (): ()) {
        self.due_at = Some(cx.now());
        self.log("message");
    }

    fn on_mail(&mut self, _conns: &mut Conns<'_, Self>, (): ()) {
        self.log("mail");
    }

    fn schedule(&mut self, _conns: &mut Conns<'_, Self>) {
        self.log("schedule");
    }

    fn next_at(&self) -> Option<Instant> {
        self.due_at
    }

    fn on_time(&mut self, _conns: &mut Conns<'_, Self>) {
        self.due_at = None;
        self.log("time");
    }
}

/// Has everything happen to the app within one turn, and returns the calls.
fn calls_of_a_turn(reactor: &mut Reactor<Logging>, app: &Remote<()>, log: &Log) -> Vec<&'static str> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    assert!(app.adopt(Transport::Unix(mio::net::UnixStream::from_std(theirs)), Peer::Unix, 0));
    // The connection is adopted in the mail of one turn and readable in the wait of the next.
    reactor.turn().unwrap();
    ours.write_all(b"x").unwrap();
    app.mail(()).unwrap();
    log.lock().unwrap().clear();
    reactor.turn().unwrap();
    log.lock().unwrap().clone()
}

#[test]
fn what_a_turn_admits_or_ends_is_scheduled_in_that_turn() {
    let (app, log) = Logging::new();
    let mut reactor = Reactor::new(app, ReactorConfig::default()).unwrap();
    let main = reactor.remote();
    assert_eq!(calls_of_a_turn(&mut reactor, &main, &log), ["message", "mail", "time", "schedule"]);
    let (app, log) = Logging::new();
    let role = main.roles().add(ReactorConfig::default(), |_| app).unwrap();
    reactor.turn().unwrap();
    assert_eq!(calls_of_a_turn(&mut reactor, &role, &log), ["message", "mail", "time", "schedule"]);
}
