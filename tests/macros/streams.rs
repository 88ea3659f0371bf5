//! Streaming methods of the attribute, called by native frames and by the generated client.

use std::sync::Arc;
use std::thread;

use coreloop::client::Client;
use coreloop::codec::{Codec, Plain, StreamItem, UserCodec};
use coreloop::service::{CallShape, Kind, Method, Service};
use coreloop::{Bytes, Code, Context, Reply, Server, Sink, Status, Stream, StreamEvent};
use prost::Message;
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I64, U32};

use crate::codecs::Marked;
use crate::common::{Answer, Frame, Peer, kind};
use crate::service::{Cell, Even, Point, even};

/// A message of protobuf.
#[derive(Clone, PartialEq, Serialize, Deserialize, Message)]
struct Tick {
    #[prost(string, tag = "1")]
    symbol: String,
    #[prost(uint32, tag = "2")]
    cents: u32,
}

struct Shapes;

#[coreloop::service(codecs(Marked))]
impl Shapes {
    /// Sends the points on the diagonal.
    #[rpc(inline)]
    fn watch(&self, _cx: &Context, n: i64, points: Sink<Point>) -> Result<(), Status> {
        for x in 0..u64::try_from(n).map_err(|_| Status::out_of_range("below 0"))? as i64 {
            points.try_send(&Point { x, y: x })?;
        }
        Ok(())
    }

    fn watch_all(&self, _cx: &Context, numbers: Sink<i64>) -> Result<(), Status> {
        // The sink outlives the handler.
        thread::spawn(move || {
            let sent = (1..=3).try_for_each(|number| numbers.send(&number));
            numbers.finish(sent.map_err(Status::from));
        });
        Ok(())
    }

    fn cells(&self, _cx: &Context, cell: &Cell, cells: Sink<Cell>) -> Result<(), Status> {
        cells.try_send(cell)?;
        Ok(cells.try_send(&Cell { value: I64::new(cell.value.get() + 1), weight: cell.weight })?)
    }

    fn halves(
        &self,
        _cx: &Context,
        bytes: &[u8],
        halves: coreloop::stream::Sink<Bytes>,
    ) -> Result<(), Status> {
        let (front, back) = bytes.split_at(bytes.len() / 2);
        halves.try_send(&Bytes::from(front))?;
        Ok(halves.try_send(&Bytes::from(back))?)
    }

    fn twice(&self, _cx: &Context, bytes: Bytes, copies: Sink<Bytes>) -> Result<(), Status> {
        copies.try_send(&bytes)?;
        Ok(copies.try_send(&bytes)?)
    }

    #[rpc(blocking, idempotent)]
    fn sum(&self, _cx: &Context, points: Stream<Point>) -> Result<i64, Status> {
        points.map(|point| point.map(|Point { x, y }| x * y)).sum()
    }

    #[rpc(inline)]
    fn count(&self, _cx: &Context, points: Stream<Point>, reply: Reply<i64>) {
        let (mut count, mut reply) = (0, Some(reply));
        points.for_each_message(move |event| match event {
            StreamEvent::Message(_) => count += 1,
            StreamEvent::End(result) => {
                if let Some(reply) = reply.take() {
                    reply.send(result.map(|()| count));
                }
            }
        });
    }

    #[rpc(blocking, name = "Chat")]
    fn talk(&self, _cx: &Context, texts: Stream<String>, sink: Sink<String>) -> Result<(), Status> {
        for text in texts {
            sink.send(&(text? + "!"))?;
        }
        Ok(())
    }

    /// Described by hand on both sides.
    #[rpc(blocking, argument = even, reply = Self::describe_even)]
    fn doubled(&self, _cx: &Context, numbers: Stream<Even>, sink: Sink<Even>) -> Result<(), Status> {
        for number in numbers {
            sink.send(&Even(number?.0 * 2))?;
        }
        Ok(())
    }

    #[rpc(blocking)]
    fn ticks(&self, _cx: &Context, from: u32, ticks: Sink<Tick>) -> Result<(), Status> {
        (from..from + 2).try_for_each(|cents| ticks.send(&Tick { symbol: "A".to_owned(), cents }))?;
        Ok(())
    }

    #[rpc(blocking)]
    fn highest(&self, _cx: &Context, mut ticks: Stream<Tick>) -> Result<Option<u32>, Status> {
        ticks.try_fold(None, |highest, tick| Ok(highest.max(Some(tick?.cents))))
    }

    #[rpc(blocking)]
    fn total(&self, _cx: &Context, ticks: Stream<Tick>) -> Result<u64, Status> {
        ticks.map(|tick| tick.map(|tick| u64::from(tick.cents))).sum()
    }

    fn describe_even() -> coreloop::codec::Description {
        even()
    }
}

/// A service whose streams name its parameter.
struct Topic<T>(T);

