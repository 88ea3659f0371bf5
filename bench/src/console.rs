//! Text for standard output and standard error. A reader that closes its pipe early ends neither the run nor the
//! writing of files.

use std::io::{self, ErrorKind, Write};

/// Writes to standard output. A closed pipe is ignored; any other failure is an error in one line.
pub fn out(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line to standard error. Failures are ignored, because there is no other place to report them.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
