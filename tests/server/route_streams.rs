//! Routes whose responses are sent in pieces, on real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use coreloop::route::{HttpMethod, RouteResponse, RouteSink};
use coreloop::stream::SinkError;
use coreloop::{Server, Status};

use crate::common::{eventually, shared};

struct Rig {
    server: Server,
    /// The sinks of `/held`.
    held: mpsc::Receiver<RouteSink>,
    /// The pieces that `/flood` has sent, and the calls of it that have ended early.
    flooded: Arc<AtomicU64>,
    ended_early: Arc<AtomicU64>,
}

fn rig() -> Rig {
    let (held, receiver) = mpsc::channel();
    let (flooded, ended_early) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (sent, ended) = (flooded.clone(), ended_early.clone());
    let server = Server::builder()
        .route_stream(HttpMethod::Get, "/events/{to}", |_cx, request, sink| {
            let to: u32 = request
                .capture("to")
                .unwrap_or_default()
                .parse()
                .map_err(|_| Status::invalid_argument("the number of events is not a number"))?;
            sink.begin(RouteResponse::event_stream().header("X-To", to.to_string())?)?;
            for number in 1..=to {
                sink.send_event("number", &number.to_string())?;
            }
            Ok(())
        })
        .route_stream(HttpMethod::Post, "/echo", |_cx, request, sink| {
            sink.begin(RouteResponse::new(201)?.header("Content-Type", "x/echo")?)?;
            // Line feeds stay, and an empty piece does not end the body.
            for byte in request.body() {
                sink.send([*byte])?;
                sink.send("")?;
            }
            Ok(())
        })
        .route_stream(HttpMethod::Get, "/default", |_cx, _request, sink| Ok(sink.send(b"a\nb")?))
        .route_stream(HttpMethod::Get, "/nothing", |_cx, _request, sink| sink.begin(RouteResponse::text("")))
        .route_stream(HttpMethod::Get, "/breaks", |_cx, _request, sink| {
            sink.send("begun")?;
            Err(Status::internal("on purpose"))
        })
        .route_stream(HttpMethod::Get, "/late", |_cx, _request, sink| {
            sink.send("begun")?;
            let late = sink.begin(RouteResponse::text("").status(404)?);
            assert!(late.is_err(), "the head has been sent");
            assert!(sink.begin(RouteResponse::no_content()).is_err());
            Ok(())
        })
        .route_stream(HttpMethod::Get, "/held", move |_cx, _request, sink| {
            sink.begin(RouteResponse::text("first\n"))?;
            let _ = held.send(sink);
            Ok(())
        })
        .route_stream(HttpMethod::Get, "/flood", move |_cx, _request, sink| {
            loop {
                if let Err(error) = sink.send([b'x'; 10_000]) {
                    assert!(matches!(error, SinkError::Ended(_)), "{error}");
                    ended.fetch_add(1, Ordering::SeqCst);
                    return Err(error.into());
                }
                sent.fetch_add(1, Ordering::SeqCst);
            }
        })
        .cores(1)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    Rig { server, held: receiver, flooded, ended_early }
}

