//! Behavior at the limits: calls are refused at once or wait, as each limit specifies; none is lost, and the server
//! continues when there is room again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::common::{Answer, Frame, Peer, eventually, kind, rig, serial, shared};
use coreloop::Code;
use coreloop::codec::Codec;
use coreloop::reactor::Address;

#[test]
fn a_full_run_queue_refuses_at_once_and_the_connection_lives() {
    let _turn = serial();
    let rig = rig(|config| {
        (config.workers, config.blocking_threads) = (1, 1);
        config.limits.run_queue_max = 4;
    });
    let mut witness = rig.witness();
    // A worker is given one call ahead, a blocking thread none.
    for (begun_before, service, handed_over) in [(0, "Pooled", 2), (6, "Blocking", 1)] {
        let mut peer = rig.peer();
        let gate = format!("{service}.Gate");
        peer.send(&Frame::call(0, &gate, 0));
        rig.gate.wait_for(begun_before + 1);
        let accepted = handed_over + 4;
        let frames: Vec<Frame> = (1..=30).map(|id| Frame::call(id, &gate, 0)).collect();
        peer.send_all(&frames);
        for _ in 0..31 - accepted {
            let answer = peer.answer();
            answer.is(answer.id, Code::ResourceExhausted, "run_queue_max");
            assert!(answer.id >= accepted, "the first have a place");
        }
        assert_eq!(rig.stats().method(&gate).unwrap().shed("queue_full"), 31 - accepted);
        // Calls that need no queue are served.
        peer.ping();
        assert_eq!(witness.peer.ask(&Frame::call(1, "Inline.Double", 2)).number(), 4);
        rig.gate.admit(accepted as usize);
        let mut seen: Vec<u64> = (0..accepted)
            .map(|_| peer.answer())
            .inspect(|a| assert_eq!(a.number(), 0))
            .map(|a| a.id)
            .collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..accepted));
        assert_eq!(peer.ask(&Frame::call(7, &format!("{service}.Double"), 2)).number(), 4);
    }
    witness.assert_all_released();
}

#[test]
fn reading_stops_at_the_calls_in_flight_and_goes_on_at_half() {
    let _turn = serial();
    let rig = rig(|config| config.limits.in_flight_max = 8);
    let mut witness = rig.witness();
    let mut peer = rig.peer();
    let frames: Vec<Frame> = (0..100).map(|id| Frame::call(id, "Blocking.Gate", id as i64)).collect();
    peer.send_all(&frames);
    rig.gate.wait_for(8);
    rig.wait_for_pauses(1);
    // Down to five calls: still more than half.
    rig.gate.admit(3);
    let mut seen: Vec<u64> = (0..3).map(|_| peer.answer().id).collect();
    witness.is_unharmed();
    assert_eq!((rig.gate.begun(), rig.stats().reactors[0].pauses), (8, 1));
    // Down to four: four more begin.
    rig.gate.admit(1);
    seen.push(peer.answer().id);
    rig.gate.wait_for(12);
    rig.wait_for_pauses(2);
    rig.gate.open();
    seen.extend((4..100).map(|_| peer.answer().id));
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..100));
    assert_eq!(rig.gate.inside_max(), 8);
    drop(peer);
    witness.assert_all_released();
}

/// Asserts that an answer is the refusal of a call beyond `in_flight_max`.
fn assert_refused_at_connection(answer: &Answer) {
    answer.is(answer.id, Code::ResourceExhausted, "in_flight_max");
    assert!(answer.trailer("retry-after-ms").is_some(), "{answer:?}");
}

