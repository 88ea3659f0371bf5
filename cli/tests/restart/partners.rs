//! Partners of a takeover that die at any step, speak another version, hang, or come in pairs.

use std::io::Write;
use std::os::unix::net::UnixListener;

use crate::common::Served;
use crate::partner::{HELLO, Partner, frame, hello, settle};
use crate::{Place, call};

/// The server is as it was: it answers, and can be taken over.
fn is_unharmed(place: &Place, server: Served) {
    call(server.address());
    settle(place);
    let next = place.start(&[]);
    assert_eq!(server.wait().code, Some(0));
    call(next.address());
}

#[test]
fn a_new_process_that_dies_at_any_step_changes_nothing() {
    let place = Place::new();
    let server = place.start(&["--cores", "2"]);
    drop(Partner::connect(&place));
    let first = frame(HELLO, &hello(1));
    for sent in 1..first.len() {
        Partner::connect(&place).send(&first[..sent]);
    }
    // In the offer, and after it, with the descriptors, and in the middle of its answer.
    drop(Partner::begin(&place));
    let mut partner = Partner::begin(&place);
    let _ = partner.read_offer();
    assert_eq!(partner.passed.len(), 3, "the socket for takeovers, and one for each reactor");
    drop(partner);
    let mut partner = Partner::begin(&place);
    let _ = partner.read_offer();
    partner.send(&100_u32.to_le_bytes());
    drop(partner);
    is_unharmed(&place, server);
}

#[test]
fn the_second_of_two_at_once_is_refused() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut first = Partner::begin(&place);
    let error = place.fail(&[]);
    let text = format!(
        "the process at {} refused the takeover: another takeover is under way",
        place.path().display()
    );
    assert!(error.contains(&text), "{error}");
    let _ = first.read_offer();
    drop(first);
    is_unharmed(&place, server);
}

#[test]
fn a_new_process_of_another_version_is_refused() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut partner = Partner::connect(&place);
    partner.send(&frame(HELLO, &hello(9)));
    assert_eq!(
        partner.refusal(),
        "the running process speaks version 1 of the takeover protocol, the new one version 9"
    );
    let mut partner = Partner::connect(&place);
    partner.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(partner.refusal(), "the length of a frame is not from 1 to 65,536");
    is_unharmed(&place, server);
}

#[test]
fn a_new_process_that_hangs_is_given_up() {
    let place = Place::new();
    let server = place.start(&["--set", "restart.takeover_ms=1000"]);
    let late = "the new process did not serve within 1000 ms (restart.takeover_ms)";
    // It says nothing, or accepts the offer and nothing more.
    let mut silent = Partner::connect(&place);
    assert_eq!(silent.refusal(), late);
    let mut partner = Partner::begin(&place);
    let _ = partner.read_offer();
    assert_eq!(partner.refusal(), late);
    call(server.address());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_stop_refuses_a_takeover_that_is_under_way() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut partner = Partner::begin(&place);
    let _ = partner.read_offer();
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(partner.refusal(), "the running process stops");
}

#[test]
fn an_old_process_that_hangs_or_is_none_is_an_error() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).expect("the path is free");
    let shown = place.path().display().to_string();
    let fail = |answer: &'static [u8]| {
        let listener = listener.try_clone().expect("a descriptor");
        let old = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it connects");
            stream.write_all(answer).expect("it reads");
            Partner::of(stream)
        });
        let error = place.fail(&["--set", "restart.takeover_ms=2000"]);
        drop(old.join().expect("no panic"));
        error
    };
    let error = fail(b"");
    let late =
        format!("the process at {shown} did not complete the takeover within 2000 ms (restart.takeover_ms)");
    assert!(error.contains(&late), "{error}");
    let error = fail(b"\x0b\0\0\0\x01coreloop\x09\0");
    let version =
        format!("the process at {shown} speaks version 9 of the takeover protocol; expected version 1");
    assert!(error.contains(&version), "{error}");
    let error = fail(b"220 smtp.example.com ESMTP");
    assert!(error.contains("the length of a frame is not from 1 to 65,536"), "{error}");
}

#[test]
fn the_file_of_a_process_that_was_killed_is_replaced() {
    let place = Place::new();
    let old = place.start(&[]);
    old.signal("KILL");
    old.wait();
    // The file of its socket is still there, and no process listens.
    assert!(crate::exists(&place.path()));
    let new = place.start(&[]);
    call(new.address());
    assert_eq!(new.stop().code, Some(0));
}
