//! The budget of retries and hedges: a token bucket that calls and time fill.
//!
//! Without it, a failing service gets several times the load that made it fail (Google, "Site Reliability Engineering",
//! chapter 22; the form is that of Finagle's `RetryBudget`).

/// The settings of the budget that retries and hedges share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// What each call adds, in percent of a retry. Default 20, from 0 to 1000. Too small: failures that another endpoint
    /// would mend reach callers. Too large: retries keep an overloaded service overloaded.
    pub percent: u32,

    /// Retries that are added in each second, so that clients with few calls have some. Default 10, from 0 to 1 000 000.
    pub per_second: u32,

    /// Retries that can be saved up. Default 100, from 1 to 1 000 000. The bucket is full at first. At the limit: what is
    /// added is lost. Too small: calls in flight at a server that dies fail, though they may be repeated; the usual number
    /// of calls in flight at one endpoint is enough. Too large: the first seconds of an outage multiply the load.
    pub burst: u32,
}

impl Default for BudgetConfig {
    fn default() -> BudgetConfig {
        BudgetConfig { percent: 20, per_second: 10, burst: 100 }
    }
}

/// Parts of a token: what a call adds is a whole number of them for each percent.
const PARTS: u64 = 1_000_000;
const PARTS_PER_PERCENT: u64 = PARTS / 100;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// The bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    parts: u64,
    /// The time to which `parts` is up to date, in nanoseconds.
    refilled_ns: u64,
    /// It was empty when a token was to be taken, and has not been full since.
    is_reported: bool,
}

/// Why no token was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BudgetEmpty {
    /// It is the first time since the bucket was full.
    pub is_first: bool,
}

impl Budget {
    /// Creates a full bucket.
    pub fn new(config: &BudgetConfig) -> Budget {
        Budget { parts: u64::from(config.burst) * PARTS, refilled_ns: 0, is_reported: false }
    }

    /// Adds what a call adds.
    #[inline]
    pub fn on_call(&mut self, config: &BudgetConfig) {
        self.add(u64::from(config.percent) * PARTS_PER_PERCENT, config);
    }

    #[inline]
    fn add(&mut self, parts: u64, config: &BudgetConfig) {
        let parts_max = u64::from(config.burst) * PARTS;
        self.parts = self.parts.saturating_add(parts).min(parts_max);
        if self.parts == parts_max {
            self.is_reported = false;
        }
    }

    /// Takes a token.
    pub fn take(&mut self, now_ns: u64, config: &BudgetConfig) -> Result<(), BudgetEmpty> {
        let elapsed = u128::from(now_ns.saturating_sub(self.refilled_ns));
        let rate = u128::from(config.per_second) * u128::from(PARTS);
        let parts = elapsed * rate / u128::from(NS_PER_SECOND);
        // The time that was less than one part is kept for the next refill.
        let counted_ns = (parts * u128::from(NS_PER_SECOND)).checked_div(rate).unwrap_or(elapsed);
        self.refilled_ns += counted_ns as u64;
        self.add(u64::try_from(parts).unwrap_or(u64::MAX), config);
        if self.parts >= PARTS {
            self.parts -= PARTS;
            return Ok(());
        }
        let is_first = !self.is_reported;
        self.is_reported = true;
        Err(BudgetEmpty { is_first })
    }

    /// Asserts that the bucket holds no more than it may.
    pub fn check(&self, config: &BudgetConfig) {
        debug_assert!(self.parts <= u64::from(config.burst) * PARTS);
    }
}
