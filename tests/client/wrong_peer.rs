//! Errors of calls that reach another method or another protocol than intended: they name what the client knows.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use coreloop::client::{CallError, Client, Direct, MethodId, Starter};
use coreloop::codec::{Codec, Plain};
use coreloop::wire::{ForeignProtocol, ProtocolId, ProtocolSet};
use coreloop::{Code, Context, Server};

fn text_of(scheme: &str) -> (Codec, &'static [u8]) {
    // The number 1 in gob.
    if scheme.starts_with("gob") { (Codec::Gob, &[3, 4, 0, 2]) } else { (Codec::Json, b"1") }
}

#[test]
fn an_error_names_the_method_and_not_its_hash() {
    static PRICE: MethodId = MethodId::new("Orders.Price");
    let server = Server::builder().listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    let client = Client::connect(&address).unwrap();
    let direct = Direct::connect(&address).unwrap();
    let (result_tx, result_rx) = std::sync::mpsc::channel();
    client.start_then::<Plain<i64>, Plain<i64>>(&PRICE, &1, move |result| result_tx.send(result).unwrap());
    let batch = client.batch();
    let batched = batch.start_bytes("Orders.Price", Codec::Json, b"1");
    batch.send();
    for error in [
        client.call_bytes("Orders.Price", Codec::Json, b"1").unwrap_err(),
        client.start::<Plain<i64>, Plain<i64>>(&PRICE, &1).wait().unwrap_err(),
        result_rx.recv_timeout(Duration::from_secs(30)).unwrap().unwrap_err(),
        batched.wait().unwrap_err(),
        direct.call_bytes("Orders.Price", Codec::Json, b"1").unwrap_err(),
        coreloop::client::Caller::call::<Plain<i64>, Plain<i64>>(&direct, &PRICE, &1).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.to_string().contains("there is no method Orders.Price here"), "{error}");
        assert!(!error.to_string().contains("0x"), "{error}");
    }
}

#[test]
fn errors_name_the_foreign_protocol_of_a_listener() {
    for (allowed, name) in [
        (ProtocolId::Native, "native"),
        (ProtocolId::Http, "http"),
        (ProtocolId::JsonRpc, "jsonrpc"),
        (ProtocolId::NetRpc, "gob"),
    ] {
        let server = Server::builder()
            .method("Any.Any", |_: &Context<'_>, n: i64| Ok(n))
            .listen_for("127.0.0.1:0", ProtocolSet::only(allowed))
            .start()
            .unwrap();
        let address = server.addresses()[0].to_string();
        for scheme in ["native", "gob", "gob-http", "jsonrpc", "http"] {
            let client = Client::builder(format!("{scheme}:{address}")).build().unwrap();
            let client = client.with_timeout(Duration::from_secs(30));
            let (codec, argument) = text_of(scheme);
            let result = client.call_bytes("Any.Any", codec, argument);
            if scheme == name {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            let text = error.to_string();
            let why = format!("{scheme} at a listener for {name} alone: {text}");
            // If the peer answers, the error names the protocol of the answer; if it closes, the error says that it
            // may not speak the protocol.
            match &error {
                CallError::WrongProtocol(wrong) => {
                    assert_eq!(wrong.met.scheme().unwrap().name(), name, "{why}");
                    assert!(text.contains(&format!("use {name}:{address}")), "{why}");
                }
                CallError::Lost { .. } => assert!(text.contains(&format!("may not speak {scheme}")), "{why}"),
                // With gob-http the connection itself is refused, with or without an answer.
                CallError::Connect(_) => assert_eq!(scheme, "gob-http", "{why}"),
                CallError::Status(_) => assert_eq!((scheme, name), ("jsonrpc", "http"), "{why}"),
                other => panic!("{why}: {other:?}"),
            }
        }
        if name != "native" {
            let error =
                Direct::connect(&address).unwrap().call_bytes("Any.Any", Codec::Json, b"1").unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("does not speak native") || text.contains("may not speak native"),
                "{text}"
            );
        }
    }
}

/// Returns the address of a peer that sends these bytes on each connection once it has received something.
fn peer(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(says);
            // Reads until the client closes, so that the client receives the answer (closing with unread bytes
            // would reset the connection).
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

#[test]
fn a_peer_that_is_no_rpc_server_is_named() {
    for (says, met) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"[..],
            ForeignProtocol::Http,
        ),
        (b"\x15\x03\x01\0\x02\x02\x46", ForeignProtocol::Tls),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ForeignProtocol::Ssh),
        (b"-ERR unknown command\r\n", ForeignProtocol::Redis),
        (b"220 mail.example ESMTP\r\n", ForeignProtocol::Greeting),
        (
            b"\x19\x96\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ForeignProtocol::Native,
        ),
    ] {
        let address = peer(says);
        for scheme in ["native", "gob", "jsonrpc", "http"] {
            if met.scheme().is_some_and(|own| own.name() == scheme) {
                continue;
            }
            let client = Client::builder(format!("{scheme}:{address}")).build().unwrap();
            let (codec, argument) = text_of(scheme);
            let error = client.call_bytes("Any.Any", codec, argument).unwrap_err();
            let CallError::WrongProtocol(wrong) = &error else { panic!("{scheme}, {met}: {error:?}") };
            assert_eq!((wrong.met, wrong.address.as_str(), wrong.scheme.name()), (met, &*address, scheme));
            assert_eq!((error.code(), error.may_have_run()), (Code::FailedPrecondition, false));
            let text = error.to_string();
            let expected = format!("the peer at {address} does not speak {scheme}: it answered with {met}");
            assert!(text.contains(&expected), "{text}");
        }
        if met != ForeignProtocol::Native {
            let error =
                Direct::connect(&address).unwrap().call_bytes("Any.Any", Codec::Json, b"1").unwrap_err();
            assert!(matches!(&error, CallError::WrongProtocol(wrong) if wrong.met == met), "{error:?}");
        }
    }
}
