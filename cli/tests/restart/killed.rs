//! Real processes that are killed at each step of a takeover. The test stands between both: it passes on frame after
//! frame, so that it knows how far they are.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::common::{Ran, Served};
use crate::partner::{END, HELLO, Partner, READY, SOCKETS, YOURS, frame, settle};
use crate::{Place, call, exists};

/// The steps of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The new process has connected.
    Connected,
    /// The new process has said hello, and the old one has answered.
    Greeted,
    /// The new process has the sockets, and not yet the end of the offer.
    Passed,
    /// The new process has the whole offer.
    Offered,
    /// The new process has said that it serves; the old one has not heard it.
    Ready,
    /// The old one has heard it, and lets go; the new one has not heard that.
    Yours,
}

/// A takeover with the test in its middle.
struct Between {
    old: Partner,
    new: Partner,
}

impl Between {
    fn hidden(place: &Place) -> PathBuf {
        place.folder.path().join("hidden")
    }

    /// Puts a listener of the test in the place of that of the old process.
    fn listen(place: &Place) -> UnixListener {
        std::fs::rename(place.path(), Between::hidden(place)).expect("the old process listens");
        UnixListener::bind(place.path()).expect("the path is free")
    }

    /// Waits until the new process has connected, and puts everything back into its place.
    fn accept(place: &Place, listener: &UnixListener) -> Between {
        let (new, _) = listener.accept().expect("the new process connects");
        let old = UnixStream::connect(Between::hidden(place)).expect("the old process listens");
        std::fs::rename(Between::hidden(place), place.path()).expect("over that of the test");
        Between { old: Partner::of(old), new: Partner::of(new) }
    }

    fn pass(from: &mut Partner, to: &mut Partner, expected: u8) {
        loop {
            let (kind, payload) = from.next().expect("a frame comes");
            let passed: Vec<OwnedFd> = from.passed.drain(..).collect();
            to.send_with(&frame(kind, &payload), &passed);
            if kind == expected {
                return;
            }
        }
    }

    fn go_to(&mut self, step: Step) {
        let Between { old, new } = self;
        if step >= Step::Greeted {
            Between::pass(new, old, HELLO);
            Between::pass(old, new, HELLO);
        }
        if step >= Step::Passed {
            Between::pass(old, new, SOCKETS);
        }
        if step >= Step::Offered {
            Between::pass(old, new, END);
        }
        if step == Step::Ready {
            assert_eq!(new.next().expect("it serves").0, READY);
        }
        if step >= Step::Yours {
            Between::pass(new, old, READY);
            assert_eq!(old.next().expect("it lets go").0, YOURS);
        }
    }
}

