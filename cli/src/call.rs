//! `coreloop call`: one call, its reply on standard output, its times on standard error.
//!
//! Where JSON travels, the argument's text does as it was written: it is checked here, so that a mistake is reported before
//! anything is sent, and not rewritten, so that a number of many digits arrives as it is. Where gob does, it is made of
//! the text, and the reply is shown as JSON. Protocols and codecs are in `line.rs`.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use coreloop::client::Times;
use coreloop::codec::Codec;
use serde::de::IgnoredAny;

use crate::args::{CallArgs, CodecName};
use crate::failure::Failure;
use crate::line::{Line, codec_of, encoded};

/// Calls as the arguments say.
pub fn run(args: &CallArgs) -> Result<(), Failure> {
    let argument = argument(args.argument.as_deref())?;
    let asked = args.codec.map(|codec| match codec {
        CodecName::Json => Codec::Json,
        CodecName::Gob => Codec::Gob,
    });
    let scheme = args.target.scheme;
    let codec = codec_of(scheme, asked)?;
    if !args.metadata.is_empty() && !scheme.carries_metadata() {
        return Err(Failure::usage(format!("{}: transmits no metadata; omit --metadata", scheme.name())));
    }
    let argument = encoded(codec, argument)?;
    let line = Line::connect(&args.target, codec, args.timeout);
    let mut line = line.map_err(|error| Failure::call(&error))?;
    for (key, value) in &args.metadata {
        line.add_metadata(key, value)?;
    }
    let began = Instant::now();
    let (reply, told) = line.call(&args.method, &argument)?;
    let total = began.elapsed();
    crate::print(&(reply + "\n"))?;
    let _ = writeln!(io::stderr(), "{}", times(total, told));
    Ok(())
}

/// The argument's text, known to be JSON.
fn argument(given: Option<&str>) -> Result<String, Failure> {
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

/// Where the time of a call went, as a line.
fn times(total: Duration, told: Option<Times>) -> String {
    let total_us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
    let Some(told) = told else { return format!("total {total_us} us") };
    let (queue_us, handler_us) = (u64::from(told.queue_us), u64::from(told.handler_us));
    // The server rounds its two durations, so together they may be a little over the whole.
    let wire_us = total_us.saturating_sub(queue_us + handler_us);
    format!("total {total_us} us, wire {wire_us} us, queue {queue_us} us, handler {handler_us} us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_the_whole() {
        let line = times(Duration::from_micros(153), Some(Times { queue_us: 3, handler_us: 30 }));
        assert_eq!(line, "total 153 us, wire 120 us, queue 3 us, handler 30 us");
        let line = times(Duration::from_micros(1), Some(Times { queue_us: 1, handler_us: 1 }));
        assert_eq!(line, "total 1 us, wire 0 us, queue 1 us, handler 1 us");
        assert_eq!(times(Duration::from_micros(7), None), "total 7 us");
    }

    #[test]
    fn what_is_not_json_is_told_and_what_is_stays_as_it_was() {
        assert_eq!(argument(None).unwrap(), "null");
        assert_eq!(argument(Some(" [1.00] ")).unwrap(), " [1.00] ");
        for text in ["", "{", "{}x", "'a'", "nul"] {
            assert!(argument(Some(text)).is_err(), "{text}");
        }
    }
}
