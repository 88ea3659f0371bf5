//! Calls over TLS with every client and protocol of the crate.

use std::io::{Read, Write};
use std::net::TcpStream;

use coreloop::TlsFailureKind;
use coreloop::client::{BuildError, Caller, Client, Direct, MethodId};
use coreloop::codec::{Codec, Plain};
use coreloop::config::TlsMode;

use crate::fixture::{Fixture, PATIENCE, eventually, failure, greet};

#[test]
fn each_protocol_is_served_over_tls() {
    let fixture = Fixture::new();
    let tls = fixture.settings();
    assert_eq!(greet(&fixture.direct(&tls).unwrap()).unwrap(), r#""hello, you""#);
    for scheme in ["native+tls", "https", "http+tls", "jsonrpc+tls", "gob+tls", "gob-http+tls"] {
        let client = fixture.client(scheme, &tls);
        let method = MethodId::new("Greeter.Greet");
        let greeting = client.call::<Plain<String>, Plain<String>>(&method, &"you".to_owned());
        let greeting = greeting.unwrap_or_else(|error| panic!("{scheme}: {error}"));
        assert_eq!(greeting, "hello, you", "{scheme}");
        assert!(client.close(PATIENCE), "{scheme}");
    }
    let protocols = fixture.server.stats().protocols;
    assert!(protocols.len() >= 4, "{protocols:?}");
    assert_eq!(fixture.tls().failures.iter().sum::<u64>(), 0, "{:?}", fixture.tls());
}

#[test]
fn large_bodies_pass_in_both_directions_with_calls_beside_them() {
    let fixture = Fixture::new();
    let client = fixture.client("native+tls", &fixture.settings());
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let client = &client;
            scope.spawn(move || {
                for round in 0..2 {
                    // Around the size of a record, of a read, and of a seal, and beyond.
                    for size in [0, 1, 16_383, 16_384, 16_385, 65_535, 65_537, 1 << 20] {
                        let size = size + thread;
                        let body: Vec<u8> = (0..size).map(|at| (at * 7 + round) as u8).collect();
                        let reply = client.call_bytes("Greeter.Echo", Codec::Raw, &body).unwrap();
                        assert!(reply == body, "{size} bytes");
                    }
                }
            });
        }
    });
}

#[test]
fn a_client_resumes_its_session() {
    let fixture = Fixture::new();
    let tls = fixture.settings();
    // The connections of one client share the sessions; HTTP makes several when calls run side by side.
    let client = fixture.client("https", &tls);
    let greeting: String = client.call_value("Greeter.Greet", "you").unwrap();
    assert_eq!(greeting, "hello, you");
    assert_eq!((fixture.tls().full_handshakes, fixture.tls().resumed_handshakes), (1, 0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let _: String = client.call_value("Greeter.Greet", "you").unwrap();
                }
            });
        }
    });
    eventually("a session is resumed", || {
        let _: Vec<String> =
            (0..4).map(|_| client.call_value("Greeter.Greet", "you")).collect::<Result<_, _>>().unwrap();
        fixture.tls().resumed_handshakes > 0 || fixture.tls().full_handshakes == 1
    });
}

#[test]
fn a_server_of_an_unknown_authority_or_another_name_is_refused() {
    let fixture = Fixture::new();
    let other = crate::authority::Authority::new();
    let mut tls = fixture.settings();
    tls.ca = Some(other.ca());
    let error = fixture.direct(&tls).unwrap_err();
    assert_eq!(failure(&error).kind(), TlsFailureKind::Certificate, "{error}");
    let client = fixture.client("native+tls", &tls);
    let error = client.call_bytes("Greeter.Echo", Codec::Raw, b"").unwrap_err();
    assert_eq!(failure(&error).kind(), TlsFailureKind::Certificate, "{error}");
    assert!(error.to_string().contains("TLS: invalid peer certificate"), "{error}");

    let mut tls = fixture.settings();
    tls.server_name = Some("shop.example".to_owned());
    let error = fixture.direct(&tls).unwrap_err();
    assert_eq!(failure(&error).kind(), TlsFailureKind::Certificate, "{error}");
    eventually("the server has counted the alerts", || fixture.tls().failed(TlsFailureKind::Alert) >= 3);
}

#[test]
fn settings_for_an_address_without_tls_are_an_error() {
    let fixture = Fixture::new();
    let settings = fixture.settings();
    let error = Client::builder(fixture.address()).tls(|tls| *tls = settings.clone()).build().unwrap_err();
    assert!(matches!(error, BuildError::WithoutTls { .. }), "{error}");
    let mixed = format!("static:native+tls:{0},native:{0}", fixture.address());
    let error = Client::builder(mixed).tls(|tls| *tls = settings.clone()).build().unwrap_err();
    assert!(matches!(error, BuildError::WithoutTls { .. }), "{error}");
    let mut half = settings;
    half.key = Some("/nowhere.key".into());
    let error = Client::builder("native+tls:localhost:1").tls(|tls| *tls = half).build().unwrap_err();
    assert_eq!(error.to_string(), "expected a certificate and its key; found `key` without `certificate`");
}

