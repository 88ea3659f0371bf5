//! Peers with open streams that stop, die or do nothing: processes of their own, and ten thousand idle streams.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{PATIENCE, coreloop};
use coreloop::client::Client;
use coreloop::codec::{Codec, Plain};
use coreloop::protocol::method_hash;
use coreloop::service::{Kind, Method};
use coreloop::stream::Sink;
use coreloop::{Server, demo};

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        sleep(Duration::from_millis(1));
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Takes the lock that runs tests one at a time: memory is measured for the whole process.
fn serial() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the buffers that the server's connections hold.
fn buffers(server: &Server) -> u64 {
    server.stats().reactors.iter().map(|reactor| reactor.pool.outstanding).sum()
}

/// A process that is killed with the test.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_frozen_subscriber_is_closed_and_harms_no_other() {
    let _turn = serial();
    let server = demo::services(Server::builder().cores(1).workers(1))
        .configure(|config| {
            config.limits.stream_keepalive_ms = 500;
            config.limits.stream_keepalive_timeout_ms = 1_000;
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let address = server.addresses()[0].to_string();
    let client = Client::connect(&address).unwrap().with_codec(Codec::Json);
    let chat = client.bidirectional_bytes("Echo.Chat", Codec::Json).unwrap();
    let (sink, mut replies) = chat.split();
    let mut talk = || {
        sink.send(&b"\"hello\"".to_vec()).unwrap();
        assert_eq!(replies.next().unwrap().unwrap(), b"\"hello\"");
    };
    talk();
    let mut command = coreloop(&["call", &address, "Users.Watch", "1000000000"]);
    let mut subscriber = Process(command.stdout(Stdio::piped()).spawn().expect("the binary runs"));
    let mut lines = BufReader::new(subscriber.0.stdout.take().expect("piped"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a user");
    assert!(line.contains("user-1 "), "{line}");
    // It answers pings as long as it runs, even though it cannot print what it receives.
    let connections = server.stats().connections();
    sleep(Duration::from_millis(2_000));
    assert_eq!(server.stats().connections(), connections);
    talk();
    subscriber.signal("STOP");
    // What it has asked for the types of the method with is another connection, without streams.
    eventually("the frozen subscriber is gone", || server.stats().connections() == connections - 1);
    assert_eq!(server.stats().cancelled, 0);
    talk();
    subscriber.kill();
    sink.finish(Ok(()));
    assert_eq!(replies.next(), None);
    drop((client, sink, replies));
    eventually("all is returned", || server.stats().connections() == 0 && buffers(&server) == 0);
    assert_eq!(server.stats().panics, 0);
}

/// A server whose method keeps its sinks after one message, and counts those whose callers have gone.
struct Holder {
    server: Server,
    sinks: Arc<Mutex<Vec<Arc<Sink<String>>>>>,
    cancelled: Arc<AtomicUsize>,
}

impl Holder {
    fn start(message: &'static str) -> Holder {
        let (sinks, cancelled) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let (keep, count) = (sinks.clone(), cancelled.clone());
        let hold = Method::server_stream::<Plain<u32>, Plain<String>>("Hold.Watch", move |_cx, _, sink| {
            sink.try_send(&message.to_owned())?;
            let count = count.clone();
            sink.on_cancel(move || {
                count.fetch_add(1, Ordering::SeqCst);
            });
            keep.lock().unwrap().push(Arc::new(sink));
            Ok(())
        });
        let server = Server::builder().cores(1).workers(1).method_of(hold.unwrap().kind(Kind::Inline));
        Holder { server: server.listen("127.0.0.1:0").start().unwrap(), sinks, cancelled }
    }
}

/// Opens streams on one connection, and then does nothing.
const OPENER: &str = r#"
import socket, struct, sys
host, port, hash, count = sys.argv[1].split(":")[0], int(sys.argv[1].split(":")[1]), int(sys.argv[2]), int(sys.argv[3])
connection = socket.create_connection((host, port))
header = struct.Struct("<2sBBBBHQIIII")
for call in range(1, count + 1):
    connection.sendall(header.pack(b"\x19\x96", 1, 0, 2, 0, 0, call, hash, 0, 0, 1) + b"1")
print("open", flush=True)
sys.stdin.read()
"#;

#[test]
fn a_client_that_is_killed_with_its_streams_leaves_nothing() {
    const STREAMS: usize = 1024;
    let _turn = serial();
    // 12 MB for one connection: more than its window, and less than it may hold.
    let message: &'static str = "x".repeat(12_000).leak();
    let holder = Holder::start(message);
    let address = holder.server.addresses()[0].to_string();
    let mut resident = Vec::new();
    for round in 1..=4 {
        let mut command = Command::new("python3");
        let hash = method_hash("Hold.Watch").to_string();
        command.args(["-c", OPENER, &address, &hash, &STREAMS.to_string()]);
        let mut process =
            Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs"));
        eventually("all streams are open", || holder.sinks.lock().unwrap().len() == STREAMS);
        process.kill();
        eventually("every handler learns it", || holder.cancelled.load(Ordering::SeqCst) == round * STREAMS);
        eventually("its memory is returned", || {
            holder.server.stats().connections() == 0 && buffers(&holder.server) == 0
        });
        assert!(holder.sinks.lock().unwrap().drain(..).all(|sink| sink.is_cancelled()));
        resident.push(resident_bytes() / 1024);
    }
    println!("resident KiB after each round: {resident:?}");
    assert!(resident[3] < resident[0] + 16 * 1024, "{resident:?} KiB");
    let method = holder.server.stats();
    assert_eq!((method.dropped, method.panics), (4 * STREAMS as u64, 0));
}

fn read_frame(stream: &mut impl Read) -> (u8, u32, Vec<u8>) {
    let mut header = [0; 32];
    stream.read_exact(&mut header).expect("a frame");
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let mut body = vec![0; word(28) as usize];
    stream.read_exact(&mut body).expect("its body");
    (header[3], word(16), body)
}

#[test]
fn ten_thousand_idle_streams_hold_little_and_work() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 1_000;
    let _turn = serial();
    let holder = Holder::start("first");
    let mut peers: Vec<BufReader<TcpStream>> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(holder.server.addresses()[0].to_string()).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            BufReader::new(stream)
        })
        .collect();
    let before = resident_bytes();
    for peer in &mut peers {
        for id in 1..=STREAMS as u64 {
            let mut frame = [0; 33];
            frame[..5].copy_from_slice(&[0x19, 0x96, 1, 0, Codec::Json.number()]);
            frame[8..16].copy_from_slice(&id.to_le_bytes());
            frame[16..20].copy_from_slice(&method_hash("Hold.Watch").to_le_bytes());
            (frame[28], frame[32]) = (1, b'1');
            peer.get_mut().write_all(&frame).expect("it is read");
        }
        for _ in 0..STREAMS {
            assert_eq!(read_frame(peer), (8, 0, b"\"first\"".to_vec()));
        }
    }
    eventually("every handler has run", || holder.sinks.lock().unwrap().len() == CONNECTIONS * STREAMS);
    let held = resident_bytes().saturating_sub(before);
    println!("{} bytes for each idle stream", held / (CONNECTIONS * STREAMS));
    assert!(held < 64 << 20, "{held} bytes for {} idle streams", CONNECTIONS * STREAMS);
    // Each of them goes on.
    for sink in holder.sinks.lock().unwrap().drain(..) {
        sink.send(&"second".to_owned()).unwrap();
        sink.finish(Ok(()));
    }
    for peer in &mut peers {
        let frames: Vec<_> = (0..2 * STREAMS).map(|_| read_frame(peer)).collect();
        let second = frames.iter().filter(|frame| **frame == (8, 0, b"\"second\"".to_vec())).count();
        let ok = frames.iter().filter(|frame| **frame == (1, 0, Vec::new())).count();
        assert_eq!((second, ok), (STREAMS, STREAMS));
    }
    drop(peers);
    eventually("nothing is left", || {
        holder.server.stats().connections() == 0 && buffers(&holder.server) == 0
    });
    assert_eq!(holder.cancelled.load(Ordering::SeqCst), 0);
}
