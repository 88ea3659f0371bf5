//! Connections that begin with a header: which peer their calls have.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use coreloop::client::Client;
use coreloop::codec::Codec;

use crate::common::shared;
use crate::served::{
    CLIENT, NotedPeers, Speaks, V1, V2, ask_after, behind, builder, connect, server, wait_for_closed,
};

#[test]
fn calls_of_every_protocol_and_kind_have_the_client_as_their_peer() {
    let _turn = shared();
    let server = behind(|_| {});
    for header in [V1, V2] {
        for speaks in Speaks::ALL {
            for method in ["Peer.Inline", "Peer.Pooled", "Peer.Blocking"] {
                assert_eq!(ask_after(&server, header, speaks, method), CLIENT, "{speaks:?} {method}");
            }
        }
    }
}

#[test]
fn a_header_may_arrive_in_any_pieces() {
    let _turn = shared();
    let server = behind(|_| {});
    for header in [V1, V2] {
        for speaks in Speaks::ALL {
            let bytes = [header, &speaks.call("Peer.Inline")].concat();
            for split in 1..=header.len() {
                let mut stream = connect(&server);
                stream.write_all(&bytes[..split]).unwrap();
                stream.write_all(&bytes[split..]).unwrap();
                assert_eq!(speaks.result(&stream), CLIENT, "{speaks:?} at {split}");
            }
            let mut stream = connect(&server);
            bytes.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
            assert_eq!(speaks.result(&stream), CLIENT, "{speaks:?}");
            // The header is that of the connection: a second call needs none.
            stream.write_all(&speaks.call("Peer.Pooled")).unwrap();
            assert_eq!(speaks.result(&stream), CLIENT, "{speaks:?}");
        }
    }
}

#[test]
fn a_client_of_ipv6_is_named_and_one_of_a_unix_socket_too() {
    let _turn = shared();
    let server = behind(|_| {});
    let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n";
    assert_eq!(ask_after(&server, line, Speaks::Native, "Peer.Inline"), "[2001:db8::7]:50000");
    let unix = [&V2[..13], b"\x31\0\xd8", &[0; 216]].concat();
    assert_eq!(ask_after(&server, &unix, Speaks::Http, "Peer.Pooled"), "unix");
}

#[test]
fn without_a_client_in_the_header_the_proxy_is_the_peer() {
    let _turn = shared();
    let server = behind(|_| {});
    let local = [&V2[..12], b"\x20\0\0\0"].concat();
    let unspecified = [&V2[..12], b"\x21\0\0\x03abc"].concat();
    for header in [&b"PROXY UNKNOWN\r\n"[..], &local, &unspecified] {
        let mut stream = connect(&server);
        stream.write_all(&[header, &Speaks::Http.call("Peer.Inline")].concat()).unwrap();
        assert_eq!(Speaks::Http.result(&stream), stream.local_addr().unwrap().to_string());
    }
}

#[test]
fn probes_that_only_connect_or_only_send_a_header_are_ordinary_ends() {
    let _turn = shared();
    let server = behind(|_| {});
    drop(connect(&server));
    wait_for_closed(&server, "peer_closed", 1);
    for header in [V1, V2, &[&V2[..12], b"\x20\0\0\0"].concat()] {
        let mut stream = connect(&server);
        stream.write_all(header).unwrap();
    }
    wait_for_closed(&server, "peer_closed", 4);
    assert_eq!(server.stats().closed("proxy_header"), 0);
}

#[test]
fn only_the_listeners_that_are_named_expect_the_header() {
    let _turn = shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let server = server(|config| {
        config.listen = vec!["127.0.0.1:0".to_owned(), unix.clone(), "memory:0".to_owned()];
        config.proxy_protocol.from = vec!["unix".to_owned()];
        config.proxy_protocol.listen = vec![unix];
    });
    let mut stream = connect(&server);
    stream.write_all(&Speaks::Http.call("Peer.Inline")).unwrap();
    assert_eq!(Speaks::Http.result(&stream), stream.local_addr().unwrap().to_string());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(&[V1, &Speaks::JsonRpc.call("Peer.Pooled")].concat()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line).unwrap();
    assert!(line.contains(CLIENT), "{line}");
    let client = Client::connect(server.addresses()[2].to_string()).unwrap();
    assert_eq!(client.call_bytes("Peer.Inline", Codec::Json, b"1").unwrap(), b"\"memory\"");
}

#[test]
fn by_default_all_listeners_expect_it_except_those_in_memory() {
    let _turn = shared();
    let server = behind(|config| config.listen.push("memory:0".to_owned()));
    let client = Client::connect(server.addresses()[1].to_string()).unwrap();
    assert_eq!(client.call_bytes("Peer.Pooled", Codec::Json, b"1").unwrap(), b"\"memory\"");
    let mut stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.write_all(&Speaks::Native.call("Peer.Inline")).unwrap();
    wait_for_closed(&server, "proxy_header", 1);
}

#[test]
fn a_listener_that_does_not_exist_keeps_the_server_from_starting() {
    let result = coreloop::Server::builder()
        .listen("127.0.0.1:0")
        .proxy_protocol_from(["127.0.0.1"])
        .configure(|config| config.proxy_protocol.listen = vec!["127.0.0.1:1".to_owned()])
        .start();
    let error = result.expect_err("it does not start").to_string();
    let expected = "`proxy_protocol.listen`: expected addresses that the server listens on, 127.0.0.1:0; found 127.0.0.1:1";
    assert_eq!(error, expected);
}

#[test]
fn interceptors_have_the_client_as_the_peer_of_a_call() {
    let _turn = shared();
    let noted = NotedPeers::default();
    let server = builder(|config| config.proxy_protocol.from = vec!["127.0.0.1".to_owned()])
        .interceptor(noted.clone())
        .start()
        .unwrap();
    for method in ["Peer.Inline", "Peer.Pooled"] {
        assert_eq!(ask_after(&server, V2, Speaks::Native, method), CLIENT);
    }
    drop(server);
    assert_eq!(noted.take(), [CLIENT; 4]);
}
