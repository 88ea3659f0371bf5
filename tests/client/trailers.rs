//! What a client learns from the metadata of replies, from servers that the test plays.

use std::time::Duration;

use coreloop::Code;
use coreloop::client::{CallError, Client, Direct};
use coreloop::codec::Codec;
use coreloop::message::MetadataBuf;

use crate::common::raw_server::{ClientFrame, RawServer, assert_works, connected, end, start};
use crate::common::{Frame, PATIENCE};

/// A refusal with these entries.
fn refusal(request: &ClientFrame, entries: &[(&str, &str)]) -> Frame {
    let mut metadata = MetadataBuf::new();
    for (key, value) in entries {
        metadata.push(key, value.as_bytes()).unwrap();
    }
    let mut frame = request.failure(Code::ResourceExhausted, "full");
    frame.metadata = metadata.as_bytes().to_vec();
    frame
}

#[test]
fn a_refusal_says_when_to_call_again() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    for (entries, expected) in [
        (&[][..], None),
        (&[("retry-after-ms", "250")], Some(250)),
        (&[("load", "1"), ("retry-after-ms", "0"), ("retry-after-ms", "9")], Some(0)),
        (&[("retry-after-ms", "soon")], None),
        (&[("Retry-After-Ms", "1")], None),
        (&[("other", "1")], None),
    ] {
        let call = start(&client, "when?");
        let frame = refusal(&side.request(), entries);
        side.peer.send(&frame);
        let error = end(call).unwrap_err();
        assert_eq!(error.retry_after(), expected.map(Duration::from_millis), "{entries:?}");
        let CallError::Status(status) = error else { panic!("{error:?}") };
        assert_eq!((status.code, &status.message[..]), (Code::ResourceExhausted, "full"));
    }
    assert_works(&client, &mut side);
}

#[test]
fn inconsistent_trailers_do_not_cost_the_reply() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let call = start(&client, "still");
    let mut frame = side.request().reply("here");
    frame.metadata = b"\xffload\x01\x007".to_vec();
    side.peer.send(&frame);
    assert_eq!(end(call).unwrap(), b"here");
    assert_works(&client, &mut side);
}

#[test]
fn a_direct_client_learns_it_too() {
    let server = RawServer::start();
    let client = Direct::connect(&server.address).unwrap();
    let mut side = server.accept();
    let answers = std::thread::spawn(move || {
        let frame = refusal(&side.request(), &[("retry-after-ms", "250")]);
        side.peer.send(&frame);
        side
    });
    let error = client.call_bytes("Raw.Echo", Codec::Raw, b"when?").unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
    drop(answers.join().unwrap());
}

#[cfg(feature = "http")]
#[test]
fn so_does_a_client_over_http() {
    use std::io::{BufRead, BufReader, Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(format!("http:{}", listener.local_addr().unwrap())).build().unwrap();
    let mut call = client.start_bytes("Raw.Echo", Codec::Json, b"1");
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    reader.read_exact(&mut [0]).unwrap();
    let body = r#"{"code":"resource_exhausted","message":"full"}"#;
    let head = format!("HTTP/1.1 429 No\r\nRetry-After: 3\r\nContent-Length: {}\r\n\r\n", body.len());
    reader.get_mut().write_all((head + body).as_bytes()).unwrap();
    let error = call.wait_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!((error.code(), error.retry_after()), (Code::ResourceExhausted, Some(Duration::from_secs(3))));
}
