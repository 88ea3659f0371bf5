//! The budget for frames that cause work without use: resets received and provoked, pings, settings, priorities,
//! empty data, continuations, unknown frames, small window updates.
//!
//! A peer that stays within it costs little, and one that exceeds it loses its connection (`ENHANCE_YOUR_CALM`). The
//! budget is a token bucket over the `now` that the caller passes in; between two such calls only what is left can be
//! used. Clients that measure the path send one ping, and credit as small as a message, for each answer: finished
//! answers therefore excuse some pings and window updates. They never excuse a reset.

use std::time::Instant;

/// Pings and window updates that one finished answer excuses.
const EXCUSED_PER_ANSWER: u32 = 4;

/// What is left of the budget of one connection.
#[derive(Clone, Copy, Debug)]
pub struct NuisanceBudget {
    per_second: u32,
    left: u32,
    excused: u32,
    refilled_at: Option<Instant>,
}

impl NuisanceBudget {
    /// Creates a full budget for one second.
    pub fn new(per_second: u32) -> NuisanceBudget {
        NuisanceBudget { per_second, left: per_second, excused: 0, refilled_at: None }
    }

    /// Takes one frame from the budget. Returns false if nothing is left.
    #[must_use]
    pub fn charge(&mut self) -> bool {
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    /// Takes one frame that answers may excuse. Returns false if nothing is left.
    #[must_use]
    pub fn charge_excusable(&mut self) -> bool {
        if self.excused > 0 {
            self.excused -= 1;
            return true;
        }
        self.charge()
    }

    /// Counts a finished answer.
    #[inline]
    pub fn on_answer(&mut self) {
        self.excused = (self.excused + EXCUSED_PER_ANSWER).min(self.per_second);
    }

    /// Adds what the time since the last call is worth.
    pub fn refill(&mut self, now: Instant) {
        let Some(since) = self.refilled_at else {
            self.refilled_at = Some(now);
            return;
        };
        let milliseconds = now.saturating_duration_since(since).as_millis().min(1000) as u64;
        let earned = milliseconds * u64::from(self.per_second) / 1000;
        // Less than one frame's worth stays for the next call.
        if earned > 0 {
            self.refilled_at = Some(now);
            self.left = (u64::from(self.left) + earned).min(u64::from(self.per_second)) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_budget_ends_and_time_refills_it() {
        let now = Instant::now();
        let mut budget = NuisanceBudget::new(1000);
        budget.refill(now);
        assert!((0..1000).all(|_| budget.charge()));
        assert!(!budget.charge());
        budget.refill(now + Duration::from_millis(10));
        assert!((0..10).all(|_| budget.charge()));
        assert!(!budget.charge());
        budget.refill(now + Duration::from_secs(3600));
        assert!((0..1000).all(|_| budget.charge()));
        assert!(!budget.charge());
    }

    #[test]
    fn answers_excuse_pings_but_no_resets() {
        let mut budget = NuisanceBudget::new(10);
        assert!((0..10).all(|_| budget.charge()));
        budget.on_answer();
        assert!((0..4).all(|_| budget.charge_excusable()));
        assert!(!budget.charge_excusable());
        budget.on_answer();
        assert!(!budget.charge());
    }
}