#[test]
fn several_servers_are_called_over_tls() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let bundle = one.authority.path("both.pem");
    let both = [one.authority.ca(), two.authority.ca()].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(&bundle, both.concat()).unwrap();
    let address = format!("native+tls:static:{},{}", one.address(), two.address());
    let client = Client::builder(address).tls(|tls| tls.ca = Some(bundle)).build().unwrap();
    eventually("both have been called", || {
        let reply: String = client.call_value("Greeter.Greet", "you").unwrap();
        assert_eq!(reply, "hello, you");
        [&one, &two].iter().all(|fixture| fixture.tls().full_handshakes > 0)
    });
}

#[test]
fn where_tls_is_required_plain_http_is_told_so_and_other_bytes_are_refused() {
    let fixture = Fixture::new();
    let mut stream = TcpStream::connect(fixture.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"POST /Greeter/Greet HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\"you\"").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert_eq!(body, "This port requires TLS: expected https://, found plain http://.\n");
    drop(stream);

    let error = Direct::connect(fixture.address()).and_then(|direct| greet(&direct)).unwrap_err();
    assert!(!error.to_string().is_empty());
    eventually("both are counted", || fixture.tls().failed(TlsFailureKind::Plaintext) == 2);
    eventually("both are closed", || fixture.server.stats().reactors[0].connections == 0);
    assert_eq!(fixture.server.stats().closed("tls"), 2);
}

#[test]
fn an_optional_listener_serves_both() {
    let fixture = Fixture::with(|_, config| config.tls.mode = TlsMode::Optional);
    let plain = Direct::connect(fixture.address()).unwrap();
    assert_eq!(greet(&plain).unwrap(), r#""hello, you""#);
    let secured = fixture.direct(&fixture.settings()).unwrap();
    assert_eq!(greet(&secured).unwrap(), r#""hello, you""#);
    // The first byte alone, which is also that of a handshake, and the rest later.
    let mut stream = TcpStream::connect(fixture.address()).unwrap();
    stream.write_all(b"{").unwrap();
    stream.write_all(br#""method":"Greeter.Greet","params":["you"],"id":1}"#).unwrap();
    let mut answer = [0; 64];
    let n = stream.read(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..n]).contains("hello, you"));
    assert_eq!(fixture.tls().full_handshakes, 1);
    assert_eq!(greet(&plain).unwrap(), r#""hello, you""#);
}

#[test]
fn a_listener_decides_for_itself() {
    let fixture = Fixture::with(|_, config| {
        config.tls.mode = TlsMode::Off;
        config.listen = vec!["native+tls:127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()];
    });
    assert!(greet(&fixture.direct(&fixture.settings()).unwrap()).is_ok());
    let plain = Direct::connect(fixture.server.addresses()[1].to_string()).unwrap();
    assert!(greet(&plain).is_ok());
}

#[test]
fn unix_sockets_and_listeners_in_memory_have_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s").display().to_string();
    let fixture = Fixture::with(|_, config| {
        config.listen = vec![format!("unix:{path}"), "native+tls:memory:0".to_owned(), "memory:0".to_owned()];
    });
    let tls = fixture.settings();
    for address in &fixture.server.addresses()[..2] {
        let direct = Direct::connect_tls(format!("native+tls:{address}"), &tls, Some(PATIENCE)).unwrap();
        assert_eq!(greet(&direct).unwrap(), r#""hello, you""#, "{address}");
        let client = Client::builder(format!("native+tls:{address}"))
            .tls(|settings| *settings = tls.clone())
            .build()
            .unwrap();
        let greeting: String = client.call_value("Greeter.Greet", "you").unwrap();
        assert_eq!(greeting, "hello, you", "{address}");
    }
    let plain = Direct::connect(fixture.server.addresses()[2].to_string()).unwrap();
    assert!(greet(&plain).is_ok());
}

#[test]
fn calls_in_flight_are_answered_when_the_server_drains() {
    let fixture = Fixture::new();
    let client = fixture.client("native+tls", &fixture.settings());
    let _: String = client.call_value("Greeter.Greet", "you").unwrap();
    let body = vec![7; 1 << 20];
    let Fixture { server, authority, .. } = fixture;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let caller = std::thread::spawn(move || {
        let mut answered = 0;
        loop {
            match client.call_bytes("Greeter.Echo", Codec::Raw, &body) {
                Ok(reply) => assert_eq!(reply.len(), body.len()),
                Err(_) => return answered,
            }
            answered += 1;
            let _ = begun.send(());
        }
    });
    has_begun.recv_timeout(PATIENCE).unwrap();
    let last = server.shutdown();
    assert!(caller.join().unwrap() > 0);
    assert_eq!(last.closed("tls"), 0, "every connection has ended with close_notify");
    drop(authority);
}
