//! A log with one line for each call.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::log_line::{LogEntry, put_line};
use super::{EndedCall, Hooks, Interceptor};
use crate::log_events::log_event;
use crate::service::Method;
use crate::threads::{QueueEntries, QueueThread, ThreadQueue};

pub use super::log_line::{LogField, LogFormat};

/// The default of [`AccessLog::queue_max`].
const QUEUE_MAX: usize = 8192;
/// Lines are written together up to this size.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the end of the server waits for a sink that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes a line for each call, when it has ended, to a file or any other sink.
///
/// A reactor copies what is known of the call into a bounded queue, and never waits; a thread writes the lines. What
/// does not fit into the queue, because the sink takes too little, is dropped and counted. No metadata are written.
///
/// ```
/// use std::fs::File;
/// use std::sync::Arc;
///
/// use coreloop::interceptor::{AccessLog, LogField, LogFormat};
/// use coreloop::{Context, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("access.log");
/// let log = Arc::new(
///     AccessLog::new(File::create(&path)?)
///         .format(LogFormat::Json)
///         .fields(&[LogField::Time, LogField::Method, LogField::Principal, LogField::Code]),
/// );
/// let server = Server::builder()
///     .interceptor(log.clone())
///     .method("Shop.Open", |_cx: &Context<'_>, (): ()| Ok(true))
///     .in_memory()
///     .start()?;
/// server.shutdown();
/// assert_eq!(log.counts().dropped, 0);
/// # Ok(())
/// # }
/// ```
pub struct AccessLog {
    format: LogFormat,
    fields: Vec<LogField>,
    queue: ThreadQueue<LogEntry>,
    writer: Mutex<LogWriter>,
    counts: Arc<LogCounters>,
}

/// The counts of an [`AccessLog`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessLogCounts {
    /// Lines that the sink has taken.
    pub written: u64,
    /// Calls without a line: the queue was full, or the sink failed.
    pub dropped: u64,
}

#[derive(Default)]
struct LogCounters {
    written: AtomicU64,
    dropped: AtomicU64,
}

/// The thread that writes the lines.
struct LogWriter {
    /// What it needs, until it is started.
    parts: Option<(QueueThread<LogEntry>, Box<dyn Write + Send>)>,
    /// The server's registrations of the log that were started and not finished.
    users: u32,
}

impl AccessLog {
    /// Creates a log of text with all fields except [`LogField::Id`], [`LogField::Place`] and [`LogField::OneWay`].
    /// Lines are written in large parts: the sink needs no buffer of its own.
    pub fn new(sink: impl Write + Send + 'static) -> AccessLog {
        let (queue, thread) = ThreadQueue::new(QUEUE_MAX);
        AccessLog {
            format: LogFormat::default(),
            fields: LogField::USUAL.to_vec(),
            queue,
            writer: Mutex::new(LogWriter { parts: Some((thread, Box::new(sink))), users: 0 }),
            counts: Arc::default(),
        }
    }

    /// Sets the format of the lines.
    pub fn format(mut self, format: LogFormat) -> AccessLog {
        self.format = format;
        self
    }

    /// Sets the fields of the lines, and their order.
    pub fn fields(mut self, fields: &[LogField]) -> AccessLog {
        self.fields = fields.to_vec();
        self
    }

    /// Sets the most calls that wait to be written; at least one. Default: 8,192, of about 200 bytes each.
    pub fn queue_max(mut self, calls: usize) -> AccessLog {
        let (queue, thread) = ThreadQueue::new(calls);
        self.queue = queue;
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        writer.parts = writer.parts.take().map(|(_, sink)| (thread, sink));
        self
    }

    /// Returns the current counts.
    pub fn counts(&self) -> AccessLogCounts {
        let LogCounters { written, dropped } = &*self.counts;
        AccessLogCounts { written: written.load(Ordering::Relaxed), dropped: dropped.load(Ordering::Relaxed) }
    }

    fn writer(&self) -> MutexGuard<'_, LogWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interceptor for AccessLog {
    fn hooks(&self) -> Hooks {
        Hooks::ON_END
    }

    fn start(&self, methods: &[Method]) -> io::Result<()> {
        let mut writer = self.writer();
        writer.users += 1;
        if writer.users > 1 {
            return Ok(());
        }
        let Some((thread, sink)) = writer.parts.take() else {
            return Err(io::Error::other("an access log is used by one server, once"));
        };
        let methods = methods.iter().map(|method| method.name().to_owned()).collect();
        let lines = LogLines {
            methods,
            format: self.format,
            fields: self.fields.clone(),
            buffer: Vec::new(),
            lines: 0,
            sink,
            counts: self.counts.clone(),
        };
        thread.start("coreloop-access-log", move |entries| lines.run(entries))
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        let entry = LogEntry {
            at: SystemTime::now(),
            peer: end.peer,
            protocol: end.protocol,
            id: end.id,
            method: end.method,
            principal: end.extensions.shared_principal().cloned(),
            one_way: end.one_way,
            code: end.code,
            place: end.place,
            queue_us: end.queue_us,
            handler_us: end.handler_us,
            request_bytes: end.request_bytes,
            reply_bytes: end.reply_bytes,
        };
        if !self.queue.try_send(entry) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the queued lines are written, but no longer than two seconds for a sink that takes nothing.
    fn finish(&self) {
        let is_last = {
            let mut writer = self.writer();
            writer.users = writer.users.saturating_sub(1);
            writer.users == 0 && writer.parts.is_none()
        };
        if is_last {
            self.queue.end(PATIENCE);
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .field("fields", &self.fields)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// The state of the thread that writes.
struct LogLines {
    methods: Vec<String>,
    format: LogFormat,
    fields: Vec<LogField>,
    /// Whole lines, and their number.
    buffer: Vec<u8>,
    lines: u64,
    sink: Box<dyn Write + Send>,
    counts: Arc<LogCounters>,
}

impl LogLines {
    fn run(mut self, entries: &QueueEntries<LogEntry>) {
        loop {
            if entries.is_empty() || self.buffer.len() >= BUFFER_BYTES {
                self.flush();
            }
            let Ok(Some(entry)) = entries.recv() else { return self.flush() };
            let method = entry.method.and_then(|index| self.methods.get(index as usize));
            put_line(&mut self.buffer, self.format, &self.fields, &entry, method.map(String::as_str));
            self.lines += 1;
        }
    }

    /// Writes the lines. A sink that fails has perhaps taken some of them; they count as dropped.
    fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let result = self.sink.write_all(&self.buffer).and_then(|()| self.sink.flush());
        let counter = if result.is_ok() { &self.counts.written } else { &self.counts.dropped };
        counter.fetch_add(lines, Ordering::Relaxed);
        if let Err(error) = result {
            log_event!(AccessLogFailed { lines, error: error.to_string() });
        }
        self.buffer.clear();
    }
}
