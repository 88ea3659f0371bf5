//! Response headers, trailers and details of a status: set by handlers in every kind of call, read by clients, over every
//! protocol.

use std::time::Duration;

use coreloop::client::{CallError, Client, Direct, InFlight, MethodId, StreamCaller};
use coreloop::codec::{Codec, ErrorInfo, Plain, StatusDetail};
use coreloop::message::{MetadataBuf, SetMetadataError};
use coreloop::service::{Kind, Method};
use coreloop::{Code, Context, OwnedContext, Reply, Server, Sink, Status};

use crate::common::PATIENCE;

fn info() -> ErrorInfo {
    ErrorInfo::new("GONE", "shop.example").with("item", "tea")
}

/// Answers 0 with a value, and everything else with a failure; both have headers and trailers.
fn answer(cx: &Context<'_>, number: u64) -> Result<u64, Status> {
    cx.set_header("h", "replaced")?;
    cx.set_header("h", format!("{number}"))?;
    cx.set_trailer("t", [b'0' + number as u8])?;
    match number {
        0 => Ok(80),
        _ => {
            Err(Status::not_found("gone").with_retry_after(Duration::from_millis(250)).with_detail(&info())?)
        }
    }
}

struct Shop;

#[coreloop::service]
impl Shop {
    #[rpc(inline)]
    fn inline(&self, cx: &Context, number: u64) -> Result<u64, Status> {
        answer(cx, number)
    }

    fn pooled(&self, cx: &Context, number: u64) -> Result<u64, Status> {
        answer(cx, number)
    }

    #[rpc(blocking)]
    fn blocking(&self, cx: &Context, number: u64) -> Result<u64, Status> {
        answer(cx, number)
    }

    #[rpc(inline)]
    fn deferred(&self, cx: &Context, number: u64, mut reply: Reply<u64>) {
        assert_eq!(cx.set_header("h", "late"), Err(SetMetadataError::ReplyTaken));
        let send = move || {
            reply.set_header("h", number.to_string())?;
            reply.set_trailer("t", number.to_string())?;
            let result = match number {
                0 => Ok(80),
                _ => Err(Status::not_found("gone")
                    .with_retry_after(Duration::from_millis(250))
                    .with_detail(&info())?),
            };
            reply.send(result);
            Ok::<_, Status>(())
        };
        std::thread::spawn(move || send().unwrap());
    }

    /// Sets what is not allowed, and answers with the errors.
    fn wrong(&self, cx: &Context, _: ()) -> Result<Vec<String>, Status> {
        let errors = [
            cx.set_header("", "x"),
            cx.set_header("details", "x"),
            cx.set_trailer("retry-after-ms", "1"),
            cx.set_trailer("k", vec![0; 20_000]),
        ];
        Ok(errors.into_iter().map(|error| error.unwrap_err().to_string()).collect())
    }
}

/// As [`answer`], in a future.
async fn answer_async(cx: OwnedContext, number: u64) -> Result<u64, Status> {
    let other = cx.clone();
    other.set_header("h", "replaced")?;
    cx.set_header("h", format!("{number}"))?;
    other.set_trailer("t", number.to_string())?;
    match number {
        0 => Ok(80),
        _ => {
            Err(Status::not_found("gone").with_retry_after(Duration::from_millis(250)).with_detail(&info())?)
        }
    }
}

