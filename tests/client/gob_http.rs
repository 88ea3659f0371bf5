//! The client that opens Go's net/rpc by HTTP CONNECT: what it sends and when, and the answers that it refuses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use coreloop::Server;
use coreloop::client::{CallError, Client};
use coreloop::demo::{self, Args, ArithClient};
use coreloop::wire::netrpc::connect::{CONNECT, ConnectError};

/// Starts a server that reads the CONNECT of one connection and leaves the rest to `answer`.
fn connect_server(answer: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a socket");
        let mut request = vec![0; CONNECT.len()];
        stream.read_exact(&mut request).expect("the client asks first");
        assert_eq!(request, CONNECT);
        answer(stream);
    });
    (address, server)
}

/// Returns the error of connecting to a server with that answer. The server then waits until the client closes, or
/// closes itself.
fn refusal(answer: &'static [u8], goes: bool) -> ConnectError {
    let (address, server) = connect_server(move |mut stream| {
        // The client may close before it has read everything.
        let _ = stream.write_all(answer);
        if !goes {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let error = Client::connect(format!("gob-http:{address}")).unwrap_err();
    assert!(!error.may_have_run());
    server.join().expect("it was asked");
    let CallError::Connect(error) = error else { panic!("{error:?}") };
    error.get_ref().and_then(|why| why.downcast_ref::<ConnectError>()).cloned().expect("a reason of ours")
}

#[test]
fn any_other_answer_fails_the_connect_and_is_reported() {
    let refused = ConnectError::Refused { line: "HTTP/1.1 405 Method Not Allowed".to_owned() };
    assert_eq!(refusal(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n", false), refused);
    let other = ConnectError::NotHttp { begins: "220 smtp.example.org\r\n".to_owned() };
    assert_eq!(refusal(b"220 smtp.example.org\r\n", false), other);
    assert_eq!(refusal(b"HTTP/1.0 200 Connected to Go RPC\n", true), ConnectError::Closed);
    assert_eq!(refusal(b"HTTP/1.0 200 Connected to Go RPC\n\n\x2f\xff\x81", false), ConnectError::Unasked);
    static ENDLESS: [u8; 1 << 20] = {
        let mut bytes = [b'x'; 1 << 20];
        let begin = b"HTTP/1.0 200 Connected to Go RPC\n";
        let mut at = 0;
        while at < begin.len() {
            bytes[at] = begin[at];
            at += 1;
        }
        bytes
    };
    assert_eq!(refusal(&ENDLESS, false), ConnectError::TooLong);
}

#[test]
fn connecting_to_a_silent_server_times_out() {
    let (address, server) = connect_server(|mut stream| {
        stream.write_all(b"HTTP/1.0 200 Conn").expect("it is heard");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let client =
        Client::builder(format!("gob-http:{address}")).configure(|config| config.connect_timeout_ms = 50);
    let error = client.connect().unwrap_err();
    let CallError::Connect(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    server.join().expect("it was asked, and the socket is closed");
}

/// Copies the bytes of one side to the other, `step` at a time, until the end.
fn relay_in_steps(mut from: TcpStream, mut to: TcpStream, step: usize) {
    let mut bytes = vec![0; step];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn calls_succeed_at_every_split_of_the_bytes() {
    let server = demo::services(Server::builder()).listen("127.0.0.1:0").start().expect("it starts");
    let behind = server.addresses()[0].to_string();
    for step in [1, 2, 3, 7, 33, 34, 35, 1000] {
        let behind = behind.clone();
        let (address, relay) = connect_server(move |client| {
            let mut server = TcpStream::connect(behind).expect("it listens");
            server.set_nodelay(true).expect("a socket");
            server.write_all(CONNECT).expect("it is heard");
            let (from, to) = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            let back = thread::spawn(move || relay_in_steps(from, to, step));
            relay_in_steps(client, server, step);
            back.join().expect("it ends when the server does");
        });
        let arith = ArithClient::new(Client::connect(format!("gob-http:{address}")).expect("granted"));
        for a in 0..5 {
            assert_eq!(arith.add(&Args { a, b: 36 }).expect("answered"), a + 36);
        }
        drop(arith);
        relay.join().expect("both ends have gone");
    }
    server.shutdown();
}
