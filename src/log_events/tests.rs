//! The way of events to a logger: limits, order, sinks that block or panic; secrets; the table in the documentation.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use log::Record;
use log::kv::{self, Key, Value, VisitSource};

use super::hub::{LogCounts, LogHub};
use super::limit::{EVENTS_MAX, WINDOW_MS};
use super::{KINDS, LogEvent, LogEventKind};

/// Longer than any operation here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every text of a record.
fn texts(record: &Record<'_>) -> Vec<(String, String)> {
    struct All(Vec<(String, String)>);
    impl<'kvs> VisitSource<'kvs> for All {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push((key.to_string(), value.to_string()));
            Ok(())
        }
    }
    let mut all = All(vec![
        ("target".to_owned(), record.target().to_owned()),
        ("level".to_owned(), record.level().to_string()),
        ("message".to_owned(), record.args().to_string()),
    ]);
    record.key_values().visit(&mut all).unwrap();
    all.0
}

fn of<'a>(texts: &'a [(String, String)], key: &str) -> &'a str {
    texts.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
}

/// A hub whose records are received here.
fn hub() -> (LogHub, mpsc::Receiver<Vec<(String, String)>>) {
    let (send, records) = mpsc::channel();
    let (hub, started) = LogHub::start(1024, move |record| send.send(texts(record)).unwrap());
    started.unwrap();
    (hub, records)
}

fn panicked(text: &str) -> LogEvent {
    LogEvent::Panicked { what: "a callback", text: text.to_owned() }
}

#[test]
fn a_flood_of_one_kind_is_a_bounded_number_of_records_and_hides_no_other_kind() {
    let (hub, records) = hub();
    let now = Instant::now();
    for index in 0..1000 {
        hub.emit(LogEventKind::Panicked, panicked(&index.to_string()), now);
    }
    hub.emit(LogEventKind::ExportRecovered, LogEvent::ExportRecovered { signal: "spans" }, now);
    assert!(hub.flush(PATIENCE));
    let all: Vec<_> = records.try_iter().collect();
    assert_eq!(all.len(), EVENTS_MAX as usize + 2);
    let first = &all[0];
    assert_eq!((of(first, "kind"), of(first, "level")), ("panicked", "ERROR"));
    assert_eq!((of(first, "target"), of(first, "message")), ("coreloop::call", "a callback panicked: 0"));
    assert_eq!((of(first, "what"), of(first, "text")), ("a callback", "0"));
    assert_eq!(of(&all[EVENTS_MAX as usize], "message"), "spans are exported again");
    let suppressed = all.last().unwrap();
    assert_eq!((of(suppressed, "kind"), of(suppressed, "of")), ("suppressed", "panicked"));
    let left_out = 1000 - u64::from(EVENTS_MAX);
    assert_eq!(of(suppressed, "count"), left_out.to_string());
    let counts = LogCounts { logged: all.len() as u64, suppressed: left_out, dropped: 0 };
    assert_eq!(hub.counts(), counts);
    // In the next window events are passed on again.
    hub.emit(LogEventKind::Panicked, panicked("later"), now + Duration::from_millis(WINDOW_MS));
    assert_eq!(of(&records.recv_timeout(PATIENCE).unwrap(), "text"), "later");
}

