//! TLS: records of any peer into the sessions of a server and of a client, and whole sessions with changed bytes.

use std::path::PathBuf;
use std::sync::OnceLock;

use coreloop::transport::fuzzed::{TlsChange, TlsChangeKind, TlsRig, TlsTrace};

use super::{cut, pieces_of};

/// The most memory that a session may hold, besides twice its input: what it has to send.
const HELD_BYTES_MAX: usize = 8 << 10;

/// Passes pieces to one side of a session.
type Side<'a> = &'a dyn Fn(&mut dyn Iterator<Item = &[u8]>) -> TlsTrace;

fn rig() -> &'static TlsRig {
    static RIG: OnceLock<TlsRig> = OnceLock::new();
    RIG.get_or_init(|| {
        // Whichever crate these targets are compiled into: that of the fuzzer, or the tests of the root.
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folder = [root.join("data"), root.join("fuzz/data")].into_iter().find(|path| path.exists());
        let folder = folder.expect("the folder fuzz/data");
        TlsRig::new(&folder.join("tls-cert.pem"), &folder.join("tls-key.pem"))
            .expect("the certificate is valid")
    })
}

/// Passes bytes to the session of a server that requires TLS, of one that does not, and of a client. The first byte counts
/// cuts, as in [`super::frame`].
pub fn tls(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let sides: [Side<'_>; 3] =
        [&|pieces| rig().serve(true, pieces), &|pieces| rig().serve(false, pieces), &|pieces| {
            rig().call(pieces)
        }];
    for side in sides {
        let whole = side(&mut [stream].into_iter());
        // The random numbers of a handshake differ, and with them what is sent.
        for again in [side(&mut pieces_of(stream, &cuts)), side(&mut stream.chunks(1))] {
            assert_eq!((&again.plaintext, &again.end), (&whole.plaintext, &whole.end));
            assert_eq!(again.is_established, whole.is_established);
            assert!(again.held_bytes_max <= 2 * stream.len() + HELD_BYTES_MAX, "{}", again.held_bytes_max);
        }
        assert!(whole.held_bytes_max <= 2 * stream.len() + HELD_BYTES_MAX, "{}", whole.held_bytes_max);
        assert!(whole.end.is_some(), "the end of the connection ends the session");
        assert!(whole.plaintext.len() <= stream.len());
    }
}

/// Lets a client and a server talk while some bytes between them are changed. The input: the most bytes of a read, whether
/// the session is resumed, the number of words that are sent, then four bytes for each change.
pub fn tls_pair(input: &[u8]) {
    let Some((head, rest)) = input.split_first_chunk::<3>() else { return };
    let [read_max, resumes, len] = *head;
    let read_max = if read_max == 0 { usize::MAX } else { usize::from(read_max) };
    let words: Vec<u8> = (0..usize::from(len) * 150).map(|at| (at % 251) as u8).collect();
    let changes = rest.chunks_exact(4).take(16).map(|change| {
        let at = u16::from_le_bytes([change[0], change[1]]);
        let kind = match change[2] & 3 {
            0 => TlsChangeKind::Flip(change[3]),
            1 => TlsChangeKind::Insert(change[3]),
            2 => TlsChangeKind::Remove,
            _ => TlsChangeKind::End,
        };
        TlsChange { of_client: change[2] & 4 == 0, at: at.into(), kind }
    });
    let changes: Vec<TlsChange> = changes.collect();
    let traces = if resumes & 1 == 1 {
        rig().converse(&words, read_max, &changes)
    } else {
        rig().converse_once(&words, read_max, &changes)
    };
    let [server, client] = &traces;
    let touched = |change: &TlsChange| {
        let sent = if change.of_client { client.sent_bytes } else { server.sent_bytes };
        change.at < sent && change.kind != TlsChangeKind::Flip(0)
    };
    let is_touched = changes.iter().any(touched);
    // A connection that ends before its first byte, as those of health checks do, has no session that could be cut.
    let has_no_session =
        |change: &TlsChange| change.of_client && change.at == 0 && change.kind == TlsChangeKind::End;
    let has_session = !changes.iter().any(has_no_session);
    for trace in &traces {
        assert!(words.starts_with(&trace.plaintext), "data that were not sent");
        if !is_touched {
            assert_eq!((trace.plaintext.len(), &trace.end), (words.len(), &Some(Ok(()))));
        }
        // A clean end is the word of the peer itself.
        if trace.end == Some(Ok(())) && (has_session || trace.is_established) {
            assert_eq!(trace.plaintext.len(), words.len(), "a truncation that was taken for an end");
        }
        assert!(trace.end.is_some(), "the end of the connection ends the session");
        assert!(trace.held_bytes_max <= 4 * (words.len() + HELD_BYTES_MAX), "{}", trace.held_bytes_max);
    }
}
