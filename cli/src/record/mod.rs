//! Recording: a sample of the requests, with their times, in a file from which they can be sent again.
//!
//! [`Recorder`] is an interceptor of the server and uses the library's public interface only. A reactor copies sampled
//! requests into a bounded queue (`sampler.rs`) and never waits: requests that do not fit are counted and dropped. A
//! separate thread removes secrets (`redact`) and writes the lines (`file.rs`). See docs/load-testing.md.

mod file;
mod redact;
mod sampler;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use coreloop::interceptor::{AdmittedCall, Hooks, Interceptor};
use coreloop::server::ProtocolId;
use coreloop::service::Method;
use crossbeam_channel::{Receiver, bounded};

use self::file::{RecordWriter, RecordedMethod};
use self::sampler::{RecordQueue, RequestSampler};

/// The most requests that wait for the writer; further ones are dropped.
const QUEUED_MAX: usize = 4096;
/// The most bytes of their bodies.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// The number of samplers, which reactors share if there are more of them.
const SAMPLERS: usize = 16;

/// The configuration of a recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file. It must not exist yet; it is created so that only its owner may read it.
    pub file: PathBuf,
    /// One of this many requests is recorded, chosen at random; 1 is every request.
    pub sample: u32,
    /// The largest size of the file, in bytes; after that nothing more is recorded.
    pub bytes_max: u64,
    /// Fields whose values must not be in the record. If there are any, a body that cannot be inspected (raw bytes,
    /// or one that does not decode) is recorded without its bytes. Metadata are never recorded.
    pub blank: Vec<String>,
    /// Called once, on the thread that writes the file, when a write fails (the disk is full, the file size limit is
    /// reached): the recording ends then, and the server continues.
    pub on_failure: fn(&RecordCounts),
}

/// The counts of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Requests in the file.
    pub recorded: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Selected requests that are not in the file because the writer did not keep up or failed.
    pub dropped: u64,
    /// Selected requests that are not in the file because it had reached its maximum size.
    pub beyond: u64,
    /// Requests in the file without their body.
    pub left_out: u64,
    /// Why writing failed, with the file's name.
    pub trouble: Option<String>,
}

/// A request on its way from a reactor to the file.
struct SampledRequest {
    at: Instant,
    reactor: usize,
    /// The connection's key, as one number: unique on its reactor.
    connection: u64,
    protocol: Option<ProtocolId>,
    /// The index of its method.
    method: u32,
    codec: u8,
    compressed: bool,
    one_way: bool,
    time_left_us: u32,
    body: Vec<u8>,
}

/// The state that reactors and the writer share.
struct RecordShared {
    sample: u32,
    queued_bytes: AtomicUsize,
    /// The file has reached its size limit or could not be written: nothing more is sampled.
    is_over: AtomicBool,
    /// The file could not be written.
    has_failed: AtomicBool,
    recorded: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    beyond: AtomicU64,
    left_out: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl RecordShared {
    fn end_with(&self, trouble: String) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.is_over.store(true, Ordering::Relaxed);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
    }

    fn counts(&self) -> RecordCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RecordCounts {
            recorded: count(&self.recorded),
            bytes: count(&self.bytes),
            dropped: count(&self.dropped),
            beyond: count(&self.beyond),
            left_out: count(&self.left_out),
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// A recording, as an interceptor of the server.
pub struct Recorder {
    recording: Recording,
    shared: Arc<RecordShared>,
    queue: RecordQueue,
    writer: Mutex<WriterState>,
    samplers: [RequestSampler; SAMPLERS],
}

/// The thread that writes the file.
enum WriterState {
    /// It has not been started; it will take this end of the queue.
    NotStarted(Receiver<Option<SampledRequest>>),
    Running(JoinHandle<()>),
    Ended,
}

impl Recorder {
    /// Creates a recording, which begins when the server starts.
    pub fn new(recording: Recording) -> Recorder {
        let shared = RecordShared {
            sample: recording.sample.max(1),
            queued_bytes: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            trouble: Mutex::new(None),
        };
        let (queue, queued) = bounded(QUEUED_MAX);
        let writer = Mutex::new(WriterState::NotStarted(queued));
        let shared = Arc::new(shared);
        let queue = RecordQueue { shared: shared.clone(), queue };
        let samplers = std::array::from_fn(|index| RequestSampler::new(index, shared.sample));
        Recorder { recording, shared, queue, writer, samplers }
    }

    /// Returns the current counts.
    pub fn counts(&self) -> RecordCounts {
        self.shared.counts()
    }

    /// Returns a line about what is in the file.
    pub fn line(&self) -> String {
        let RecordCounts { recorded, bytes, dropped, beyond, left_out, trouble } = self.counts();
        let line = format!(
            "recorded {recorded} requests in {bytes} bytes to {}: {left_out} without their body, {dropped} dropped, \
             {beyond} beyond the size",
            self.recording.file.display()
        );
        match trouble {
            Some(trouble) => format!("{line}; {trouble}"),
            None => line,
        }
    }

    /// Creates the file, writes its header, and starts the thread that writes the rest. All writes happen on one
    /// thread.
    fn begin(&self, methods: Vec<RecordedMethod>) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = match std::mem::replace(&mut *writer, WriterState::Ended) {
            WriterState::NotStarted(queued) => queued,
            other => {
                *writer = other;
                return Err(io::Error::other("the recording has begun already"));
            }
        };
        let file = RecordWriter::create(&self.recording, methods, self.shared.clone())?;
        let (shared, recording) = (self.shared.clone(), self.recording.clone());
        let body = move || {
            file.run(&queued, |error| {
                shared.end_with(format!(
                    "recording stopped: cannot write to {}: {error}",
                    recording.file.display()
                ));
                (recording.on_failure)(&shared.counts());
            });
        };
        *writer =
            WriterState::Running(std::thread::Builder::new().name("coreloop-record".into()).spawn(body)?);
        Ok(())
    }

    /// Returns the error of a recording that cannot begin, with the file's name.
    fn named(&self, error: &io::Error) -> io::Error {
        let file = self.recording.file.display();
        let text = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("cannot record into {file}: the file exists; choose another name or remove it")
            }
            _ => format!("cannot record into {file}: {error}"),
        };
        io::Error::new(error.kind(), text)
    }
}

impl Interceptor for Recorder {
    fn hooks(&self) -> Hooks {
        Hooks::ON_ADMITTED
    }

    fn start(&self, methods: &[Method]) -> io::Result<()> {
        let methods = methods.iter().map(RecordedMethod::of).collect();
        self.begin(methods).map_err(|error| self.named(&error))
    }

    fn on_admitted(&self, call: &AdmittedCall<'_>) {
        // A recorded request is replayed from its body alone, by a client of methods: only the name of a route has a space.
        let is_replayed = !call.argument_follows && !call.method_name.contains(' ');
        if is_replayed && self.samplers[call.reactor % SAMPLERS].wants(self.shared.sample) {
            self.queue.take(call);
        }
    }

    /// Waits until all sampled requests are written: at most as many as the queue holds. Reactors have ended, or
    /// sample without effect.
    fn finish(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let WriterState::Running(thread) = std::mem::replace(&mut *writer, WriterState::Ended) {
            // The writer takes from the queue until it receives this, so there will be room.
            let _ = self.queue.queue.send(None);
            let _ = thread.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