fn server() -> Server {
    Server::builder()
        .service(Shop)
        .executor(|future| smol::spawn(future).detach())
        .async_method("Shop.Async", answer_async)
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

fn entries(metadata: coreloop::message::Metadata<'_>) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    metadata.iter().map(|(key, value)| (key.to_owned(), text(value))).collect()
}

fn pair(key: &str, value: &str) -> Vec<(String, String)> {
    vec![(key.to_owned(), value.to_owned())]
}

/// Waits for the result, and keeps the handle.
fn taken(call: &mut InFlight<Vec<u8>>) -> Result<Vec<u8>, CallError> {
    call.wait_timeout(PATIENCE).expect("the call ends in time")
}

const METHODS: [&str; 5] = ["Shop.Inline", "Shop.Pooled", "Shop.Blocking", "Shop.Deferred", "Shop.Async"];

fn is_the_failure(error: CallError, what: &str) {
    let CallError::Status(status) = error else { panic!("{what}: {error:?}") };
    assert_eq!((status.code, &*status.message), (Code::NotFound, "gone"), "{what}");
    assert_eq!(status.retry_after(), Some(Duration::from_millis(250)), "{what}");
    assert_eq!(status.detail::<ErrorInfo>(), Some(info()), "{what}");
}

#[test]
fn handlers_of_every_kind_set_headers_trailers_and_details() {
    let server = server();
    let address = server.addresses()[0].to_string();
    #[cfg(feature = "http")]
    let addresses = [address.clone(), format!("http:{address}")];
    #[cfg(not(feature = "http"))]
    let addresses = [address.clone()];
    for address in addresses {
        let client = Client::connect(&address).unwrap();
        for method in METHODS {
            // Many at once: those of a batch do not get each other's.
            let calls: Vec<_> = (0..20_u64)
                .map(|at| (at % 3, client.start_bytes(method, Codec::Json, (at % 3).to_string().as_bytes())))
                .collect();
            for (number, mut call) in calls {
                let what = format!("{method} at {address} with {number}");
                match taken(&mut call) {
                    Ok(value) => assert_eq!((number, &value[..]), (0, &b"80"[..]), "{what}"),
                    Err(error) => is_the_failure(error, &what),
                }
                let number = number.to_string();
                let headers = entries(call.headers());
                let own: Vec<_> = headers.into_iter().filter(|(key, _)| key != "retry-after").collect();
                assert_eq!(
                    (own, entries(call.trailers())),
                    (pair("h", &number), pair("t", &number)),
                    "{what}"
                );
            }
        }
    }
    assert_eq!(server.stats().response_entries_dropped, 0);
}

#[test]
fn a_direct_client_reads_them_of_the_last_call() {
    let server = server();
    let direct = Direct::connect(&server.addresses()[0]).unwrap();
    for method in METHODS {
        assert_eq!(direct.call_bytes(method, Codec::Json, b"0").unwrap(), b"80");
        assert_eq!(entries(direct.headers().view()), pair("h", "0"), "{method}");
        is_the_failure(direct.call_bytes(method, Codec::Json, b"2").unwrap_err(), method);
        assert_eq!(entries(direct.trailers().view()), pair("t", "2"), "{method}");
        direct.call_bytes("Health.Check", Codec::Json, b"\"\"").unwrap();
        assert!(direct.headers().is_empty() && direct.trailers().is_empty());
    }
}

#[test]
fn a_typed_call_returns_the_whole_response_or_only_the_value() {
    let server = server();
    let shop = ShopClient::new(Client::connect(&server.addresses()[0]).unwrap());
    let response = shop.pooled_start(&0).response().unwrap();
    assert_eq!((response.value, entries(response.headers.view())), (80, pair("h", "0")));
    assert_eq!(entries(response.trailers.view()), pair("t", "0"));
    assert_eq!(shop.pooled(&0).unwrap(), 80);
    is_the_failure(shop.pooled_start(&1).response().unwrap_err(), "a response");
}

#[test]
fn entries_that_cannot_be_set_are_errors_of_the_handler() {
    let server = server();
    let shop = ShopClient::new(Client::connect(&server.addresses()[0]).unwrap());
    let errors = shop.wrong(&()).unwrap();
    for (error, part) in
        errors.iter().zip(["a key of 0 bytes", "\"details\"", "\"retry-after-ms\"", "at most 16384"])
    {
        assert!(error.contains(part), "{error}");
    }
}

#[cfg(all(feature = "jsonrpc", feature = "netrpc"))]
#[test]
fn protocols_without_a_place_drop_and_count_them() {
    let server = server();
    let address = &server.addresses()[0];
    let mut dropped = 0;
    let mut argument = Vec::new();
    coreloop::codec::encode_plain(Codec::Gob, &1_u64, &mut argument).unwrap();
    for (scheme, codec, argument) in [("jsonrpc", Codec::Json, &b"1"[..]), ("gob", Codec::Gob, &argument)] {
        let client = Client::connect(format!("{scheme}:{address}")).unwrap();
        for method in METHODS {
            let mut call = client.start_bytes(method, codec, argument);
            let error = taken(&mut call).unwrap_err();
            let CallError::Status(status) = &error else { panic!("{scheme}: {error:?}") };
            assert_eq!((&*status.message, status.details()), ("gone", &[][..]), "{scheme}");
            assert!(call.headers().is_empty() && call.trailers().is_empty());
            // A header, a trailer and a detail.
            dropped += 3;
            assert_eq!(server.stats().response_entries_dropped, dropped, "{scheme} {method}");
        }
    }
}

#[cfg(feature = "jsonrpc")]
#[test]
fn json_rpc_2_has_details_in_the_data_of_an_error() {
    use std::io::{BufRead, BufReader, Write};

    let server = server();
    let stream = std::net::TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut ask = |text: &str| {
        reader.get_mut().write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    };
    let details = r#"[{"type":"google.rpc.ErrorInfo","value":"CgRHT05FEgxzaG9wLmV4YW1wbGUaCwoEaXRlbRIDdGVh","debug":{"reason":"GONE","domain":"shop.example","metadata":{"item":"tea"}}}]"#;
    let error = format!(
        r#"{{"code":-32005,"message":"gone","data":{{"code":"not_found","retry_after_ms":250,"details":{details}}}}}"#
    );
    let call = r#"{"jsonrpc":"2.0","method":"Shop.Pooled","params":[1],"id":7}"#;
    assert_eq!(ask(call), format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{error}}}\n"));
    assert_eq!(ask(&format!("[{call}]")), format!("[{{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{error}}}]\n"));
    assert_eq!(server.stats().response_entries_dropped, 4, "two headers and two trailers");

    // The client calls in the form of 1.0, and reads the errors of servers that answer in that of 2.0.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let mut calls = BufReader::new(listener.accept().unwrap().0);
        for error in [error, error_without_details(details)] {
            let mut call = String::new();
            calls.read_line(&mut call).unwrap();
            let call: serde_json::Value = serde_json::from_str(&call).unwrap();
            let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"error\":{error}}}\n", call["id"]);
            calls.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    let client = Client::connect(format!("jsonrpc:{address}")).unwrap();
    let mut call = client.start_bytes("Shop.Pooled", Codec::Json, b"1");
    is_the_failure(taken(&mut call).unwrap_err(), "JSON-RPC 2.0");
    assert!(call.headers().is_empty() && call.trailers().is_empty());
    let CallError::Status(status) = client.call_bytes("Shop.Pooled", Codec::Json, b"1").unwrap_err() else {
        panic!("a status")
    };
    assert_eq!((status.code, status.details(), status.retry_after()), (Code::NotFound, &[][..], None));
    answers.join().unwrap();
}

