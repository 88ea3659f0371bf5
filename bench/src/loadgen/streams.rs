//! Load of streams (`--streams`): calls whose argument or result is a sequence of messages, over native connections.
//!
//! A message counts as a call does elsewhere. What confirms it, and what its latency is, depends on the shape of the
//! method, see [`Shape`]. `session` has the protocol of one connection, `connection` its socket, `worker` the thread, `counts`
//! what is reported beside the messages.

mod connection;
pub mod counts;
mod frames;
pub mod options;
mod session;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use self::worker::Worker;
use super::headers;
use super::load;
use super::mix::{Call, Content};
use super::run::{self, Live, Measured, Plan};
use crate::frame::{self, Header};
use crate::request::codec_number;

/// Which sides of a method are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `T -> stream U`: a message's time is that since the message before it, or since its stream was opened.
    #[value(name = "server")]
    ServerStreaming,
    /// `stream T -> U`: an ok reply confirms the messages of its stream.
    #[value(name = "client")]
    ClientStreaming,
    /// `stream T -> stream U`: a message is confirmed by the first message from the server that confirms no earlier one.
    #[value(name = "bidirectional")]
    Bidirectional,
}

impl Shape {
    /// Reads a signature as `Meta.Methods` lists it, such as `stream T -> stream U`; `None` if neither side streams.
    pub fn of(signature: &str) -> Option<Shape> {
        match (signature.starts_with("stream "), signature.contains(" -> stream ")) {
            (false, false) => None,
            (false, true) => Some(Shape::ServerStreaming),
            (true, false) => Some(Shape::ClientStreaming),
            (true, true) => Some(Shape::Bidirectional),
        }
    }

    /// Returns whether the caller sends messages.
    pub fn argument_streams(self) -> bool {
        self != Shape::ServerStreaming
    }

    /// Returns whether the server sends messages.
    pub fn result_streams(self) -> bool {
        self != Shape::ClientStreaming
    }

    /// Returns the shape in words.
    pub fn name(self) -> &'static str {
        match self {
            Shape::ServerStreaming => "server streaming",
            Shape::ClientStreaming => "client streaming",
            Shape::Bidirectional => "bidirectional",
        }
    }
}

/// The settings of the streams of a run.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Which sides stream.
    pub shape: Shape,
    /// Streams on each connection.
    pub streams_each: u32,
    /// Messages that a stream sends before it ends; 0: as many as the run has time for.
    pub messages: u64,
    /// Messages in flight on each stream: in a closed loop always this many, in an open one at most.
    pub depth: u32,
    /// Whether a stream sends `depth` messages before it takes one.
    pub read_after_send: bool,
}

/// A streaming call, encoded once: each stream changes only the ids.
#[derive(Clone, Debug)]
pub struct StreamCall {
    settings: StreamSettings,
    codec: u8,
    /// The request's frame.
    request: Vec<u8>,
    /// The data frame of a message; empty where the argument is no stream.
    message: Vec<u8>,
}

impl std::ops::Deref for StreamCall {
    type Target = StreamSettings;

    fn deref(&self) -> &StreamSettings {
        &self.settings
    }
}

impl StreamCall {
    /// Encodes the streams of `call`: its body is the argument or, where that streams, each message.
    pub fn new(
        call: &Call,
        entries: &[headers::Entry],
        settings: StreamSettings,
    ) -> Result<StreamCall, String> {
        let Content::Frame(content) = &call.content else { return Err("streams need native frames".into()) };
        let codec = codec_number(&call.codec).ok_or(format!("unknown codec {}", call.codec))?;
        let metadata = headers::metadata_bytes(entries);
        let (argument, message): (&[u8], Vec<u8>) = match settings.shape.argument_streams() {
            false => (content.body(), Vec::new()),
            true => {
                let body = content.body();
                let header = Header {
                    kind: frame::DATA,
                    codec,
                    metadata_bytes: 0,
                    call: 0,
                    word: 0,
                    body_bytes: body.len() as u32,
                };
                (&[], [&header.to_bytes(), body].concat())
            }
        };
        let header = Header {
            kind: frame::REQUEST,
            codec,
            metadata_bytes: metadata.len() as u16,
            call: 0,
            word: frame::method_hash(&call.method),
            body_bytes: argument.len() as u32,
        };
        let mut request = [&header.to_bytes(), &metadata[..], argument].concat();
        if settings.shape.argument_streams() {
            request[5] = frame::ARGUMENT_STREAMS;
        }
        Ok(StreamCall { settings, codec, request, message })
    }
}

/// Runs the plan with these streams, and reports its progress.
pub fn measure(
    plan: &Plan,
    call: &Arc<StreamCall>,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Live),
) -> Result<Measured, String> {
    run::measure_with(plan, stop, progress, |threads, number, stop| {
        let job = run::job(plan, call, threads, number, stop);
        move |tell: &_, timeline: &_| load::run::<Worker>(job, tell, timeline)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_have_shapes() {
        assert_eq!(Shape::of("i64 -> i64"), None);
        assert_eq!(Shape::of("i64 -> stream User"), Some(Shape::ServerStreaming));
        assert_eq!(Shape::of("stream User -> i64"), Some(Shape::ClientStreaming));
        assert_eq!(Shape::of("stream string -> stream string"), Some(Shape::Bidirectional));
    }
}
