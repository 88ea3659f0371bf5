//! Calls that wait for a worker and end before it is their turn.

use std::time::Duration;

use coreloop::Code;
use coreloop::codec::Codec;

use super::{Scene, scene};
use crate::common::{Frame, Peer, eventually, kind, shared};
use crate::streams::{next, open};

/// The time after which waiting calls give up, where a test waits for that.
const SHORT: Duration = Duration::from_millis(100);
/// An argument of this length is not copied.
const LARGE: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Cancel,
    Deadline,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unary,
    Large,
    OneWay,
    Send,
    Sum,
}

impl Shape {
    const ALL: [Shape; 5] = [Shape::Unary, Shape::Large, Shape::OneWay, Shape::Send, Shape::Sum];

    fn frame(self, service: &str, id: u64) -> Frame {
        match self {
            Shape::Unary => Frame::call(id, &format!("{service}.Take"), 0),
            Shape::OneWay => Frame::call(id, &format!("{service}.Take"), 0).one_way(),
            Shape::Large => Frame::request(id, &format!("{service}.Swallow"), Codec::Raw, vec![1; LARGE]),
            Shape::Send => Frame::call(id, &format!("{service}.Send"), 1),
            Shape::Sum => open(id, &format!("{service}.Sum")),
        }
    }
}

/// Waits until the number of borrowed buffers is as it should be.
#[track_caller]
fn wait_for_buffers(scene: &Scene, peer: &mut Peer, what: &str, is_right: impl Fn(u64) -> bool) {
    eventually(what, || {
        // The number is published on some turns only.
        peer.ping();
        is_right(scene.rig.stats().reactors[0].pool.outstanding)
    });
}

#[test]
fn a_waiting_call_is_removed_when_its_caller_gives_up() {
    let _turn = shared();
    for service in super::POOLS {
        // With a full queue, every place that is not free again would be noticed.
        let scene = scene(|config| config.limits.run_queue_max = 3);
        let mut holder = scene.occupy(service);
        let mut witness = scene.rig.peer();
        let (mut removed, mut closed) = (0, 0);
        for (shape, way) in Shape::ALL
            .into_iter()
            .flat_map(|shape| [Way::Cancel, Way::Deadline, Way::Close].map(|way| (shape, way)))
            // A one-way call cannot be named.
            .filter(|case| *case != (Shape::OneWay, Way::Cancel))
        {
            let mut peer = scene.rig.peer();
            let frames = [1, 2, 3].map(|id| match way {
                Way::Deadline => shape.frame(service, id).time_left(SHORT),
                Way::Cancel | Way::Close => shape.frame(service, id),
            });
            peer.send_all(&frames);
            if way != Way::Deadline {
                scene.wait_for_queued(3);
                if shape == Shape::Large {
                    wait_for_buffers(&scene, &mut witness, "arguments are held", |buffers| buffers > 0);
                }
            }
            match way {
                Way::Cancel => {
                    for id in [2, 1, 3] {
                        peer.send(&Frame::of_kind(kind::CANCEL, id));
                        next(&mut peer).is(id, Code::Cancelled, "");
                    }
                }
                Way::Deadline if shape == Shape::OneWay => {}
                Way::Deadline => (0..3).for_each(|_| {
                    assert_eq!(next(&mut peer).code(), Code::DeadlineExceeded, "{shape:?}");
                }),
                Way::Close => {
                    peer.reset();
                    closed += 1;
                    scene.rig.wait_for_closed("reset", closed);
                }
            }
            removed += 3;
            eventually("the calls are removed", || scene.rig.stats().removed == removed);
            scene.wait_for_queued(0);
            wait_for_buffers(&scene, &mut witness, "arguments are dropped", |buffers| buffers == 0);
        }
        assert_eq!(scene.rig.gate.begun(), 1, "the thread was busy all the while");
        scene.rig.gate.open();
        (0..super::handed_over(service)).for_each(|_| assert_eq!(holder.answer().code(), Code::Ok));
        assert_eq!(scene.starts(), 0, "no handler of a removed call has run");
        assert_eq!(witness.ask(&Frame::call(1, &format!("{service}.Take"), 0)).number(), 0);
        assert_eq!(scene.starts(), 1);
        let last = scene.finish();
        assert_eq!((last.removed, last.late, last.refused), (removed, 0, vec![]));
    }
}

#[test]
fn a_cancelled_call_makes_room_in_a_full_queue() {
    let _turn = shared();
    for service in super::POOLS {
        let scene = scene(|config| config.limits.run_queue_max = 1);
        let _holder = scene.occupy(service);
        let step = format!("{service}.Step");
        let mut peer = scene.rig.peer();
        peer.send(&Frame::call(0, &step, 0));
        for id in 1..10 {
            peer.send(&Frame::call(10 * id, &step, 0));
            super::is_shed(&mut peer, 10 * id..10 * id + 1, "run_queue_max");
            peer.ask(&Frame::of_kind(kind::CANCEL, id - 1)).is(id - 1, Code::Cancelled, "");
            peer.send(&Frame::call(id, &step, id as i64));
        }
        scene.wait_for_queued(1);
        scene.steps.open();
        scene.rig.gate.open();
        assert_eq!(peer.answer().number(), 9);
        assert_eq!(scene.order(), [9]);
        let last = scene.finish();
        assert_eq!((last.removed, last.method(&step).unwrap().shed("queue_full")), (9, 9));
    }
}

#[test]
fn waiting_calls_are_run_before_a_drain_ends() {
    let _turn = shared();
    for service in super::POOLS {
        let mut scene = scene(|_| {});
        let _holder = scene.occupy(service);
        let step = format!("{service}.Step");
        let mut peer = scene.rig.peer();
        let frames: Vec<Frame> = (0..50).map(|id| Frame::call(id, &step, id as i64)).collect();
        peer.send_all(&frames);
        scene.wait_for_queued(50);
        let server = scene.rig.take_server();
        let drained = std::thread::spawn(move || server.shutdown());
        let notice = peer.answer();
        assert_eq!(notice.kind, kind::DRAIN, "{notice:?}");
        scene.rig.gate.open();
        scene.steps.open();
        let mut seen: Vec<i64> = (0..50).map(|_| peer.answer().number()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..50));
        peer.half_close();
        let last = drained.join().unwrap();
        assert_eq!((last.drain_cancelled, last.removed), (0, 0));
    }
}

#[test]
fn a_drain_that_takes_too_long_gives_up_the_calls_that_wait() {
    let _turn = shared();
    for service in super::POOLS {
        let mut scene = scene(|config| config.limits.drain_ms = 50);
        let _holder = scene.occupy(service);
        let step = format!("{service}.Step");
        let mut peer = scene.rig.peer();
        let frames: Vec<Frame> = (0..50).map(|id| Frame::call(id, &step, id as i64)).collect();
        peer.send_all(&frames);
        scene.wait_for_queued(50);
        let server = scene.rig.take_server();
        let drained = std::thread::spawn(move || server.shutdown());
        assert_eq!(peer.answer().kind, kind::DRAIN);
        for _ in 0..50 {
            assert_eq!(peer.answer().code(), Code::Unavailable);
        }
        scene.rig.gate.open();
        scene.steps.open();
        let last = drained.join().unwrap();
        // One of the calls that were handed over was running.
        let handed_over = super::handed_over(service);
        assert_eq!((last.removed, scene.order()), (50 + handed_over - 1, vec![]), "{service}");
        assert_eq!(last.drain_cancelled, 50 + handed_over);
    }
}
