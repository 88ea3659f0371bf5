//! Connections that do not begin as a listener behind proxies expects.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use crate::common::{eventually, shared};
use crate::served::{CLIENT, Speaks, V1, V2, ask_after, behind, connect, rest_of, server, wait_for_closed};

const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";

#[test]
fn a_connection_of_another_peer_is_closed_unread() {
    let _turn = shared();
    let server =
        server(|config| config.proxy_protocol.from = vec!["10.0.0.0/8".to_owned(), "unix".to_owned()]);
    for (count, bytes) in
        [V1, V2, b"", TLS_HELLO, &Speaks::Http.call("Peer.Inline"), &[b'x'; 9000]].into_iter().enumerate()
    {
        let mut stream = connect(&server);
        // The server may have closed it already.
        let _ = stream.write_all(bytes);
        assert_eq!(rest_of(stream), b"");
        wait_for_closed(&server, "proxy_unlisted", count as u64 + 1);
    }
    let stats = server.stats();
    assert_eq!((stats.closed("proxy_header"), stats.reactors[0].read_bytes), (0, 0));
}

#[test]
fn a_connection_without_a_header_is_closed() {
    let _turn = shared();
    let server = behind(|_| {});
    let too_long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat();
    let v2_too_long = [&V2[..14], b"\x0f\xf1", &[0; 5000]].concat();
    let mut count = 0;
    for bytes in [
        &Speaks::Http.call("Peer.Inline")[..],
        &Speaks::JsonRpc.call("Peer.Inline"),
        &Speaks::Native.call("Peer.Inline"),
        TLS_HELLO,
        b"PROXY TCP4 192.0.2.1 198.51.100.1 07 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 7 443\n",
        &too_long,
        &v2_too_long,
        b"\r\n\r\n\0\r\nQUIT\n\x11",
    ] {
        let mut stream = connect(&server);
        let _ = stream.write_all(bytes);
        assert_eq!(rest_of(stream), b"", "{:?}", bytes.escape_ascii().to_string());
        count += 1;
        wait_for_closed(&server, "proxy_header", count);
    }
    // An end within the header is no ordinary end.
    for header in [V1, V2] {
        for len in [1, 5, 13, header.len() - 1] {
            let mut stream = connect(&server);
            stream.write_all(&header[..len]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest_of(stream), b"");
            count += 1;
            wait_for_closed(&server, "proxy_header", count);
        }
    }
    assert_eq!(ask_after(&server, V1, Speaks::Native, "Peer.Pooled"), CLIENT, "others are served");
    let stats = server.stats();
    assert_eq!(stats.methods.iter().map(|method| method.calls).sum::<u64>(), 1);
}

#[test]
fn a_header_that_is_not_complete_in_time_ends_the_connection() {
    let _turn = shared();
    let server = behind(|config| config.limits.first_bytes_ms = 50);
    for (count, begun) in [&b""[..], b"P", b"PROXY TCP4 192.0.2.1", &V2[..12], &V2[..20]].iter().enumerate() {
        let mut stream = connect(&server);
        stream.write_all(begun).unwrap();
        wait_for_closed(&server, "proxy_header", count as u64 + 1);
        assert_eq!(rest_of(stream), b"");
    }
    // Complete in time, and silent after that: the connection is idle, as others are.
    let mut early = connect(&server);
    early.write_all(V1).unwrap();
    // Bytes that arrive one at a time do not extend the time.
    let mut slow = connect(&server);
    let header = [&V2[..14], b"\x0f\xf0", &[0; 4080]].concat();
    let sent = header.iter().take_while(|byte| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        slow.write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < header.len(), "the header was accepted whole, late");
    wait_for_closed(&server, "proxy_header", 6);
    early.write_all(&Speaks::Http.call("Peer.Inline")).unwrap();
    assert_eq!(Speaks::Http.result(&early), CLIENT);
}

#[test]
fn a_second_header_is_part_of_the_connection_and_refused_as_such() {
    let _turn = shared();
    let server = behind(|_| {});
    for (count, header) in [V2, V1].into_iter().enumerate() {
        let mut stream = connect(&server);
        stream.write_all(&[header, header, &Speaks::Native.call("Peer.Inline")].concat()).unwrap();
        assert_eq!(rest_of(stream), b"");
        wait_for_closed(&server, "broken", count as u64 + 1);
    }
    assert_eq!(server.stats().methods.iter().map(|method| method.calls).sum::<u64>(), 0);
}

#[test]
fn connections_that_wait_for_their_header_count_as_silent() {
    let _turn = shared();
    let server = behind(|config| config.limits.silent_connections_max = 4);
    let waiting: Vec<_> = (0..4)
        .map(|at| {
            let mut stream = connect(&server);
            stream.write_all(&V1[..7]).unwrap();
            eventually("it is accepted", || server.stats().reactors[0].accepted == at + 1);
            stream
        })
        .collect();
    assert_eq!(ask_after(&server, V1, Speaks::Native, "Peer.Inline"), CLIENT);
    wait_for_closed(&server, "too_many_silent", 1);
    // Those that were kept go on.
    for mut stream in waiting.into_iter().skip(1) {
        stream.write_all(&[&V1[7..], &Speaks::Http.call("Peer.Inline")].concat()).unwrap();
        assert_eq!(Speaks::Http.result(&stream), CLIENT);
    }
}

#[test]
fn a_drain_closes_connections_that_wait_for_their_header() {
    let _turn = shared();
    let server = behind(|config| config.limits.drain_ms = 10_000);
    let mut waiting = connect(&server);
    waiting.write_all(&V1[..7]).unwrap();
    eventually("it is accepted", || server.stats().reactors[0].accepted == 1);
    let snapshot = server.shutdown();
    assert_eq!(snapshot.closed("drained"), 1);
    let error = waiting.write_all(V1).and_then(|()| waiting.write_all(V1));
    assert!(error.is_ok() || error.is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
    assert_eq!(rest_of(waiting), b"");
}
