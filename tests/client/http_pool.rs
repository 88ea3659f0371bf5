//! The shared client by `http:`: a pool of connections that servers may close after any reply.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use coreloop::client::{CallError, Client, MethodId, Starter, WhenFull};
use coreloop::codec::{Codec, Plain};
use coreloop::service::Kind;
use coreloop::{Code, Context, Server};

use crate::common::{PATIENCE, eventually};

/// The server's end of one connection.
struct HttpSide(BufReader<TcpStream>);

impl HttpSide {
    fn of(stream: TcpStream) -> HttpSide {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        HttpSide(BufReader::new(stream))
    }

    /// Returns the body of the next request; `None` at the end of the connection.
    fn request(&mut self) -> Option<String> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        String::from_utf8(body).ok()
    }

    fn reply(&mut self, fields: &str, body: &str) {
        self.send_text(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    fn send_text(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }
}

/// Starts a server that passes each connection, with its number, to a function on its own thread; returns the
/// address.
fn serve(with: impl Fn(usize, HttpSide) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http:{}", listener.local_addr().unwrap());
    let with = Arc::new(with);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let with = with.clone();
            thread::spawn(move || with(number, HttpSide::of(stream.unwrap())));
        }
    });
    address
}

fn call(client: &Client, body: &str) -> Result<String, CallError> {
    let reply = client.call_bytes("Any.Echo", Codec::Json, body.as_bytes())?;
    Ok(String::from_utf8(reply).unwrap())
}

#[test]
fn connections_closed_after_replies_lose_no_call() {
    // As real servers do: the last reply announces the close, then the server half-closes, and reads and drops the
    // rest.
    let address = serve(|_, mut side| {
        for nth in 1..=10 {
            let Some(body) = side.request() else { return };
            side.reply(if nth == 10 { "Connection: close\r\n" } else { "" }, &body);
        }
        side.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let _ = side.0.read_to_end(&mut Vec::new());
    });
    for (in_flight_max, pipelined_max) in [(1, 1), (3, 1), (1024, 1), (1024, 100)] {
        let client = Client::builder(&address)
            .in_flight_max(in_flight_max, WhenFull::Wait)
            .configure(|config| config.http_pipelined_max = pipelined_max)
            .build()
            .unwrap();
        thread::scope(|scope| {
            for caller in 0..8 {
                let client = &client;
                scope.spawn(move || {
                    for nth in 0..50 {
                        let body = (caller * 100 + nth).to_string();
                        assert_eq!(call(client, &body).unwrap(), body, "{in_flight_max}, {pipelined_max}");
                    }
                });
            }
        });
        let batch = client.batch();
        let calls: Vec<_> = (0..100)
            .map(|n: u32| batch.start_bytes("Any.Echo", Codec::Json, n.to_string().as_bytes()))
            .collect();
        batch.send();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.wait().unwrap(), n.to_string().as_bytes());
        }
        assert_eq!(client.in_flight(), 0);
    }
}

#[test]
fn quick_calls_pass_slow_ones_in_a_bounded_pool() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let (connections, connections_max) = (Arc::new(AtomicUsize::new(0)), 4);
    let counted = connections.clone();
    let address = serve(move |_, mut side| {
        counted.fetch_add(1, Ordering::SeqCst);
        while let Some(body) = side.request() {
            if body == "\"slow\"" {
                gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            }
            side.reply("", &body);
        }
    });
    let client = Client::builder(&address)
        .configure(|config| config.http_connections_max = connections_max)
        .build()
        .unwrap();
    let start = |body: &str| client.start_bytes("Any.Echo", Codec::Json, body.as_bytes());
    let slow: Vec<_> = (1..connections_max).map(|_| start("\"slow\"")).collect();
    (0..20).for_each(|n| assert_eq!(call(&client, &n.to_string()).unwrap(), n.to_string()));
    // With a slow call on each connection, the next call waits, and can be cancelled while it waits.
    let last = start("\"slow\"");
    eventually("all slow calls are sent", || client.stats().sent == 20 + connections_max as u64);
    let late = call(&client.with_timeout(Duration::from_millis(20)), "1").unwrap_err();
    assert!(matches!(late, CallError::DeadlineExceeded), "{late:?}");
    drop(start("2"));
    let waiting = start("3");
    (0..connections_max).for_each(|_| open.send(()).unwrap());
    assert_eq!(waiting.wait().unwrap(), b"3");
    slow.into_iter().chain([last]).for_each(|call| assert_eq!(call.wait().unwrap(), b"\"slow\""));
    assert_eq!(connections.load(Ordering::SeqCst), connections_max);
    assert_eq!((client.stats().connects, client.in_flight()), (connections_max as u64, 0));
}