/// Starts a process without waiting until it serves.
fn spawn(place: &Place) -> Child {
    let mut command = place.command(&["--cores", "2"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

fn kill_server(server: Served) {
    server.signal("KILL");
    assert_eq!(server.wait().code, None, "it was killed");
}

/// The server answers, and the next takeover works.
fn can_be_taken_over(place: &Place, server: Served) {
    call(server.address());
    settle(place);
    let next = place.start(&[]);
    assert_eq!(next.address(), server.address());
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    call(next.address());
    assert_eq!(next.stop().code, Some(0));
    assert!(!exists(&place.path()));
}

#[test]
fn the_old_process_serves_on_if_the_new_one_dies() {
    let place = Place::new();
    let server = place.start(&["--cores", "2"]);
    for step in [Step::Connected, Step::Greeted, Step::Passed, Step::Offered, Step::Ready] {
        let listener = Between::listen(&place);
        let new = spawn(&place);
        let mut between = Between::accept(&place, &listener);
        between.go_to(step);
        kill(new);
        drop(between);
        call(server.address());
        // Nothing of the takeover is left over.
        settle(&place);
    }
    can_be_taken_over(&place, server);
}

#[test]
fn a_new_process_that_dies_after_the_hand_over_leaves_the_place_free() {
    let place = Place::new();
    let server = place.start(&[]);
    let listener = Between::listen(&place);
    let new = spawn(&place);
    let mut between = Between::accept(&place, &listener);
    between.go_to(Step::Yours);
    kill(new);
    drop(between);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // The file is left, and no process listens: the next one is a first one.
    assert!(exists(&place.path()));
    let next = place.start(&[]);
    can_be_taken_over(&place, next);
}

#[test]
fn without_the_whole_offer_a_new_process_does_not_start() {
    for step in [Step::Connected, Step::Greeted, Step::Passed] {
        let place = Place::new();
        let server = place.start(&["--cores", "2"]);
        let listener = Between::listen(&place);
        let new = spawn(&place);
        let mut between = Between::accept(&place, &listener);
        between.go_to(step);
        kill_server(server);
        drop(between);
        let ran: Ran = new.wait_with_output().expect("it ends").into();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{step:?}: {}", ran.stderr);
        let expected = "it closed the connection before it had passed its sockets";
        assert!(ran.stderr.contains(expected), "{step:?}: {}", ran.stderr);
        // The next one is a first one.
        can_be_taken_over(&place, place.start(&[]));
    }
}

#[test]
fn the_new_process_serves_if_the_old_one_dies_after_its_offer() {
    for step in [Step::Offered, Step::Ready, Step::Yours] {
        let place = Place::new();
        let server = place.start(&["--cores", "2"]);
        let address = server.address().to_owned();
        let listener = Between::listen(&place);
        let command = place.command(&["--cores", "2"]);
        let new = std::thread::spawn(move || Served::start_command(command, 1));
        let mut between = Between::accept(&place, &listener);
        between.go_to(step);
        if step == Step::Yours {
            // It has ended by itself, or is about to.
            assert_eq!(server.wait().code, Some(0));
        } else {
            kill_server(server);
        }
        drop(between);
        let new = new.join().expect("it serves");
        assert_eq!(new.address(), address);
        can_be_taken_over(&place, new);
    }
}

#[test]
fn a_second_real_process_is_refused_while_the_first_takes_over() {
    let place = Place::new();
    let server = place.start(&[]);
    let listener = Between::listen(&place);
    let command = place.command(&[]);
    let first = std::thread::spawn(move || Served::start_command(command, 1));
    let mut between = Between::accept(&place, &listener);
    between.go_to(Step::Offered);
    let error = place.fail(&[]);
    assert!(error.contains("refused the takeover: another takeover is under way"), "{error}");
    Between::pass(&mut between.new, &mut between.old, READY);
    Between::pass(&mut between.old, &mut between.new, YOURS);
    assert_eq!(server.wait().code, Some(0));
    can_be_taken_over(&place, first.join().expect("it serves"));
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let place = Place::new();
    let (path, shown) = (place.path(), place.path().display().to_string());
    std::fs::write(&path, "data").expect("a folder");
    let error = place.fail(&[]);
    assert!(error.contains(&format!("cannot use {shown} for takeovers (restart.takeover): ")), "{error}");
    assert_eq!(std::fs::read(&path).expect("it is there"), b"data");
    std::fs::remove_file(&path).expect("ours");
    std::fs::create_dir(&path).expect("a folder");
    let error = place.fail(&[]);
    assert!(error.contains(&format!("cannot use {shown} for takeovers (restart.takeover): ")), "{error}");
    std::fs::remove_dir(&path).expect("it is there, and empty");
    // A folder that does not exist, and a path that is longer than an address can be.
    for path in [path.join("t"), place.folder.path().join("n".repeat(120))] {
        let mut command = crate::common::coreloop(&["serve", "--listen", "127.0.0.1:0", "--takeover"]);
        let ran: Ran = command.arg(&path).output().expect("the binary runs").into();
        let expected = format!("cannot use {} for takeovers (restart.takeover): ", path.display());
        assert!(ran.code == Some(1) && ran.stderr.contains(&expected), "{}", ran.stderr);
    }
    // A socket at which no process listens any more is replaced.
    drop(UnixListener::bind(&path).expect("the path is free"));
    can_be_taken_over(&place, place.start(&[]));
}
