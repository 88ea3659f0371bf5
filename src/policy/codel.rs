//! Controlled delay: sheds calls of a queue whose waits stay above a target, for callers that state no deadlines.
//!
//! The signal is CoDel's (RFC 8289): a queue is too long if no call of an interval waited less than the target; a burst
//! that drains within the interval is not. The response is not. CoDel drops single packets at a rising rate, and expects
//! senders to slow down; callers of a server send independently of each other, and at 10,000 calls per second that rate
//! is reached after minutes. Here, as in "Fail at Scale" (Maurer, ACM Queue 13, 2015), every call that has waited longer
//! than the target is shed while the queue is too long, and otherwise only those that have waited for a whole interval.

use std::time::{Duration, Instant};

/// The state of a queue.
///
/// ```
/// use coreloop::policy::codel::CoDel;
/// use std::time::{Duration, Instant};
///
/// let ms = Duration::from_millis;
/// let (mut codel, now) = (CoDel::new(ms(5), ms(100)), Instant::now());
/// assert!(!codel.on_dequeue(now, ms(50), false), "it may be a burst");
/// assert!(codel.on_dequeue(now + ms(101), ms(50), false), "no call waited less than the target for 100 ms");
/// assert!(!codel.on_dequeue(now + ms(101), ms(4), false));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CoDel {
    target: Duration,
    interval: Duration,
    /// When the first of the calls left that have all waited longer than the target; `None` after one that has not.
    above_since: Option<Instant>,
}

impl CoDel {
    /// Creates the state of an empty queue: calls may wait for `target`, and for at most `interval` in bursts.
    pub fn new(target: Duration, interval: Duration) -> CoDel {
        CoDel { target, interval: interval.max(target), above_since: None }
    }

    /// Decides about a call that leaves the queue after it has waited: true if it is to be shed. `is_last` says that the
    /// queue is empty now.
    pub fn on_dequeue(&mut self, now: Instant, waited: Duration, is_last: bool) -> bool {
        if waited <= self.target {
            self.above_since = None;
            return false;
        }
        let since = *self.above_since.get_or_insert(now);
        if is_last {
            self.above_since = None;
        }
        waited > self.interval || now.saturating_duration_since(since) >= self.interval
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET_MS: u64 = 5;
    const INTERVAL_MS: u64 = 100;

    fn codel() -> CoDel {
        CoDel::new(Duration::from_millis(TARGET_MS), Duration::from_millis(INTERVAL_MS))
    }

    #[test]
    fn an_empty_queue_ends_the_overload() {
        let (mut codel, now) = (codel(), Instant::now());
        let ms = Duration::from_millis;
        assert!(!codel.on_dequeue(now, ms(50), false));
        assert!(codel.on_dequeue(now + ms(100), ms(50), true));
        assert!(!codel.on_dequeue(now + ms(101), ms(50), false), "a new burst");
    }

    proptest! {
        /// Against the definition, over the whole history: a call is shed if it has waited longer than the interval, or
        /// longer than the target while all calls since the last good moment have, for at least an interval.
        #[test]
        fn sheds_what_the_definition_says(
            calls in proptest::collection::vec((0..60u64, 0..200u64, prop::bool::weighted(0.05)), 1..200),
        ) {
            let (mut codel, began) = (codel(), Instant::now());
            let mut history: Vec<(u64, u64, bool)> = Vec::new();
            let mut at = 0;
            for (step_ms, waited_ms, is_last) in calls {
                at += step_ms;
                let is_shed = codel.on_dequeue(
                    began + Duration::from_millis(at),
                    Duration::from_millis(waited_ms),
                    is_last,
                );
                history.push((at, waited_ms, is_last));
                let above: Vec<u64> = history
                    .iter()
                    .enumerate()
                    .rev()
                    .take_while(|(index, (_, waited, is_last))| {
                        *waited > TARGET_MS && (!*is_last || *index == history.len() - 1)
                    })
                    .map(|(_, (at, _, _))| *at)
                    .collect();
                let is_long = above.last().is_some_and(|first| at - first >= INTERVAL_MS);
                let expected = waited_ms > TARGET_MS && (is_long || waited_ms > INTERVAL_MS);
                prop_assert_eq!(is_shed, expected);
            }
        }
    }
}
