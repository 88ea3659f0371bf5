//! Sessions without sockets: two sessions whose bytes a test carries, in pieces of its choice.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::pipe::{Ends, Pipe};
use super::stream::{Established, TlsStream};
use super::{ClientTls, TlsClient, TlsServer};
use crate::config::TlsConfig;
use crate::tls::{TlsFailure, TlsFailureKind};

/// What both sides of all tests share.
struct Rig {
    server: Arc<TlsServer>,
    client: TlsClient,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(path("key.pem"), signing_key.serialize_pem()).unwrap();
        let settings = TlsConfig {
            certificate: vec![path("cert.pem").display().to_string()],
            key: vec![path("key.pem").display().to_string()],
            ..TlsConfig::default()
        };
        let server = Arc::new(TlsServer::load(&settings, 8, None).unwrap());
        let client =
            TlsClient::load(&ClientTls { ca: Some(path("cert.pem")), ..ClientTls::default() }).unwrap();
        Rig { server, client }
    }

    /// Two sides that read at most so many bytes at a time.
    fn pair(&self, read_max: usize, alpn: &[&[u8]]) -> Pair {
        let (up, down) = (Pipe::new(read_max), Pipe::new(read_max));
        let served = ["coreloop", "http/1.1"].map(|name| name.as_bytes().to_vec()).to_vec();
        let server = self.server.acceptor(true, served).accept(Ends { from: up.clone(), to: down.clone() });
        let client = self.client.secure(Ends { from: down.clone(), to: up.clone() }, None, alpn).unwrap();
        Pair { server, client, up, down }
    }
}

