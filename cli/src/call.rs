//! `coreloop call`: one call, its reply on standard output, its times on standard error. Of a method with streams, each
//! message is a line.
//!
//! If the codec is JSON, the argument's text is sent as written: it is checked, so that a mistake is reported before
//! anything is sent, but not rewritten, so that a number with many digits arrives unchanged. For gob it is converted
//! from the text, and the reply is shown as JSON. Protocols and codecs are in `line.rs`.

mod streaming;

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use coreloop::client::Scheme;
use coreloop::client::Times;
use coreloop::codec::Codec;
use serde::de::IgnoredAny;

use crate::args::{CallArgs, CodecName};
use crate::failure::Failure;
use crate::line::{Line, Streams, codec_of, encoded};

/// Runs the command.
pub fn run(args: &CallArgs) -> Result<(), Failure> {
    let asked = args.codec.map(|codec| match codec {
        CodecName::Json => Codec::Json,
        CodecName::Gob => Codec::Gob,
    });
    let scheme = args.target.scheme;
    let codec = codec_of(scheme, asked)?;
    if !args.metadata.is_empty() && !scheme.carries_metadata() {
        return Err(Failure::usage(format!("{}: transmits no metadata; omit --metadata", scheme.name())));
    }
    let given = args.argument.as_deref();
    if scheme != Scheme::Native {
        return unary(args, &connect(args, codec)?, encoded(codec, argument(given)?)?);
    }
    // The text on the command line is checked before anything is sent.
    if let Some(text) = given.filter(|text| *text != "-" && !text.contains('\n')) {
        encoded(codec, argument(Some(text))?)?;
    }
    let line = connect(args, codec)?;
    let streams = line.streams_of(&args.method)?;
    if streams == Streams::default() {
        return unary(args, &line, encoded(codec, argument(given)?)?);
    }
    streaming::run(args, codec, streams)
}

/// Connects, with the metadata of the call.
fn connect(args: &CallArgs, codec: Codec) -> Result<Line, Failure> {
    let line = Line::connect(&args.target, codec, args.timeout, &args.tls);
    let mut line = line.map_err(|error| Failure::call(&error))?;
    for (key, value) in &args.metadata {
        line.add_metadata(key, value)?;
    }
    Ok(line)
}

fn unary(args: &CallArgs, line: &Line, argument: Vec<u8>) -> Result<(), Failure> {
    let began = Instant::now();
    let (reply, server) = line.call(&args.method, &argument)?;
    let total = began.elapsed();
    crate::print(&(reply + "\n"))?;
    let _ = writeln!(io::stderr(), "{}", times(total, server));
    Ok(())
}

/// Returns the argument's text, checked to be JSON.
pub(super) fn argument(given: Option<&str>) -> Result<String, Failure> {
    let text = match given {
        None => "null".to_owned(),
        Some("-") => {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).map_err(|error| {
                Failure::error(format!("cannot read the argument from standard input: {error}"))
            })?;
            text
        }
        Some(text) => text.to_owned(),
    };
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::usage(format!("the argument is not JSON: {error}"))),
    }
}

/// Formats how the time of a call was spent, as a line.
fn times(total: Duration, server: Option<Times>) -> String {
    let total_us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
    let Some(server) = server else { return format!("total {total_us} us") };
    let (queue_us, handler_us) = (u64::from(server.queue_us), u64::from(server.handler_us));
    // The server rounds its two durations, so their sum may slightly exceed the total.
    let wire_us = total_us.saturating_sub(queue_us + handler_us);
    format!("total {total_us} us, wire {wire_us} us, queue {queue_us} us, handler {handler_us} us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_total() {
        let line = times(Duration::from_micros(153), Some(Times { queue_us: 3, handler_us: 30 }));
        assert_eq!(line, "total 153 us, wire 120 us, queue 3 us, handler 30 us");
        let line = times(Duration::from_micros(1), Some(Times { queue_us: 1, handler_us: 1 }));
        assert_eq!(line, "total 1 us, wire 0 us, queue 1 us, handler 1 us");
        assert_eq!(times(Duration::from_micros(7), None), "total 7 us");
    }

    #[test]
    fn invalid_json_is_reported_and_valid_json_unchanged() {
        assert_eq!(argument(None).unwrap(), "null");
        assert_eq!(argument(Some(" [1.00] ")).unwrap(), " [1.00] ");
        for text in ["", "{", "{}x", "'a'", "nul"] {
            assert!(argument(Some(text)).is_err(), "{text}");
        }
    }
}