#[test]
fn a_logger_that_does_not_return_costs_events_and_no_time() {
    let (entered, blocked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (hub, started) = LogHub::start(4, move |_record| {
        entered.send(()).unwrap();
        let _ = released.recv();
    });
    started.unwrap();
    let now = Instant::now();
    hub.emit(LogEventKind::Panicked, panicked("first"), now);
    blocked.recv_timeout(PATIENCE).unwrap();
    // The thread holds one; four wait; the others are dropped at once.
    for _ in 1..EVENTS_MAX {
        hub.emit(LogEventKind::Panicked, panicked("more"), now);
    }
    let dropped = u64::from(EVENTS_MAX) - 5;
    assert_eq!(hub.counts(), LogCounts { logged: 0, suppressed: 0, dropped });
    assert!(!hub.flush(Duration::from_millis(1)), "the end gives up");
    drop(release);
    assert!(hub.flush(PATIENCE));
    assert_eq!(hub.counts(), LogCounts { logged: 5, suppressed: 0, dropped });
}

#[test]
fn a_logger_that_panics_is_called_again() {
    let (send, records) = mpsc::channel();
    let (hub, started) = LogHub::start(16, move |record| {
        let text = record.args().to_string();
        assert!(!text.contains("bad"), "the logger panics: expected in this test");
        send.send(text).unwrap();
    });
    started.unwrap();
    let now = Instant::now();
    hub.emit(LogEventKind::Panicked, panicked("bad"), now);
    hub.emit(LogEventKind::Panicked, panicked("good"), now);
    assert!(hub.flush(PATIENCE));
    assert_eq!(records.try_recv().unwrap(), "a callback panicked: good");
    assert_eq!(hub.counts(), LogCounts { logged: 1, suppressed: 0, dropped: 1 });
}

#[test]
fn an_event_that_had_to_wait_says_how_long() {
    let (hub, records) = hub();
    let began = Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
    hub.emit(LogEventKind::Panicked, panicked("late"), began);
    let late = records.recv_timeout(PATIENCE).unwrap();
    assert!(of(&late, "delayed_ms").parse::<u64>().unwrap() >= 3000, "{late:?}");
    hub.emit(LogEventKind::Panicked, panicked(&"x".repeat(5000)), Instant::now());
    let long = records.recv_timeout(PATIENCE).unwrap();
    assert!(of(&long, "text").len() < 600 && of(&long, "message").len() < 1100, "{long:?}");
}

/// Every kind of event, with this text wherever one is.
fn every_event(text: &str) -> Vec<(LogEventKind, LogEvent)> {
    let text = || text.to_owned();
    let peer = crate::context::Peer::Memory;
    macro_rules! all {
        ($($variant:ident { $($fields:tt)* }),* $(,)?) => {
            vec![$((LogEventKind::$variant, LogEvent::$variant { $($fields)* })),*]
        };
    }
    all![
        Started { addresses: text(), reactors: 1, workers: 2 },
        AdminSkipped { address: text() },
        ConfigWarning { warning: text() },
        Reloaded { changes: text() },
        ReloadFailed { error: text() },
        DrainBegun { connections: 1, drain_ms: 2 },
        DrainCut { calls: 1 },
        Drained { took_ms: 1 },
        ReactorPanicked { reactor: 0 },
        HandlerPanicked { method: text(), text: text() },
        Panicked { what: "x", text: text() },
        ConnectionsFull { reactor: 0, connections_max: 1 },
        AcceptPaused { reactor: 0, error: text() },
        ProtocolError { peer, protocol: "native", error: text() },
        SlowPeer { peer, protocol: "native", reason: "frame_late" },
        SilentClosed { peer },
        AccessLogFailed { lines: 1, error: text() },
        ExportFailed { signal: "spans", problem: text() },
        ExportRecovered { signal: "spans" },
        ExportDropped { signal: "spans", items: 1 },
        Registered { url: text() },
        NotRegistered { url: text(), error: text() },
        ResolveFailed { error: text() },
        EmptyUpdateIgnored {},
        TooManyInstances { ignored: 1 },
        EndpointAdded { endpoint: text() },
        EndpointRemoved { endpoint: text() },
        BreakerOpened { endpoint: text() },
        BreakerClosed { endpoint: text() },
        EndpointUnhealthy { endpoint: text() },
        EndpointHealthy { endpoint: text() },
        RetryBudgetEmpty {},
        ZoneLeft {},
        ZoneKept {},
        ProfileRefused { error: text() },
    ]
}

#[test]
fn no_event_of_any_kind_passes_a_secret_on() {
    const MARK: &str = "hunter2hunter2";
    let (hub, records) = hub();
    let padding = "x".repeat(480);
    for secret in [
        format!("consul://u:{MARK}@127.0.0.1:8500/demo?token={MARK}&zone=a"),
        format!("authorization: Bearer {MARK}"),
        format!("{padding} password={MARK}"),
    ] {
        for (kind, event) in every_event(&secret) {
            hub.emit(kind, event, Instant::now());
        }
    }
    assert!(hub.flush(PATIENCE));
    let all: Vec<_> = records.try_iter().collect();
    assert_eq!(all.len(), 3 * KINDS.len(), "every kind is in the list");
    for record in &all {
        assert!(record.iter().all(|(_, value)| !value.contains(MARK)), "{record:?}");
    }
    let url = all.iter().find(|record| of(record, "kind") == "registered").unwrap();
    assert_eq!(of(url, "url"), "consul://…@127.0.0.1:8500/demo?token=…&zone=a");
}

#[test]
fn the_documentation_has_a_row_for_every_kind() {
    let page = include_str!("../../docs/observability.md");
    for kind in KINDS {
        let fields: Vec<String> = kind.fields.iter().map(|field| format!("`{field}`")).collect();
        let level = kind.level.as_str().to_ascii_lowercase();
        let row = format!(
            "| `{}` | {level} | `{}` | {} | {} |",
            kind.name,
            kind.target,
            fields.join(", "),
            kind.docs.trim()
        );
        assert!(page.lines().any(|line| line == row), "docs/observability.md lacks\n{row}");
    }
}
