//! The demo services over HTTP and JSON, on may_minihttp: `peer-may_minihttp ADDRESS --threads N`.
//!
//! It has neither routes nor codecs: a service gets the request and writes the reply. One for each connection, as its
//! fastest users have it, with the buffer that bodies are read into.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use bytes::BufMut;
use kit::Args;
use kit::demo::{self, Base64};
use kit::server::{Arguments, announce};
use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};
use serde::Serialize;
use socket2::{Domain, SockRef, Socket, Type};

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["may_minihttp", "may"]);
    kit::raise_files_limit()?;
    may::config().set_workers(arguments.threads());
    let reserved = reserve(arguments.address)?;
    let address = reserved.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let server = Connections.start(address)?;
    announce(address)?;
    server.join().map_err(|_| io::Error::other("the server's coroutine panicked"))
}

/// The server binds its own socket and does not say to which port; it binds with SO_REUSEPORT. So does this one, which
/// never listens, and so keeps the port without getting any connection.
fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

struct Connections;

impl HttpServiceFactory for Connections {
    type Service = Connection;

    fn new_service(&self, id: usize) -> Connection {
        // SAFETY: a connection's id is its socket's descriptor, which the caller holds open during this call.
        let socket = unsafe { BorrowedFd::borrow_raw(id as i32) };
        // Fails only on a socket that its peer has closed already: then the first read says so.
        let _ = SockRef::from(&socket).set_tcp_nodelay(true);
        Connection { body: Vec::new() }
    }
}

/// What serves one connection.
struct Connection {
    /// Of the request at hand.
    body: Vec<u8>,
}

impl HttpService for Connection {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        let method = Method::of(&request);
        self.body.clear();
        request.body().read_to_end(&mut self.body)?;
        match method {
            Some(method) => method.answer(&self.body, response),
            None => {
                response.status_code(404, "Not Found");
                Ok(())
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Add,
    Echo,
    List,
}

impl Method {
    fn of(request: &Request) -> Option<Method> {
        match (request.method(), request.path()) {
            ("POST", "/Arith/Add") => Some(Method::Add),
            ("POST", "/Echo/Bytes") => Some(Method::Echo),
            ("POST", "/Users/List") => Some(Method::List),
            _ => None,
        }
    }

    fn answer(self, body: &[u8], response: &mut Response) -> io::Result<()> {
        let result = match self {
            Method::Add => serde_json::from_slice(body).map(|args: Args| write(&args.sum(), response)),
            Method::Echo => serde_json::from_slice(body).map(|bytes: Base64| write(&bytes, response)),
            Method::List => serde_json::from_slice(body).map(|n| match demo::users(n) {
                Some(users) => write(&users, response),
                None => write(&demo::OUT_OF_RANGE, response.status_code(400, "Bad Request")),
            }),
        };
        result.unwrap_or_else(|error| {
            response.status_code(400, "Bad Request").body_vec(error.to_string().into_bytes());
            Ok(())
        })
    }
}

fn write(value: &impl Serialize, response: &mut Response) -> io::Result<()> {
    let out = response.header("Content-Type: application/json").body_mut();
    Ok(serde_json::to_writer(out.writer(), value)?)
}
