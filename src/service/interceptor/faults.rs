//! Faults on purpose: some calls fail, come late, or get no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Admit, AdmitCall, Handled, Hooks, Interceptor, Next};
use crate::context::Context;
use crate::status::{Code, Status};

/// The most calls that get no answer at the same time; further ones are answered `unavailable`.
const DROPPED_MAX: usize = 1024;

/// Makes calls fail, come late, or get no answer, each with a probability: to test what the callers do then. The choices
/// are those of a pseudorandom sequence; calls that arrive in the same order with the same seed have the same faults.
///
/// ```
/// use std::time::Duration;
///
/// use coreloop::interceptor::Faults;
/// use coreloop::{Code, Context, Server};
///
/// let faults = Faults::new(7)
///     .error(0.01, Code::Unavailable)
///     .delay(0.05, Duration::from_millis(200))
///     .drop(0.001);
/// let builder = Server::builder()
///     .method("Orders.Price", |_cx: &Context<'_>, item: u32| Ok(40 * item))
///     .interceptor_for("Orders.*", faults);
/// ```
#[derive(Debug)]
pub struct Faults {
    state: AtomicU64,
    error: (f64, Code),
    drop: f64,
    delay: (f64, Duration),
    dropped: Arc<AtomicUsize>,
}

/// The fault of a call that runs on a worker because of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Error(Code),
    Drop,
    Delay(Duration),
}

impl Faults {
    /// Creates an interceptor without faults, whose choices depend on this seed.
    pub fn new(seed: u64) -> Faults {
        Faults {
            state: AtomicU64::new(seed),
            error: (0.0, Code::Unavailable),
            drop: 0.0,
            delay: (0.0, Duration::ZERO),
            dropped: Arc::default(),
        }
    }

    /// Refuses this fraction of the calls with this code.
    pub fn error(mut self, fraction: f64, code: Code) -> Faults {
        self.error = (fraction, code);
        self
    }

    /// Runs this fraction of the calls that much later, on the thread of a worker, which waits (with methods that are
    /// blocking: on a blocking thread), but no longer than the caller. With async methods a thread of the executor waits,
    /// and runs no other future meanwhile: an executor with one thread then delays all calls.
    pub fn delay(mut self, fraction: f64, delay: Duration) -> Faults {
        self.delay = (fraction, delay);
        self
    }

    /// Does not run this fraction of the calls, and gives no answer until their deadlines have passed or their callers
    /// give up. Beyond 1,024 such calls at the same time they are answered `unavailable`.
    pub fn drop(mut self, fraction: f64) -> Faults {
        self.drop = fraction;
        self
    }

    /// Chooses the fault of the next call.
    fn next(&self) -> Option<Fault> {
        // One number for each kind, so that one fraction does not change the choices of another.
        let (error, drop, delay) = (self.draw(), self.draw(), self.draw());
        if error < self.error.0 {
            return Some(Fault::Error(self.error.1));
        }
        if drop < self.drop {
            return Some(Fault::Drop);
        }
        (delay < self.delay.0).then_some(Fault::Delay(self.delay.1))
    }

    /// Returns a number in 0 … 1, without 1. SplitMix64 (Steele, Lea and Flood, 2014).
    fn draw(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn leave_unanswered(&self, cx: &Context<'_>) -> Handled {
        let is_full = self.dropped.fetch_add(1, Ordering::Relaxed) >= DROPPED_MAX;
        let ticket = if is_full { None } else { cx.take_ticket() };
        let Some(ticket) = ticket else {
            self.dropped.fetch_sub(1, Ordering::Relaxed);
            return Handled::failed(Status::unavailable("a fault on purpose"));
        };
        let dropped = self.dropped.clone();
        // Cancelled at its deadline, by its caller, and when its connection closes. The answer comes too late then.
        cx.on_cancel(move || {
            dropped.fetch_sub(1, Ordering::Relaxed);
            drop(ticket);
        });
        Handled::deferred()
    }
}

impl Interceptor for Faults {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT | Hooks::AROUND
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if call.is_on_worker() && call.extensions().get::<Fault>().is_some() {
            return Admit::Continue;
        }
        match self.next() {
            None => Admit::Continue,
            Some(Fault::Error(code)) => Admit::Refuse(Status::new(code, "a fault on purpose")),
            Some(fault) => {
                call.insert(fault);
                Admit::OnWorker
            }
        }
    }

    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        match cx.extensions().get::<Fault>() {
            None | Some(Fault::Error(_)) => next.run(cx),
            Some(Fault::Drop) => self.leave_unanswered(cx),
            Some(Fault::Delay(delay)) => match cx.sleep(*delay) {
                Ok(()) => next.run(cx),
                Err(status) => Handled::failed(status),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_fraction_whatever_the_others_are() {
        const CALLS: usize = 100_000;
        let second = Duration::from_secs(1);
        let all = Faults::new(3).error(0.1, Code::Aborted).drop(0.2).delay(0.5, second);
        let delays = Faults::new(3).delay(0.5, second);
        let (mut errors, mut drops, mut late) = (0, 0, 0);
        for _ in 0..CALLS {
            let alone = delays.next();
            match all.next() {
                Some(Fault::Error(code)) => {
                    assert_eq!(code, Code::Aborted);
                    errors += 1;
                }
                Some(Fault::Drop) => drops += 1,
                other => {
                    assert_eq!(other, alone);
                    late += usize::from(other.is_some());
                }
            }
        }
        // The seed is fixed; the deviation of the counts is below 0.16 % of the calls.
        assert!((9_500..10_500).contains(&errors), "{errors}");
        assert!((17_500..18_500).contains(&drops), "{drops}");
        assert!((35_500..36_500).contains(&late), "{late}");
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let choices = |seed| {
            let faults = Faults::new(seed).error(0.5, Code::Internal);
            (0..64).map(|_| faults.next().is_some()).collect::<Vec<_>>()
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
    }

    #[test]
    fn fractions_of_nothing_and_of_all_are_exact() {
        let (none, all) = (Faults::new(1), Faults::new(1).drop(1.0));
        assert!((0..1000).all(|_| none.next().is_none() && all.next() == Some(Fault::Drop)));
    }
}