struct Pair {
    server: TlsStream<Ends>,
    client: TlsStream<Ends>,
    up: Rc<RefCell<Pipe>>,
    down: Rc<RefCell<Pipe>>,
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl Pair {
    /// Carries bytes until the handshake is complete.
    fn shake(&mut self) {
        for _ in 0..100_000 {
            let driven = self.client.drive();
            assert!(driven.is_ok() || would_block(&driven), "{driven:?}");
            let read = self.server.read(&mut [0; 64]);
            assert!(would_block(&read), "{read:?}");
            if driven.is_ok() && !self.server.is_handshaking() {
                return;
            }
        }
        panic!("the handshake does not end");
    }
}

/// Reads until nothing more is there.
fn read_all(stream: &mut TlsStream<Ends>, space: usize) -> (Vec<u8>, io::Result<usize>) {
    let (mut all, mut bytes) = (Vec::new(), vec![0; space]);
    loop {
        match stream.read(&mut bytes) {
            Ok(n) if n > 0 => all.extend_from_slice(&bytes[..n]),
            end => return (all, end),
        }
    }
}

#[test]
fn any_split_of_the_bytes_gives_the_same_plaintext() {
    let rig = Rig::new();
    let words: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    for read_max in [1, 2, 3, 4, 5, 6, 7, 64, 1021, 16_384, 16_406, usize::MAX] {
        for space in [1, 100, 16_384, 100_000] {
            if read_max < 64 && space == 1 {
                continue;
            }
            let mut pair = rig.pair(read_max, &[b"coreloop"]);
            pair.shake();
            let Established { alpn } = pair.server.take_established().unwrap();
            assert_eq!(alpn.as_deref(), Some(&b"coreloop"[..]));
            // Short slices share records, long ones do not.
            let slices = [&words[..3], &words[3..20_003], &words[20_003..20_010], &words[20_010..]];
            let slices = slices.map(IoSlice::new);
            assert_eq!(pair.client.write_vectored(&slices).unwrap(), words.len());
            let (read, end) = read_all(&mut pair.server, space);
            assert!(read == words && would_block(&end), "{read_max} {space}: {} {end:?}", read.len());
            assert_eq!(pair.server.write_vectored(&[IoSlice::new(&words)]).unwrap(), words.len());
            let (read, end) = read_all(&mut pair.client, space);
            assert!(read == words && would_block(&end), "{read_max} {space}: {} {end:?}", read.len());
            assert!(!pair.client.holds_input() && !pair.server.holds_output());
        }
    }
}

#[test]
fn a_broken_record_after_our_own_end_is_a_failure_like_any_other() {
    let rig = Rig::new();
    for _ in 0..2 {
        let mut pair = rig.pair(usize::MAX, &[]);
        pair.shake();
        pair.server.shutdown_write();
        // A record of application data whose tag is wrong.
        pair.up.borrow_mut().bytes.extend([&[23, 3, 3, 0, 32][..], &[7; 32]].concat());
        let (read, end) = read_all(&mut pair.server, 100);
        let error = end.unwrap_err();
        assert!(read.is_empty() && TlsFailure::of(&error).is_some(), "{error}");
    }
}

#[test]
fn a_write_is_reported_when_all_of_it_is_sent() {
    let rig = Rig::new();
    let words = vec![7; 50_000];
    for step in [1, 1000, 16_000, 49_999] {
        let mut pair = rig.pair(usize::MAX, &[]);
        pair.shake();
        pair.up.borrow_mut().room = 0;
        let mut writes = 0;
        let written = loop {
            match pair.client.write_vectored(&[IoSlice::new(&words)]) {
                Ok(n) => break n,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(pair.client.holds_output());
            pair.up.borrow_mut().room += step;
            writes += 1;
        };
        assert_eq!(written, words.len());
        assert!(writes >= words.len() / step.max(1) / 2, "{step}: {writes}");
        let (read, _) = read_all(&mut pair.server, 4096);
        assert!(read == words, "{step}");
    }
}

#[test]
fn an_end_without_close_notify_is_an_error_after_the_data() {
    let rig = Rig::new();
    for is_clean in [true, false] {
        let mut pair = rig.pair(usize::MAX, &[]);
        pair.shake();
        pair.server.write_vectored(&[IoSlice::new(b"a body that ends with the connection")]).unwrap();
        if is_clean {
            pair.server.shutdown_write();
        } else {
            pair.down.borrow_mut().is_ended = true;
        }
        let (read, end) = read_all(&mut pair.client, 1024);
        assert_eq!(read, b"a body that ends with the connection");
        if is_clean {
            assert_eq!(end.unwrap(), 0);
            assert!(pair.client.holds_input(), "the end is reported again");
            pair.client.end();
            assert_eq!(read_all(&mut pair.server, 64).1.unwrap(), 0, "it is answered by another");
        } else {
            let error = end.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(TlsFailure::of(&error).unwrap().kind(), TlsFailureKind::Truncated);
        }
    }
}

#[test]
fn a_record_that_was_cut_or_changed_is_an_error_and_never_data() {
    let rig = Rig::new();
    let mut pair = rig.pair(usize::MAX, &[]);
    pair.shake();
    pair.client.write_vectored(&[IoSlice::new(b"one call")]).unwrap();
    let whole: Vec<u8> = pair.up.borrow().bytes.iter().copied().collect();
    // The version in the header of a record has no meaning (RFC 8446, section 5.1).
    for cut in (0..whole.len()).filter(|cut| *cut != 2) {
        let mut pair = rig.pair(usize::MAX, &[]);
        pair.shake();
        pair.client.write_vectored(&[IoSlice::new(b"one call")]).unwrap();
        pair.up.borrow_mut().bytes.truncate(cut);
        pair.up.borrow_mut().is_ended = true;
        let (read, end) = read_all(&mut pair.server, 64);
        assert_eq!((read.len(), end.unwrap_err().kind()), (0, io::ErrorKind::UnexpectedEof), "cut at {cut}");

        let mut pair = rig.pair(usize::MAX, &[]);
        pair.shake();
        pair.client.write_vectored(&[IoSlice::new(b"one call")]).unwrap();
        pair.up.borrow_mut().bytes[cut] ^= 0x40;
        let (read, end) = read_all(&mut pair.server, 64);
        assert_eq!(read, b"", "byte {cut} changed");
        // A length that has become larger waits for more.
        let error = end.unwrap_err();
        assert!(error.kind() == io::ErrorKind::InvalidData || cut == 3 || cut == 4, "byte {cut}: {error}");
        if error.kind() == io::ErrorKind::InvalidData {
            let again = read_all(&mut pair.server, 64).1.unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
            assert!(pair.server.write_vectored(&[IoSlice::new(b"x")]).is_err());
        }
    }
}

#[test]
fn a_client_that_offers_other_protocols_only_is_refused() {
    let rig = Rig::new();
    let mut pair = rig.pair(usize::MAX, &[b"h3"]);
    assert!(would_block(&pair.client.drive()));
    let read = pair.server.read(&mut [0; 64]);
    assert!(would_block(&read), "it waits until the client has read the alert: {read:?}");
    let error = pair.client.drive().unwrap_err();
    let failure = TlsFailure::of(&error).unwrap();
    assert_eq!(
        (failure.kind(), failure.to_string().as_str()),
        (TlsFailureKind::Alert, "TLS: the peer sent the alert no_application_protocol")
    );
    pair.up.borrow_mut().is_ended = true;
    let error = pair.server.read(&mut [0; 64]).unwrap_err();
    assert_eq!(TlsFailure::of(&error).unwrap().kind(), TlsFailureKind::Alpn);
    assert_eq!(rig.server.snapshot().failed(TlsFailureKind::Alpn), 1);
    assert_eq!(rig.server.snapshot().handshakes_in_progress, 0);
}
