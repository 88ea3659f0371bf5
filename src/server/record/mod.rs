//! Recording: a sample of the requests, with their times, in a file from which they can be sent again.
//!
//! A reactor copies sampled requests into a bounded queue (`sampler.rs`) and never waits: requests that do not fit
//! are counted and dropped. A separate thread removes secrets (`redact`) and writes the lines (`file.rs`). See
//! docs/load-testing.md.

mod file;
mod redact;
mod sampler;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use coreloop_poller::os;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::service::Registry;
use crate::stats::RecordSnapshot;
use crate::wire::ProtocolId;

use sampler::RequestSampler;

/// The most requests that wait for the writer; further ones are dropped.
const QUEUED_MAX: usize = 4096;
/// The most bytes of their bodies.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// The configuration of a recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file. It must not exist yet; it is created so that only its owner may read it.
    pub file: PathBuf,
    /// One of this many requests is recorded, chosen at random; 1 is every request. Default: 100.
    pub sample: u32,
    /// The largest size of the file, in bytes; after that nothing more is recorded. Default: 64 MiB.
    pub bytes_max: u64,
    /// Fields whose values must not be in the record. If there are any, a body that cannot be inspected (raw bytes,
    /// or one that does not decode) is recorded without its bytes. Metadata are never recorded.
    pub blank: Vec<String>,
    /// The largest decompressed body, in bytes; a larger one is recorded without its bytes. Default: 16 MiB.
    pub body_bytes_max: usize,
    /// Called once, on the thread that writes the file, when a write fails (the disk is full, the file size limit is
    /// reached): the recording ends then, and the server continues. Default: nothing is called; the reason is in
    /// [`RecordSnapshot::trouble`].
    pub on_failure: Option<fn(&RecordSnapshot)>,
}

impl Recording {
    /// Creates a recording of one request in a hundred, up to 64 MiB, with nothing blanked.
    pub fn to(file: impl Into<PathBuf>) -> Recording {
        Recording {
            file: file.into(),
            sample: 100,
            bytes_max: 64 << 20,
            blank: Vec::new(),
            body_bytes_max: 16 << 20,
            on_failure: None,
        }
    }
}

/// Why a recording could not begin.
pub struct RecordError {
    /// The file to be created.
    pub file: PathBuf,
    /// The system's error.
    pub error: io::Error,
}

crate::error_text::debug_as_text!(RecordError);

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.error.kind() {
            io::ErrorKind::AlreadyExists => {
                write!(f, "cannot record into {file}: the file exists; choose another name or remove it")
            }
            _ => write!(f, "cannot record into {file}: {}", self.error),
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// A request on its way from a reactor to the file.
struct SampledRequest {
    at: Instant,
    reactor: usize,
    /// The connection's key, as one number: unique on its reactor.
    connection: u64,
    protocol: Option<ProtocolId>,
    /// Its index in the registry.
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

    fn snapshot(&self) -> RecordSnapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RecordSnapshot {
            recorded: count(&self.recorded),
            bytes: count(&self.bytes),
            dropped: count(&self.dropped),
            beyond: count(&self.beyond),
            left_out: count(&self.left_out),
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// A recording in progress.
pub(super) struct Recorder {
    shared: Arc<RecordShared>,
    /// Requests for the writer; `None` ends the recording, even if other senders still exist.
    queue: Sender<Option<SampledRequest>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Creates the file, writes its header, and starts the thread that writes the rest.
    pub(super) fn start(recording: Recording, registry: Arc<Registry>) -> Result<Recorder, RecordError> {
        let named = |error| RecordError { file: recording.file.clone(), error };
        let shared = Arc::new(RecordShared {
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
        });
        let (queue, queued): (_, Receiver<Option<SampledRequest>>) = bounded(QUEUED_MAX);
        let (made, outcome) = bounded(1);
        let of_thread = (recording.clone(), shared.clone());
        let body = move || {
            let (recording, shared) = of_thread;
            // All writes happen on this thread, for which a file that is too large is an error, not a signal.
            let file = os::refuse_file_size_signal()
                .and_then(|()| file::RecordWriter::create(&recording, registry, shared.clone()));
            let file = match file {
                Ok(file) => file,
                Err(error) => return drop(made.send(Err(error))),
            };
            let _ = made.send(Ok(()));
            file.run(&queued, |error| {
                shared.end_with(format!(
                    "recording stopped: cannot write to {}: {error}",
                    recording.file.display()
                ));
                if let Some(on_failure) = recording.on_failure {
                    on_failure(&shared.snapshot());
                }
            });
        };
        let thread = std::thread::Builder::new().name("coreloop-record".into());
        let writer = thread.spawn(body).map_err(named)?;
        let ended = || io::Error::other("its thread ended");
        outcome.recv().map_err(|_| named(ended()))?.map_err(named)?;
        Ok(Recorder { shared, queue, writer: Mutex::new(Some(writer)) })
    }

    /// Creates the sampler of a reactor.
    pub(super) fn tap(&self, reactor: usize) -> RequestSampler {
        RequestSampler::new(self.shared.clone(), self.queue.clone(), reactor)
    }

    /// Returns the current counts.
    pub(super) fn snapshot(&self) -> RecordSnapshot {
        self.shared.snapshot()
    }

    /// Waits until all sampled requests are written: at most as many as the queue holds. Reactors have ended, or
    /// sample without effect.
    pub(super) fn finish(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // The writer takes from the queue until it receives this, so there will be room.
            let _ = self.queue.send(None);
            let _ = writer.join();
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
