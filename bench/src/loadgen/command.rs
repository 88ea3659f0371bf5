//! The subcommands with their options, and the exit status of each.

use std::process::ExitCode;

use super::{Ending, diff, idle, overload, replay};
use crate::{compare, console, drive};

/// A subcommand; without one the program makes a run.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Compares two results of --json and reports what changed beyond the noise.
    ///
    /// Exit status 0: nothing got worse. 1: something got worse. 2: a file cannot be read, or the two cannot be compared.
    Diff(diff::Options),
    /// Measures coreloop and its peers, one after the other on this machine.
    ///
    /// Writes no file unless --record, --json, --report or --markdown names one. Exit status 0: done. 1: nothing was
    /// measured. 130: a signal ended it; the results so far are printed and written.
    Compare(Box<compare::Options>),
    /// Runs the bare client, as the program `drive`: `compare` starts it.
    #[command(hide = true)]
    Drive(drive::Options),
    /// Keeps many connections open that rarely make a call, and reports what each costs the server.
    ///
    /// Exit status as of a run: see loadgen --help.
    Idle(idle::Options),
    /// Offers a server 0.5 to 6 times its capacity, and reports how many answers arrive within a deadline.
    ///
    /// First it measures the capacity in a closed loop. Then it runs one open loop for each factor, with calls that
    /// state the deadline to the server, and once more with calls that do not. In both an answer is in time if it
    /// arrives within the deadline, counted from when its call was due.
    ///
    /// Exit status 0: done. 1: failed, or no call succeeded. 4: the server was gone before the last step. 130: a signal
    /// ended it; the finished steps are printed and written.
    Overload(Box<overload::Options>),
    /// Sends recorded requests (coreloop serve --record) again, at their recorded times.
    ///
    /// Exit status as of a run: see loadgen --help.
    Replay(replay::Options),
}

impl Command {
    /// Runs the subcommand and returns the exit status.
    pub fn run(&self) -> ExitCode {
        match self {
            Command::Diff(options) => match diff::run(options) {
                Ok(diff::Ending::AsGood) => ExitCode::SUCCESS,
                Ok(diff::Ending::Worse) => ExitCode::from(1),
                Ok(diff::Ending::NotComparable) => ExitCode::from(2),
                Err(unusable) => {
                    console::note(&format!("loadgen diff: {unusable}"));
                    ExitCode::from(2)
                }
            },
            Command::Compare(options) => exit_code(compare::run(options)),
            Command::Drive(options) => exit_code(drive::run(options).and_then(|outcome| {
                let text = serde_json::to_string(&outcome).map_err(|error| error.to_string())?;
                console::out(&(text + "\n"))?;
                Ok(Ending::Complete)
            })),
            Command::Idle(options) => exit_code(idle::run(options)),
            Command::Overload(options) => exit_code(overload::run(options)),
            Command::Replay(options) => exit_code(replay::run(options)),
        }
    }
}

/// Converts the ending of a run into an exit status.
pub fn exit_code(ending: Result<Ending, String>) -> ExitCode {
    match ending {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::AllFailed) => ExitCode::FAILURE,
        Ok(Ending::ObjectiveMissed) => ExitCode::from(3),
        Ok(Ending::Incomplete) => ExitCode::from(4),
        Ok(Ending::Cut) => ExitCode::from(130),
        Err(error) => {
            console::note(&format!("loadgen: {error}"));
            ExitCode::FAILURE
        }
    }
}
