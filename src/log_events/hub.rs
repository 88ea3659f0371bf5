//! The way of an event to the program's logger: limited by kind, through a bounded queue, on a thread of its own.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use log::kv::{ToValue, Value};
use log::{Level, LevelFilter, Record};

use super::limit::{KindLimit, window_end_ms};
use super::redact::redacted;
use super::value::FieldValue;
use super::{KINDS, KindInfo, LogEvent, LogEventKind};
use crate::error_text::shortened;
use crate::threads::{QueueEntries, ThreadQueue};

/// The most events that wait for the logger.
const QUEUE_MAX: usize = 1024;
/// The most bytes of a text in an event.
const TEXT_BYTES_MAX: usize = 512;
/// The most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 1024;
/// An event that waited longer says so.
const DELAY_SHOWN: Duration = Duration::from_millis(100);
/// How long [`finish`] waits for a logger that does not return.
const PATIENCE: Duration = Duration::from_secs(2);

/// Emits an event, if the program's logger takes events of this level and the limit of the kind is not reached.
#[inline]
pub(crate) fn emit(kind: LogEventKind, event: impl FnOnce() -> LogEvent) {
    if kind.info().level <= log::max_level() {
        let hub = hub();
        if hub.admits(kind, Instant::now()) {
            hub.send(HubEntry::Event(event(), kind, Instant::now()));
        }
    }
}

/// Passes a message of the program on, as an event of this kind and the target `coreloop::cli`.
#[doc(hidden)]
pub fn say(level: Level, kind: &'static str, message: String) {
    hub().send(HubEntry::Said { level, kind, message });
}

/// Counts a line that the logger could not write.
#[doc(hidden)]
pub fn note_lost() {
    hub().shared.dropped.fetch_add(1, Ordering::Relaxed);
}

/// Returns whether a logger receives events.
pub(crate) fn is_logged() -> bool {
    log::max_level() > LevelFilter::Off
}

/// Waits until the logger has received what was emitted, and how many events were not passed on; but no longer than two
/// seconds for a logger that does not return.
#[doc(hidden)]
pub fn finish() {
    if let Some(hub) = HUB.get() {
        hub.flush(PATIENCE);
    }
}

/// The numbers of events since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogCounts {
    /// Passed to the logger.
    pub(crate) logged: u64,
    /// Not passed on, since there were too many of their kind.
    pub(crate) suppressed: u64,
    /// Dropped, since the logger is too slow, has panicked, or could not write.
    pub(crate) dropped: u64,
}

/// Returns the current counts.
#[cfg(feature = "metrics")]
pub(crate) fn log_counts() -> LogCounts {
    HUB.get().map(LogHub::counts).unwrap_or_default()
}

static HUB: OnceLock<LogHub> = OnceLock::new();

/// Returns the hub of the process. The first event starts it.
fn hub() -> &'static LogHub {
    HUB.get_or_init(|| {
        let (hub, started) = LogHub::start(QUEUE_MAX, |record| log::logger().log(record));
        if started.is_err() {
            // Every event is counted as dropped.
            hub.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        hub
    })
}

enum HubEntry {
    Event(LogEvent, LogEventKind, Instant),
    Said {
        level: Level,
        kind: &'static str,
        message: String,
    },
    /// The sender is dropped when everything before has been passed on.
    Flush(Sender<Infallible>),
}

/// The senders' side.
pub(super) struct LogHub {
    queue: ThreadQueue<HubEntry>,
    shared: Arc<HubShared>,
}

struct HubShared {
    began: Instant,
    /// By kind.
    limits: [KindLimit; KINDS.len()],
    logged: AtomicU64,
    suppressed: AtomicU64,
    dropped: AtomicU64,
}

