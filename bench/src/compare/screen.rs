//! Progress of a comparison: a bar on standard error that shows the current work, and a line for each finished part.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::loadgen::run::Live;
use crate::loadgen::units;

/// The progress bar. If standard error is not a terminal, there is no bar, only the lines.
pub struct Screen {
    bar: ProgressBar,
    state: Mutex<Work>,
}

struct Work {
    what: String,
    began: Instant,
    /// Planned work in seconds: total and done.
    planned_s: f64,
    done_s: f64,
}

impl Screen {
    /// Creates a display without planned work.
    pub fn new(quiet: bool) -> Screen {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        let work = Work { what: String::new(), began: Instant::now(), planned_s: 0.0, done_s: 0.0 };
        Screen { bar, state: Mutex::new(work) }
    }

    /// Adds planned work, in seconds.
    pub fn plan(&self, seconds: f64) {
        let mut work = self.work();
        (work.planned_s, work.done_s, work.began) = (seconds, 0.0, Instant::now());
        self.bar.set_length((seconds * 1e3) as u64);
    }

    /// Shows that this work begins.
    pub fn begin(&self, what: String) {
        self.bar.set_message(what.clone());
        self.work().what = what;
    }

    /// Shows the state of the running load.
    pub fn live(&self, live: &Live) {
        let work = self.work();
        let left = left_s(&work).map_or(String::new(), |left| format!(", {} left", minutes(left)));
        self.bar.set_message(format!(
            "{}: {} calls/s, p99 so far {}{left}",
            work.what,
            units::count(live.rate.round()),
            units::time(live.p99_ns as f64),
        ));
        self.bar.tick();
    }

    /// Advances the bar for work that reports no progress.
    pub fn tick(&self) {
        let work = self.work();
        let left = left_s(&work).map_or(String::new(), |left| format!(", {} left", minutes(left)));
        self.bar.set_message(format!("{}{left}", work.what));
        self.bar.tick();
    }

    /// Marks planned work as done or skipped, in seconds.
    pub fn done(&self, seconds: f64) {
        let mut work = self.work();
        work.done_s += seconds;
        self.bar.set_position((work.done_s * 1e3) as u64);
    }

    /// Prints a permanent line on standard output.
    pub fn say(&self, line: &str) {
        // The reader of standard output may be gone; the record is written in any case.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stdout(), "{line}");
        });
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Estimates the remaining seconds from the speed so far.
fn left_s(work: &Work) -> Option<f64> {
    (work.done_s > 0.0 && work.planned_s > work.done_s)
        .then(|| work.began.elapsed().as_secs_f64() / work.done_s * (work.planned_s - work.done_s))
}

/// Formats a duration for people.
pub fn minutes(seconds: f64) -> String {
    match Duration::from_secs_f64(seconds.min(1e6)).as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_is_known_after_some_work() {
        let screen = Screen::new(true);
        screen.plan(10.0);
        assert_eq!(left_s(&screen.work()), None);
        screen.done(5.0);
        assert!(left_s(&screen.work()).is_some());
        screen.done(5.0);
        assert_eq!(left_s(&screen.work()), None);
        assert_eq!([0.0, 119.0, 121.0, 3600.0].map(minutes), ["0 s", "119 s", "3 min", "60 min"]);
    }
}
