//! A server's numbers as text: a line at regular intervals while it runs, and a line when it has ended.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use coreloop::server::Stopper;
use coreloop::stats::Snapshot;

/// The most important numbers of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests answered, whatever the outcome, and one-way calls.
    pub calls: u64,
    /// Calls whose status was not ok, by the status name.
    pub errors: Vec<(&'static str, u64)>,
    /// Answers whose connection was already closed.
    pub dropped: u64,
    /// Calls cancelled because the drain took too long.
    pub drain_cancelled: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Handlers that panicked.
    pub panics: u64,
}

impl Summary {
    /// Sums up the counters of the server.
    pub fn of(stats: &Snapshot) -> Summary {
        let mut summary = Summary {
            dropped: stats.dropped,
            drain_cancelled: stats.drain_cancelled,
            connections: stats.reactors.iter().map(|reactor| reactor.accepted).sum(),
            panics: stats.panics,
            ..Summary::default()
        };
        for method in &stats.methods {
            summary.calls += method.calls;
            method.answers.iter().for_each(|answer| summary.add_error(*answer));
        }
        for refusal in &stats.refused {
            summary.calls += refusal.1;
            summary.add_error(*refusal);
        }
        summary
    }

    fn add_error(&mut self, (name, count): (&'static str, u64)) {
        if name == "ok" || count == 0 {
            return;
        }
        match self.errors.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => self.errors.push((name, count)),
        }
    }

    /// Returns the number of calls whose status was not ok.
    pub fn error_count(&self) -> u64 {
        self.errors.iter().map(|(_, count)| count).sum()
    }

    /// Formats a line: `calls 10, errors 2 (not_found 2), dropped 0, drain-cancelled 0, connections 3`.
    pub fn line(&self) -> String {
        let by_name: Vec<String> =
            self.errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let by_name = if by_name.is_empty() { String::new() } else { format!(" ({})", by_name.join(", ")) };
        let mut line = format!(
            "calls {}, errors {}{by_name}, dropped {}, drain-cancelled {}, connections {}",
            self.calls,
            self.error_count(),
            self.dropped,
            self.drain_cancelled,
            self.connections
        );
        if self.panics > 0 {
            line.push_str(&format!(", panics {}", self.panics));
        }
        line
    }
}

/// Prints a line of statistics at regular intervals, until it is dropped.
pub struct Ticker {
    /// Nothing is ever sent; dropping the sender ends the thread.
    end: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub fn start(stopper: Stopper, every: Duration) -> io::Result<Ticker> {
        let (end, ended) = mpsc::channel::<()>();
        let body = move || {
            let began = Instant::now();
            let mut calls_before = 0;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
                let stats = stopper.stats();
                let line = tick(&stats, began.elapsed(), every, &mut calls_before);
                let _ = writeln!(io::stderr(), "{line}");
            }
        };
        let thread = thread::Builder::new().name("coreloop-stats".into()).spawn(body)?;
        Ok(Ticker { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Formats one line of statistics; `calls_before` is kept from one line to the next.
fn tick(stats: &Snapshot, since: Duration, every: Duration, calls_before: &mut u64) -> String {
    let summary = Summary::of(stats);
    let rate = (summary.calls - *calls_before) as f64 / every.as_secs_f64();
    *calls_before = summary.calls;
    format!(
        "stats: {:.0} s, {rate:.0} calls/s, open connections {}, queued {}, {}",
        since.as_secs_f64(),
        stats.connections(),
        stats.workers.queued,
        summary.line()
    )
}

#[cfg(test)]
mod tests {
    use coreloop::stats::MethodSnapshot;

    use super::*;

    fn stats() -> Snapshot {
        let method = |calls, answers: &[(&'static str, u64)]| MethodSnapshot {
            calls,
            answers: answers.to_vec(),
            ..MethodSnapshot::default()
        };
        Snapshot {
            methods: vec![method(10, &[("ok", 8), ("not_found", 1)]), method(5, &[("not_found", 5)])],
            refused: vec![("unimplemented", 2), ("internal", 0)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn refused_requests_count_as_calls_and_errors() {
        let summary = Summary::of(&stats());
        assert_eq!((summary.calls, summary.error_count()), (17, 8));
        assert_eq!(
            summary.line(),
            "calls 17, errors 8 (not_found 6, unimplemented 2), dropped 0, drain-cancelled 0, connections 0"
        );
    }

    #[test]
    fn the_rate_covers_calls_since_the_last_line() {
        let mut calls_before = 7;
        let every = Duration::from_secs(2);
        let line = tick(&stats(), Duration::from_secs(4), every, &mut calls_before);
        assert!(line.starts_with("stats: 4 s, 5 calls/s, open connections 0, queued 0, calls 17,"), "{line}");
        assert_eq!(calls_before, 17);
    }
}
