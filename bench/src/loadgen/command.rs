//! What else the program does besides a run: each subcommand with its options, and the exit code of each.

use std::process::ExitCode;

use super::{Ending, diff, idle, replay};
use crate::{compare, drive};

/// A subcommand; without one the program makes a run.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Says what changed, beyond the noise, between two records of --json.
    ///
    /// Exit code 0: nothing got worse; 1: something did; 2: the files cannot be read or not be compared.
    Diff(diff::Options),
    /// Measures coreloop and its peers, one after the other on this machine.
    ///
    /// Exit code 0: done; 1: nothing was measured; 130: a signal ended it, what was measured is kept.
    Compare(Box<compare::Options>),
    /// Is the bare client, as the program `drive`: `compare` starts it.
    #[command(hide = true)]
    Drive(drive::Options),
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
            Command::Compare(options) => exit_code(compare::run(options)),
            Command::Drive(options) => exit_code(drive::run(options).map(|outcome| {
                println!("{}", serde_json::to_string(&outcome).expect("plain numbers and text"));
                Ending::Complete
            })),
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