impl Rig {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.addresses()[0].to_string()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request, and returns all that comes until the server closes the connection.
    fn all(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn get(&self, path: &str) -> String {
        self.all(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }
}

#[test]
fn pieces_are_chunks_as_they_are() {
    let _turn = shared();
    let rig = rig();
    let text = rig.get("/events/2");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for field in [
        "Content-Type: text/event-stream",
        "Cache-Control: no-store",
        "X-To: 2",
        "Transfer-Encoding: chunked",
    ] {
        assert!(head.lines().any(|line| line == field), "{field} is not in {head}");
    }
    let event = |number| format!("17\r\nevent: number\ndata: {number}\n\n\r\n");
    assert_eq!(body, format!("{}{}0\r\n\r\n", event(1), event(2)));

    let echo = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\na\nb";
    let text = rig.all(echo);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 201 Created\r\n") && head.contains("\r\nContent-Type: x/echo\r\n"),
        "{head}"
    );
    assert_eq!(body, "1\r\na\r\n1\r\n\n\r\n1\r\nb\r\n0\r\n\r\n");

    let text = rig.get("/default");
    assert!(!text.contains("Content-Type") && text.ends_with("\r\n\r\n3\r\na\nb\r\n0\r\n\r\n"), "{text}");
    let text = rig.get("/nothing");
    assert!(text.contains("Content-Type: text/plain") && text.ends_with("\r\n\r\n0\r\n\r\n"), "{text}");
    assert!(rig.get("/late").ends_with("5\r\nbegun\r\n0\r\n\r\n"));
    rig.server.shutdown();
}

#[test]
fn an_error_before_the_first_piece_is_answered_and_a_later_one_leaves_the_body_incomplete() {
    let _turn = shared();
    let rig = rig();
    let text = rig.get("/events/x");
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("not a number"), "{text}");
    let text = rig.get("/breaks");
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\n5\r\nbegun\r\n"), "{text}");
    let text = rig.all("GET /events/1 HTTP/1.0\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 505 ") && text.contains("requires HTTP/1.1"), "{text}");
    let text = rig.all("HEAD /events/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.ends_with("chunked\r\nConnection: close\r\n\r\n"),
        "{text}"
    );
    rig.server.shutdown();
}

#[test]
fn pieces_arrive_as_they_are_sent_and_requests_behind_a_stream_wait_for_it() {
    let _turn = shared();
    let rig = rig();
    let mut stream = rig.connect();
    stream
        .write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\nGET /events/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut until = |end: &str| {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    };
    let text = until("first\n\r\n");
    assert!(text.ends_with("\r\n\r\n6\r\nfirst\n\r\n"), "{text}");
    // The handler has returned; this thread goes on.
    let sink = rig.held.recv_timeout(Duration::from_secs(30)).unwrap();
    sink.try_send("second").unwrap();
    assert_eq!(until("second\r\n"), "6\r\nsecond\r\n");
    sink.finish(Ok(()));
    assert_eq!(until("0\r\n\r\n"), "0\r\n\r\n");
    assert!(matches!(sink.send("more"), Err(SinkError::Ended(_))));
    let next = until("0\r\n\r\n");
    assert!(next.starts_with("HTTP/1.1 200 OK\r\n") && next.contains("data: 1\n"), "{next}");
    rig.server.shutdown();
}

#[test]
fn what_waits_for_a_slow_peer_is_bounded_and_a_peer_that_leaves_ends_the_stream() {
    let _turn = shared();
    let rig = rig();
    let mut stream = rig.connect();
    stream.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // The peer does not read: the handler waits once queue and socket are full.
    let mut before = u64::MAX;
    eventually("the handler waits", || {
        let now = rig.flooded.load(Ordering::SeqCst);
        let is_still = now > 0 && now == std::mem::replace(&mut before, now);
        std::thread::sleep(Duration::from_millis(20));
        is_still
    });
    // The write queue's mark and what the sockets hold; 64 MiB would be 6,700 pieces.
    assert!(rig.flooded.load(Ordering::SeqCst) < 6_700, "{}", rig.flooded.load(Ordering::SeqCst));
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    eventually("the handler learns that the peer has left", || rig.ended_early.load(Ordering::SeqCst) == 1);
    // Of a sink that waits elsewhere, too.
    let mut stream = rig.connect();
    stream.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sink = rig.held.recv_timeout(Duration::from_secs(30)).unwrap();
    let (left, heard) = mpsc::channel();
    sink.on_cancel(move || {
        let _ = left.send(());
    });
    drop(stream);
    heard.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(sink.is_cancelled() && matches!(sink.try_send("x"), Err(SinkError::Ended(_))));
    rig.server.shutdown();
}

#[test]
fn curl_reads_an_event_stream() {
    let _turn = shared();
    let rig = rig();
    let url = format!("http://{}/events/3", rig.server.addresses()[0]);
    let out =
        Command::new("curl").args(["-sSN", "--max-time", "30", &url]).output().expect("curl is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let event = |number| format!("event: number\ndata: {number}\n\n");
    assert_eq!(String::from_utf8(out.stdout).unwrap(), event(1) + &event(2) + &event(3));
    rig.server.shutdown();
}