#[coreloop::service(client = false)]
impl<T> Topic<T>
where
    T: Serialize + for<'de> Deserialize<'de> + Clone + Send,
{
    #[rpc(blocking)]
    fn replace(&self, _cx: &Context, messages: Stream<T>, sink: Sink<Vec<T>>) -> Result<(), Status> {
        for message in messages {
            sink.send(&vec![message?, self.0.clone()])?;
        }
        Ok(())
    }
}

fn peer() -> (Server, Peer) {
    let server = Server::builder()
        .service(Shapes)
        .service(Topic(7_u8))
        .cores(1)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let peer = Peer::connect(&server.addresses()[0]);
    (server, peer)
}

/// Returns the messages of a call and its reply.
fn answers(peer: &mut Peer, codec: Codec) -> (Vec<Vec<u8>>, Answer) {
    let mut messages = Vec::new();
    loop {
        let answer = peer.answer();
        match answer.kind {
            kind::WINDOW => {}
            kind::DATA => {
                assert_eq!(answer.codec, codec.number());
                messages.push(answer.body);
            }
            _ => return (messages, answer),
        }
    }
}

/// Calls a method with one argument.
fn ask(peer: &mut Peer, method: &str, codec: Codec, argument: &[u8]) -> (Vec<Vec<u8>>, Answer) {
    peer.send(&Frame::request(1, method, codec, argument));
    answers(peer, codec)
}

/// Calls a method with a stream of messages.
fn send(peer: &mut Peer, method: &str, codec: Codec, messages: &[Vec<u8>]) -> (Vec<Vec<u8>>, Answer) {
    let mut open = Frame::request(1, method, codec, []);
    open.flags = 2;
    peer.send(&open);
    for message in messages {
        let mut data = Frame::of_kind(kind::DATA, 1);
        (data.codec, data.body) = (codec.number(), message.clone());
        peer.send(&data);
    }
    peer.send(&Frame::of_kind(kind::END, 1));
    answers(peer, codec)
}

/// The messages in a codec.
fn encoded<M: StreamItem>(codec: Codec, messages: &[M::Item]) -> Vec<Vec<u8>> {
    let encode = |message: &M::Item| {
        let mut body = Vec::new();
        M::encode_item(message, codec, &mut body).unwrap();
        body
    };
    messages.iter().map(encode).collect()
}

#[track_caller]
fn is_ok((messages, reply): (Vec<Vec<u8>>, Answer), expected: &[Vec<u8>]) {
    reply.is(1, Code::Ok, "");
    assert!(reply.body.is_empty(), "{reply:?}");
    assert_eq!(messages, expected);
}

#[track_caller]
fn is_reply((messages, reply): (Vec<Vec<u8>>, Answer), expected: &[u8]) {
    assert_eq!((messages.len(), reply.code(), &*reply.body), (0, Code::Ok, expected), "{}", reply.text());
}

#[test]
fn every_shape_is_called_in_every_codec() {
    let (_server, mut peer) = peer();
    let peer = &mut peer;
    let points: Vec<Point> = (0..3).map(|x| Point { x, y: x }).collect();
    type Points = Plain<Point, Marked>;
    type Numbers = Plain<i64, Marked>;
    type Texts = Plain<String, Marked>;
    for codec in [Codec::Json, Codec::Gob, Codec::Compact, Codec::MessagePack, Marked::CODEC] {
        let number = |number: i64| encoded::<Numbers>(codec, &[number]).concat();
        let points = encoded::<Points>(codec, &points);
        is_ok(ask(peer, "Shapes.Watch", codec, &number(3)), &points);
        is_ok(ask(peer, "Shapes.Watch", codec, &number(0)), &[]);
        let unit = encoded::<Plain<(), Marked>>(codec, &[()]).concat();
        is_ok(ask(peer, "Shapes.WatchAll", codec, &unit), &encoded::<Numbers>(codec, &[1, 2, 3]));
        is_reply(send(peer, "Shapes.Sum", codec, &points), &number(5));
        is_reply(send(peer, "Shapes.Count", codec, &points), &number(3));
        is_reply(send(peer, "Shapes.Count", codec, &[]), &number(0));
        let texts = |texts: [&str; 2]| encoded::<Texts>(codec, &texts.map(str::to_owned));
        is_ok(send(peer, "Shapes.Chat", codec, &texts(["a", "é"])), &texts(["a!", "é!"]));
        let evens = |evens: [u64; 2]| encoded::<Plain<u64, Marked>>(codec, &evens);
        is_ok(send(peer, "Shapes.Doubled", codec, &evens([2, 4])), &evens([4, 8]));
    }
    let bytes = |bytes: &[&[u8]]| -> Vec<Vec<u8>> {
        let bytes: Vec<Bytes> = bytes.iter().map(|bytes| Bytes::from(*bytes)).collect();
        encoded::<Plain<Bytes>>(Codec::Compact, &bytes)
    };
    let body = bytes(&[b"abcd"]).concat();
    is_ok(ask(peer, "Shapes.Halves", Codec::Compact, &body), &bytes(&[b"ab", b"cd"]));
    is_ok(ask(peer, "Shapes.Twice", Codec::Compact, &body), &bytes(&[b"abcd", b"abcd"]));
    let cells = [6, 7].map(|value| Cell { value: I64::new(value), weight: U32::new(1) }.as_bytes().to_vec());
    is_ok(ask(peer, "Shapes.Cells", Codec::Fixed, &cells[0]), &cells);
    let replaced = send(peer, "Topic.Replace", Codec::Json, &[b"1".to_vec(), b"2".to_vec()]);
    is_ok(replaced, &[b"[1,7]".to_vec(), b"[2,7]".to_vec()]);
}