impl HubShared {
    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

impl LogHub {
    /// Starts a hub whose thread passes records to a sink.
    pub(super) fn start(
        entries_max: usize,
        sink: impl FnMut(&Record<'_>) + Send + 'static,
    ) -> (LogHub, io::Result<()>) {
        let (queue, thread) = ThreadQueue::new(entries_max);
        let shared = Arc::new(HubShared {
            began: Instant::now(),
            limits: [const { KindLimit::new() }; KINDS.len()],
            logged: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let of_thread = HubThread { shared: shared.clone(), sink: Box::new(sink), sweep_at: None };
        let started = thread.start("coreloop-log", |entries| of_thread.run(entries));
        (LogHub { queue, shared }, started)
    }

    pub(super) fn admits(&self, kind: LogEventKind, now: Instant) -> bool {
        let is_admitted = self.shared.limits[kind as usize].admit(self.shared.ms(now));
        if !is_admitted {
            self.shared.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    fn send(&self, entry: HubEntry) {
        if !self.queue.try_send(entry) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does what [`emit`] does, on this hub.
    #[cfg(test)]
    pub(super) fn emit(&self, kind: LogEventKind, event: LogEvent, now: Instant) {
        if self.admits(kind, now) {
            self.send(HubEntry::Event(event, kind, now));
        }
    }

    /// Returns whether everything so far was passed on within about this time.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (waits, done) = bounded(0);
        self.queue.send_timeout(HubEntry::Flush(waits), patience)
            && done.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    pub(super) fn counts(&self) -> LogCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let HubShared { logged, suppressed, dropped, .. } = &*self.shared;
        LogCounts { logged: read(logged), suppressed: read(suppressed), dropped: read(dropped) }
    }
}

/// The thread's side.
struct HubThread {
    shared: Arc<HubShared>,
    sink: Box<dyn FnMut(&Record<'_>) + Send>,
    /// The end of the window of the latest event: then follows how many events were not passed on.
    sweep_at: Option<Instant>,
}

impl HubThread {
    fn run(mut self, entries: &QueueEntries<HubEntry>) {
        loop {
            let entry = match self.sweep_at {
                Some(at) => entries.recv_deadline(at),
                None => entries.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match entry {
                Ok(Some(HubEntry::Event(event, kind, at))) => {
                    self.pass_on(kind.info(), &event, at);
                    let end_ms = window_end_ms(self.shared.ms(Instant::now()));
                    self.sweep_at = Some(self.shared.began + Duration::from_millis(end_ms));
                }
                Ok(Some(HubEntry::Said { level, kind, message })) => {
                    self.log(level, "coreloop::cli", &message, &[("kind", kind.to_value())]);
                }
                Ok(Some(HubEntry::Flush(waits))) => {
                    self.sweep();
                    drop(waits);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.sweep();
                    self.sweep_at = None;
                }
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tells of each kind how many of its events were not passed on.
    fn sweep(&mut self) {
        for (index, kind) in KINDS.iter().enumerate() {
            let count = self.shared.limits[index].take_suppressed();
            if count > 0 {
                let message = format!("{count} more events of the kind {} were left out", kind.name);
                let fields = [
                    ("kind", "suppressed".to_value()),
                    ("of", kind.name.to_value()),
                    ("count", count.to_value()),
                ];
                self.log(kind.level, kind.target, &message, &fields);
            }
        }
    }

    fn pass_on(&mut self, kind: &KindInfo, event: &LogEvent, at: Instant) {
        let texts: Vec<(&'static str, FieldText<'_>)> =
            event.fields().into_iter().map(|(name, value)| (name, FieldText::of(value))).collect();
        let mut fields = vec![("kind", kind.name.to_value())];
        fields.extend(texts.iter().map(|(name, text)| (*name, text.value())));
        let waited = at.elapsed();
        let delay_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        if waited >= DELAY_SHOWN {
            fields.push(("delayed_ms", delay_ms.to_value()));
        }
        let message = event.to_string();
        let message = redacted(&message);
        self.log(kind.level, kind.target, &shortened(&message, MESSAGE_BYTES_MAX), &fields);
    }

    fn log(&mut self, level: Level, target: &str, message: &str, fields: &[(&str, Value<'_>)]) {
        let sink = &mut self.sink;
        // A logger that panics loses the event, and is called again for the next.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut record = Record::builder();
            record.level(level).target(target).key_values(&fields);
            sink(&record.args(format_args!("{message}")).build());
        }));
        let counter = if result.is_ok() { &self.shared.logged } else { &self.shared.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Err(payload) = result {
            // The payload's destructor may panic, and that panic would not be caught.
            std::mem::forget(payload);
        }
    }
}

/// A value of a field as the logger receives it.
enum FieldText<'a> {
    Number(u64),
    Text(Cow<'a, str>),
}

impl<'a> FieldText<'a> {
    fn of(value: FieldValue<'a>) -> FieldText<'a> {
        match value {
            FieldValue::Number(number) => FieldText::Number(number),
            FieldValue::Peer(peer) => FieldText::Text(peer.to_string().into()),
            FieldValue::Text(text) => FieldText::Text(match redacted(text) {
                Cow::Borrowed(text) => shortened(text, TEXT_BYTES_MAX),
                Cow::Owned(text) => shortened(&text, TEXT_BYTES_MAX).into_owned().into(),
            }),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            FieldText::Number(number) => Value::from(*number),
            FieldText::Text(text) => Value::from(&**text),
        }
    }
}
