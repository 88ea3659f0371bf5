//! CoDel: sheds calls when even the shortest wait in a queue stays too long (RFC 8289; Kathleen Nichols and Van
//! Jacobson, "Controlling Queue Delay", 2012).
//!
//! A burst fills a queue and empties it again; that is what a queue is for. Only a queue whose waits stay above the
//! target for a whole interval is overloaded. Then one call is shed, and until a wait is below the target again,
//! further ones at intervals that shrink with the square root of their number.
//!
//! The rate of shedding rises by `1 / (2 × interval²)` in each second, for example with an interval of 100 ms to 50
//! calls/s after one second. The law was made for senders that slow down when they lose a packet. Callers that do not
//! slow down are shed too slowly at high rates, so a bound on the queue remains necessary.

use std::time::{Duration, Instant};

/// After a pause of this many intervals or more the rate of the last overload is forgotten.
const MEMORY_INTERVALS: u32 = 16;
/// The largest interval: 3 days. With it the arithmetic of [`CoDel::after`] cannot overflow.
const INTERVAL_NS_MAX: u64 = u64::MAX >> 16;

/// The state of one queue.
#[derive(Clone, Debug)]
pub struct CoDel {
    target: Duration,
    interval_ns: u64,
    phase: CoDelPhase,
    /// How the last overload ended.
    last: Option<LastOverload>,
}

#[derive(Clone, Copy, Debug)]
enum CoDelPhase {
    /// The last wait was below the target, or the queue was empty after it.
    Below,
    /// Each wait since the last one below the target was above it; an overload begins at `shed_from`.
    Above { shed_from: Instant },
    /// Overloaded: the next call is shed at `next` or later. `count` determines the rate; it began with
    /// `count_first`.
    Shedding { next: Instant, count: u32, count_first: u32 },
}

#[derive(Clone, Copy, Debug)]
struct LastOverload {
    /// When the next call would have been shed.
    next: Instant,
    /// By how much its count grew: the rate that was enough to end it.
    grown: u32,
}

impl CoDel {
    /// Creates the state of an empty queue.
    ///
    /// `target` is the wait that is acceptable for good; RFC 8289 uses 5 ms. `interval` is how long waits may be above
    /// it, at least as long as callers need to react, and 10 to 20 times the target; RFC 8289 uses 100 ms. An interval
    /// of zero is 1 ns, one of more than 3 days is 3 days.
    pub fn new(target: Duration, interval: Duration) -> CoDel {
        let interval_ns = interval.as_nanos().clamp(1, u128::from(INTERVAL_NS_MAX)) as u64;
        CoDel { target, interval_ns, phase: CoDelPhase::Below, last: None }
    }

    /// Returns whether a call that has just left the queue, after having `waited`, is shed. If it is, the next call
    /// leaves the queue in its place, with the same `now`. `is_last` says that the queue is now empty: the last call is
    /// never shed, because there is none to take its place.
    #[inline]
    pub fn on_dequeue(&mut self, now: Instant, waited: Duration, is_last: bool) -> bool {
        if waited < self.target || is_last {
            if let CoDelPhase::Shedding { next, count, count_first } = self.phase {
                self.last = Some(LastOverload { next, grown: count - count_first });
            }
            self.phase = CoDelPhase::Below;
            return false;
        }
        self.on_long_wait(now)
    }

    fn on_long_wait(&mut self, now: Instant) -> bool {
        match self.phase {
            CoDelPhase::Below => {
                let shed_from = now + Duration::from_nanos(self.interval_ns);
                self.phase = CoDelPhase::Above { shed_from };
                false
            }
            CoDelPhase::Above { shed_from } if now < shed_from => false,
            CoDelPhase::Above { .. } => {
                let count = self.first_count(now);
                self.phase = CoDelPhase::Shedding { next: self.after(now, count), count, count_first: count };
                true
            }
            CoDelPhase::Shedding { next, .. } if now < next => false,
            CoDelPhase::Shedding { next, count, count_first } => {
                let count = count.saturating_add(1);
                self.phase = CoDelPhase::Shedding { next: self.after(next, count), count, count_first };
                true
            }
        }
    }

    /// Returns the count with which an overload begins: soon after the last one, with the rate that ended that.
    fn first_count(&self, now: Instant) -> u32 {
        let memory_ns = self.interval_ns.saturating_mul(u64::from(MEMORY_INTERVALS));
        match self.last {
            Some(LastOverload { next, grown })
                if grown > 1 && now.saturating_duration_since(next) < Duration::from_nanos(memory_ns) =>
            {
                grown
            }
            Some(LastOverload { .. }) | None => 1,
        }
    }

