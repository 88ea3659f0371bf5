//! Streams of async methods: their futures, and how a stream ends with the future of its handler.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use coreloop::codec::{Codec, Plain};
use coreloop::server::ServerBuilder;
use coreloop::service::{CallFuture, Method};
use coreloop::stream::SinkError;
use coreloop::{Code, Sink, Status, Stream};

use super::{Alive, Executor, Scene, executors, scene_with, smol, tokio_threads};
use crate::common::{Answer, Frame, Peer, eventually, kind, shared};
use crate::streams::{credit, data, end, next, open};

type Text = Plain<String>;
type Number = Plain<i64>;

/// What a sink is left to that outlives its handler.
type Left = Arc<Mutex<Vec<Sink<i64>>>>;

fn with_streams(builder: ServerBuilder, alive: &Alive, left: &Left) -> ServerBuilder {
    let count =
        Method::async_server_stream::<Number, Number, _, _>("Async.Count", |_cx, to, sink| async move {
            for number in 1..=to {
                sink.send_message(&number).await?;
            }
            Ok(())
        });
    let sum = Method::async_client_stream::<Number, Number, _>(
        "Async.Sum",
        |_cx, mut numbers: Stream<i64>| async move {
            let mut sum = 0;
            while let Some(number) = numbers.next_message().await {
                sum += number?;
            }
            Ok(sum)
        },
    );
    let chat = Method::async_bidirectional::<Text, Text, _>(
        "Async.Chat",
        |_cx, mut messages: Stream<String>, sink: Sink<String>| async move {
            while let Some(text) = messages.next_message().await {
                sink.send_message(&text?).await?;
            }
            Ok(())
        },
    );
    let flooded = alive.clone();
    let flood = Method::async_server_stream::<Number, Text, _, _>("Async.Flood", move |_cx, bytes, sink| {
        let life = flooded.begin();
        async move {
            let _life = life;
            let text = "x".repeat(bytes as usize);
            loop {
                sink.send_message(&text).await?;
            }
        }
    });
    let leave = left.clone();
    // How the handler ends, and what becomes of its sink.
    let ends =
        Method::async_server_stream::<Number, Number, _, _>("Async.End", move |_cx, how, sink: Sink<i64>| {
            let leave = leave.clone();
            let sink = match how {
                // Dropped before there is a future.
                0 => None,
                _ => Some(sink),
            };
            async move {
                let Some(sink) = sink else { return Ok(()) };
                sink.send_message(&how).await?;
                match how {
                    1 => Ok(()),
                    2 => Err(Status::not_found("nothing more")),
                    3 => panic!("{}", crate::common::rig::ON_PURPOSE),
                    // On another thread.
                    4 => {
                        std::thread::spawn(move || drop(sink)).join().unwrap();
                        Ok(())
                    }
                    // After the handler has returned.
                    5 => {
                        leave.lock().unwrap().push(sink);
                        Ok(())
                    }
                    6 => match sink.send(&how) {
                        Err(SinkError::MustNotBlock) => Err(Status::aborted("must not block")),
                        _ => Ok(()),
                    },
                    // In a task of its own, while the future of the call is not polled.
                    7 => {
                        let (dropped, is_dropped) = smol::channel::bounded::<()>(1);
                        smol::spawn(async move {
                            drop(sink);
                            drop(dropped);
                        })
                        .detach();
                        let _ = is_dropped.recv().await;
                        Ok(())
                    }
                    _ => {
                        sink.finish(Err(Status::aborted("finished")));
                        Ok(())
                    }
                }
            }
        });
    [count, sum, chat, flood, ends]
        .into_iter()
        .fold(builder, |builder, method| builder.method_of(method.unwrap()))
}

fn streaming(executor: Executor) -> (Scene, Left) {
    let left = Left::default();
    let alive = Alive::default();
    let mut scene = scene_with(executor, |_| {}, |builder| with_streams(builder, &alive, &left));
    scene.alive = alive;
    (scene, left)
}

/// Reads the messages of a stream up to its reply.
fn stream(peer: &mut Peer, id: u64) -> (Vec<String>, Answer) {
    let mut messages = Vec::new();
    loop {
        let answer = next(peer);
        assert_eq!(answer.id, id);
        if answer.kind == kind::REPLY {
            return (messages, answer);
        }
        messages.push(answer.text());
    }
}

#[test]
fn all_shapes_on_each_executor() {
    let _turn = shared();
    for executor in executors() {
        let (scene, _left) = streaming(executor);
        let mut peer = scene.peer();
        peer.send(&Frame::call(1, "Async.Count", 1_000));
        let (messages, reply) = stream(&mut peer, 1);
        assert!(messages.into_iter().eq((1..=1_000).map(|number| number.to_string())));
        reply.is(1, Code::Ok, "");
        peer.send(&open(2, "Async.Sum"));
        (1..=100).for_each(|number| peer.send(&data(2, &number.to_string())));
        peer.send(&end(2));
        next(&mut peer).is(2, Code::Ok, "5050");
        peer.send(&open(3, "Async.Chat"));
        for text in ["\"one\"", "\"two\""] {
            peer.send(&data(3, text));
            assert_eq!(next(&mut peer).text(), text);
        }
        peer.send(&end(3));
        next(&mut peer).is(3, Code::Ok, "");
        // A message that is not of its type ends the call.
        peer.send_all(&[open(4, "Async.Sum"), data(4, "\"no\"")]);
        next(&mut peer).is(4, Code::InvalidArgument, "");
        scene.wait_for_in_flight(0);
    }
}