#[test]
fn calls_with_a_deadline_beyond_the_calls_in_flight_are_refused_at_once() {
    let _turn = serial();
    let rig = rig(|config| config.limits.in_flight_max = 8);
    let witness = rig.witness();
    let mut peer = rig.peer();
    let gated = |id| Frame::call(id, "Blocking.Gate", id as i64).time_left(Duration::from_secs(100));
    let frames: Vec<Frame> = (0..100).map(gated).collect();
    peer.send_all(&frames);
    for id in 8..100 {
        let answer = peer.answer();
        assert_eq!(answer.id, id);
        assert_refused_at_connection(&answer);
    }
    rig.gate.wait_for(8);
    // Messages that are not requests are read on.
    peer.ping();
    peer.ask(&Frame::of_kind(kind::CANCEL, 3)).is(3, Code::Cancelled, "");
    assert_eq!(rig.stats().method("Blocking.Gate").unwrap().shed("connection_limit"), 92);
    assert_eq!(rig.stats().reactors[0].pauses, 0);
    // One that has ended makes room for one, deadline or not. The cancelled one is still running.
    rig.gate.admit(8);
    let mut seen: Vec<u64> = (0..7).map(|_| peer.answer().id).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 4, 5, 6, 7]);
    eventually("the cancelled one has ended", || rig.stats().late == 1);
    peer.send_all(&[gated(100), Frame::call(101, "Blocking.Gate", 1)]);
    rig.gate.wait_for(10);
    rig.gate.open();
    let mut seen = [peer.answer(), peer.answer()].map(|answer| (answer.id, answer.code()));
    seen.sort_by_key(|(id, _)| *id);
    assert_eq!(seen, [(100, Code::Ok), (101, Code::Ok)]);
    assert_eq!(rig.gate.inside_max(), 8);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_call_without_a_deadline_waits_unread_and_those_after_it_too() {
    let _turn = serial();
    let rig = rig(|config| config.limits.in_flight_max = 8);
    let witness = rig.witness();
    let mut peer = rig.peer();
    let gated = |id| Frame::call(id, "Blocking.Gate", id as i64);
    let with_deadline = |id| gated(id).time_left(Duration::from_secs(100));
    let mut frames: Vec<Frame> = (0..8).map(gated).collect();
    frames.extend((8..12).map(with_deadline));
    frames.push(gated(12));
    frames.extend((13..16).map(with_deadline));
    peer.send_all(&frames);
    for id in 8..12 {
        let answer = peer.answer();
        assert_eq!(answer.id, id);
        assert_refused_at_connection(&answer);
    }
    rig.wait_for_pauses(1);
    rig.gate.wait_for(8);
    rig.gate.admit(3);
    let mut seen: Vec<u64> = (0..3).map(|_| peer.answer().id).collect();
    assert_eq!((rig.gate.begun(), rig.stats().reactors[0].pauses), (8, 1), "five are more than half");
    rig.gate.open();
    seen.extend((0..9).map(|_| peer.answer()).inspect(|a| assert_eq!(a.code(), Code::Ok)).map(|a| a.id));
    seen.sort_unstable();
    assert!(seen.into_iter().eq((0..8).chain(12..16)));
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn work_that_was_answered_early_still_counts_as_in_flight() {
    let _turn = serial();
    let rig = rig(|config| config.limits.in_flight_max = 8);
    let witness = rig.witness();
    let mut peer = rig.peer();
    // Starts and cancels calls as fast as possible: the number of running handlers stays bounded.
    for id in 0..7 {
        peer.send(&Frame::call(id, "Blocking.Gate", 0));
        rig.gate.wait_for(id + 1);
        peer.ask(&Frame::of_kind(kind::CANCEL, id)).is(id, Code::Cancelled, "");
    }
    let frames: Vec<Frame> = (7..100).map(|id| Frame::call(id, "Blocking.Gate", id as i64)).collect();
    peer.send_all(&frames);
    rig.gate.wait_for(8);
    rig.wait_for_pauses(1);
    assert_eq!(rig.gate.begun(), 8);
    rig.gate.open();
    let mut seen: Vec<u64> = (7..100).map(|_| peer.answer().id).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(7..100));
    assert_eq!(rig.gate.inside_max(), 8);
    eventually("those cancelled have ended", || rig.stats().late == 7);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn idle_buffers_are_used_again_unless_the_limit_keeps_none() {
    let _turn = shared();
    for (idle_buffer_bytes_max, is_kept) in [(8 << 20, true), (0, false)] {
        let rig = rig(|config| config.limits.idle_buffer_bytes_max = idle_buffer_bytes_max);
        let mut peer = rig.peer();
        for id in 0..50 {
            assert_eq!(peer.ask(&Frame::call(id, "Inline.Double", 2)).number(), 4);
        }
        let pool = || rig.stats().reactors[0].pool;
        eventually("each call has lent a buffer", || {
            let pool = pool();
            (if is_kept { pool.hits } else { pool.misses }) >= 50
        });
        let pool = pool();
        assert_eq!((pool.hits > 0, pool.misses < 10), (is_kept, is_kept), "{pool:?}");
        assert!(is_kept || pool.retained_bytes == 0, "{pool:?}");
    }
}

#[test]
fn reading_stops_at_the_bytes_in_flight_too() {
    let _turn = serial();
    let rig = rig(|config| {
        config.limits.frame_bytes_max = 16 << 10;
        config.limits.in_flight_bytes_max = 64 << 10;
    });
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut writer = peer.duplicate();
    let sender = std::thread::spawn(move || {
        for id in 0..50 {
            writer.send(&Frame::request(id, "Blocking.GateBytes", Codec::Raw, vec![id as u8; 16 << 10]));
        }
    });
    rig.gate.wait_for(4);
    rig.wait_for_pauses(1);
    rig.gate.admit(1);
    let mut seen = vec![peer.answer().id];
    assert_eq!(rig.gate.begun(), 4);
    rig.gate.admit(1);
    seen.push(peer.answer().id);
    rig.gate.wait_for(6);
    rig.wait_for_pauses(2);
    rig.gate.open();
    for _ in 2..50 {
        let answer = peer.answer();
        assert!(answer.body.len() == 16 << 10 && answer.body.iter().all(|byte| *byte == answer.id as u8));
        seen.push(answer.id);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..50));
    assert_eq!(rig.gate.inside_max(), 4);
    sender.join().unwrap();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn one_connection_too_many_is_closed_at_once_and_counted() {
    let _turn = serial();
    let rig = rig(|config| config.limits.connections_max = 4);
    let mut witness = rig.witness();
    let mut peers: Vec<Peer> = (0..3).map(|_| rig.peer()).collect();
    peers.iter_mut().for_each(Peer::ping);
    for count in 1..=5 {
        rig.peer().ends();
        eventually("it is counted", || rig.stats().reactors[0].refused == count);
    }
    witness.is_unharmed();
    peers.pop();
    rig.wait_for_closed("peer_closed", 1);
    let mut again = rig.peer();
    again.ping();
    drop((again, peers));
    witness.assert_all_released();
}

/// Prefix of the child's lines, to find them in the output of the test harness.
const PREFIX: &str = "@@ ";

/// Prints a line for [`ChildServer::read_line`].
pub fn report(text: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{PREFIX}{text}").unwrap();
    out.flush().unwrap();
}

/// A server in a process with few descriptors, which runs commands from its standard input.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_with_few_descriptors() {
    let _turn = serial();
    let rig = rig(|_| {});
    report(rig.address.to_string());
    let mut hoard = Vec::new();
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "fill" => {
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    hoard.push(file);
                }
                report("filled".into());
            }
            "free" => {
                hoard.clear();
                report("freed".into());
            }
            "pauses" => report(rig.stats().reactors[0].accept_pauses.to_string()),
            _ => break,
        }
    }
}

