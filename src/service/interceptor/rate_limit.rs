//! A limit on the rate of calls: for all of them together, or for each caller.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::callers::{CALLERS_MAX, Callers, LimitedCaller};
use super::{Admit, AdmitCall, Hooks, Interceptor};
use crate::policy::token_bucket::BucketSize;
use crate::status::Status;

/// Refuses calls beyond a rate as `resource_exhausted`, with the time after which there is room for one more
/// ([`Status::retry_after`]). A token bucket: after a pause up to `burst` calls pass at once.
///
/// The limit holds for all methods together for which it is registered, over all reactors: for a limit on each method,
/// register one for each. [`ConcurrencyLimit`](super::ConcurrencyLimit) limits the calls in progress.
///
/// ```
/// use coreloop::interceptor::{RateLimit, TokenCheck};
/// use coreloop::{Context, Server};
///
/// let builder = Server::builder()
///     .method("Orders.Search", |_cx: &Context<'_>, text: String| Ok(text.len()))
///     .interceptor(TokenCheck::new([("ann", "s3cret")]))
///     // Each caller may search twice a second, and ten times at once.
///     .interceptor_for("Orders.Search", RateLimit::per_second(2.0).burst(10).for_each_principal());
/// ```
#[derive(Debug)]
pub struct RateLimit {
    /// The bits of the calls per second.
    per_second: AtomicU64,
    burst: AtomicU32,
    by: Callers,
    callers_max: usize,
    began: Instant,
    /// When the bucket of all callers will be full: nanoseconds after `began`.
    full_at_ns: AtomicU64,
    /// The same, of each caller. No handler can hold the lock, and each holder only looks up one entry, except for one
    /// in `callers_max` / 2 of them.
    full_at_ns_of: Mutex<HashMap<LimitedCaller, u64>>,
}

/// Returns the burst of a rate: the calls of one second, at least one.
fn burst_of(per_second: f64) -> u32 {
    per_second.clamp(1.0, f64::from(u32::MAX)) as u32
}

impl RateLimit {
    /// Creates a limit of that many calls per second, with a burst of one second's calls, at least one.
    pub fn per_second(per_second: f64) -> RateLimit {
        RateLimit {
            per_second: AtomicU64::new(per_second.to_bits()),
            burst: AtomicU32::new(burst_of(per_second)),
            by: Callers::Together,
            callers_max: CALLERS_MAX,
            began: Instant::now(),
            full_at_ns: AtomicU64::new(0),
            full_at_ns_of: Mutex::default(),
        }
    }

    /// Sets how many calls pass at once after a pause; at least one.
    pub fn burst(mut self, burst: u32) -> RateLimit {
        self.burst = AtomicU32::new(burst.max(1));
        self
    }

    /// Puts another rate into force, with a burst of one second's calls. Buckets keep the time at which they are full.
    #[cfg(feature = "server")]
    pub(crate) fn exchange(&self, per_second: f64) {
        self.per_second.store(per_second.to_bits(), Ordering::Relaxed);
        self.burst.store(burst_of(per_second), Ordering::Relaxed);
    }

    /// Returns the rate and the burst. A call at the moment of an exchange may see one of them as it was.
    fn rate(&self) -> (f64, u32) {
        (f64::from_bits(self.per_second.load(Ordering::Relaxed)), self.burst.load(Ordering::Relaxed))
    }

    /// Limits each authenticated caller by itself. Register the limit after the interceptor that sets the principal; calls
    /// without one share one bucket.
    pub fn for_each_principal(mut self) -> RateLimit {
        self.by = Callers::ByPrincipal;
        self
    }

    /// Limits each peer address by itself. Unix and in-memory connections share one bucket.
    pub fn for_each_address(mut self) -> RateLimit {
        self.by = Callers::ByAddress;
        self
    }

    /// Sets the most callers that are kept apart. Default: 65,536. Callers whose buckets are full are forgotten first;
    /// if there are too many even without those, all are forgotten: the limit lets too many calls pass then, and does not
    /// refuse callers that have done nothing.
    pub fn callers_max(mut self, callers_max: usize) -> RateLimit {
        self.callers_max = callers_max.max(1);
        self
    }

    /// Takes a token for a call at `now_ns` after the beginning.
    fn take(&self, caller: Option<LimitedCaller>, now_ns: u64) -> Result<(), Duration> {
        let (per_second, burst) = self.rate();
        let size = BucketSize::new(per_second, burst);
        let Some(caller) = caller else {
            let mut full_at_ns = self.full_at_ns.load(Ordering::Relaxed);
            loop {
                let next = size.take(full_at_ns, now_ns)?;
                // The number guards no other memory.
                match self.full_at_ns.compare_exchange_weak(
                    full_at_ns,
                    next,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Ok(()),
                    Err(other) => full_at_ns = other,
                }
            }
        };
        let mut buckets = self.full_at_ns_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at_ns) = buckets.get_mut(&caller) {
            *full_at_ns = size.take(*full_at_ns, now_ns)?;
            return Ok(());
        }
        let next = size.take(0, now_ns)?;
        if buckets.len() >= self.callers_max {
            buckets.retain(|_, full_at_ns| !BucketSize::is_full(*full_at_ns, now_ns));
            // Half of the table at least is free afterwards: the next such search is far away.
            if buckets.len() > self.callers_max / 2 {
                buckets.clear();
            }
        }
        buckets.insert(caller, next);
        Ok(())
    }
}

impl Interceptor for RateLimit {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        let since = call.now().saturating_duration_since(self.began);
        match self.take(self.by.of(call), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)) {
            Ok(()) => Admit::Continue,
            Err(wait) => {
                let (per_second, burst) = self.rate();
                let text = format!(
                    "{} is limited to {per_second} calls per second, and {burst} at once",
                    call.method()
                );
                Admit::Refuse(Status::resource_exhausted(text).with_retry_after(wait))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn callers_have_buckets_of_their_own() {
        let limit = RateLimit::per_second(1.0).burst(2);
        let caller = |name: &str| Some(LimitedCaller::Principal(name.into()));
        for (caller, now, expected) in [
            (caller("ann"), 0, Ok(())),
            (caller("ann"), 0, Ok(())),
            (caller("ann"), 0, Err(Duration::from_secs(1))),
            (caller("bob"), 0, Ok(())),
            (Some(LimitedCaller::Unknown), 0, Ok(())),
            (None, 0, Ok(())),
            (None, 0, Ok(())),
            (None, 0, Err(Duration::from_secs(1))),
            (caller("ann"), SECOND, Ok(())),
            (caller("ann"), SECOND, Err(Duration::from_secs(1))),
            (None, SECOND, Ok(())),
        ] {
            assert_eq!(limit.take(caller.clone(), now), expected, "{caller:?} {now}");
        }
    }

    #[test]
    fn the_number_of_callers_is_bounded() {
        let limit = RateLimit::per_second(1.0).burst(1).callers_max(10);
        let caller = |n: usize| Some(LimitedCaller::Principal(n.to_string().into()));
        let known = || limit.full_at_ns_of.lock().unwrap().len();
        (0..10).for_each(|n| limit.take(caller(n), 0).unwrap());
        assert_eq!(known(), 10);
        // Full buckets are forgotten; that of the first is not full any more.
        limit.take(caller(0), SECOND).unwrap();
        limit.take(caller(10), SECOND).unwrap();
        assert_eq!(known(), 2);
        assert!(limit.take(caller(0), SECOND).is_err());
        // All are in use.
        (11..30).for_each(|n| limit.take(caller(n), SECOND).unwrap());
        assert!(known() <= 10);
    }
}
