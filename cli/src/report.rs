//! A server's numbers as text: a line at regular intervals while it runs, and a line when it has ended.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use coreloop::server::Snapshot;
use coreloop::server::Stopper;
use log::Level;

use crate::logger;

/// The most important numbers of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests answered, whatever the outcome, and one-way calls.
    pub calls: u64,
    /// Calls whose status was not ok, by the status name.
    pub errors: Vec<(&'static str, u64)>,
    /// Calls that were shed, of all methods, by the reason. They are errors too.
    pub shed: Vec<(&'static str, u64)>,
    /// Answers whose connection was already closed.
    pub dropped: u64,
    /// Calls cancelled because the drain took too long.
    pub drain_cancelled: u64,
    /// Calls that were not read, because their connection drained and its protocol could not announce that.
    pub drain_unread: u64,
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
            drain_unread: stats.drain_unread,
            connections: stats.reactors.iter().map(|reactor| reactor.accepted).sum(),
            panics: stats.panics,
            ..Summary::default()
        };
        for method in &stats.methods {
            summary.calls += method.calls;
            method.answers.iter().for_each(|answer| summary.add_error(*answer));
            method.shed.iter().for_each(|shed| add(&mut summary.shed, *shed));
        }
        for refusal in &stats.refused {
            summary.calls += refusal.1;
            summary.add_error(*refusal);
        }
        summary
    }

    fn add_error(&mut self, (name, count): (&'static str, u64)) {
        if name != "ok" {
            add(&mut self.errors, (name, count));
        }
    }

    /// Returns the number of calls whose status was not ok.
    #[cfg(test)]
    fn error_count(&self) -> u64 {
        sum(&self.errors)
    }

    /// Formats a line: `calls 10, errors 2 (not_found 2), dropped 0, drain-cancelled 0, connections 3`. If calls were
    /// not read in a drain or shed, or handlers panicked, their numbers follow: `, drain-unread 2, shed 5 (expected_late 5),
    /// panics 1`.
    pub fn line(&self) -> String {
        let mut line = format!(
            "calls {}, errors {}, dropped {}, drain-cancelled {}, connections {}",
            self.calls,
            total_by_name(&self.errors),
            self.dropped,
            self.drain_cancelled,
            self.connections
        );
        if self.drain_unread > 0 {
            line.push_str(&format!(", drain-unread {}", self.drain_unread));
        }
        if !self.shed.is_empty() {
            line.push_str(&format!(", shed {}", total_by_name(&self.shed)));
        }
        if self.panics > 0 {
            line.push_str(&format!(", panics {}", self.panics));
        }
        line
    }
}

fn add(counts: &mut Vec<(&'static str, u64)>, (name, count): (&'static str, u64)) {
    if count == 0 {
        return;
    }
    match counts.iter_mut().find(|(known, _)| *known == name) {
        Some((_, sum)) => *sum += count,
        None => counts.push((name, count)),
    }
}

fn sum(counts: &[(&'static str, u64)]) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

/// Formats the sum of the counts, and what it consists of: `5 (expected_late 3, queue_full 2)`.
fn total_by_name(counts: &[(&'static str, u64)]) -> String {
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    format!("{}{parts}", sum(counts))
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
                logger::say(Level::Info, "stats", line);
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
    use coreloop::server::MethodSnapshot;

    use super::*;

    fn stats() -> Snapshot {
        let method = |calls, answers: &[(&'static str, u64)]| {
            let mut method = MethodSnapshot::default();
            method.calls = calls;
            method.answers = answers.to_vec();
            method
        };
        let mut stats = Snapshot::default();
        stats.methods = vec![method(10, &[("ok", 8), ("not_found", 1)]), method(5, &[("not_found", 5)])];
        stats.refused = vec![("unimplemented", 2), ("internal", 0)];
        stats
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
    fn calls_that_were_shed_are_listed_by_reason() {
        let mut stats = stats();
        assert!(!Summary::of(&stats).line().contains("shed"));
        stats.methods[0].shed = vec![("queue_full", 2), ("expected_late", 3)];
        stats.methods[1].shed = vec![("expected_late", 4)];
        stats.refused.push(("resource_exhausted", 9));
        stats.panics = 1;
        let summary = Summary::of(&stats);
        assert_eq!((summary.calls, summary.error_count()), (26, 17), "they are among the refused");
        let line = summary.line();
        let end = ", connections 0, shed 9 (queue_full 2, expected_late 7), panics 1";
        assert!(line.ends_with(end), "{line}");
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
