//! The ends of calls that the run queue sheds, one case for each reason. A full queue is with the other ends.

use std::time::Duration;

use coreloop::interceptor::{EndPlace, ShedReason};
use coreloop::server::ServerBuilder;
use coreloop::{Code, Context};

use super::{Case, Scene, TEN_MS, one_worker};
use crate::common::{Frame, eventually};

/// The time that `Pooled.Take` is measured to take, at least.
const LONG: Duration = Duration::from_millis(600);

/// Adds a method that keeps a worker busy for the milliseconds of its argument.
pub fn with_slow(builder: ServerBuilder) -> ServerBuilder {
    builder.method("Pooled.Take", |_cx: &Context<'_>, ms: i64| {
        std::thread::sleep(Duration::from_millis(ms as u64));
        Ok(ms)
    })
}

impl Scene {
    /// Calls `Pooled.Take` for as long as later calls are expected to take, without waiting for the answer.
    fn measure(&mut self, id: u64) {
        self.send(&Frame::call(id, "Pooled.Take", LONG.as_millis() as i64));
    }

    /// Occupies the only worker, and the place ahead of it: further calls wait.
    fn occupy_all(&mut self, id: u64) {
        self.occupy_worker(id);
        self.call(id + 1, "Pooled.Gate");
        self.peer.ping();
    }

    #[track_caller]
    fn wait_for_queued(&self, calls: usize) {
        eventually("the calls wait", || self.rig.stats().workers.queued == calls);
    }

    #[track_caller]
    fn is_shed(&mut self, id: u64, text: &str) {
        let answer = self.peer.answer();
        answer.is(id, Code::ResourceExhausted, text);
        assert!(answer.trailer("retry-after-ms").is_some_and(|ms| ms > 0), "{answer:?}");
    }

    /// Lets all handlers end, and reads that many answers.
    #[track_caller]
    fn release_all(&mut self, answers: usize) {
        self.rig.gate.open();
        (0..answers).for_each(|_| assert_eq!(self.peer.answer().code(), Code::Ok));
    }
}

pub const CASES: &[Case] = &[
    Case {
        name: "expected late",
        change: one_worker,
        run: |scene| {
            scene.measure(0);
            scene.peer.answer().is(0, Code::Ok, "");
            scene.occupy_all(1);
            scene.send(&Frame::call(3, "Pooled.Take", 0).time_left(LONG / 2));
            scene.is_shed(3, "would end after its deadline");
            scene.release_all(2);
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Worker, Code::Ok),
            (2, EndPlace::Worker, Code::Ok),
            (3, EndPlace::Shed(ShedReason::ExpectedLate), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "too late to start, in the run queue",
        change: one_worker,
        run: |scene| {
            // The third call waits while nothing is known of its method. When the first has ended, less time is left
            // than that has taken.
            scene.measure(0);
            scene.call(1, "Pooled.Gate");
            scene.peer.ping();
            scene.send(&Frame::call(2, "Pooled.Take", 0).time_left(LONG * 7 / 4));
            scene.peer.answer().is(0, Code::Ok, "");
            scene.is_shed(2, "waited");
            scene.release_all(1);
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Worker, Code::Ok),
            (2, EndPlace::Shed(ShedReason::TooLateToStart), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "too late to start, at a worker",
        change: one_worker,
        run: |scene| {
            scene.measure(0);
            scene.peer.answer().is(0, Code::Ok, "");
            scene.occupy_all(1);
            // It waits, and is handed over behind a handler that then runs for too long.
            scene.send(&Frame::call(3, "Pooled.Take", 0).time_left(LONG * 4));
            scene.wait_for_queued(1);
            scene.rig.gate.admit(1);
            scene.peer.answer().is(1, Code::Ok, "");
            scene.rig.gate.wait_for(2);
            scene.wait_for_queued(0);
            std::thread::sleep(LONG * 7 / 2);
            scene.rig.gate.admit(1);
            scene.peer.answer().is(2, Code::Ok, "");
            scene.is_shed(3, "waited");
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Worker, Code::Ok),
            (2, EndPlace::Worker, Code::Ok),
            (3, EndPlace::Shed(ShedReason::TooLateToStart), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "queue delay",
        change: |config| {
            one_worker(config);
            config.limits.queue_target_ms = 1;
        },
        run: |scene| {
            scene.occupy_all(0);
            scene.call(2, "Pooled.Double");
            scene.send(&Frame::call(3, "Pooled.Double", 1).one_way());
            scene.wait_for_queued(2);
            // Longer than the interval of the target, 100 ms.
            std::thread::sleep(15 * TEN_MS);
            scene.rig.gate.admit(1);
            scene.peer.answer().is(0, Code::Ok, "");
            scene.is_shed(2, "queue_target_ms");
            scene.release_all(1);
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Worker, Code::Ok),
            (2, EndPlace::Shed(ShedReason::QueueDelay), Code::ResourceExhausted),
            (3, EndPlace::Shed(ShedReason::QueueDelay), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "adaptive concurrency",
        change: |config| {
            one_worker(config);
            config.limits.adaptive_concurrency = true;
        },
        run: |scene| {
            // The limit begins at two calls for each worker; a call of the lowest priority may use half of it.
            scene.occupy_worker(0);
            scene.send(&Frame::call(1, "Pooled.Gate", 1).with("priority", b"3"));
            scene.is_shed(1, "too many calls");
            scene.call(2, "Pooled.Gate");
            scene.call(3, "Pooled.Gate");
            scene.is_shed(3, "too many calls");
            scene.release_all(2);
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Shed(ShedReason::Concurrency), Code::ResourceExhausted),
            (2, EndPlace::Worker, Code::Ok),
            (3, EndPlace::Shed(ShedReason::Concurrency), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "a limit of the method",
        change: |config| config.method_limits = vec!["Pooled.Gate=1".to_owned()],
        run: |scene| {
            scene.occupy_worker(0);
            scene.call(1, "Pooled.Gate");
            scene.is_shed(1, "method_limits");
            scene.ask(&Frame::call(2, "Pooled.Double", 1), Code::Ok);
            scene.release_all(1);
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Shed(ShedReason::MethodLimit), Code::ResourceExhausted),
            (2, EndPlace::Worker, Code::Ok),
        ],
    },
];
