//! How a command fails: one line on standard error, and the exit status that goes with it.

use std::io::{self, Write};
use std::process::ExitCode;

use coreloop::Code;
use coreloop::client::CallError;

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub struct Failure {
    line: String,
    code: u8,
    /// How the server answered, if it did.
    answered: Option<Code>,
}

impl Failure {
    /// Something went wrong on the way: exit status 1.
    pub fn error(what: impl std::fmt::Display) -> Failure {
        Failure { line: format!("coreloop: {what}"), code: 1, answered: None }
    }

    /// The command line cannot be understood, nothing was tried: exit status 2.
    pub fn usage(what: impl std::fmt::Display) -> Failure {
        Failure { line: format!("coreloop: {what}"), code: 2, answered: None }
    }

    /// A call without a result: `STATUS_NAME: message`, exit status 1.
    pub fn call(error: &CallError) -> Failure {
        let (name, text) = (error.code().name(), error.to_string());
        // Most errors begin with their code's name; those of our own side do not.
        let is_named = text.strip_prefix(name).is_some_and(|rest| rest.starts_with(": "));
        let answered = if let CallError::Status(status) = error { Some(status.code) } else { None };
        Failure { line: if is_named { text } else { format!("{name}: {text}") }, code: 1, answered }
    }

    /// The same, with other words for what this answer means here.
    pub fn explain(self, code: Code, what: &str) -> Failure {
        match self.answered {
            Some(answered) if answered == code => Failure { line: format!("{code}: {what}"), ..self },
            _ => self,
        }
    }

    /// Says it on standard error.
    pub fn tell(&self) {
        // What a server sent may hold anything; it is to stay one line and do nothing to a terminal.
        let line: String = self.line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// The exit status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests {
    use coreloop::Status;

    use super::*;

    #[test]
    fn every_call_error_begins_with_the_name_of_a_status() {
        for (error, line) in [
            (CallError::Status(Status::not_found("no user 7")), "not_found: no user 7"),
            (CallError::DeadlineExceeded, "deadline_exceeded: no answer before the deadline of the call"),
            (
                CallError::TooLarge { bytes: 9, bytes_max: 8 },
                "resource_exhausted: the argument or its metadata have 9 bytes; the limit is 8",
            ),
            (
                CallError::Broken(coreloop::wire::Broken::Version(2)),
                "unavailable: the server violated the protocol: expected frame version 1; found 2",
            ),
        ] {
            assert_eq!(Failure::call(&error).line, line);
        }
    }
}
