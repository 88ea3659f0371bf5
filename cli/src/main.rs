//! The command line of coreloop: `serve` the demo services, `call` a method, `list` what a server has, show the
//! `endpoints` behind a resolver URL, check the `health` of a server.
//!
//! This file selects the command and ends the process. The arguments are in `args.rs`; each command has its own file.
//! Standard output carries output for programs, standard error messages for people.
#![forbid(unsafe_code)]

mod address;
mod args;
mod call;
mod endpoints;
mod failure;
mod health;
mod line;
mod list;
mod logger;
mod record;
mod reload;
mod report;
mod serve;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use coreloop::signals;

use crate::args::{Args, Command, ServeArgs};
use crate::failure::Failure;

fn main() -> ExitCode {
    // A write beyond the file size limit becomes an error and does not end the process. If the system rejects this
    // setting, the default remains.
    let _ = signals::refuse_file_size_signal();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return on_unreadable(&error),
    };
    let outcome = match args.command {
        None => serve::run(&ServeArgs::default()),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Call(args)) => call::run(&args),
        Some(Command::List(args)) => list::run(&args),
        Some(Command::Endpoints(args)) => endpoints::run(&args),
        Some(Command::Health(args)) => health::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            failure.exit_code()
        }
    }
}

/// Prints help or version if requested; reports every other error in the form of all our messages.
fn on_unreadable(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is not an error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let failure = Failure::usage(one_line(&error.render().to_string()));
    failure.tell();
    failure.exit_code()
}

/// Returns the error without clap's usage and pointers below it: those are in the help.
fn one_line(rendered: &str) -> String {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|tail| text.find(tail)).min();
    let words: Vec<&str> = text[..end.unwrap_or(text.len())].split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

/// Writes to standard output. A closed pipe (`| head`) is not an error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
