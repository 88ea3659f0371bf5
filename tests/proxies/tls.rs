//! TLS behind the header: the session begins with the first byte after it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use coreloop::client::{ClientTls, Direct};
use coreloop::codec::Codec;
use coreloop::config::Config;
use coreloop::{Context, Server};

use crate::authority::{Authority, Pair, text};
use crate::common::{PATIENCE, shared};
use crate::served::{CLIENT, V1, V2, connect, rest_of, wait_for_closed};

fn tls_server(authority: &Authority, pair: &Pair, change: impl FnOnce(&mut Config)) -> Server {
    Server::builder()
        .configure(|config| {
            config.listen = vec!["127.0.0.1:0".to_owned()];
            config.cores = 1;
            config.tls.certificate = vec![text(&pair.certificate)];
            config.tls.key = vec![text(&pair.key)];
            config.tls.client_ca = text(&authority.ca());
            config.tls.client_auth = coreloop::config::ClientAuth::Optional;
            config.proxy_protocol.from = vec!["127.0.0.1".to_owned()];
            change(config);
        })
        .method("Peer.Known", |cx: &Context<'_>, _: i64| {
            let peer = cx.peer();
            let subject = peer.certificate().map(|certificate| certificate.dns_names().join(","));
            Ok((peer.address().map(|address| address.to_string()), subject))
        })
        .start()
        .unwrap()
}

/// Accepts one connection, writes a header before its bytes, in two pieces, and passes everything on.
fn relay(server: &Server, header: &'static [u8], split: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, upstream) = (listener.local_addr().unwrap(), connect(server));
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        (&upstream).write_all(&header[..split]).unwrap();
        // The rest of the header goes out together with the first bytes of the client.
        let mut first = vec![0; 4096];
        let n = (&client).read(&mut first).unwrap();
        (&upstream).write_all(&[&header[split..], &first[..n]].concat()).unwrap();
        let copy = |mut from: TcpStream, mut to: TcpStream| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        thread::spawn(move || copy(from, to));
        copy(upstream, client);
    });
    address.to_string()
}

fn known(address: &str, settings: &ClientTls) -> String {
    let direct = Direct::connect_tls(format!("native+tls:{address}"), settings, Some(PATIENCE)).unwrap();
    String::from_utf8(direct.call_bytes("Peer.Known", Codec::Json, b"1").unwrap()).unwrap()
}

#[test]
fn a_session_follows_the_header_and_has_the_clients_address_and_certificate() {
    let _turn = shared();
    let authority = Authority::new();
    let pair = authority.server();
    let server = tls_server(&authority, &pair, |_| {});
    let mut settings = ClientTls::default();
    settings.ca = Some(authority.ca());
    let mut with_certificate = settings.clone();
    (with_certificate.certificate, with_certificate.key) =
        (Some(pair.certificate.clone()), Some(pair.key.clone()));
    for header in [V1, V2] {
        for split in [0, 1, 12, 13, header.len() - 1, header.len()] {
            let found = known(&relay(&server, header, split), &settings);
            assert_eq!(found, format!(r#"["{CLIENT}",null]"#), "at {split}");
            let found = known(&relay(&server, header, split), &with_certificate);
            assert!(found.starts_with(&format!(r#"["{CLIENT}",""#)), "{found}");
        }
    }
    let tls = server.stats().tls.unwrap();
    assert_eq!((tls.handshakes_in_progress, tls.failures.iter().sum::<u64>()), (0, 0));
}

#[test]
fn bad_headers_end_the_connection_before_any_handshake() {
    let _turn = shared();
    let authority = Authority::new();
    let pair = authority.server();
    let server = tls_server(&authority, &pair, |config| config.limits.tls_handshake_ms = 50);
    let hello: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    for (count, bytes) in [hello, b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4\r\n"].iter().enumerate() {
        let mut stream = connect(&server);
        stream.write_all(bytes).unwrap();
        assert_eq!(rest_of(stream), b"");
        wait_for_closed(&server, "proxy_header", count as u64 + 1);
    }
    // A header that is cut short takes from the time of the handshake.
    for begun in [&b""[..], &V1[..9], V1, &[V2, &hello[..4]].concat()] {
        let mut stream = connect(&server);
        stream.write_all(begun).unwrap();
        let before = server.stats().closed("tls");
        wait_for_closed(&server, "tls", before + 1);
        rest_of(stream);
    }
    let unlisted =
        tls_server(&authority, &pair, |config| config.proxy_protocol.from = vec!["::1".to_owned()]);
    let mut stream = connect(&unlisted);
    let _ = stream.write_all(V1);
    wait_for_closed(&unlisted, "proxy_unlisted", 1);
    assert_eq!(unlisted.stats().tls.unwrap().handshakes_in_progress, 0);
}

#[test]
fn a_listener_with_optional_tls_serves_both_behind_the_header() {
    let _turn = shared();
    let authority = Authority::new();
    let pair = authority.server();
    let server =
        tls_server(&authority, &pair, |config| config.tls.mode = coreloop::config::TlsMode::Optional);
    let mut settings = ClientTls::default();
    settings.ca = Some(authority.ca());
    assert_eq!(known(&relay(&server, V2, 5), &settings), format!(r#"["{CLIENT}",null]"#));
    let direct = Direct::connect(format!("native:{}", relay(&server, V1, 5))).unwrap();
    let found = direct.call_bytes("Peer.Known", Codec::Json, b"1").unwrap();
    assert_eq!(String::from_utf8(found).unwrap(), format!(r#"["{CLIENT}",null]"#));
}