/// An error whose data cannot be read as those of this crate's servers.
#[cfg(feature = "jsonrpc")]
fn error_without_details(details: &str) -> String {
    let wrong = details.replace("\"value\":\"", "\"value\":\"*");
    format!(r#"{{"code":-32005,"message":"gone","data":{{"retry_after_ms":"soon","details":{wrong}}}}}"#)
}

/// Headers, some messages with a number each, and trailers.
fn count(cx: &Context<'_>, to: u64, sink: Sink<u64>) -> Result<(), Status> {
    cx.set_header("h", "cx")?;
    sink.set_header("s", "sink")?;
    for number in 1..=to {
        sink.send(&number)?;
        assert_eq!(sink.set_header("x", "late"), Err(SetMetadataError::HeadersSent));
        assert_eq!(cx.set_header("x", "late"), Err(SetMetadataError::HeadersSent));
        cx.set_trailer("t", number.to_string())?;
    }
    sink.set_trailer("u", "end")?;
    if to == 9 {
        return Err(Status::aborted("nine").with_detail(&info())?);
    }
    Ok(())
}

/// A server whose streams have headers and trailers, in blocking and inline methods.
fn streaming_server() -> Server {
    let blocking = Method::server_stream::<Plain<u64>, Plain<u64>>("Numbers.Count", count).unwrap();
    let moved = Method::server_stream::<Plain<u64>, Plain<u64>>("Numbers.Later", |cx, to, sink| {
        cx.set_header("h", "cx")?;
        std::thread::spawn(move || {
            sink.set_header("s", "sink").unwrap();
            sink.send_headers();
            for number in 1..=to {
                sink.send(&number).unwrap();
                sink.set_trailer("t", number.to_string()).unwrap();
            }
            sink.set_trailer("u", "end").unwrap();
            let failed = || Status::aborted("nine").with_detail(&info()).unwrap();
            sink.finish(if to == 9 { Err(failed()) } else { Ok(()) });
        });
        Ok(())
    });
    let sum = Method::client_stream::<Plain<u64>, Plain<u64>>("Numbers.Sum", |cx, numbers| {
        let sum = numbers.sum::<Result<u64, Status>>()?;
        cx.set_header("h", "sum")?;
        cx.set_trailer("t", sum.to_string())?;
        Ok(sum)
    });
    Server::builder()
        .method_of(blocking.kind(Kind::Blocking))
        .method_of(moved.unwrap().kind(Kind::Inline))
        .method_of(sum.unwrap().kind(Kind::Blocking))
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

/// The same methods as futures, and one with streams in both directions.
fn async_streaming_server() -> Server {
    let later = |cx: OwnedContext, to: u64, sink: Sink<u64>| async move {
        cx.set_header("h", "cx")?;
        sink.set_header("s", "sink")?;
        for number in 1..=to {
            sink.send_message(&number).await?;
            assert_eq!(sink.set_header("x", "late"), Err(SetMetadataError::HeadersSent));
            assert_eq!(cx.set_header("x", "late"), Err(SetMetadataError::HeadersSent));
            cx.set_trailer("t", number.to_string())?;
        }
        sink.set_trailer("u", "end")?;
        match to {
            9 => Err(Status::aborted("nine").with_detail(&info())?),
            _ => Ok(()),
        }
    };
    let sum = Method::async_client_stream::<Plain<u64>, Plain<u64>, _>(
        "Numbers.Sum",
        |cx: OwnedContext, mut numbers| async move {
            cx.set_header("h", "sum")?;
            let mut sum = 0;
            while let Some(number) = numbers.next_message().await {
                sum += number?;
            }
            cx.set_trailer("t", sum.to_string())?;
            Ok(sum)
        },
    );
    let double = Method::async_bidirectional::<Plain<u64>, Plain<u64>, _>(
        "Numbers.Double",
        |cx: OwnedContext, mut numbers, sink: Sink<u64>| async move {
            cx.set_header("h", "double")?;
            let mut count = 0;
            while let Some(number) = numbers.next_message().await {
                sink.send_message(&(2 * number?)).await?;
                count += 1;
            }
            sink.set_trailer("t", count.to_string())?;
            Ok(())
        },
    );
    Server::builder()
        .executor(|future| smol::spawn(future).detach())
        .method_of(
            Method::async_server_stream::<Plain<u64>, Plain<u64>, _, _>("Numbers.Later", later).unwrap(),
        )
        .method_of(sum.unwrap())
        .method_of(double.unwrap())
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

static DOUBLE: MethodId = MethodId::new("Numbers.Double");
static COUNT: MethodId = MethodId::new("Numbers.Count");
static LATER: MethodId = MethodId::new("Numbers.Later");
static SUM: MethodId = MethodId::new("Numbers.Sum");

#[test]
fn headers_of_a_stream_precede_its_messages_and_trailers_follow_them() {
    let server = streaming_server();
    let client = Client::connect(&server.addresses()[0]).unwrap();
    have_headers_and_trailers(&client, &[&COUNT, &LATER]);
}

#[test]
fn async_streaming_methods_set_headers_and_trailers() {
    let server = async_streaming_server();
    let client = Client::connect(&server.addresses()[0]).unwrap();
    have_headers_and_trailers(&client, &[&LATER]);
    let (sink, mut doubled) = client.bidirectional::<Plain<u64>, Plain<u64>>(&DOUBLE).unwrap().split();
    for number in 1..=3 {
        sink.send(&number).unwrap();
        assert_eq!(doubled.next().unwrap().unwrap(), 2 * number);
        assert_eq!(entries(doubled.headers().view()), pair("h", "double"));
    }
    sink.finish(Ok(()));
    assert!(doubled.next().is_none());
    assert_eq!(entries(doubled.trailers().view()), pair("t", "3"));
    assert_eq!(server.stats().response_entries_dropped, 0);
}

/// Checks methods whose result is a stream, and `Numbers.Sum`.
fn have_headers_and_trailers(client: &Client, methods: &[&'static MethodId]) {
    for method in methods {
        for to in [0, 1, 3, 9] {
            let mut numbers = client.server_stream::<Plain<u64>, Plain<u64>>(method, &to).unwrap();
            let what = format!("{} to {to}", method.name());
            let headers = [pair("h", "cx"), pair("s", "sink")].concat();
            for expected in 1..=to {
                assert_eq!(numbers.next().unwrap().unwrap(), expected, "{what}");
                assert_eq!(entries(numbers.headers().view()), headers, "{what}");
            }
            match numbers.next() {
                None => assert_ne!(to, 9),
                Some(last) => {
                    let status = last.unwrap_err();
                    assert_eq!((status.code, to), (Code::Aborted, 9));
                    assert_eq!(status.detail::<ErrorInfo>(), Some(info()));
                }
            }
            assert_eq!(entries(numbers.headers().view()), headers, "{what}");
            let last = if to == 0 { Vec::new() } else { pair("t", &to.to_string()) };
            assert_eq!(entries(numbers.trailers().view()), [last, pair("u", "end")].concat(), "{what}");
        }
    }
    let upload = client.client_stream::<Plain<u64>, Plain<u64>>(&SUM).unwrap();
    assert_eq!(upload.messages().set_header("h", "x"), Err(SetMetadataError::NoReply));
    (1..=4).for_each(|number| upload.messages().send(&number).unwrap());
    let (sink, reply) = upload.split();
    sink.finish(Ok(()));
    let response = reply.response().unwrap();
    assert_eq!((response.value, entries(response.headers.view())), (10, pair("h", "sum")));
    assert_eq!(entries(response.trailers.view()), pair("t", "10"));
}

#[cfg(feature = "http")]
#[test]
fn over_http_a_stream_has_headers_in_its_head_and_no_trailers() {
    use std::io::{Read, Write};

    let server = streaming_server();
    for to in [0, 2] {
        let mut stream = std::net::TcpStream::connect(server.addresses()[0].to_string()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "POST /Numbers/Count HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n";
        stream.write_all(format!("{head}Content-Length: 1\r\n\r\n{to}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nh: cx\r\ns: sink"), "{head}");
        assert!(body.ends_with("0\r\n\r\n") && !answer.contains("railer"), "{answer}");
    }
    assert_eq!(server.stats().response_entries_dropped, 3, "t and twice u");
}

/// A type of the user's with a message, in the way of `prost`.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Left {
    left: u32,
}

impl StatusDetail for Left {
    const TYPE_NAME: &'static str = "shop.v1.Left";
}

#[test]
fn a_status_of_another_server_is_passed_on_with_its_details() {
    let back = Server::builder()
        .method("Back.Fail", |_cx: &Context, left: u32| -> Result<u32, Status> {
            Err(Status::failed_precondition("no").with_detail(&Left { left })?.with_detail(&info())?)
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    #[cfg(feature = "http")]
    let schemes = ["native", "http"];
    #[cfg(not(feature = "http"))]
    let schemes = ["native"];
    for scheme in schemes {
        let client = Client::connect(format!("{scheme}:{}", back.addresses()[0])).unwrap();
        let front = Server::builder()
            .method("Front.Fail", move |_cx: &Context, left: u32| -> Result<u32, Status> {
                client.call_bytes("Back.Fail", Codec::Json, left.to_string().as_bytes())?;
                Ok(0)
            })
            .listen("127.0.0.1:0")
            .start()
            .unwrap();
        for outer in schemes {
            let client = Client::connect(format!("{outer}:{}", front.addresses()[0])).unwrap();
            let error = client.call_bytes("Front.Fail", Codec::Json, b"7").unwrap_err();
            let CallError::Status(status) = error else { panic!("{error:?}") };
            assert_eq!(status.detail::<Left>(), Some(Left { left: 7 }), "{scheme}, {outer}");
            assert_eq!(status.detail::<ErrorInfo>(), Some(info()), "{scheme}, {outer}");
        }
    }
}

#[test]
fn a_server_that_sends_much_metadata_or_garbage_costs_only_that() {
    use crate::common::raw_server::{RawServer, assert_works, connected, end, start};
    use crate::common::{Frame, kind};

    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let large = {
        let mut metadata = MetadataBuf::new();
        metadata.push("a", &[7; 65_000]).unwrap();
        metadata
    };
    let garbage = {
        let mut metadata = MetadataBuf::new();
        metadata.push("details", b"\x05shop").unwrap();
        metadata.push("b", b"\xff").unwrap();
        metadata
    };
    for (headers, trailers) in [(&large, &garbage), (&garbage, &large)] {
        let mut call = start(&client, "x");
        let request = side.request();
        let mut frame = Frame::of_kind(kind::HEADERS, request.id);
        frame.metadata = headers.as_bytes().to_vec();
        side.peer.send(&frame);
        let mut reply = request.failure(Code::NotFound, "no");
        reply.metadata = trailers.as_bytes().to_vec();
        side.peer.send(&reply);
        let error = taken(&mut call).unwrap_err();
        let CallError::Status(status) = error else { panic!("{error:?}") };
        assert_eq!((status.code, status.details()), (Code::NotFound, &[][..]));
        assert_eq!(call.headers().as_bytes(), headers.as_bytes());
        assert_eq!(call.trailers().find("a").is_some(), std::ptr::eq(trailers, &raw const large));
    }
    // Headers twice break the call alone.
    let call = start(&client, "x");
    let request = side.request();
    for _ in 0..2 {
        side.peer.send(&Frame::of_kind(kind::HEADERS, request.id));
    }
    assert_eq!(end(call).unwrap_err().code(), Code::Internal);
    assert_eq!(side.next().map(|frame| frame.kind), Some(kind::CANCEL));
    assert_works(&client, &mut side);
}
