//! The failure of a command: one line on standard error, and the corresponding exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use coreloop::Code;
use coreloop::client::CallError;
use log::Level;

use crate::logger;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    line: String,
    code: u8,
    /// The status of the server's answer, if there is one.
    answered: Option<Code>,
}

impl Failure {
    /// Creates a failure at run time: exit status 1.
    pub fn error(what: impl std::fmt::Display) -> Failure {
        Failure { line: format!("coreloop: {what}"), code: 1, answered: None }
    }

    /// Creates a failure of the command line, before anything was tried: exit status 2.
    pub fn usage(what: impl std::fmt::Display) -> Failure {
        Failure { line: format!("coreloop: {what}"), code: 2, answered: None }
    }

    /// Creates a failure of a call: `STATUS_NAME: message`, exit status 1.
    pub fn call(error: &CallError) -> Failure {
        let (name, text) = (error.code().name(), error.to_string());
        // Most errors begin with their code's name; those that arise in the client do not.
        let is_named = text.strip_prefix(name).is_some_and(|rest| rest.starts_with(": "));
        let answered = if let CallError::Status(status) = error { Some(status.code) } else { None };
        Failure { line: if is_named { text } else { format!("{name}: {text}") }, code: 1, answered }
    }

    /// Says in which line of the input the failure is. Other lines were sent before: exit status 1.
    pub fn at_line(self, number: u64) -> Failure {
        let what = self.line.strip_prefix("coreloop: ").unwrap_or(&self.line);
        Failure::error(format!("line {number}: {what}"))
    }

    /// Replaces the message if the server answered with this code.
    pub fn explain(self, code: Code, what: &str) -> Failure {
        match self.answered {
            Some(answered) if answered == code => Failure { line: format!("{code}: {what}"), ..self },
            _ => self,
        }
    }

    /// Prints the failure on standard error.
    pub fn tell(&self) {
        // The server's text may contain any character; it must stay one line and must not control the terminal.
        let line: String = self.line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        if logger::is_json() {
            logger::say(Level::Error, "failed", line);
            return logger::finish();
        }
        // After what was said before.
        logger::finish();
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Returns the exit status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests {
    use coreloop::Status;

    use super::*;

    #[test]
    fn every_call_error_begins_with_a_status_name() {
        for (error, line) in [
            (CallError::Status(Status::not_found("no user 7")), "not_found: no user 7"),
            (CallError::DeadlineExceeded, "deadline_exceeded: no answer before the deadline of the call"),
            (
                CallError::TooLarge { bytes: 9, bytes_max: 8 },
                "resource_exhausted: the argument has 9 bytes; the limit is 8",
            ),
            (
                CallError::Broken(coreloop::protocol::Broken::Version(2)),
                "unavailable: the server violated the protocol: expected frame version 1; found 2",
            ),
        ] {
            assert_eq!(Failure::call(&error).line, line);
        }
    }
}
