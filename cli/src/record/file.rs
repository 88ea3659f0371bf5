//! The file of a recording: a header, a line of JSON for each request, and a final line with the counts. Whenever the
//! process ends, the file is valid up to its last line.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coreloop::codec::{Codec, Description, compress};
use coreloop::server::ProtocolId;
use coreloop::service::Method;
use crossbeam_channel::Receiver;
use serde_json::json;

use super::redact::Redactor;
use super::{RecordShared, Recording, SampledRequest};

/// The version of the file format, in the header.
pub(super) const VERSION: u32 = 1;

/// The number of bytes of lines that are written together.
const BUFFER_BYTES: usize = 64 << 10;

/// The largest decompressed body, in bytes; a larger one is recorded without its bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What the file needs to know of a method.
pub(super) struct RecordedMethod {
    name: String,
    argument: Description,
}

impl RecordedMethod {
    pub(super) fn of(method: &Method) -> RecordedMethod {
        RecordedMethod { name: method.name().to_owned(), argument: method.argument().clone() }
    }
}

#[derive(Default)]
struct BufferedCounts {
    recorded: u64,
    left_out: u64,
}

/// The writer of the file.
pub(super) struct RecordWriter {
    file: File,
    /// Whole lines that are not in the file yet.
    buffer: Vec<u8>,
    /// The number of requests in the buffer, and how many of them are recorded without their body.
    buffered: BufferedCounts,
    /// The bytes in the file, all of whole lines.
    written: u64,
    /// By the index of the method.
    methods: Vec<RecordedMethod>,
    shared: Arc<RecordShared>,
    blanker: Redactor,
    bytes_max: u64,
    began: Instant,
    /// The connections by reactor and key, numbered in order of appearance. A line is longer than an entry, so the
    /// bound of the file also bounds this table.
    connections: HashMap<(usize, u64), u64>,
}

impl RecordWriter {
    /// Creates the file, readable by its owner only, and writes the header.
    pub(super) fn create(
        recording: &Recording,
        methods: Vec<RecordedMethod>,
        shared: Arc<RecordShared>,
    ) -> io::Result<RecordWriter> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options.open(&recording.file)?;
        let unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let head = json!({
            "coreloop_record": VERSION,
            "version": env!("CARGO_PKG_VERSION"),
            "began_unix_ms": unix_ms,
            "sample": recording.sample,
            "bytes_max": recording.bytes_max,
            "blank": recording.blank,
        });
        let mut writer = RecordWriter {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            buffered: BufferedCounts::default(),
            written: 0,
            methods,
            shared,
            blanker: Redactor::new(&recording.blank),
            bytes_max: recording.bytes_max,
            began: Instant::now(),
            connections: HashMap::new(),
        };
        writer.put(&format!("{head}\n"));
        if let Err(error) = writer.flush() {
            // The file is empty.
            let _ = std::fs::remove_file(&recording.file);
            return Err(error);
        }
        Ok(writer)
    }

    /// Writes requests until the end is signalled. Whenever the queue is empty, buffered lines are flushed. A failed
    /// write ends the recording, and the reason is passed to `failed`.
    pub(super) fn run(mut self, queued: &Receiver<Option<SampledRequest>>, failed: impl FnOnce(&io::Error)) {
        let outcome = self.write_all(queued).and_then(|()| self.end());
        if let Err(error) = outcome {
            failed(&error);
            // Requests that are still queued must be taken: no other thread does.
            while let Ok(Some(sampled)) = queued.recv() {
                self.shared.queued_bytes.fetch_sub(sampled.body.len(), Ordering::Relaxed);
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn write_all(&mut self, queued: &Receiver<Option<SampledRequest>>) -> io::Result<()> {
        loop {
            if queued.is_empty() || self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
            let Ok(Some(sampled)) = queued.recv() else { return Ok(()) };
            self.shared.queued_bytes.fetch_sub(sampled.body.len(), Ordering::Relaxed);
            self.write(sampled);
        }
    }

    fn write(&mut self, mut sampled: SampledRequest) {
        let next = self.connections.len() as u64;
        let connection = *self.connections.entry((sampled.reactor, sampled.connection)).or_insert(next);
        let body = std::mem::take(&mut sampled.body);
        let codec = Codec::from_number(sampled.codec);
        let body = self.body_of(&sampled, codec, body);
        let at = sampled.at.saturating_duration_since(self.began);
        let mut line = json!({
            "at_us": at.as_micros() as u64,
            "method": self.methods[sampled.method as usize].name,
            "protocol": sampled.protocol.map(ProtocolId::name),
            "codec": codec.map(Codec::name),
            "connection": connection,
            "time_left_us": sampled.time_left_us,
            "one_way": sampled.one_way,
        });
        match &body {
            Ok(bytes) => line["body"] = STANDARD.encode(bytes).into(),
            Err(why) => line["left_out"] = (*why).into(),
        }
        let line = format!("{line}\n");
        let bytes = self.written + self.buffer.len() as u64;
        if bytes.saturating_add(line.len() as u64) > self.bytes_max {
            self.shared.is_over.store(true, Ordering::Relaxed);
            self.shared.beyond.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.put(&line);
        self.buffered.recorded += 1;
        self.buffered.left_out += u64::from(body.is_err());
    }

    /// Returns the body as it is recorded, or why it is not.
    fn body_of(
        &mut self,
        sampled: &SampledRequest,
        codec: Option<Codec>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, &'static str> {
        let body = if sampled.compressed {
            let mut plain = Vec::new();
            compress::decompress(&body, BODY_BYTES_MAX, &mut plain).map_err(|_| "undecodable")?;
            plain
        } else {
            body
        };
        let codec = codec.ok_or("opaque")?;
        let argument = &self.methods[sampled.method as usize].argument;
        self.blanker.blanked(codec, sampled.method, argument, body).map_err(|why| why.name())
    }

    /// Writes the final line; it is short, and may exceed the bound.
    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        let counts = self.shared.counts();
        let end = json!({"end": {
            "recorded": counts.recorded,
            "dropped": counts.dropped,
            "beyond": counts.beyond,
            "left_out": counts.left_out,
        }});
        self.put(&format!("{end}\n"));
        self.flush()
    }

    fn put(&mut self, line: &str) {
        self.buffer.extend_from_slice(line.as_bytes());
    }

    /// Writes the buffered lines to the file, and counts them once they are in it.
    fn flush(&mut self) -> io::Result<()> {
        let counts = std::mem::take(&mut self.buffered);
        if let Err(error) = self.file.write_all(&self.buffer) {
            // A part of the lines may be in the file: truncate it after the last line that is counted.
            let _ = self.file.set_len(self.written);
            self.shared.dropped.fetch_add(counts.recorded, Ordering::Relaxed);
            return Err(error);
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.shared.bytes.store(self.written, Ordering::Relaxed);
        self.shared.recorded.fetch_add(counts.recorded, Ordering::Relaxed);
        self.shared.left_out.fetch_add(counts.left_out, Ordering::Relaxed);
        Ok(())
    }
}