/// A server in a process of its own, which runs one test and gets commands from this one.
pub struct ChildServer {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl ChildServer {
    /// Starts an ignored test, after a command of the shell.
    pub fn start(test: &str, before: &str) -> ChildServer {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before} exec \"$0\" {test} --exact --ignored --nocapture")])
            .arg(std::env::current_exe().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        ChildServer { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    pub fn read_line(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the child ended").unwrap();
            if let Some(text) = line.strip_prefix(PREFIX) {
                return text.to_owned();
            }
        }
    }

    pub fn command(&mut self, what: &str) -> String {
        writeln!(self.stdin, "{what}").unwrap();
        self.read_line()
    }

    /// Ends the test, and asserts that it has passed.
    #[track_caller]
    pub fn end(mut self) {
        writeln!(self.stdin, "end").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn accepting_pauses_without_descriptors_and_resumes() {
    let _turn = shared();
    let mut server = ChildServer::start("limits::child_with_few_descriptors", "ulimit -n 128;");
    let address: Address = server.read_line().parse().unwrap();
    let mut witness = Peer::connect(&address);
    witness.ping();
    assert_eq!(server.command("pauses"), "0");
    assert_eq!(server.command("fill"), "filled");
    for _ in 0..5 {
        // The connection that has waited longest is closed at once, because no descriptor is free.
        Peer::connect(&address).ends();
        assert_eq!(witness.ask(&Frame::call(1, "Pooled.Double", 2)).number(), 4);
    }
    assert!(server.command("pauses").parse::<u64>().unwrap() >= 5);
    assert_eq!(server.command("free"), "freed");
    for _ in 0..20 {
        let mut peer = Peer::connect(&address);
        peer.ping();
        assert_eq!(peer.ask(&Frame::call(1, "Blocking.Double", 2)).number(), 4);
    }
    assert_eq!(witness.ask(&Frame::call(1, "Blocking.Double", 2)).number(), 4);
    server.end();
}