    /// The control law: returns the time of the next shedding, an interval / √count after `time`.
    fn after(&self, time: Instant, count: u32) -> Instant {
        // The root in units of 2^-16.
        let root = (u64::from(count) << 32).isqrt();
        time + Duration::from_nanos((self.interval_ns << 16) / root)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);
    const MS: Duration = Duration::from_millis(1);

    fn codel() -> CoDel {
        CoDel::new(TARGET, INTERVAL)
    }

    /// Calls leave the queue every `step` with this wait; returns the times of shedding, from the start of the run.
    fn shed_times(
        codel: &mut CoDel,
        start: Instant,
        length: Duration,
        step: Duration,
        waited: Duration,
    ) -> Vec<Duration> {
        let steps = (length.as_nanos() / step.as_nanos()) as u32;
        let times = (0..steps).map(|index| step * index);
        times.filter(|&time| codel.on_dequeue(start + time, waited, false)).collect()
    }

    #[test]
    fn sheds_first_after_an_interval() {
        let times = shed_times(&mut codel(), Instant::now(), 2 * INTERVAL, MS, TARGET);
        assert_eq!(times, [INTERVAL]);
    }

    #[test]
    fn the_gaps_follow_the_control_law() {
        let step = Duration::from_micros(10);
        let times = shed_times(&mut codel(), Instant::now(), 100 * INTERVAL, step, 10 * TARGET);
        assert!(times.len() > 1_000, "{}", times.len());
        let mut due = INTERVAL.as_secs_f64();
        for (index, time) in times.into_iter().enumerate() {
            let late = time.as_secs_f64() - due;
            assert!((-1e-6..2e-5).contains(&late), "shedding {index} at {time:?}, due at {due} s");
            due += INTERVAL.as_secs_f64() / f64::from(index as u32 + 1).sqrt();
        }
    }

    #[test]
    fn one_short_wait_in_each_interval_prevents_shedding() {
        let (mut codel, start) = (codel(), Instant::now());
        for step in 0..10_000 {
            let waited = if step % 99 == 0 { TARGET - MS } else { 100 * TARGET };
            assert!(!codel.on_dequeue(start + MS * step, waited, false), "at step {step}");
        }
    }

    #[test]
    fn the_last_call_is_not_shed_and_ends_the_overload() {
        let (mut codel, start) = (codel(), Instant::now());
        assert_eq!(shed_times(&mut codel, start, 2 * INTERVAL, MS, TARGET).len(), 1);
        assert!(!codel.on_dequeue(start + 10 * INTERVAL, 100 * TARGET, true));
        assert!(!codel.on_dequeue(start + 10 * INTERVAL, 100 * TARGET, false));
    }

    #[test]
    fn a_second_overload_resumes_the_rate_of_the_first_for_16_intervals() {
        let second = |pause: Duration| {
            let (mut codel, start) = (codel(), Instant::now());
            let length = 20 * INTERVAL;
            assert!(shed_times(&mut codel, start, length, MS, TARGET).len() > 50);
            assert!(!codel.on_dequeue(start + length, Duration::ZERO, false));
            shed_times(&mut codel, start + length + pause, 2 * INTERVAL, MS, TARGET).len()
        };
        for pause in [INTERVAL, 14 * INTERVAL] {
            assert!(second(pause) > 5, "{} after {pause:?}", second(pause));
        }
        assert_eq!(second(17 * INTERVAL), 1);
    }