#[test]
fn a_cancelled_call_closes_only_its_connection() {
    let (report, reports) = mpsc::channel();
    let address = serve(move |number, mut side| {
        while let Some(body) = side.request() {
            report.send((number, body.clone())).unwrap();
            if body != "0" {
                side.reply("", &body);
            }
        }
        report.send((number, "end".to_owned())).unwrap();
    });
    let client = Client::connect(&address).unwrap();
    let next = || reports.recv_timeout(PATIENCE).unwrap();
    let given_up = client.start_bytes("Any.Echo", Codec::Json, b"0");
    assert_eq!(next(), (0, "0".to_owned()));
    assert_eq!(call(&client, "1").unwrap(), "1");
    assert_eq!(next(), (1, "1".to_owned()));
    drop(given_up);
    assert_eq!(next(), (0, "end".to_owned()));
    let late = call(&client.with_timeout(Duration::from_millis(50)), "0").unwrap_err();
    assert!(matches!(late, CallError::DeadlineExceeded), "{late:?}");
    assert_eq!([next(), next()], [(1, "0".to_owned()), (1, "end".to_owned())]);
    assert_eq!(call(&client, "2").unwrap(), "2");
    // A one-way call occupies its connection until the reply arrives.
    client.send_bytes("Any.Echo", Codec::Json, b"3").unwrap();
    assert_eq!(call(&client, "4").unwrap(), "4");
    eventually("all have ended", || client.in_flight() == 0);
    assert_eq!((client.stats().lost, client.stats().unknown_replies), (0, 0));
}

#[test]
fn a_lost_reply_fails_the_call_unless_it_is_idempotent() {
    static GET: MethodId = MethodId::new("Any.Get").idempotent();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let address = serve(move |_, mut side| {
        while let Some(body) = side.request() {
            if counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return;
            }
            side.reply("", &body);
        }
    });
    let client = Client::connect(&address).unwrap();
    let error = call(&client, "1").unwrap_err();
    assert!(matches!(error, CallError::Lost { may_have_run: true, .. }), "{error:?}");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(requests.load(Ordering::SeqCst), 1, "it was not sent again");
    assert_eq!(call(&client, "2").unwrap(), "2");
    assert_eq!(call(&client.with_idempotent(true), "3").unwrap(), "3");
    let typed = client.start::<Plain<i64>, Plain<i64>>(&GET, &4);
    assert_eq!(typed.wait().unwrap(), 4);
    assert_eq!((requests.load(Ordering::SeqCst), client.in_flight()), (6, 0));
}

#[test]
fn retries_without_a_reply_are_bounded() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let address = serve(move |_, mut side| {
        side.request();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let client = Client::connect(&address).unwrap().with_idempotent(true);
    let error = call(&client, "1").unwrap_err();
    assert!(matches!(error, CallError::Lost { may_have_run: true, .. }), "{error:?}");
    assert!((1..=3).contains(&requests.load(Ordering::SeqCst)));
    // Each answer of this server states that the request was not read.
    let address = serve(|_, mut side| {
        side.request();
        side.send_text("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    let error = call(&Client::connect(&address).unwrap(), "1").unwrap_err();
    assert!(matches!(error, CallError::Lost { may_have_run: false, .. }), "{error:?}");
}

#[test]
fn a_reply_over_the_limit_fails_only_its_call() {
    let server = Server::builder()
        .method("Any.Long", |_: &Context<'_>, n: u64| Ok("x".repeat(n as usize)))
        .method_of_kind("Any.Sleep", Kind::Blocking, |cx: &Context<'_>, ms: u64| {
            cx.sleep(Duration::from_millis(ms)).map(|()| "slept".to_owned())
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let long = 5_000_000_u64;
    for scheme in ["native", "gob", "jsonrpc", "http"] {
        let client = Client::builder(format!("{scheme}:{}", server.addresses()[0]))
            .configure(|config| config.frame_bytes_max = 1 << 16)
            .build()
            .unwrap();
        static LONG: MethodId = MethodId::new("Any.Long");
        static SLEEP: MethodId = MethodId::new("Any.Sleep");
        let start = |method, number| client.start::<Plain<u64>, Plain<String>>(method, &number);
        let slow = start(&SLEEP, 300);
        let error = start(&LONG, long).wait().unwrap_err();
        assert!(matches!(error, CallError::ReplyRefused(_)), "{scheme}: {error:?}");
        assert_eq!(error.code(), Code::ResourceExhausted, "{scheme}");
        assert!(error.to_string().contains("limit of 65536 (frame_bytes_max)"), "{scheme}: {error}");
        assert_eq!(slow.wait().unwrap(), "slept", "{scheme}");
        assert_eq!(start(&LONG, 3).wait().unwrap(), "xxx", "{scheme}");
        assert_eq!(client.stats().lost, 0, "{scheme}");
    }
}

#[test]
fn errors_of_any_length_keep_their_code_and_text() {
    let text = "no é\n\"such\" ".repeat(30_000);
    let expected_text = text.clone();
    let server = Server::builder()
        .method("Any.Fail", move |_: &Context<'_>, _: u64| {
            Err::<u64, _>(coreloop::Status::not_found(expected_text.clone()))
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    for scheme in ["native", "jsonrpc", "http"] {
        let client = Client::connect(format!("{scheme}:{}", server.addresses()[0])).unwrap();
        let error = client.call_bytes("Any.Fail", Codec::Json, b"1").unwrap_err();
        let CallError::Status(status) = &error else { panic!("{scheme}: {}", error.code()) };
        assert!(status.message == text, "{scheme}: {} bytes came", status.message.len());
        if scheme != "jsonrpc" {
            assert_eq!(status.code, Code::NotFound, "{scheme}");
        }
    }
    let direct = coreloop::client::Direct::connect(server.addresses()[0].to_string()).unwrap();
    let error = direct.call_bytes("Any.Fail", Codec::Json, b"1").unwrap_err();
    let CallError::Status(status) = &error else { panic!("{}", error.code()) };
    assert!(status.code == Code::NotFound && status.message == text);
}