#[test]
fn the_typed_client_calls_every_shape_in_every_codec() {
    let (server, _) = peer();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    let points: Vec<Point> = (0..3).map(|x| Point { x, y: x }).collect();
    for codec in [Codec::Json, Codec::Gob, Codec::Compact, Codec::MessagePack, Marked::CODEC] {
        let shapes = ShapesClient::new(client.clone().with_codec(codec));
        let watched: Result<Vec<Point>, Status> = shapes.watch(&3).unwrap().collect();
        assert_eq!(watched.as_ref(), Ok(&points), "{codec}");
        assert_eq!(shapes.watch_all().unwrap().collect::<Result<Vec<_>, _>>(), Ok(vec![1, 2, 3]), "{codec}");
        for (upload, result) in [(shapes.sum().unwrap(), 5), (shapes.count().unwrap(), 3)] {
            for point in &points {
                upload.messages().send(point).unwrap();
            }
            assert_eq!(upload.finish().unwrap(), result, "{codec}");
        }
        let (texts, replies) = shapes.talk().unwrap().split();
        for text in ["a", "é"] {
            texts.send(&text.to_owned()).unwrap();
        }
        texts.finish(Ok(()));
        assert_eq!(
            replies.collect::<Result<Vec<_>, _>>(),
            Ok(vec!["a!".to_owned(), "é!".to_owned()]),
            "{codec}"
        );
        let (numbers, doubled) = shapes.doubled().unwrap().split();
        numbers.send(&Even(2)).unwrap();
        numbers.finish(Ok(()));
        assert_eq!(doubled.collect::<Result<Vec<_>, _>>(), Ok(vec![Even(4)]), "{codec}");
        let failed: Vec<_> = shapes.watch(&-1).unwrap().collect();
        assert_eq!(failed, [Err(Status::out_of_range("below 0"))], "{codec}");
    }

    let shapes = ShapesClient::new(client.clone().with_codec(Codec::Fixed));
    let cell = |value: i64| Cell { value: I64::new(value), weight: U32::new(1) };
    assert_eq!(shapes.cells(&cell(6)).unwrap().collect::<Result<Vec<_>, _>>(), Ok(vec![cell(6), cell(7)]));
    let shapes = ShapesClient::new(client.clone().with_codec(Codec::Compact));
    let halves = shapes.halves(b"abcd").unwrap().collect::<Result<Vec<_>, _>>();
    assert_eq!(halves, Ok(vec![Bytes::from(b"ab".as_slice()), Bytes::from(b"cd".as_slice())]));
    assert_eq!(shapes.twice(b"abcd").unwrap().count(), 2);
    let shapes = ShapesClient::new(client.with_codec(Codec::Protobuf));
    let cents: Result<Vec<u32>, Status> = shapes.ticks(&7).unwrap().map(|tick| Ok(tick?.cents)).collect();
    assert_eq!(cents, Ok(vec![7, 8]));
}

/// The same service with other messages, as an older caller has it. Only its client is used.
#[allow(dead_code)]
mod older {
    use super::*;

    pub struct Shapes;

    #[coreloop::service]
    impl Shapes {
        fn watch(&self, _cx: &Context, _n: i64, _points: Sink<i64>) -> Result<(), Status> {
            Ok(())
        }

        fn sum(&self, _cx: &Context, _points: Stream<i64>) -> Result<i64, Status> {
            Ok(0)
        }
    }
}

#[test]
fn other_messages_are_found_out_by_the_fingerprint() {
    let (server, _) = peer();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap().with_codec(Codec::Compact);
    let shapes = older::ShapesClient::new(client);
    let watched: Vec<_> = shapes.watch(&3).unwrap().map(|item| item.map_err(|status| status.code)).collect();
    assert_eq!(watched, [Err(Code::FailedPrecondition)]);
    assert_eq!(shapes.sum().unwrap().finish().unwrap_err().code(), Code::FailedPrecondition);
}

