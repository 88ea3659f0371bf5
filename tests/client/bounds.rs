//! The bounds of the shared client against a server that reads nothing, and timeouts that never pass.

use std::io::ErrorKind::{InvalidInput, TimedOut};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coreloop::client::{CallError, Client, Direct, Driver, DriverConfig};
use coreloop::codec::Codec;
use coreloop::{Code, Context, Server, Status};
use socket2::{Domain, Socket, Type};

/// Longer than any test needs: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The length of a native header.
const HEAD: usize = 32;

struct Math;

#[coreloop::service]
impl Math {
    fn double(&self, _cx: &Context, number: i64) -> Result<i64, Status> {
        Ok(number.wrapping_mul(2))
    }
}

fn serve() -> (Server, String) {
    let server = Server::builder().cores(1).service(Math).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

/// Starts a server that accepts a connection and reads nothing until it receives a number on the channel; then it
/// reads that many bytes.
fn blocked_server() -> (String, mpsc::Sender<usize>, std::thread::JoinHandle<()>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // However large the system's buffers are, they must not hold what a test sends.
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap().to_string();
    let (listen, received) = mpsc::channel::<usize>();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for bytes in received {
            let mut body = vec![0; bytes];
            stream.read_exact(&mut body).unwrap();
        }
    });
    (address, listen, thread)
}

#[test]
fn one_way_calls_to_a_blocked_server_are_bounded() {
    const CALLS: usize = 400;
    let (address, listen, thread) = blocked_server();
    let client =
        Client::builder(&address).configure(|config| config.in_flight_bytes_max = 1 << 20).connect().unwrap();
    let body = vec![0; 64 << 10];
    for _ in 0..CALLS {
        client.send_bytes("Sink.Put", Codec::Raw, &body).unwrap();
    }
    // The endpoint has a queue: when this call has ended, all earlier ones have been processed.
    let last = client.with_timeout(Duration::from_millis(50)).call_bytes("Sink.Put", Codec::Raw, &[]);
    assert_eq!(last.unwrap_err().code(), Code::DeadlineExceeded);
    let sent = client.stats().sent as usize;
    assert!(sent < CALLS, "all {sent} of them, {} bytes, went into the write queue", sent * body.len());
    assert_eq!(client.in_flight(), CALLS - sent, "the others wait, and are counted");

    listen.send(CALLS * (HEAD + body.len())).unwrap();
    let until = Instant::now() + PATIENCE;
    while client.in_flight() > 0 {
        assert!(Instant::now() < until, "{} still wait", client.in_flight());
        std::thread::yield_now();
    }
    drop(listen);
    thread.join().expect("every byte of every call has arrived");
}

#[test]
fn expired_calls_to_a_blocked_server_do_not_accumulate() {
    let (address, listen, thread) = blocked_server();
    let client =
        Client::builder(&address).configure(|config| config.in_flight_bytes_max = 1 << 20).connect().unwrap();
    let body = vec![0; 64 << 10];
    const CALLS: usize = 400;
    let hasty = client.with_timeout(Duration::from_millis(5));
    for _ in 0..CALLS / 16 {
        // These calls end before the next ones begin; their bytes stay queued.
        let calls: Vec<_> = (0..16).map(|_| hasty.start_bytes("Sink.Put", Codec::Raw, &body)).collect();
        for call in calls {
            assert_eq!(call.wait().unwrap_err().code(), Code::DeadlineExceeded);
        }
    }
    let sent = client.stats().sent as usize;
    assert!(sent < CALLS, "all {sent} of them, {} bytes, went into the write queue", sent * body.len());
    drop((client, listen));
    thread.join().unwrap();
}

#[test]
fn stalled_writes_and_stalled_replies_close_the_connection() {
    let mut config = DriverConfig::default();
    config.write_stall_ms = 50;
    let driver = Driver::spawn_with(&config).unwrap();
    let (address, listen, thread) = blocked_server();
    let client = Client::builder(&address).on(&driver).connect().unwrap().with_timeout(PATIENCE);
    // More than the sockets hold.
    let error = client.call_bytes("Sink.Put", Codec::Raw, &vec![0; 15 << 20]).unwrap_err();
    assert!(
        matches!(&error, CallError::Lost { error, may_have_run: true } if error.kind() == TimedOut),
        "{error:?}"
    );
    drop((client, listen));
    thread.join().unwrap();

    let mut config = DriverConfig::default();
    config.frame_ms = 50;
    let driver = Driver::spawn_with(&config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The beginning of a reply, and then nothing until the client closes.
        stream.write_all(&[0x19, 0x96, 1, 1]).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let client = Client::builder(&address).on(&driver).connect().unwrap().with_timeout(PATIENCE);
    let error = client.call_bytes("Sink.Put", Codec::Raw, &[]).unwrap_err();
    assert_eq!((error.code(), driver.stats().connects), (Code::Unavailable, 1), "{error:?}");
    thread.join().expect("the client has closed");

    config.frame_ms = 0;
    let error = Driver::spawn_with(&config).unwrap_err();
    assert_eq!(error.kind(), InvalidInput, "{error}");
}

#[test]
fn an_unbounded_timeout_is_no_timeout() {
    let (server, address) = serve();
    let client = Client::connect(&address).unwrap().with_timeout(Duration::MAX);
    assert_eq!(client.call_bytes("Math.Double", Codec::Json, b"21").unwrap(), b"42");
    let mut call = client.start_bytes("Math.Double", Codec::Json, b"4");
    assert_eq!(call.wait_timeout(Duration::MAX).unwrap().unwrap(), b"8");
    let mut direct = Direct::connect_timeout(&address, Duration::MAX).unwrap();
    direct.set_timeout(Some(Duration::MAX));
    assert_eq!(direct.call_bytes("Math.Double", Codec::Json, b"5").unwrap(), b"10");
    server.shutdown();
}

#[test]
fn calls_of_a_dropped_batch_report_not_sent() {
    let (server, address) = serve();
    let client = Client::connect(&address).unwrap();
    let batch = client.batch();
    let handle = batch.start_bytes("Math.Double", Codec::Json, b"1");
    let (sender, received) = mpsc::channel();
    let typed = MathClient::new(batch);
    typed.double_then(&2, move |result| sender.send(result).unwrap());
    drop(typed);
    assert!(matches!(handle.wait(), Err(CallError::NotSent)));
    assert!(matches!(received.recv_timeout(PATIENCE).unwrap(), Err(CallError::NotSent)));
    server.shutdown();
}
