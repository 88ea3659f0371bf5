//! The options of streams, checked and turned into settings.

use super::frames::STREAMS_MAX;
use super::{Shape, StreamSettings};

/// How many streams, and how each sends its messages.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StreamOptions {
    /// Call a method with streams, this many at a time, spread over the connections (by default 1). Native only.
    ///
    /// The body (--body and the others) is each message or, where only the result streams, the argument. A message
    /// counts as a call: --depth, --rate and --slo are per message. Where both sides stream, a message's latency is the
    /// time until its echo; where the argument does, until the ok reply to its stream; where the result does, the time
    /// between messages.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        conflicts_with_all = ["mix", "timeout"],
        help_heading = "Streams"
    )]
    pub streams: Option<u32>,
    /// Messages that each stream sends before it ends and another one begins.
    ///
    /// Default: 1000 where only the argument streams; otherwise a stream lasts until the run ends.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000),
        requires = "streams",
        help_heading = "Streams"
    )]
    pub messages: Option<u64>,
    /// Take no message on a stream before it has sent --depth messages. Both sides must stream.
    ///
    /// This is the test for a deadlock: a server that stops reading while its messages are not taken stands still once
    /// the windows are full. Then the exit status is 4, after --drain.
    #[arg(long, requires = "streams", conflicts_with = "rate", help_heading = "Streams")]
    pub read_after_send: bool,
    /// Which sides of the method stream, for a server that does not list its methods (Meta.Methods).
    #[arg(long, value_enum, requires = "streams", help_heading = "Streams")]
    pub shape: Option<Shape>,
}

/// Messages of each stream where an ok reply confirms them.
const MESSAGES_UNTIL_REPLY: u64 = 1000;

impl StreamOptions {
    /// Returns the settings of `streams` streams of this shape.
    pub fn settings(
        &self,
        shape: Shape,
        streams: u32,
        connections: u32,
        depth: u32,
        is_open_loop: bool,
    ) -> Result<StreamSettings, String> {
        if !streams.is_multiple_of(connections) {
            return Err(format!("--streams {streams}: not a multiple of the {connections} connections"));
        }
        let streams_each = streams / connections;
        if streams_each > STREAMS_MAX {
            return Err(format!("--streams {streams}: at most {STREAMS_MAX} on each connection"));
        }
        if self.read_after_send && shape != Shape::Bidirectional {
            return Err(format!(
                "--read-after-send: both sides must stream, and the method is {}",
                shape.name()
            ));
        }
        if is_open_loop && shape == Shape::ServerStreaming {
            return Err("--rate: the server sends the messages of a server-streaming method".into());
        }
        if self.messages.is_some() && shape == Shape::ServerStreaming {
            return Err(
                "--messages: the server decides how many messages a server-streaming method has".into()
            );
        }
        let messages = match shape {
            Shape::ClientStreaming => self.messages.unwrap_or(MESSAGES_UNTIL_REPLY),
            Shape::Bidirectional | Shape::ServerStreaming => self.messages.unwrap_or(0),
        };
        Ok(StreamSettings { shape, streams_each, messages, depth, read_after_send: self.read_after_send })
    }
}
