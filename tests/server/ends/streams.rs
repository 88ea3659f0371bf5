//! The ends of streaming calls.

use std::io::Read;

use coreloop::Context;
use coreloop::codec::{Codec, Plain};
use coreloop::interceptor::{EndPlace, ShedReason};
use coreloop::server::ServerBuilder;
use coreloop::service::{Kind, Method};
use coreloop::stream::StreamEvent;
use coreloop::{Code, Sink, Status};

use super::{Case, Scene, TEN_MS, one_worker};
use crate::common::rig::ON_PURPOSE;
use crate::common::{Frame, Peer, eventually, kind};
use crate::streams::{credit, data, end, next, open};

/// The length of a message that uses up the window of its connection.
const LONG: i64 = 1 << 20;

/// Adds streaming methods.
pub fn with_streams(builder: ServerBuilder) -> ServerBuilder {
    let send = |_cx: &Context<'_>, len: u32, sink: Sink<String>| -> Result<(), Status> {
        sink.try_send(&"x".repeat(len as usize)).map_err(Status::from)
    };
    let panic = |_cx: &Context<'_>, _len: u32, _sink: Sink<String>| -> Result<(), Status> {
        panic!("{ON_PURPOSE}");
    };
    let sum =
        Method::client_stream_deferring::<Plain<i64>, Plain<i64>>("Inline.Sum", |_cx, numbers, reply| {
            let (mut sum, mut reply) = (0, Some(reply));
            numbers.for_each_message(move |event| match event {
                StreamEvent::Message(number) => sum += number,
                StreamEvent::End(result) => {
                    if let Some(reply) = reply.take() {
                        reply.send(result.map(|()| sum));
                    }
                }
            });
        });
    let kept = std::sync::Mutex::new(Vec::new());
    let keep = Method::server_stream::<Plain<u32>, Plain<String>>("Inline.Keep", move |_cx, len, sink| {
        sink.try_send(&"x".repeat(len as usize))?;
        kept.lock().unwrap().push(sink);
        Ok(())
    });
    let collect = Method::client_stream::<Plain<i64>, Plain<Vec<i64>>>("Blocking.Collect", |_cx, numbers| {
        numbers.collect()
    });
    let sender = |name| Method::server_stream::<Plain<u32>, Plain<String>>(name, send).unwrap();
    let panics = Method::server_stream::<Plain<u32>, Plain<String>>("Pooled.SinkPanic", panic);
    builder
        .method_of(sender("Inline.Send").kind(Kind::Inline))
        .method_of(sender("Pooled.Send"))
        .method_of(panics.unwrap())
        .method_of(keep.unwrap().kind(Kind::Inline))
        .method_of(sum.unwrap().kind(Kind::Inline))
        .method_of(collect.unwrap().kind(Kind::Blocking))
}

impl Scene {
    /// Expects the reply of a streaming call, after at most one message.
    #[track_caller]
    fn reply(&mut self, id: u64, code: Code) {
        let mut answer = next(&mut self.peer);
        if answer.kind == kind::DATA {
            answer = next(&mut self.peer);
        }
        answer.is(id, code, "");
    }

    /// Opens two calls that receive.
    fn open_two(&mut self) {
        self.send(&open(1, "Inline.Sum"));
        self.send(&open(2, "Blocking.Collect"));
    }

    /// Uses up the window of the connection in call 3, so that the answer of call 4 waits for credit.
    fn hold(&mut self) {
        self.send(&Frame::call(3, "Inline.Send", LONG));
        self.reply(3, Code::Ok);
        self.call(4, "Inline.Send");
        self.peer.ping();
    }

