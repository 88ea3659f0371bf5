//! The file of a recording: a head, a line of JSON for each request, an end with the counts. It is whole up to its last
//! line whenever the process ends.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::Receiver;
use serde_json::json;

use super::blank::Blanker;
use super::{Recording, Sampled, Shared};
use crate::codec::{Codec, compress};
use crate::service::Registry;
use crate::wire::Protocol;

/// The version of the file, in its head.
pub(super) const VERSION: u32 = 1;

/// What writes it.
pub(super) struct Writer {
    file: BufWriter<File>,
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    blanker: Blanker,
    bytes_max: u64,
    body_bytes_max: usize,
    began: Instant,
    /// Connections by reactor and key, numbered as they come. A line is longer than an entry, so the file's bound is this
    /// table's too.
    connections: HashMap<(usize, u64), u64>,
}

impl Writer {
    /// Makes the file, for its owner alone, and writes the head.
    pub(super) fn create(
        recording: &Recording,
        registry: Arc<Registry>,
        shared: Arc<Shared>,
    ) -> io::Result<Writer> {
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
        let mut writer = Writer {
            file: BufWriter::with_capacity(64 << 10, file),
            registry,
            shared,
            blanker: Blanker::new(&recording.blank),
            bytes_max: recording.bytes_max,
            body_bytes_max: recording.body_bytes_max,
            began: Instant::now(),
            connections: HashMap::new(),
        };
        writer.put(&format!("{head}\n"))?;
        writer.file.flush()?;
        Ok(writer)
    }

    /// Writes what comes until it is told to end. Whenever nothing waits, what was written is given to the system.
    pub(super) fn run(mut self, queued: &Receiver<Option<Sampled>>) {
        let outcome = self.write_all(queued).and_then(|()| self.end());
        if let Err(error) = outcome {
            self.shared.end_with(format!("writing the record failed: {error}"));
            // Nobody else takes what is still put here.
            while let Ok(Some(sampled)) = queued.recv() {
                self.shared.queued_bytes.fetch_sub(sampled.body.len(), Ordering::Relaxed);
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn write_all(&mut self, queued: &Receiver<Option<Sampled>>) -> io::Result<()> {
        loop {
            if queued.is_empty() {
                self.file.flush()?;
            }
            let Ok(Some(sampled)) = queued.recv() else { return Ok(()) };
            self.shared.queued_bytes.fetch_sub(sampled.body.len(), Ordering::Relaxed);
            self.write(sampled)?;
        }
    }

    fn write(&mut self, mut sampled: Sampled) -> io::Result<()> {
        let next = self.connections.len() as u64;
        let connection = *self.connections.entry((sampled.reactor, sampled.connection)).or_insert(next);
        let body = std::mem::take(&mut sampled.body);
        let codec = Codec::from_number(sampled.codec);
        let body = self.body_of(&sampled, codec, body);
        let at = sampled.at.saturating_duration_since(self.began);
        let mut line = json!({
            "at_us": at.as_micros() as u64,
            "method": self.registry.method(sampled.method).name(),
            "protocol": sampled.protocol.map(Protocol::name),
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
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        if bytes.saturating_add(line.len() as u64) > self.bytes_max {
            self.shared.is_over.store(true, Ordering::Relaxed);
            self.shared.beyond.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.put(&line)?;
        self.shared.recorded.fetch_add(1, Ordering::Relaxed);
        self.shared.left_out.fetch_add(u64::from(body.is_err()), Ordering::Relaxed);
        Ok(())
    }

    /// The body as it is recorded, or why it is not.
    fn body_of(
        &mut self,
        sampled: &Sampled,
        codec: Option<Codec>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, &'static str> {
        let body = if sampled.compressed {
            let mut plain = Vec::new();
            compress::decompress(&body, self.body_bytes_max, &mut plain).map_err(|_| "undecodable")?;
            plain
        } else {
            body
        };
        let codec = codec.ok_or("opaque")?;
        let argument = self.registry.method(sampled.method).argument();
        self.blanker.blanked(codec, sampled.method, argument, body).map_err(|why| why.name())
    }

    /// The last line; it is short, and goes over the bound if need be.
    fn end(&mut self) -> io::Result<()> {
        let counts = self.shared.snapshot();
        let end = json!({"end": {
            "recorded": counts.recorded,
            "dropped": counts.dropped,
            "beyond": counts.beyond,
            "left_out": counts.left_out,
        }});
        self.put(&format!("{end}\n"))?;
        self.file.flush()
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.shared.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
