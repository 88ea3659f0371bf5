//! Health checks of servers behind HTTP: calls of `Health.Check`, played by raw servers and answered by real ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::{Events, Numbered, which};
use crate::common::{PATIENCE, eventually};
use coreloop::client::{Client, ClientBuilder, FleetEvent};

/// How a server answers checks; `None`: not at all.
type Answer = Option<(u16, &'static str)>;

/// A server that answers every request in the same way.
struct RawHttp {
    address: String,
    answer: Arc<Mutex<Answer>>,
    paths: mpsc::Receiver<String>,
    requests: Arc<AtomicUsize>,
}

impl RawHttp {
    fn start(answer: Answer) -> RawHttp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (sender, paths) = mpsc::channel();
        let (shared, counter) = (answer.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, counter, sender) = (shared.clone(), counter.clone(), sender.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &shared, &counter, &sender));
            }
        });
        RawHttp { address, answer, paths, requests }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// Answers the requests of one connection until it ends.
fn serve(
    stream: TcpStream,
    answer: &Mutex<Answer>,
    requests: &AtomicUsize,
    paths: &mpsc::Sender<String>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
            let value = line.to_ascii_lowercase();
            length = value.strip_prefix("content-length:").map_or(length, |len| len.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        requests.fetch_add(1, Ordering::SeqCst);
        let _ = paths.send(path);
        let Some((status, text)) = *answer.lock().unwrap() else { continue };
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n");
        stream.write_all(format!("{head}content-length: {}\r\n\r\n{text}", text.len()).as_bytes()).ok()?;
    }
}

/// Longer than any test: only answers count.
const NO_TIMEOUT_MS: u64 = 600_000;

fn checking(url: String, timeout_ms: u64) -> ClientBuilder {
    Client::builder(url).fleet(|fleet| {
        fleet.health.interval_ms = 20;
        fleet.health.timeout_ms = timeout_ms;
        fleet.health.unhealthy_after = 1;
    })
}

fn unhealthy(events: &Events) -> usize {
    events.count(|event| matches!(event, FleetEvent::Unhealthy(_)))
}

#[test]
fn a_server_that_does_not_answer_a_check_is_unhealthy_until_it_does() {
    let (raw, events) = (RawHttp::start(None), Events::default());
    let client = events.listen(checking(format!("http:static:{}", raw.address), 20)).build().unwrap();
    assert_eq!(raw.paths.recv_timeout(PATIENCE).unwrap(), "/Health/Check");
    eventually("it is unhealthy", || unhealthy(&events) > 0);
    assert!(!client.endpoints()[0].is_healthy);
    // A check without an answer is given up with its connection, and the next one is made on another.
    raw.set(Some((200, "\"serving\"")));
    eventually("it is healthy", || events.count(|event| matches!(event, FleetEvent::Healthy(_))) > 0);
    assert!(client.endpoints()[0].is_healthy);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_server_that_says_that_it_does_not_serve_is_unhealthy() {
    for answer in [(200, "\"not_serving\""), (503, "{\"code\":\"unavailable\"}")] {
        let (raw, events) = (RawHttp::start(Some(answer)), Events::default());
        let _client =
            events.listen(checking(format!("http:static:{}", raw.address), NO_TIMEOUT_MS)).build().unwrap();
        eventually("it is unhealthy", || unhealthy(&events) > 0);
        raw.set(Some((200, "\"serving\"")));
        eventually("it is healthy", || events.count(|event| matches!(event, FleetEvent::Healthy(_))) > 0);
    }
}

#[test]
fn a_server_without_health_checks_is_healthy() {
    for answer in
        [(404, "{\"code\":\"unimplemented\"}"), (401, "{\"code\":\"unauthenticated\"}"), (404, "no")]
    {
        let (raw, events) = (RawHttp::start(Some(answer)), Events::default());
        let client =
            events.listen(checking(format!("http:static:{}", raw.address), NO_TIMEOUT_MS)).build().unwrap();
        eventually("it was checked some times", || raw.requests.load(Ordering::SeqCst) > 5);
        assert_eq!(unhealthy(&events), 0, "{answer:?}");
        assert!(client.endpoints()[0].is_healthy);
    }
}

#[test]
fn real_servers_answer_the_checks() {
    let mut schemes = vec!["http"];
    if cfg!(feature = "jsonrpc") {
        schemes.push("jsonrpc");
    }
    for scheme in schemes {
        let (server, events) = (Numbered::start(7), Events::default());
        let builder = checking(format!("{scheme}:static:{}", server.address), NO_TIMEOUT_MS);
        let client =
            events.listen(builder.configure(|config| config.warm_endpoints_max = 1)).build().unwrap();
        eventually("it was checked some times", || client.stats().sent > 5);
        assert_eq!((server.calls(), unhealthy(&events)), (0, 0), "{scheme}");
        assert_eq!(which(&client).unwrap(), 7);
        assert_eq!((client.fleet_stats().calls, client.in_flight()), (1, 0), "{scheme}");
    }
}