    /// Calls a method by HTTP, and reads up to this part of the answer.
    #[track_caller]
    fn http(&mut self, path: &str, fields: &str, part: &str) {
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: 1\r\n\r\n1"
        );
        self.sent += 1;
        self.peer.send_bytes(request.as_bytes());
        self.until(part);
    }

    /// Reads up to this part of an answer by HTTP; up to the end of the connection, if it is empty.
    #[track_caller]
    fn until(&mut self, part: &str) {
        let mut text = Vec::new();
        while part.is_empty() || !text.ends_with(part.as_bytes()) {
            let mut byte = [0];
            match self.peer.tcp().read(&mut byte).unwrap() {
                0 if part.is_empty() => return,
                0 => panic!("the end after {}", text.escape_ascii()),
                _ => text.push(byte[0]),
            }
        }
    }

    /// Goes on with another connection, and returns the first.
    fn change_peer(&mut self) -> Peer {
        let peer = self.rig.peer();
        std::mem::replace(&mut self.peer, peer)
    }
}

/// Expects replies that these calls were cancelled, because the connection receives nothing more.
#[track_caller]
fn cancelled(peer: &mut Peer, ids: &[u64]) {
    let mut seen: Vec<u64> = ids
        .iter()
        .map(|_| {
            let answer = next(peer);
            answer.is(answer.id, Code::Cancelled, "receives nothing more");
            answer.id
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, ids);
}

pub const CASES: &[Case] = &[
    Case {
        name: "streams that end with their handlers",
        change: |_| {},
        run: |scene| {
            for (id, method) in [(1, "Inline.Send"), (2, "Pooled.Send")] {
                scene.call(id, method);
                scene.reply(id, Code::Ok);
            }
            for (id, method) in [(3, "Inline.Sum"), (4, "Blocking.Collect")] {
                scene.send(&open(id, method));
                scene.peer.send_all([&data(id, "1"), &end(id)]);
                scene.reply(id, Code::Ok);
            }
            scene.call(5, "Pooled.SinkPanic");
            scene.reply(5, Code::Internal);
        },
        ends: &[
            (1, EndPlace::Deferred, Code::Ok),
            (2, EndPlace::Deferred, Code::Ok),
            (3, EndPlace::Deferred, Code::Ok),
            (4, EndPlace::Worker, Code::Ok),
            (5, EndPlace::Deferred, Code::Internal),
        ],
    },
    Case {
        name: "streams that are refused",
        change: |config| config.limits.streams_max = 1,
        run: |scene| {
            scene.ask(&open(1, "Inline.Double"), Code::InvalidArgument);
            scene.ask(&Frame::call(2, "Inline.Sum", 1), Code::InvalidArgument);
            scene.ask(&open(3, "No.Method"), Code::Unimplemented);
            scene.send(&Frame::call(4, "Pooled.Send", 1).one_way());
            scene.send(&open(5, "Inline.Sum"));
            for (id, code) in [(5, Code::InvalidArgument), (6, Code::ResourceExhausted)] {
                scene.send(&open(id, "Blocking.Collect"));
                scene.reply(id, code);
            }
            scene.peer.send(&end(5));
            scene.reply(5, Code::Ok);
        },
        ends: &[
            (1, EndPlace::Refused, Code::InvalidArgument),
            (2, EndPlace::Refused, Code::InvalidArgument),
            (3, EndPlace::Refused, Code::Unimplemented),
            (4, EndPlace::Refused, Code::InvalidArgument),
            (5, EndPlace::Refused, Code::InvalidArgument),
            (5, EndPlace::Deferred, Code::Ok),
            (6, EndPlace::Refused, Code::ResourceExhausted),
        ],
    },
    Case {
        name: "a stream and a full queue",
        change: |config| {
            one_worker(config);
            config.limits.run_queue_max = 1;
        },
        run: |scene| {
            scene.occupy_worker(0);
            // One call waits at the worker, one in the queue.
            scene.call(1, "Pooled.Send");
            scene.call(2, "Pooled.Send");
            scene.call(3, "Pooled.Send");
            scene.reply(3, Code::ResourceExhausted);
            scene.rig.gate.open();
            scene.peer.answer().is(0, Code::Ok, "");
            scene.reply(1, Code::Ok);
            scene.reply(2, Code::Ok);
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Deferred, Code::Ok),
            (2, EndPlace::Deferred, Code::Ok),
            (3, EndPlace::Shed(ShedReason::QueueFull), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "an answer that waits for credit",
        change: |_| {},
        run: |scene| {
            scene.hold();
            scene.peer.send(&credit(0, 2 * LONG as u32));
            scene.reply(4, Code::Ok);
        },
        ends: &[(3, EndPlace::Deferred, Code::Ok), (4, EndPlace::Deferred, Code::Ok)],
    },
    Case {
        name: "late streams",
        change: |_| {},
        run: |scene| {
            for (id, method) in [(1, "Inline.Sum"), (2, "Blocking.Collect")] {
                scene.send(&open(id, method).time_left(5 * TEN_MS));
                scene.reply(id, Code::DeadlineExceeded);
            }
            scene.send(&Frame::call(3, "Inline.Send", LONG));
            scene.reply(3, Code::Ok);
            scene.send(&Frame::call(4, "Inline.Send", 1).time_left(10 * TEN_MS));
            scene.reply(4, Code::DeadlineExceeded);
        },
        ends: &[
            (1, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
            (2, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
            (3, EndPlace::Deferred, Code::Ok),
            (4, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
        ],
    },
    Case {
        name: "cancelled streams",
        change: |_| {},
        run: |scene| {
            scene.open_two();
            for id in [1, 2] {
                scene.peer.send(&Frame::of_kind(kind::CANCEL, id));
                scene.reply(id, Code::Cancelled);
            }
            scene.hold();
            scene.peer.send(&Frame::of_kind(kind::CANCEL, 4));
            scene.reply(4, Code::Cancelled);
            assert_eq!(scene.rig.stats().cancelled, 3);
        },
        ends: &[
            (1, EndPlace::Cancelled, Code::Cancelled),
            (2, EndPlace::Cancelled, Code::Cancelled),
            (3, EndPlace::Deferred, Code::Ok),
            (4, EndPlace::Cancelled, Code::Cancelled),
        ],
    },
    Case {
        name: "broken streams",
        change: |_| {},
        run: |scene| {
            scene.open_two();
            let mut wrong_codec = data(2, "1");
            wrong_codec.codec = Codec::Gob.number();
            for frame in [data(1, "x"), wrong_codec] {
                scene.peer.send(&frame);
                scene.reply(frame.id, Code::InvalidArgument);
            }
        },
        ends: &[(1, EndPlace::Broken, Code::InvalidArgument), (2, EndPlace::Broken, Code::InvalidArgument)],
    },
    Case {
        name: "streams of a connection that sends no more",
        change: |_| {},
        run: |scene| {
            scene.open_two();
            scene.hold();
            let mut first = scene.change_peer();
            first.half_close();
            cancelled(&mut first, &[1, 2, 4]);
        },
        ends: &[
            (1, EndPlace::Broken, Code::Cancelled),
            (2, EndPlace::Broken, Code::Cancelled),
            (3, EndPlace::Deferred, Code::Ok),
            (4, EndPlace::Broken, Code::Cancelled),
        ],
    },
    Case {
        name: "streams of a connection with a late frame",
        change: |config| config.limits.frame_ms = 100,
        run: |scene| {
            scene.open_two();
            let mut first = scene.change_peer();
            first.send_bytes(&data(1, "1").bytes()[..20]);
            cancelled(&mut first, &[1, 2]);
            first.ends();
        },
        ends: &[(1, EndPlace::Broken, Code::Cancelled), (2, EndPlace::Broken, Code::Cancelled)],
    },
    Case {
        name: "streams of a connection with a broken frame",
        change: |_| {},
        run: |scene| {
            scene.open_two();
            let mut first = scene.change_peer();
            first.send_bytes(&[0; 32]);
            cancelled(&mut first, &[1, 2]);
            first.ends();
        },
        ends: &[(1, EndPlace::Broken, Code::Cancelled), (2, EndPlace::Broken, Code::Cancelled)],
    },
    Case {
        name: "streams of a closed connection",
        change: |_| {},
        run: |scene| {
            scene.open_two();
            scene.hold();
            scene.change_peer().reset();
            scene.rig.wait_for_closed("reset", 1);
        },
        ends: &[
            (1, EndPlace::Dropped, Code::Cancelled),
            (2, EndPlace::Dropped, Code::Cancelled),
            (3, EndPlace::Deferred, Code::Ok),
            (4, EndPlace::Dropped, Code::Cancelled),
        ],
    },
    Case {
        name: "streams of a silent peer",
        change: |config| {
            config.limits.stream_keepalive_ms = 100;
            config.limits.stream_keepalive_timeout_ms = 200;
        },
        run: |scene| {
            scene.open_two();
            let _first = scene.change_peer();
            scene.peer.ping();
            eventually("the connection has closed", || scene.rig.stats().connections() == 1);
        },
        ends: &[(1, EndPlace::Dropped, Code::Cancelled), (2, EndPlace::Dropped, Code::Cancelled)],
    },
    Case {
        name: "streams at an aborted drain",
        change: |config| config.limits.drain_ms = 50,
        run: |scene| {
            scene.open_two();
            scene.hold();
            let first = scene.change_peer();
            scene.others.push(first);
        },
        ends: &[
            (1, EndPlace::Drained, Code::Unavailable),
            (2, EndPlace::Drained, Code::Unavailable),
            (3, EndPlace::Deferred, Code::Ok),
            (4, EndPlace::Drained, Code::Unavailable),
        ],
    },
    #[cfg(feature = "http")]
    Case {
        name: "streams over HTTP",
        change: |_| {},
        run: |scene| {
            scene.http("Inline/Send", "", "\r\n0\r\n\r\n");
            scene.http("Pooled/Send", "", "\r\n0\r\n\r\n");
            scene.http("Inline/Sum", "", "}");
            scene.http("Pooled/SinkPanic", "", "}");
            scene.http("Inline/Keep", "Connect-Timeout-Ms: 50\r\n", "\r\n\r\n4\r\n\"x\"\n\r\n");
            scene.until("");
        },
        ends: &[
            (0, EndPlace::Deferred, Code::Ok),
            (1, EndPlace::Deferred, Code::Ok),
            (2, EndPlace::Refused, Code::Unimplemented),
            (3, EndPlace::Deferred, Code::Internal),
            (4, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
        ],
    },
    #[cfg(feature = "http")]
    Case {
        name: "streams over HTTP whose caller goes away",
        change: |_| {},
        run: |scene| {
            scene.http("Inline/Keep", "", "\"x\"\n\r\n");
            scene.peer.half_close();
            scene.until("");
            scene.change_peer();
            scene.http("Inline/Send", "", "\r\n0\r\n\r\n");
            scene.http("Inline/Keep", "", "\"x\"\n\r\n");
            scene.change_peer().reset();
            scene.rig.wait_for_closed("reset", 1);
        },
        ends: &[
            (0, EndPlace::Broken, Code::Cancelled),
            (0, EndPlace::Deferred, Code::Ok),
            (1, EndPlace::Dropped, Code::Cancelled),
        ],
    },
    #[cfg(feature = "http")]
    Case {
        name: "streams over HTTP at an aborted drain",
        change: |config| config.limits.drain_ms = 50,
        run: |scene| {
            scene.http("Inline/Keep", "", "\"x\"\n\r\n");
            let first = scene.change_peer();
            scene.others.push(first);
        },
        ends: &[(0, EndPlace::Drained, Code::Unavailable)],
    },
];
