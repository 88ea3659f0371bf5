//! What else the program does besides a run: each subcommand with its options, and the exit code of each.

use std::process::ExitCode;

use super::{Ending, diff, idle, replay};

/// A subcommand; without one the program makes a run.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Says what changed, beyond the noise, between two records of --json.
    ///
    /// Exit code 0: nothing got worse; 1: something did; 2: the files cannot be read or not be compared.
    Diff(diff::Options),
    /// Holds many connections open that seldom make a call, and says what each costs the server.
    Idle(idle::Options),
    /// Sends what a server recorded (coreloop serve --record) again, with its distances in time.
    Replay(replay::Options),
}

impl Command {
    /// Does it, and says how it went as an exit code.
    pub fn run(&self) -> ExitCode {
        match self {
            Command::Diff(options) => match diff::run(options) {
                Ok(diff::Ending::AsGood) => ExitCode::SUCCESS,
                Ok(diff::Ending::Worse) => ExitCode::from(1),
                Ok(diff::Ending::NotComparable) => ExitCode::from(2),
                Err(unusable) => {
                    eprintln!("loadgen diff: {unusable}");
                    ExitCode::from(2)
                }
            },
            Command::Idle(options) => exit_code(idle::run(options)),
            Command::Replay(options) => exit_code(replay::run(options)),
        }
    }
}

/// The exit code of a run.
pub fn exit_code(ending: Result<Ending, String>) -> ExitCode {
    match ending {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::AllFailed) => ExitCode::FAILURE,
        Ok(Ending::Cut) => ExitCode::from(130),
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}