    #[test]
    fn extreme_settings_do_not_overflow() {
        for (target, interval) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::MAX, Duration::MAX),
            (Duration::ZERO, Duration::MAX),
        ] {
            let (mut codel, start) = (CoDel::new(target, interval), Instant::now());
            assert!(!codel.on_dequeue(start, Duration::from_secs(1), false));
            let is_shed =
                codel.on_dequeue(start + Duration::from_secs(400_000), Duration::from_secs(1), false);
            assert_eq!(is_shed, target.is_zero());
        }
    }

    /// The pseudocode of RFC 8289, section 5, on a queue. Two differences: the control law is in integers, as above;
    /// and `drop_next` is computed before the next packet is looked at, which matters only for how long the rate of the
    /// last overload is remembered.
    #[derive(Default)]
    struct Rfc {
        queue: VecDeque<Instant>,
        first_above_time: Option<Instant>,
        drop_next: Option<Instant>,
        count: u32,
        last_count: u32,
        dropping: bool,
        dropped: Vec<Instant>,
    }

    impl Rfc {
        fn control_law(time: Instant, count: u32) -> Instant {
            codel().after(time, count)
        }

        fn do_dequeue(&mut self, now: Instant) -> (Option<Instant>, bool) {
            let Some(packet) = self.queue.pop_front() else {
                self.first_above_time = None;
                return (None, false);
            };
            let mut ok_to_drop = false;
            if now - packet < TARGET || self.queue.is_empty() {
                self.first_above_time = None;
            } else if let Some(first_above_time) = self.first_above_time {
                ok_to_drop = now >= first_above_time;
            } else {
                self.first_above_time = Some(now + INTERVAL);
            }
            (Some(packet), ok_to_drop)
        }

        fn dequeue(&mut self, now: Instant) -> Option<Instant> {
            let (mut packet, mut ok_to_drop) = self.do_dequeue(now);
            if self.dropping {
                if !ok_to_drop {
                    self.dropping = false;
                }
                while self.dropping && now >= self.drop_next.unwrap() {
                    self.dropped.extend(packet);
                    self.count += 1;
                    self.drop_next = Some(Rfc::control_law(self.drop_next.unwrap(), self.count));
                    (packet, ok_to_drop) = self.do_dequeue(now);
                    if !ok_to_drop {
                        self.dropping = false;
                    }
                }
            } else if ok_to_drop {
                self.dropped.extend(packet);
                (packet, _) = self.do_dequeue(now);
                self.dropping = true;
                let delta = self.count - self.last_count;
                self.count = 1;
                let since = self.drop_next.map(|at| now.saturating_duration_since(at));
                if delta > 1 && since.is_some_and(|since| since < 16 * INTERVAL) {
                    self.count = delta;
                }
                self.drop_next = Some(Rfc::control_law(now, self.count));
                self.last_count = self.count;
            }
            packet
        }
    }

    proptest! {
        #[test]
        fn never_sheds_while_waits_are_below_the_target(
            steps in proptest::collection::vec((0..500_000_u64, 0..5_000_u64), 0..500)
        ) {
            let (mut codel, mut now) = (codel(), Instant::now());
            for (later_us, waited_us) in steps {
                now += Duration::from_micros(later_us);
                prop_assert!(!codel.on_dequeue(now, Duration::from_micros(waited_us), false));
            }
        }

        #[test]
        fn sheds_at_an_increasing_rate_while_waits_are_above_the_target(
            step_us in 100..2_000_u64,
            waits_us in proptest::collection::vec(5_000..10_000_000_u64, 1..20),
        ) {
            let (mut codel, start, step) = (codel(), Instant::now(), Duration::from_micros(step_us));
            let steps = (Duration::from_secs(4).as_nanos() / step.as_nanos()) as u32;
            let (mut in_first_half, mut in_second_half, mut last, mut gap) = (0, 0, None, INTERVAL);
            for (index, &wait_us) in (0..steps).zip(waits_us.iter().cycle()) {
                let now = start + step * index;
                if codel.on_dequeue(now, Duration::from_micros(wait_us), false) {
                    *(if index < steps / 2 { &mut in_first_half } else { &mut in_second_half }) += 1;
                    if let Some(last) = last.replace(now) {
                        // A call leaves only every step, so a gap may be a step too long.
                        prop_assert!(now - last <= gap + step, "{:?} after {gap:?}", now - last);
                        gap = now - last;
                    }
                }
            }
            prop_assert!(in_first_half >= 50 && in_second_half > 2 * in_first_half, "{in_first_half} {in_second_half}");
        }

        #[test]
        fn the_same_calls_are_shed_as_in_the_rfc(
            phases in proptest::collection::vec((0..40_u64, 1..8_u32, 0..6_u32), 1..60)
        ) {
            // In each phase calls arrive and leave in bursts at different rates.
            let (mut rfc, mut codel, mut queue, mut now) = (Rfc::default(), codel(), VecDeque::new(), Instant::now());
            let mut shed = Vec::new();
            for (rounds, arrivals, departures) in phases {
                for _ in 0..rounds {
                    for _ in 0..arrivals {
                        now += Duration::from_micros(100);
                        queue.push_back(now);
                        rfc.queue.push_back(now);
                    }
                    for _ in 0..departures {
                        now += Duration::from_micros(1_500);
                        let served = loop {
                            let Some(call) = queue.pop_front() else { break None };
                            if !codel.on_dequeue(now, now - call, queue.is_empty()) {
                                break Some(call);
                            }
                            shed.push(call);
                        };
                        prop_assert_eq!(rfc.dequeue(now), served);
                    }
                }
            }
            prop_assert_eq!(rfc.dropped, shed);
        }
    }
}
