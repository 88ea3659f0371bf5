//! Lingering: after its last answer a connection reads a bounded rest for a bounded time, in every protocol.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{Frame, eventually, rig, shared};
use coreloop::codec::Codec;

/// Returns what ends a connection in each protocol, with what may follow without end, and what the answer contains.
fn final_requests() -> Vec<(&'static str, Vec<u8>, &'static [u8])> {
    let mut too_large = Frame::request(1, "Inline.Bytes", Codec::Raw, vec![0; 16]);
    too_large.body_bytes = Some(u32::MAX);
    let mut version = Frame::call(1, "Inline.Double", 1);
    version.version = 9;
    let mut cases = vec![
        ("native, too large", too_large.bytes(), &b"frame_bytes_max"[..]),
        ("native, another version", version.bytes(), b"version"),
        ("native, broken", [Frame::call(1, "Inline.Double", 4).bytes(), vec![7; 40]].concat(), b"8"),
        ("no protocol", b"\x00\x00\x00\x00".to_vec(), b""),
    ];
    if cfg!(feature = "http") {
        let post = |path: &str, fields: &str| {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}\r\n\r\n"
            );
            head.into_bytes()
        };
        cases.extend([
            ("413", post("/Inline/Double", "Content-Length: 4000000000"), &b" 413 "[..]),
            ("413, but not by far", post("/Inline/Double", "Content-Length: 20000000"), b" 413 "),
            ("404", post("/Nobody/Home", "Content-Length: 4000000000"), b" 404 "),
            (
                "404 in chunks",
                [post("/Nobody/Home", "Transfer-Encoding: chunked"), b"f0000000\r\n".to_vec()].concat(),
                b" 404 ",
            ),
            ("400", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), b" 400 "),
        ]);
    }
    if cfg!(feature = "jsonrpc") {
        cases.push(("jsonrpc", br#"{"id":1,"method":"Inline.Double","params":[4]} ]"#.to_vec(), b"8"));
    }
    cases
}

/// Returns how many bytes the server has read in all.
fn read_bytes(rig: &crate::common::Rig) -> u64 {
    rig.stats().reactors.iter().map(|reactor| reactor.read_bytes).sum()
}

#[test]
fn the_rest_is_read_up_to_a_limit() {
    let _turn = shared();
    const REST_MAX: usize = 100_000;
    let rig = rig(|config| {
        config.limits.linger_bytes_max = REST_MAX;
        config.limits.linger_ms = 60_000;
    });
    for (name, bytes, answer) in final_requests() {
        let before = read_bytes(&rig);
        let mut stream = TcpStream::connect(rig.address.to_string()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut received = Vec::new();
        while !answer.is_empty() && !received.windows(answer.len()).any(|part| part == answer) {
            let mut more = [0; 4096];
            let n = stream.read(&mut more).unwrap();
            assert!(n > 0, "{name}: {:?}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&more[..n]);
        }
        // The answer has arrived. What is written from now on is refused in the end.
        while stream.write_all(&[b'0'; 10_000]).is_ok() {}
        let read = read_bytes(&rig) - before;
        // Each read has a bounded size. The last one may pass the limit, and the first one, which has the request, may
        // have some of the rest.
        assert!(read < (bytes.len() + REST_MAX + 2 * (64 << 10)) as u64, "{name}: {read} bytes were read");
    }
    eventually("all are closed", || rig.stats().connections() == 0);
}

#[test]
fn the_rest_is_waited_for_up_to_a_limit() {
    let _turn = shared();
    let rig = rig(|config| {
        config.limits.linger_ms = 50;
        config.limits.frame_ms = 600_000;
    });
    let streams: Vec<(&str, TcpStream)> = final_requests()
        .into_iter()
        .map(|(name, bytes, _)| {
            let mut stream = TcpStream::connect(rig.address.to_string()).unwrap();
            stream.write_all(&bytes).unwrap();
            (name, stream)
        })
        .collect();
    // None of the peers closes.
    eventually("all are closed", || rig.stats().connections() == 0);
    drop(streams);
}

#[test]
fn an_answer_reaches_a_peer_that_was_still_sending() {
    let _turn = shared();
    let rig = rig(|_| {});
    for (name, bytes, answer) in final_requests() {
        let mut stream = TcpStream::connect(rig.address.to_string()).unwrap();
        stream.write_all(&bytes).unwrap();
        // Less than the limit: no reset may discard the answer.
        stream.write_all(&vec![b'0'; 500_000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap_or_else(|error| panic!("{name}: {error}"));
        let is_there = answer.is_empty() || received.windows(answer.len()).any(|part| part == answer);
        assert!(is_there, "{name}: {:?}", String::from_utf8_lossy(&received));
    }
}
