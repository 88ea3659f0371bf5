//! Why a server could not take over from another process, or use what systemd has passed.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a server could not take over from the running process, or use what systemd has passed.
#[non_exhaustive]
pub enum RestartError {
    /// The running process has refused to be taken over; it serves on.
    Refused {
        /// Where it listens for new processes (`restart.takeover`).
        path: PathBuf,
        /// Its reason.
        text: String,
    },
    /// The running process speaks another version of the takeover protocol.
    Version {
        /// Where it listens for new processes (`restart.takeover`).
        path: PathBuf,
        /// The version of this process.
        ours: u16,
        /// The version of the running process.
        theirs: u16,
    },
    /// The running process did not answer in time (`restart.takeover_ms`).
    Late {
        /// Where it listens for new processes (`restart.takeover`).
        path: PathBuf,
        /// The limit, in milliseconds.
        ms: u64,
    },
    /// What listens there does not keep to the takeover protocol.
    Broken {
        /// Where it listens (`restart.takeover`).
        path: PathBuf,
        /// What it did.
        what: String,
    },
    /// The connection to the running process failed, or this process cannot listen for the next one.
    Io {
        /// The path (`restart.takeover`).
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The variables that systemd sets, or the sockets that it passes, are not valid.
    Systemd {
        /// The variable and what is wrong with it.
        text: String,
    },
}

crate::error_text::debug_as_text!(RestartError);

impl fmt::Display for RestartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartError::Refused { path, text } => {
                write!(f, "the process at {} refused the takeover: {text}", path.display())
            }
            RestartError::Version { path, ours, theirs } => write!(
                f,
                "the process at {} speaks version {theirs} of the takeover protocol; expected version {ours}",
                path.display()
            ),
            RestartError::Late { path, ms } => write!(
                f,
                "the process at {} did not complete the takeover within {ms} ms (restart.takeover_ms)",
                path.display()
            ),
            RestartError::Broken { path, what } => {
                write!(f, "cannot take over from the process at {}: {what}", path.display())
            }
            RestartError::Io { path, error } => {
                write!(f, "cannot use {} for takeovers (restart.takeover): {error}", path.display())
            }
            RestartError::Systemd { text } => f.write_str(text),
        }
    }
}

impl std::error::Error for RestartError {}
