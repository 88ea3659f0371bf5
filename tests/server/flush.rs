//! When replies are written: at the end of the turn, at the high mark, and at the latest after the delay.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{Frame, PATIENCE, Peer, eventually, rig, shared};
use coreloop::context::Peer as PeerAddress;
use coreloop::policy::flush::FlushPolicy;
use coreloop::poller::Key;
use coreloop::reactor::{App, ConnCx, Conns, Reactor, ReactorConfig, Remote};
use coreloop::wire::{Out, Protocol, Received};

/// A protocol whose request is a number of bytes, and whose reply is that many bytes.
struct Numbers;

impl Protocol for Numbers {
    type Message = u32;
    type Outgoing<'a> = Vec<u8>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<u32> {
        match input.first_chunk::<4>() {
            Some(number) => Received::Message { message: u32::from_le_bytes(*number), consumed: 4 },
            None => Received::NeedMore { bytes_min: 4 },
        }
    }

    fn send(&mut self, bytes: Vec<u8>, out: &mut Out<'_>) {
        out.put(&bytes);
    }
}

#[derive(Default)]
struct Serve {
    last: Option<Key>,
}

impl App for Serve {
    type Protocol = Numbers;
    type Session = ();
    /// The sizes of replies to the connection that was opened last, one by one.
    type Mail = Vec<u32>;

    fn open(&mut self, key: Key, _peer: PeerAddress, _listener: usize) -> (Numbers, ()) {
        self.last = Some(key);
        (Numbers, ())
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, Self>, numbers: Vec<u32>) {
        let key = self.last.expect("a connection");
        for number in numbers {
            conns.with(key, |cx| cx.send(vec![7; number as usize])).expect("open");
        }
    }

    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, number: u32) {
        cx.send(vec![7; number as usize]);
    }
}

/// Runs a test against a reactor whose delay is longer than any test, and longer than a server's configuration
/// allows.
fn with_endless_delay(
    high_mark_bytes: usize,
    talk: impl FnOnce(&mut TcpStream, &coreloop::stats::ReactorStats, &Remote<Vec<u32>>),
) {
    let flush = FlushPolicy { high_mark_bytes, delay: Duration::from_secs(86_400) };
    let mut config = ReactorConfig::default();
    config.flush = flush;
    config.limits.write_stall_ms = 10 * PATIENCE.as_millis() as u64;
    let mut reactor = Reactor::new(Serve::default(), config).unwrap();
    let address = reactor.listen("127.0.0.1:0").unwrap().to_string();
    let (remote, stats) = (reactor.remote(), reactor.stats());
    let thread = std::thread::spawn(move || reactor.run());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    talk(&mut stream, &stats, &remote);
    remote.stop();
    thread.join().unwrap().unwrap();
}

fn read_exactly(stream: &mut TcpStream, mut bytes: usize) {
    let mut into = vec![0; 16 << 10];
    while bytes > 0 {
        let wanted = bytes.min(into.len());
        let n = stream.read(&mut into[..wanted]).unwrap();
        assert!(n > 0 && into[..n].iter().all(|byte| *byte == 7));
        bytes -= n;
    }
}

#[test]
fn replies_are_flushed_together_at_the_mark() {
    let _turn = shared();
    with_endless_delay(4_096, |stream, stats, _| {
        for round in 1..=3 {
            for count in 0..10 {
                stream.write_all(&100_u32.to_le_bytes()).unwrap();
                let read_bytes = (round - 1) * 44 + 4 * (count + 1);
                eventually("it is read", || stats.read_bytes.value() == read_bytes);
            }
            assert_eq!(stats.writes.value(), round - 1, "too little to be written");
            // A large reply passes the mark and takes all queued replies along.
            stream.write_all(&4_000_u32.to_le_bytes()).unwrap();
            read_exactly(stream, 5_000);
            eventually("one write is counted", || stats.writes.value() == round);
        }
    });
}

#[test]
fn replies_from_messages_are_flushed_at_the_mark() {
    let _turn = shared();
    with_endless_delay(1_000, |stream, stats, remote| {
        stream.write_all(&0_u32.to_le_bytes()).unwrap();
        eventually("it is read", || stats.read_bytes.value() == 4);
        remote.mail(vec![600; 5]).unwrap();
        read_exactly(stream, 2 * 1_200);
        eventually("two by two", || stats.writes.value() == 2);
        remote.mail(vec![2_000]).unwrap();
        read_exactly(stream, 2_600);
        eventually("the fifth with the last", || stats.writes.value() == 3);
    });
}

#[test]
fn the_rest_of_a_partial_write_does_not_wait_again() {
    let _turn = shared();
    // The sizes grow, so that for some of them the socket buffers leave a rest that is below the mark.
    with_endless_delay(1 << 20, |stream, stats, _| {
        for bytes in (1 << 20..12 << 20).step_by(200_000) {
            let before = stats.writes.value();
            stream.write_all(&u32::to_le_bytes(bytes)).unwrap();
            eventually("the first part is written", || stats.writes.value() > before);
            read_exactly(stream, bytes as usize);
        }
    });
}

#[test]
fn a_lone_reply_is_flushed_after_the_delay() {
    let _turn = shared();
    let rig = rig(|config| config.flush.delay_us = 20_000);
    let mut peers: Vec<Peer> = (0..5).map(|_| rig.peer()).collect();
    for round in 0..3 {
        for peer in &mut peers {
            peer.send(&Frame::call(1, "Inline.Double", round));
            peer.send(&Frame::call(2, "Pooled.Double", round));
        }
        for peer in &mut peers {
            assert_eq!([peer.answer(), peer.answer()].map(|answer| answer.number()), [2 * round; 2]);
        }
    }
    peers.iter_mut().for_each(Peer::ping);
}

#[test]
fn without_a_delay_each_turn_writes_once_for_each_connection() {
    let _turn = shared();
    let rig = rig(|_| {});
    let mut peer = rig.peer();
    let writes = || rig.stats().reactors[0].writes;
    let before = writes();
    let frames: Vec<Frame> = (0..100).map(|id| Frame::call(id, "Inline.Double", 3)).collect();
    peer.send_all(&frames);
    (0..100).for_each(|_| assert_eq!(peer.answer().number(), 6));
    // One write of a few thousand bytes usually arrives in one read, at worst in a few.
    assert!(writes() - before <= 10, "{} writes for one turn's replies", writes() - before);
}
