//! A server whose methods return the peer of their call, and callers that write bytes themselves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use coreloop::config::Config;
use coreloop::interceptor::{Admit, AdmitCall, EndedCall, Interceptor};
use coreloop::server::ServerBuilder;
use coreloop::service::Kind;
use coreloop::{Context, Server};

use crate::common::{Frame, PATIENCE, Peer, eventually};

/// The address that the headers of these tests name.
pub const CLIENT: &str = "192.0.2.1:7";
pub const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 7 443\r\n";
pub const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\0\x07\x01\xbb";

/// Starts a server behind proxies on this machine.
pub fn behind(change: impl FnOnce(&mut Config)) -> Server {
    server(|config| {
        config.proxy_protocol.from = vec!["127.0.0.0/8".to_owned()];
        change(config);
    })
}

/// Starts a server on a free port.
pub fn server(change: impl FnOnce(&mut Config)) -> Server {
    builder(change).start().unwrap()
}

pub fn builder(change: impl FnOnce(&mut Config)) -> ServerBuilder {
    let peer = |cx: &Context<'_>, _: i64| Ok(cx.peer().to_string());
    Server::builder()
        .configure(|config| {
            config.listen = vec!["127.0.0.1:0".to_owned()];
            config.cores = 1;
            change(config);
        })
        .method_of_kind("Peer.Inline", Kind::Inline, peer)
        .method_of_kind("Peer.Pooled", Kind::Pooled, peer)
        .method_of_kind("Peer.Blocking", Kind::Blocking, peer)
}

/// Notes the peers of calls at their admission and at their end, as limits for each address and access logs do.
#[derive(Clone, Default)]
pub struct NotedPeers(Arc<Mutex<Vec<String>>>);

impl NotedPeers {
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Interceptor for NotedPeers {
    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        self.0.lock().unwrap().push(call.peer().to_string());
        Admit::Continue
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        self.0.lock().unwrap().push(end.peer.to_string());
    }
}

pub fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The protocols that the bytes of these tests speak.
#[derive(Clone, Copy, Debug)]
pub enum Speaks {
    Native,
    JsonRpc,
    Http,
}

impl Speaks {
    pub const ALL: [Speaks; 3] = [Speaks::Native, Speaks::JsonRpc, Speaks::Http];

    /// A call of a method with the argument 1.
    pub fn call(self, method: &str) -> Vec<u8> {
        match self {
            Speaks::Native => Frame::call(1, method, 1).bytes(),
            Speaks::JsonRpc => format!(r#"{{"method":"{method}","params":[1],"id":1}}"#).into_bytes(),
            Speaks::Http => http_call(method, ""),
        }
    }

    /// Reads the text that the call has returned.
    #[track_caller]
    pub fn result(self, stream: &TcpStream) -> String {
        match self {
            Speaks::Native => {
                let answer = Peer::of_tcp(stream.try_clone().unwrap()).next().expect("an answer");
                answer.text().trim_matches('"').to_owned()
            }
            Speaks::JsonRpc => {
                let line = until(stream, |bytes| bytes.ends_with(b"\n"));
                let rest = line.split_once(r#""result":""#).unwrap_or_else(|| panic!("{line}")).1;
                rest.split('"').next().unwrap().to_owned()
            }
            Speaks::Http => http_result(stream),
        }
    }
}

/// A request over HTTP with further fields, each of them a line.
pub fn http_call(method: &str, fields: &str) -> Vec<u8> {
    let path = method.replace('.', "/");
    let head = "Host: a\r\nContent-Type: application/json\r\nContent-Length: 1";
    format!("POST /{path} HTTP/1.1\r\n{head}\r\n{fields}\r\n1").into_bytes()
}

#[track_caller]
pub fn http_result(stream: &TcpStream) -> String {
    let head = until(stream, |bytes| bytes.ends_with(b"\r\n\r\n"));
    let lower = head.to_ascii_lowercase();
    let length = lower.split_once("content-length: ").unwrap_or_else(|| panic!("{head}")).1;
    let length = length.split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    (&mut &*stream).read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    body.trim_matches('"').to_owned()
}

/// Reads byte by byte until the condition holds.
#[track_caller]
fn until(mut stream: &TcpStream, is_whole: impl Fn(&[u8]) -> bool) -> String {
    let mut bytes = Vec::new();
    while !is_whole(&bytes) {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", bytes.escape_ascii().to_string()));
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Sends these bytes, makes a call, and returns its result.
#[track_caller]
pub fn ask_after(server: &Server, header: &[u8], speaks: Speaks, method: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(&[header, &speaks.call(method)].concat()).unwrap();
    speaks.result(&stream)
}

/// Waits until the server has ended the connection; returns what it has sent before.
#[track_caller]
pub fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.shutdown(Shutdown::Write);
    // A connection that is closed with unread bytes is reset.
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection does not end: {error}"),
    }
    rest
}

/// Waits until the server has counted this number of connections that it closed for the reason.
#[track_caller]
pub fn wait_for_closed(server: &Server, reason: &str, count: u64) {
    eventually(&format!("{count} are closed as {reason}"), || server.stats().closed(reason) == count);
}
