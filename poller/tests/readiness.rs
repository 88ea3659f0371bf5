//! The poller with real sockets and real threads.

#![cfg(not(loom))]

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use mio::net::{TcpListener, TcpStream, UnixStream};

use coreloop_poller::{Interest, Key, Poller, Ready, Slots};

/// Waits, without a limit, until some event of `key` satisfies `wanted`.
fn until(poller: &mut Poller, key: Key, wanted: impl Fn(Ready) -> bool) -> Ready {
    loop {
        poller.wait(None, || false).expect("waits");
        for i in 0..poller.len() {
            let (found, ready) = poller.event(i);
            assert_eq!(found, key);
            if wanted(ready) {
                return ready;
            }
        }
    }
}

fn pair(poller: &mut Poller, key: Key, interest: Interest) -> (UnixStream, std::os::unix::net::UnixStream) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("nonblocking");
    let mut ours = UnixStream::from_std(ours);
    poller.register(&mut ours, key, interest).expect("registers");
    (ours, theirs)
}

#[test]
fn bytes_make_it_readable_once() {
    let mut poller = Poller::new(8).unwrap();
    let key = Key::new(3, 7);
    let (mut ours, mut theirs) = pair(&mut poller, key, Interest::READABLE);
    assert_eq!(poller.wait(Some(Duration::ZERO), || false).unwrap(), 0);
    theirs.write_all(b"hello").unwrap();
    let ready = until(&mut poller, key, Ready::is_readable);
    assert!(!ready.is_writable() && !ready.is_read_closed() && !ready.is_error());
    // Edge-triggered: not reported again.
    assert_eq!(poller.wait(Some(Duration::ZERO), || false).unwrap(), 0);
    assert!(poller.is_empty());
    let mut bytes = [0; 8];
    assert_eq!(ours.read(&mut bytes).unwrap(), 5);
    assert_eq!(ours.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    theirs.write_all(b"more").unwrap();
    until(&mut poller, key, Ready::is_readable);
}

#[test]
fn room_makes_it_writable_again() {
    let mut poller = Poller::new(8).unwrap();
    let key = Key::new(0, 0);
    let (mut ours, mut theirs) = pair(&mut poller, key, Interest::BOTH);
    until(&mut poller, key, Ready::is_writable);
    let block = [0; 4096];
    let mut sent = 0;
    loop {
        match ours.write(&block) {
            Ok(bytes) => sent += bytes,
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    let mut bytes = vec![0; sent];
    theirs.read_exact(&mut bytes).unwrap();
    until(&mut poller, key, Ready::is_writable);
}

#[test]
fn half_close_is_read_closed_and_still_writable() {
    let mut poller = Poller::new(8).unwrap();
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let listener_key = Key::new(0, 0);
    poller.register(&mut listener, listener_key, Interest::READABLE).unwrap();
    let mut client = std::net::TcpStream::connect(addr).unwrap();
    until(&mut poller, listener_key, Ready::is_readable);
    let (mut server, _) = listener.accept().unwrap();
    poller.deregister(&mut listener).unwrap();

    let key = Key::new(1, 4);
    poller.register(&mut server, key, Interest::BOTH).unwrap();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let ready = until(&mut poller, key, Ready::is_read_closed);
    assert!(ready.is_readable() && !ready.is_write_closed());
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"last words");
    server.write_all(b"answer").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn a_refused_connect_is_reported() {
    let mut poller = Poller::new(8).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = Key::new(2, 0);
    // Some systems refuse at once.
    if let Ok(mut stream) = TcpStream::connect(free) {
        poller.register(&mut stream, key, Interest::BOTH).unwrap();
        until(&mut poller, key, |ready| ready.is_error() || ready.is_write_closed());
        assert!(stream.take_error().unwrap().is_some());
    }
}

#[test]
fn an_event_of_a_removed_entry_finds_nothing() {
    let mut poller = Poller::new(8).unwrap();
    let mut slots = Slots::new();
    let key = slots.next_key();
    let (ours, mut theirs) = pair(&mut poller, key, Interest::READABLE);
    assert_eq!(slots.insert(ours), key);
    theirs.write_all(b"x").unwrap();
    until(&mut poller, key, Ready::is_readable);
    // The event is fetched; then the entry is removed, and the slot gets another before the event is handled.
    slots.remove(key);
    let next = slots.next_key();
    let (ours, _theirs) = pair(&mut poller, next, Interest::READABLE);
    slots.insert(ours);
    let (found, _) = poller.event(0);
    assert_eq!(found.slot(), next.slot());
    assert!(slots.at(found).is_none() && slots.contains(next));
}

#[test]
fn reregistering_reports_again_under_the_new_key() {
    let mut poller = Poller::new(8).unwrap();
    let (old, new) = (Key::new(0, u32::MAX), Key::new(0, 0));
    let (mut ours, mut theirs) = pair(&mut poller, old, Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    until(&mut poller, old, Ready::is_readable);
    poller.reregister(&mut ours, new, Interest::READABLE).unwrap();
    until(&mut poller, new, Ready::is_readable);
    poller.deregister(&mut ours).unwrap();
    theirs.write_all(b"y").unwrap();
    assert_eq!(poller.wait(Some(Duration::ZERO), || false).unwrap(), 0);
}

#[test]
fn events_beyond_the_bound_come_with_the_next_wait() {
    let mut poller = Poller::new(2).unwrap();
    let mut seen = [false; 7];
    let pairs: Vec<_> = (0..7).map(|slot| pair(&mut poller, Key::new(slot, 1), Interest::WRITABLE)).collect();
    while !seen.iter().all(|seen| *seen) {
        // One more than requested: the room reserved for the bell.
        assert!((1..=3).contains(&poller.wait(None, || false).unwrap()));
        for i in 0..poller.len() {
            seen[poller.event(i).0.slot()] = true;
        }
    }
    drop(pairs);
}

#[test]
fn the_bells_key_is_refused() {
    let mut poller = Poller::new(0).unwrap();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = poller.register(&mut UnixStream::from_std(ours), Key::from_bits(u64::MAX), Interest::BOTH);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn ring_wakes_a_wait_without_timeout() {
    let mut poller = Poller::new(8).unwrap();
    let bell = poller.bell();
    let mail = Arc::new(AtomicUsize::new(0));
    const ROUNDS: usize = 1000;
    let (ask, asked) = mpsc::channel();
    let ringer = thread::spawn({
        let mail = mail.clone();
        move || {
            for () in asked {
                mail.fetch_add(1, SeqCst);
                bell.ring();
            }
        }
    });
    for round in 0..ROUNDS {
        ask.send(()).unwrap();
        while mail.load(SeqCst) == round {
            assert_eq!(poller.wait(None, || mail.load(SeqCst) > round).unwrap(), 0);
        }
    }
    drop(ask);
    ringer.join().unwrap();
}

#[test]
fn sleeping_poller_is_woken_by_one_of_many_rings() {
    const RINGERS: usize = 4;
    let mut poller = Poller::new(8).unwrap();
    let start = Arc::new(Barrier::new(RINGERS + 1));
    let done = Arc::new(Barrier::new(RINGERS + 1));
    let rung = Arc::new(AtomicBool::new(false));
    let ringers: Vec<_> = (0..RINGERS)
        .map(|_| {
            let (bell, start, done, rung) = (poller.bell(), start.clone(), done.clone(), rung.clone());
            thread::spawn(move || {
                start.wait();
                rung.store(true, SeqCst);
                let sent = bell.ring();
                done.wait();
                sent
            })
        })
        .collect();
    // The last check for mail releases the ringers: by then the poller has marked itself asleep.
    poller
        .wait(None, || {
            start.wait();
            done.wait();
            false
        })
        .unwrap();
    assert!(rung.load(SeqCst));
    let sent = ringers.into_iter().map(|ringer| ringer.join().unwrap()).filter(|sent| *sent).count();
    assert_eq!(sent, 1);
}

#[test]
fn rings_while_awake_send_no_wake_up() {
    let mut poller = Poller::new(8).unwrap();
    let bell = poller.bell();
    for _ in 0..100 {
        assert!(!bell.ring());
    }
    // Nor during a wait that does not sleep, nor after one that did.
    poller.wait(Some(Duration::ZERO), || unreachable!("a wait of zero looks at no mail")).unwrap();
    assert!(!bell.ring());
    poller.wait(None, || true).unwrap();
    assert!(!bell.ring());
    poller.wait(Some(Duration::from_nanos(1)), || false).unwrap();
    assert!(!bell.ring());
}

#[test]
fn ring_before_the_wait_is_seen() {
    let mut poller = Poller::new(8).unwrap();
    let bell = poller.bell();
    let mail = AtomicBool::new(false);
    mail.store(true, SeqCst);
    assert!(!bell.ring());
    // Would never return if the mail were not checked.
    assert_eq!(poller.wait(None, || mail.load(SeqCst)).unwrap(), 0);
}

#[test]
fn mail_does_not_hide_readiness() {
    let mut poller = Poller::new(8).unwrap();
    let key = Key::new(1, 1);
    let (_ours, mut theirs) = pair(&mut poller, key, Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    assert_eq!(poller.wait(None, || true).unwrap(), 1);
    assert_eq!(poller.event(0).0, key);
}

#[test]
fn bell_outlives_its_poller() {
    let poller = Poller::new(8).unwrap();
    let bell = poller.bell();
    drop(poller);
    assert!(!bell.clone().ring());
}
