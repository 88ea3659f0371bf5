//! The floor: the minimum cost of serving frames, without RPC. One epoll loop in one thread, native frames, one read
//! per readable event, all replies to a read in one write; no registry, and no checks except the length.
//!
//! It answers `Arith.AddFixed` and echoes every other body. With a hand-off, the frames of a turn go to one worker
//! thread and back: see `hand_off`. It allocates nothing once the buffers have grown.

mod connections;
mod hand_off;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use connections::Connections;

use crate::epoll::Epoll;
use crate::frame::{self, HEADER_BYTES, Header, Next, REPLY};

const ADD_FIXED: u32 = frame::method_hash("Arith.AddFixed");
/// No connection has this token: slots and generations stay far below it.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// Configuration of the floor server.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to listen; port 0 selects a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Pass every turn's frames through one worker thread.
    #[arg(long)]
    pub hand_off: bool,
    /// Let the worker sleep at once when its channel is empty; by default the channel yields first. Sleeping gives
    /// the lower floor where loop and worker share a core.
    #[arg(long, requires = "hand_off")]
    pub park: bool,
}

/// Serves until the process ends. Prints `listening on ADDR` when it accepts connections.
pub fn run(options: &Options) -> io::Result<()> {
    crate::process::raise_files_limit()?;
    let listener = TcpListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), LISTENER)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    let connections = Connections::new(listener);
    if options.hand_off {
        hand_off::serve(epoll, connections, options.park)
    } else {
        serve_inline(epoll, connections)
    }
}

fn serve_inline(mut epoll: Epoll, mut connections: Connections) -> io::Result<()> {
    let mut input = Vec::new();
    let mut replies = Vec::new();
    loop {
        let count = epoll.wait(if connections.wants_turn() { 0 } else { -1 })?;
        connections.on_turn(&epoll, count, |_, connection| {
            let read = connection.read(&mut input, 0)?;
            replies.clear();
            answer(&input[..read.complete], &mut replies);
            connection.write(&replies)?;
            Ok(read.left)
        })?;
    }
}

/// Answers a sequence of frames; the caller ensures that all are complete.
fn answer(mut frames: &[u8], replies: &mut Vec<u8>) {
    while let Next::Frame { header, body, len } = frame::next(frames) {
        let reply = Header { kind: REPLY, metadata_bytes: 0, word: 0, ..header };
        match operands(&header, body) {
            Some((a, b)) => {
                let mut bytes = [0; HEADER_BYTES + 8];
                bytes[..HEADER_BYTES].copy_from_slice(&Header { body_bytes: 8, ..reply }.to_bytes());
                bytes[HEADER_BYTES..].copy_from_slice(&a.wrapping_add(b).to_le_bytes());
                replies.extend_from_slice(&bytes);
            }
            None => {
                replies.extend_from_slice(&reply.to_bytes());
                replies.extend_from_slice(body);
            }
        }
        frames = &frames[len..];
    }
}

#[inline]
fn operands(header: &Header, body: &[u8]) -> Option<(i64, i64)> {
    if header.word != ADD_FIXED {
        return None;
    }
    let (a, rest) = body.split_first_chunk()?;
    let b = rest.try_into().ok()?;
    Some((i64::from_le_bytes(*a), i64::from_le_bytes(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    #[test]
    fn sums_wrap_and_other_bodies_are_echoed() {
        let add = Request::new("Arith.AddFixed", "fixed", None, None).expect("known");
        let extremes = [i64::MAX.to_le_bytes(), 1_i64.to_le_bytes()].concat();
        let wrapping = Request::new("Arith.AddFixed", "fixed", Some(extremes), None).expect("known");
        let echo = Request::new("Echo.Bytes", "raw", Some(b"hello".to_vec()), None).expect("known");
        let mut frames = Vec::new();
        add.append(41, &mut frames);
        wrapping.append(42, &mut frames);
        echo.append(43, &mut frames);
        let mut replies = Vec::new();
        answer(&frames, &mut replies);

        let mut rest = replies.as_slice();
        for (call, request) in [(41, &add), (42, &wrapping), (43, &echo)] {
            let Next::Frame { header, body, len } = frame::next(rest) else { panic!("{rest:?}") };
            assert!(frame::is_native(rest));
            assert_eq!(header.call, call);
            assert_eq!(request.verdict(&header, body), Ok(()));
            if call == 42 {
                assert_eq!(body, i64::MIN.to_le_bytes());
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
    }
}
