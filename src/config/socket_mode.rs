//! Permission bits of a Unix socket's file, and their octal text.

use std::fmt;
use std::str::FromStr;

/// Permission bits of the file of a Unix socket: read, write and execute for its user, its group and all others.
/// Connecting requires write permission. `0` leaves the mode to the process's umask.
///
/// ```
/// use coreloop::config::SocketMode;
///
/// let mode: SocketMode = "0660".parse().unwrap();
/// assert_eq!((mode.bits(), mode.to_string()), (0o660, "0660".to_owned()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketMode(u32);

impl SocketMode {
    /// The mode that results from the process's umask.
    pub const UMASK: SocketMode = SocketMode(0);

    /// Creates a mode from these bits; `None` if a bit other than the nine permissions is set.
    pub const fn new(bits: u32) -> Option<SocketMode> {
        if bits <= 0o777 { Some(SocketMode(bits)) } else { None }
    }

    /// Returns the bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Default for SocketMode {
    fn default() -> SocketMode {
        SocketMode(0o666)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketMode({self})")
    }
}

/// The error for a text that is not an octal number from 0 to 0777.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SocketModeError;

crate::error_text::debug_as_text!(SocketModeError);

impl fmt::Display for SocketModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mode is an octal number from 0 to 0777")
    }
}

impl std::error::Error for SocketModeError {}

impl FromStr for SocketMode {
    type Err = SocketModeError;

    fn from_str(text: &str) -> Result<SocketMode, SocketModeError> {
        // Digits only: the standard parser also accepts "+660".
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let is_octal = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let bits = is_octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
        bits.and_then(SocketMode::new).ok_or(SocketModeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_text() {
        for (text, bits) in [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), ("0", 0), ("0777", 0o777)] {
            assert_eq!(text.parse(), Ok(SocketMode(bits)), "{text}");
        }
        for text in ["", "0o", "8", "1777", "01777", "+660", "-1", "00660", "rw-rw----", "0x1ff"] {
            assert_eq!(text.parse::<SocketMode>(), Err(SocketModeError), "{text}");
        }
        assert_eq!(SocketMode::default().to_string(), "0666");
        assert_eq!(SocketMode::UMASK.to_string(), "0000");
    }
}