#[test]
fn a_sink_waits_for_credit_and_ends_with_its_call() {
    let _turn = shared();
    for executor in executors() {
        let (scene, _left) = streaming(executor);
        let mut peer = scene.peer();
        peer.send(&Frame::call(1, "Async.Flood", 30_000));
        // The initial credit is 65,536 bytes, and the last message may exceed it.
        (0..3).for_each(|_| assert_eq!(next(&mut peer).kind, kind::DATA));
        peer.ping();
        peer.send(&credit(1, 65_536));
        (0..2).for_each(|_| assert_eq!(next(&mut peer).kind, kind::DATA));
        assert_eq!(scene.alive.count(), 1);
        peer.send(&Frame::of_kind(kind::CANCEL, 1));
        loop {
            let answer = next(&mut peer);
            if answer.kind == kind::REPLY {
                break answer.is(1, Code::Cancelled, "");
            }
        }
        scene.alive.wait_for(0);
        scene.wait_for_in_flight(0);
        // By deadline, and with the connection.
        peer.send(&Frame::call(2, "Async.Flood", 30_000).time_left(Duration::from_millis(10)));
        stream(&mut peer, 2).1.is(2, Code::DeadlineExceeded, "");
        scene.alive.wait_for(0);
        peer.send(&Frame::call(3, "Async.Flood", 30_000));
        scene.alive.wait_for(1);
        drop(peer);
        scene.alive.wait_for(0);
        scene.wait_for_in_flight(0);
    }
}

#[test]
fn a_stream_ends_with_the_future_that_drops_its_sink() {
    let _turn = shared();
    for executor in [tokio_threads(), smol()] {
        let (scene, left) = streaming(executor);
        let mut peer = scene.peer();
        let dropped = "the sink was dropped before the stream was finished";
        for (how, code, text) in [
            (0, Code::Ok, ""),
            (1, Code::Ok, ""),
            (2, Code::NotFound, "nothing more"),
            (3, Code::Internal, "the handler panicked: on purpose"),
            (4, Code::Internal, dropped),
            (6, Code::Aborted, "must not block"),
            (7, Code::Internal, dropped),
            (8, Code::Aborted, "finished"),
        ] {
            peer.send(&Frame::call(1, "Async.End", how));
            let (messages, reply) = stream(&mut peer, 1);
            assert_eq!(messages.len(), usize::from(how != 0));
            reply.is(1, code, text);
        }
        // A sink that lives longer keeps the stream open, though no future is left.
        peer.send(&Frame::call(2, "Async.End", 5));
        assert_eq!(next(&mut peer).text(), "5");
        eventually("the sink is left", || !left.lock().unwrap().is_empty());
        scene.wait_for_in_flight(0);
        let sink = left.lock().unwrap().pop().unwrap();
        sink.send(&6).unwrap();
        sink.finish(Ok(()));
        let (messages, reply) = stream(&mut peer, 2);
        assert_eq!(messages, ["6"]);
        reply.is(2, Code::Ok, "");
        assert_eq!(scene.server().stats().panics, 1);
    }
}

#[test]
fn an_executor_that_drops_the_future_of_a_stream_ends_it() {
    let _turn = shared();
    let (sender, futures) = mpsc::channel::<CallFuture>();
    let sender = Mutex::new(sender);
    let spawn = Arc::new(move |future| sender.lock().unwrap().send(future).unwrap());
    let (scene, _left) = streaming(Executor { name: "by hand", spawn, _runtime: Box::new(()) });
    let mut peer = scene.peer();
    for (id, method) in ["Async.Count", "Async.Sum", "Async.Chat"].into_iter().enumerate() {
        let id = id as u64 + 1;
        let request = match method {
            "Async.Count" => Frame::call(id, method, 1),
            method => open(id, method),
        };
        peer.send(&request);
        drop(futures.recv_timeout(crate::common::PATIENCE).unwrap());
        next(&mut peer).is(id, Code::Internal, "the executor dropped the call's future without running it");
    }
    // One that was polled, and has sent something.
    peer.send(&Frame::request(9, "Async.Flood", Codec::Json, "30000"));
    let mut future = futures.recv_timeout(crate::common::PATIENCE).unwrap();
    assert!(smol::block_on(smol::future::poll_once(&mut future)).is_none());
    assert_eq!(scene.alive.count(), 1);
    drop(future);
    let (messages, reply) = stream(&mut peer, 9);
    assert!(!messages.is_empty());
    reply.is(9, Code::Internal, "the executor dropped the call's future before it was ready");
    assert_eq!((scene.alive.count(), scene.in_flight()), (0, 0));
}
