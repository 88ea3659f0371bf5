//! Events for the log: what a program's logger receives of servers, clients and the export.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::interceptor::AccessLog;
use coreloop::{Context, Server};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::common::raw_server::unused_address;
use crate::common::{PATIENCE, shared};

/// An event as the logger of this process has received it.
#[derive(Clone, Debug)]
struct Event {
    level: Level,
    target: String,
    message: String,
    fields: Vec<(String, String)>,
}

impl Event {
    fn field(&self, key: &str) -> &str {
        self.fields.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }
}

static EVENTS: Mutex<Vec<Event>> = Mutex::new(Vec::new());

struct Collector;

impl Log for Collector {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        struct All(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for All {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let mut all = All(Vec::new());
        record.key_values().visit(&mut all).unwrap();
        let (level, target, message) =
            (record.level(), record.target().to_owned(), record.args().to_string());
        EVENTS.lock().unwrap().push(Event { level, target, message, fields: all.0 });
    }

    fn flush(&self) {}
}

/// Makes the collector the logger of the process.
fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// Waits for an event of this kind that this is true of. Other tests of this process have events too.
#[track_caller]
fn event(kind: &str, is_it: impl Fn(&Event) -> bool) -> Event {
    let find = || {
        let events = EVENTS.lock().unwrap();
        events.iter().find(|event| event.field("kind") == kind && is_it(event)).cloned()
    };
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = find() {
            return event;
        }
        assert!(Instant::now() < until, "no such {kind} in {:?}", EVENTS.lock().unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_logger_receives_what_happens_to_a_server() {
    let _turn = shared();
    collect();
    let server = Server::builder()
        .cores(1)
        .method("Log.Boom", |_cx: &Context<'_>, text: String| -> Result<i64, coreloop::Status> {
            panic!("expected in this test: {text}")
        })
        .configure(|config| {
            config.limits.connections_max = 2;
            config.limits.first_bytes_ms = 50;
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let address = server.addresses()[0].to_string();
    let started = event("started", |event| event.field("addresses") == address);
    assert_eq!((started.level, &*started.target), (Level::Info, "coreloop::server"));
    assert_eq!(started.message, format!("listening on {address}"));

    let client = Client::connect(&address).unwrap();
    client.call_bytes("Log.Boom", Codec::Json, b"\"token=hunter2\"").unwrap_err();
    let panicked = event("handler_panicked", |event| event.field("method") == "Log.Boom");
    assert_eq!((panicked.level, panicked.field("text")), (Level::Error, "expected in this test: token=…"));
    assert!(!format!("{panicked:?}").contains("hunter2"));

    // Part of a frame, and no more.
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"P").unwrap();
    let slow_address = slow.local_addr().unwrap().to_string();
    // The client and the slow peer are two.
    let mut third = TcpStream::connect(&address).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    event("connections_full", |event| event.field("connections_max") == "2");
    let late = event("slow_peer", |event| event.field("peer") == slow_address);
    assert_eq!(late.field("reason"), "first_bytes_late");

    server.shutdown();
    for kind in ["drain_begun", "drained"] {
        event(kind, |event| event.level == Level::Info);
    }
}

#[test]
fn the_logger_receives_the_changes_of_a_clients_endpoints() {
    let _turn = shared();
    collect();
    let address = unused_address();
    let client = Client::builder(format!("static:{address}")).build().unwrap();
    event("endpoint_added", |event| event.field("endpoint").contains(&address));
    for _ in 0..60 {
        client.call_bytes("No.Body", Codec::Json, b"1").unwrap_err();
    }
    let opened = event("breaker_opened", |event| event.field("endpoint").contains(&address));
    assert_eq!((opened.level, &*opened.target), (Level::Warn, "coreloop::client"));
}

/// A sink that is broken.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("the sink of this test is broken"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_logger_receives_that_an_access_log_has_failed() {
    let _turn = shared();
    collect();
    let log = Arc::new(AccessLog::new(Broken));
    let builder = Server::builder().cores(1).interceptor(log.clone());
    let builder = builder.method("Log.Echo", |_cx: &Context<'_>, n: i64| Ok(n));
    let server = builder.listen("127.0.0.1:0").start().unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    client.call_bytes("Log.Echo", Codec::Json, b"1").unwrap();
    let failed = event("access_log_failed", |event| event.field("error").contains("of this test is broken"));
    assert_eq!((failed.level, failed.field("lines")), (Level::Error, "1"));
    assert_eq!(log.counts().dropped, 1);
    server.shutdown();
}

#[cfg(feature = "otlp")]
#[test]
fn the_logger_receives_that_the_collector_is_away_and_what_is_lost() {
    use coreloop::config::{OtlpConfig, TraceConfig};
    use coreloop::otlp::Exporter;
    use coreloop::trace::Tracer;

    let _turn = shared();
    collect();
    // Bound, so that no other server gets the address, and not listening.
    let collector = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    collector.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = collector.local_addr().unwrap().as_socket().unwrap().to_string();
    let mut config = OtlpConfig::default();
    config.endpoint = format!("http://{address}");
    config.interval_ms = 10;
    let mut trace = TraceConfig::default();
    trace.sample_one_in = 1;
    let tracer = Tracer::new(&trace);
    let exporter = Exporter::builder().config(config).tracer(&tracer).start().unwrap();
    let client = Client::builder(unused_address()).tracer(&tracer).build().unwrap();
    client.with_timeout(Duration::from_secs(5)).call_bytes("No.Body", Codec::Json, b"1").unwrap_err();
    let failed = event("export_failed", |event| event.field("problem").contains(&address));
    assert_eq!((failed.level, failed.field("signal")), (Level::Warn, "spans"));
    let before = exporter.shutdown();
    assert!(before.spans.dropped > 0, "{before:?}");
    event("export_dropped", |event| event.field("signal") == "spans");
}
