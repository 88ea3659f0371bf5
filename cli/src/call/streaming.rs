//! Calls of methods with streams, over native frames: one JSON value per line, in and out.

use std::io::{self, BufRead, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use coreloop::Status;
use coreloop::client::{CallError, Client};
use coreloop::codec::Codec;
use coreloop::stream::{Sink, SinkError, Stream};

use super::argument;
use crate::args::CallArgs;
use crate::failure::Failure;
use crate::line::{Streams, connect_shared, encoded, shown};

/// Calls the method and prints what comes, as it comes.
pub fn run(args: &CallArgs, codec: Codec, streams: Streams) -> Result<(), Failure> {
    let failed = |error: CallError| Failure::call(&error);
    let mut client = connect_shared(&args.target.to_string(), args.timeout, &args.tls).map_err(failed)?;
    for (key, value) in &args.metadata {
        *client = client.with_metadata(key, value.as_bytes()).map_err(Failure::usage)?;
    }
    let began = Instant::now();
    let count = match (streams.receives, streams.sends) {
        (false, _) => {
            let argument = encoded(codec, argument(args.argument.as_deref())?)?;
            print_all(codec, client.server_stream_bytes(&args.method, codec, &argument).map_err(failed)?)?
        }
        (true, false) => upload(args, codec, &client)?,
        (true, true) => {
            let (sink, replies) = client.bidirectional_bytes(&args.method, codec).map_err(failed)?.split();
            let text = args.argument.clone();
            let (failed_tx, failed) = mpsc::channel();
            thread::spawn(move || send_all(text.as_deref(), codec, &sink, &failed_tx));
            let printed = print_all(codec, replies);
            // The thread may still wait for standard input, and is left behind. If it has failed, it has cancelled
            // the call.
            match failed.try_recv() {
                Ok(failure) => return Err(failure),
                Err(_) => printed?,
            }
        }
    };
    let total_us = began.elapsed().as_micros();
    let _ = writeln!(io::stderr(), "total {total_us} us, {count} replies");
    Ok(())
}

fn upload(args: &CallArgs, codec: Codec, client: &Client) -> Result<u64, Failure> {
    let failed = |error: CallError| Failure::call(&error);
    let (sink, reply) = client.client_stream_bytes(&args.method, codec).map_err(failed)?.split();
    let (failed_tx, failed) = mpsc::channel();
    let text = args.argument.clone();
    thread::spawn(move || send_all(text.as_deref(), codec, &sink, &failed_tx));
    // The server may answer before the messages end.
    match (reply.wait(), failed.try_recv()) {
        (Ok(reply), _) => {
            crate::print(&(shown(codec, &reply)? + "\n"))?;
            Ok(1)
        }
        (Err(_), Ok(failure)) => Err(failure),
        (Err(error), Err(_)) => Err(Failure::call(&error)),
    }
}

/// Prints each message of the stream as a line, and returns how many there were.
fn print_all(codec: Codec, replies: Stream<Vec<u8>>) -> Result<u64, Failure> {
    let mut count = 0;
    for reply in replies {
        let reply = reply.map_err(|status| Failure::call(&CallError::Status(status)))?;
        crate::print(&(shown(codec, &reply)? + "\n"))?;
        count += 1;
    }
    Ok(count)
}

/// Sends each line as a message: those of the text, or of standard input. After a failure, which it reports first, the
/// call is cancelled.
fn send_all(text: Option<&str>, codec: Codec, sink: &Sink<Vec<u8>>, failed: &mpsc::Sender<Failure>) {
    let result = match text.filter(|text| *text != "-") {
        Some(text) => send_lines(text.lines().map(|line| Ok(line.to_owned())), codec, sink),
        None => send_lines(io::stdin().lock().lines(), codec, sink),
    };
    sink.finish(result.map_err(|failure| {
        // The call may have ended meanwhile.
        let _ = failed.send(failure);
        Status::cancelled("the messages cannot be sent")
    }));
}

fn send_lines(
    lines: impl Iterator<Item = io::Result<String>>,
    codec: Codec,
    sink: &Sink<Vec<u8>>,
) -> Result<(), Failure> {
    for (number, line) in (1_u64..).zip(lines) {
        let line =
            line.map_err(|error| Failure::error(format!("cannot read from standard input: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let message = argument(Some(&line)).and_then(|text| encoded(codec, text));
        let message = message.map_err(|failure| failure.at_line(number))?;
        match sink.send(&message) {
            Ok(()) => {}
            // The call's own result says why.
            Err(SinkError::Ended(_)) => return Ok(()),
            Err(error) => return Err(Failure::error(error)),
        }
    }
    Ok(())
}
