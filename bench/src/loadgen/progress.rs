//! The progress of a run on standard error, if that is a terminal; otherwise nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run::Live;
use super::units;

/// A line that is redrawn repeatedly and removed at the end.
pub struct Line {
    bar: ProgressBar,
    total_s: f64,
    unit: &'static str,
}

impl Line {
    /// Creates the line for a run of this total length, warm-up included, that counts `unit` (calls or messages).
    pub fn new(total: Duration, quiet: bool, unit: &'static str) -> Line {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let bar = ProgressBar::with_draw_target(Some(total.as_millis() as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Line { bar, total_s: total.as_secs_f64(), unit }
    }

    /// Draws the current state.
    pub fn show(&self, live: &Live) {
        self.bar.set_position((live.elapsed_s * 1e3) as u64);
        self.bar.set_message(words(live, self.total_s, self.unit));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn words(live: &Live, total_s: f64, unit: &str) -> String {
    if let Some(connected) = live.connecting {
        return format!("connecting: {} so far", units::count(connected as f64));
    }
    format!(
        "{}{} {unit}/s, {} in flight, p99 so far {}, {} errors, {:.0} s left",
        if live.is_measured { "" } else { "warm-up: " },
        units::count(live.rate.round()),
        units::count(live.in_flight as f64),
        units::time(live.p99_ns as f64),
        units::count(live.failed as f64),
        (total_s - live.elapsed_s).max(0.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_the_state_of_the_run() {
        let live = Live {
            connecting: None,
            elapsed_s: 2.5,
            is_measured: true,
            rate: 12_345.6,
            in_flight: 64,
            p99_ns: 87_300,
            failed: 3,
        };
        assert_eq!(
            words(&live, 12.0, "calls"),
            "12 346 calls/s, 64 in flight, p99 so far 87.3 µs, 3 errors, 10 s left"
        );
        let connecting = Live { connecting: Some(12_288), ..Live::default() };
        assert_eq!(words(&connecting, 12.0, "calls"), "connecting: 12 288 so far");
        assert!(words(&Live::default(), 1.0, "messages").starts_with("warm-up: 0 messages/s"));
        Line::new(Duration::from_secs(1), true, "calls").show(&live);
    }
}
