//! One connection, one call at a time, with blocking write and read: two system calls per call, no epoll.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::window::{Phase, Window};
use crate::frame::{self, Next};
use crate::request::Request;

const ANSWER_WAIT: Duration = Duration::from_secs(5);

pub fn run(address: SocketAddr, request: &Request, mut window: Window) -> io::Result<Window> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut out = Vec::new();
    let mut input = vec![0; 64 << 10];
    window.start();
    for id in 0.. {
        if matches!(window.turn()?, Phase::Draining | Phase::Over) {
            break;
        }
        out.clear();
        request.append(id, &mut out);
        let sent_ns = window.now_ns();
        stream.write_all(&out)?;
        let mut filled = 0;
        loop {
            let read = stream.read(&mut input[filled..])?;
            if read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            filled += read;
            match frame::next(&input[..filled]) {
                Next::Short { need } if need > input.len() => input.resize(need, 0),
                Next::Short { .. } => {}
                Next::Frame { header, body, len } if len == filled && header.call == id => {
                    window.on_reply(window.now_ns() - sent_ns, request.verdict(&header, body));
                    break;
                }
                Next::Frame { .. } | Next::Broken => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "not the reply to the one call"));
                }
            }
        }
    }
    Ok(window)
}
