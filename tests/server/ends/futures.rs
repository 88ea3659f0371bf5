//! The ends of calls of async methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coreloop::codec::Plain;
use coreloop::interceptor::{EndPlace, ShedReason};
use coreloop::server::ServerBuilder;
use coreloop::service::Method;
use coreloop::{Code, Sink, Status};

use super::{Case, TEN_MS};
use crate::common::rig::ON_PURPOSE;
use crate::common::{Frame, eventually, kind};
use crate::streams::next;

/// Adds async methods, and an executor that drops futures while the test says so.
pub fn with_futures(builder: ServerBuilder, drops: &Arc<AtomicBool>) -> ServerBuilder {
    let drops = drops.clone();
    let send = Method::async_server_stream::<Plain<u32>, Plain<String>, _, _>(
        "Async.Send",
        |_cx, len, sink: Sink<String>| async move {
            sink.send_message(&"x".repeat(len as usize)).await?;
            sink.ready().await;
            if len == 3 { Err(Status::aborted("three")) } else { Ok(()) }
        },
    );
    builder
        .executor(move |future| match drops.load(Ordering::SeqCst) {
            true => drop(future),
            false => smol::spawn(future).detach(),
        })
        .async_method("Async.Double", |_cx, n: i64| async move { Ok(n * 2) })
        .async_method("Async.Fail", |_cx, _: i64| async move { Err::<i64, _>(Status::aborted("")) })
        .async_method("Async.Panic", |_cx, n: i64| async move {
            assert!(n == 0, "{ON_PURPOSE}");
            Ok(n)
        })
        .async_method("Async.Hold", |_cx, _: i64| std::future::pending::<Result<i64, Status>>())
        .method_of(send.unwrap())
}

pub const CASES: &[Case] = &[
    Case {
        name: "the future ends",
        change: |_| {},
        run: |scene| {
            scene.ask(&Frame::call(1, "Async.Double", 1), Code::Ok);
            scene.ask(&Frame::call(2, "Async.Fail", 1), Code::Aborted);
            scene.ask(&Frame::call(3, "Async.Panic", 1), Code::Internal);
            scene.send(&Frame::call(4, "Async.Double", 1).one_way());
            eventually("it has ended", || scene.rig.calls("Async.Double") == 2);
            for (id, len, code) in [(5, 1, Code::Ok), (6, 3, Code::Aborted)] {
                scene.send(&Frame::call(id, "Async.Send", len));
                assert_eq!(next(&mut scene.peer).kind, kind::DATA);
                next(&mut scene.peer).is(id, code, "");
            }
        },
        ends: &[
            (1, EndPlace::Deferred, Code::Ok),
            (2, EndPlace::Deferred, Code::Aborted),
            (3, EndPlace::Deferred, Code::Internal),
            (4, EndPlace::Deferred, Code::Ok),
            (5, EndPlace::Deferred, Code::Ok),
            (6, EndPlace::Deferred, Code::Aborted),
        ],
    },
    Case {
        name: "the executor drops the future",
        change: |_| {},
        run: |scene| {
            scene.drops.store(true, Ordering::SeqCst);
            scene.ask(&Frame::call(1, "Async.Double", 1), Code::Internal);
            scene.ask(&Frame::call(2, "Async.Send", 1), Code::Internal);
        },
        ends: &[(1, EndPlace::Deferred, Code::Internal), (2, EndPlace::Deferred, Code::Internal)],
    },
    Case {
        name: "the future is given up",
        change: |config| {
            config.limits.drain_ms = 20;
            config.limits.async_in_flight_max = 3;
        },
        run: |scene| {
            scene.ask(&Frame::call(1, "Async.Hold", 1).time_left(TEN_MS), Code::DeadlineExceeded);
            scene.call(2, "Async.Hold");
            scene.peer.ask(&Frame::of_kind(kind::CANCEL, 2)).is(2, Code::Cancelled, "");
            let mut lost = scene.rig.peer();
            lost.send(&Frame::call(3, "Async.Hold", 1));
            scene.sent += 1;
            lost.ping();
            lost.reset();
            scene.rig.wait_for_closed("reset", 1);
            eventually("all three futures are dropped", || scene.rig.stats().async_in_flight == 0);
            (4..7).for_each(|id| scene.call(id, "Async.Hold"));
            scene.ask(&Frame::call(7, "Async.Double", 1), Code::ResourceExhausted);
        },
        ends: &[
            (1, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
            (2, EndPlace::Cancelled, Code::Cancelled),
            (3, EndPlace::Dropped, Code::Cancelled),
            (4, EndPlace::Drained, Code::Unavailable),
            (5, EndPlace::Drained, Code::Unavailable),
            (6, EndPlace::Drained, Code::Unavailable),
            (7, EndPlace::Shed(ShedReason::AsyncLimit), Code::ResourceExhausted),
        ],
    },
];
