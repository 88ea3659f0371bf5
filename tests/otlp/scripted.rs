//! A peer that answers each request as the test says: real collectors do not answer so on demand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Scripted {
    address: SocketAddr,
    /// Requests that were read.
    pub requests: Arc<AtomicUsize>,
}

impl Scripted {
    /// Answers the nth request, from 0, with what the function returns; then closes the connection if that is empty.
    pub fn start(answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (count, answer) = (count.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &count, &*answer));
            }
        });
        Scripted { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, count: &AtomicUsize, answer: &dyn Fn(usize) -> Vec<u8>) {
    while read_request(&mut stream).is_some() {
        let bytes = answer(count.fetch_add(1, Ordering::SeqCst));
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Reads a request with a length. `None` at the end of the connection.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_some(stream, &mut bytes)?;
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let length: usize = length.trim().parse().unwrap();
    while bytes.len() < head + length {
        read_some(stream, &mut bytes)?;
    }
    assert_eq!(bytes.len(), head + length, "one request at a time");
    Some(bytes)
}

fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 << 10];
    let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
    bytes.extend_from_slice(&piece[..count]);
    Some(())
}
