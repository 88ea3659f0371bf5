//! `coreloop call`: one call, its reply on standard output, its times on standard error.
//!
//! The argument's text travels as it was written: it is checked here, so that a slip is told before anything is
//! sent, and not rewritten, so that a number of many digits arrives as it is.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coreloop::client::{CallError, Direct, Times};
use coreloop::codec::Codec;
use serde::de::IgnoredAny;

use crate::address::Target;
use crate::args::{CallArgs, CodecName};
use crate::failure::Failure;

/// Calls as the arguments say.
pub fn run(args: &CallArgs) -> Result<(), Failure> {
    let argument = argument(args.argument.as_deref())?;
    let codec = match args.codec {
        CodecName::Json => Codec::Json,
    };
    let mut client = connect(&args.target, args.timeout).map_err(|error| Failure::call(&error))?;
    for (key, value) in &args.metadata {
        client.metadata_mut().push(key, value.as_bytes()).map_err(Failure::usage)?;
    }
    let began = Instant::now();
    let reply = client.call_bytes(&args.method, codec, argument.as_bytes());
    let total = began.elapsed();
    let mut reply = reply.map_err(|error| Failure::call(&error))?;
    reply.push(b'\n');
    crate::print(&String::from_utf8_lossy(&reply))?;
    let _ = writeln!(io::stderr(), "{}", times(total, client.times()));
    Ok(())
}

/// Connects within the time, and leaves what is left of it to the first call.
pub fn connect(target: &Target, timeout: Option<Duration>) -> Result<Direct, CallError> {
    let address = target.to_string();
    let Some(timeout) = timeout else { return Direct::connect(&address) };
    let until = Instant::now() + timeout;
    let (send, connected) = mpsc::channel();
    // The system's own patience with a silent host is minutes; the thread is left behind to it.
    thread::spawn(move || {
        // Nobody waits any more if it took too long.
        let _ = send.send(Direct::connect(&address));
    });
    let mut client = match connected.recv_timeout(timeout) {
        Ok(outcome) => outcome?,
        Err(_) => {
            return Err(CallError::Connect(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        }
    };
    // Nothing left is no time at all, which the first call says; `None` would be for ever.
    client.set_timeout(Some(until.saturating_duration_since(Instant::now())));
    Ok(client)
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
fn times(total: Duration, times: Times) -> String {
    let total_us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
    let (queue_us, handler_us) = (u64::from(times.queue_us), u64::from(times.handler_us));
    // The server rounds its two durations, so together they may be a little over the whole.
    let wire_us = total_us.saturating_sub(queue_us + handler_us);
    format!("total {total_us} us, wire {wire_us} us, queue {queue_us} us, handler {handler_us} us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_the_whole() {
        let line = times(Duration::from_micros(153), Times { queue_us: 3, handler_us: 30 });
        assert_eq!(line, "total 153 us, wire 120 us, queue 3 us, handler 30 us");
        let line = times(Duration::from_micros(1), Times { queue_us: 1, handler_us: 1 });
        assert_eq!(line, "total 1 us, wire 0 us, queue 1 us, handler 1 us");
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