#[test]
fn messages_are_those_of_protobuf() {
    let (_server, mut peer) = peer();
    let tick = |cents: u32| Tick { symbol: "A".to_owned(), cents }.encode_to_vec();
    // The number as `UInt32Value`, the total as `UInt64Value`.
    let ticks = ask(&mut peer, "Shapes.Ticks", Codec::Protobuf, b"\x08\x07");
    is_ok(ticks, &[tick(7), tick(8)]);
    is_reply(send(&mut peer, "Shapes.Total", Codec::Protobuf, &[tick(7), tick(8)]), b"\x08\x0f");
    // An option has no message.
    let (_, reply) = send(&mut peer, "Shapes.Highest", Codec::Protobuf, &[]);
    assert_eq!(reply.code(), Code::Unimplemented);
}

#[test]
fn failures_name_the_value_and_end_the_call() {
    let (_server, mut peer) = peer();
    let peer = &mut peer;
    ask(peer, "Shapes.Watch", Codec::Json, b"-1").1.is(1, Code::OutOfRange, "below 0");
    ask(peer, "Shapes.Watch", Codec::Json, b"x").1.is(1, Code::InvalidArgument, "argument of Shapes.Watch: ");
    for method in ["Shapes.Sum", "Shapes.Count", "Shapes.Chat"] {
        let (messages, reply) = send(peer, method, Codec::Json, &[b"{".to_vec()]);
        assert_eq!((messages.len(), reply.code()), (0, Code::InvalidArgument), "{method}: {}", reply.text());
    }
    // Odd numbers are no values of the type that was described by hand.
    let (messages, reply) = send(peer, "Shapes.Doubled", Codec::Json, &[b"2".to_vec(), b"3".to_vec()]);
    assert!(messages.len() <= 1);
    reply.is(1, Code::InvalidArgument, "odd");
    // A stream where one argument is expected, and the reverse.
    send(peer, "Shapes.Watch", Codec::Json, &[]).1.is(1, Code::InvalidArgument, "");
    ask(peer, "Shapes.Sum", Codec::Json, b"1").1.is(1, Code::InvalidArgument, "");
}

#[test]
fn a_method_is_the_one_that_the_constructors_create() {
    let methods = Arc::new(Shapes).methods().unwrap();
    let method = |name: &str| methods.iter().find(|method| method.name() == name).unwrap();
    let by_hand = [
        Method::server_stream::<Plain<i64>, Plain<Point>>("Shapes.Watch", |_, _, _| Ok(()))
            .map(|m| m.kind(Kind::Inline)),
        Method::server_stream::<Plain<()>, Plain<i64>>("Shapes.WatchAll", |_, _, _| Ok(())),
        Method::client_stream::<Plain<Point>, Plain<i64>>("Shapes.Sum", |_, _| Ok(0))
            .map(|m| m.kind(Kind::Blocking)),
        Method::client_stream_deferring::<Plain<Point>, Plain<i64>>("Shapes.Count", |_, _, _| ())
            .map(|m| m.kind(Kind::Inline)),
        Method::bidirectional::<Plain<String>, Plain<String>>("Shapes.Chat", |_, _, _| Ok(()))
            .map(|m| m.kind(Kind::Blocking)),
    ];
    for expected in by_hand {
        let expected = expected.unwrap();
        let found = method(expected.name());
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "name and kind");
        assert_eq!(found.shape(), expected.shape(), "{found:?}");
        assert_eq!(
            (found.schema(), found.signature()),
            (expected.schema(), expected.signature()),
            "{found:?}"
        );
    }
    assert_eq!(method("Shapes.Watch").signature(), "i64 -> stream {x: i64, y: i64}");
    assert_eq!(method("Shapes.Doubled").signature(), "stream u64 -> stream u64");
    assert_eq!(method("Shapes.Doubled").shape(), CallShape::Bidirectional);
    // The fingerprint is that of one message on each side.
    let unary =
        Method::new::<Plain<i64>, Plain<Point>>("A.B", Box::new(|_, _, _, _| unreachable!())).unwrap();
    assert_eq!(method("Shapes.Watch").schema(), unary.schema());
    let codecs = |name: &str| method(name).codec_names().collect::<Vec<_>>();
    assert_eq!(codecs("Shapes.Ticks"), ["json", "gob", "compact", "messagepack", "protobuf", "marked"]);
    assert_eq!(codecs("Shapes.Sum"), ["json", "gob", "compact", "messagepack", "marked"]);
    assert_eq!(codecs("Shapes.Cells"), ["fixed", "json", "gob", "compact", "messagepack", "marked"]);
    assert_eq!(codecs("Shapes.Halves"), ["json", "gob", "compact", "messagepack", "protobuf"]);
}
