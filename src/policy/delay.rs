//! The smoothed mean of a delay and a bound that it rarely exceeds.
//!
//! The estimator is the one of TCP's retransmission timeout (RFC 6298; Van Jacobson, "Congestion Avoidance and
//! Control", 1988): two exponentially weighted means, one of the delay with a weight of 1/8, one of its deviation from
//! the mean with a weight of 1/4.

/// The largest delay that is recorded: 36 years in nanoseconds. With it no sum below can overflow.
const NS_MAX: u64 = u64::MAX / 16;

/// A smoothed delay and its deviation.
///
/// ```
/// use coreloop::policy::delay::DelayEstimate;
/// let mut delay = DelayEstimate::new();
/// delay.note(1_000);
/// assert_eq!((delay.mean_ns(), delay.bound_ns()), (1_000, 3_000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelayEstimate {
    /// 8 × the mean and 4 × the deviation, so that divisions do not round a small change to nothing.
    mean_8: u64,
    deviation_4: u64,
    is_begun: bool,
}

impl DelayEstimate {
    /// Creates an estimate without samples: mean and bound are 0.
    pub fn new() -> DelayEstimate {
        DelayEstimate::default()
    }

    /// Records a delay in nanoseconds. The first one is the mean, and half of it the deviation.
    #[inline]
    pub fn note(&mut self, ns: u64) {
        let ns = ns.min(NS_MAX);
        if self.is_begun {
            // The deviation from the mean before this sample, as RFC 6298 has it.
            let deviation = ns.abs_diff(self.mean_ns());
            self.deviation_4 = self.deviation_4 - self.deviation_4 / 4 + deviation;
            self.mean_8 = self.mean_8 - self.mean_8 / 8 + ns;
        } else {
            *self = DelayEstimate { mean_8: ns * 8, deviation_4: ns * 2, is_begun: true };
        }
    }

    /// Returns the smoothed mean in nanoseconds, 0 before the first sample.
    #[inline]
    pub fn mean_ns(&self) -> u64 {
        self.mean_8 / 8
    }

    /// Returns the mean plus four times the deviation, in nanoseconds; 0 before the first sample.
    #[inline]
    pub fn bound_ns(&self) -> u64 {
        self.mean_8 / 8 + self.deviation_4
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(samples: &[u64]) -> DelayEstimate {
        let mut delay = DelayEstimate::new();
        samples.iter().for_each(|&ns| delay.note(ns));
        delay
    }

    #[test]
    fn without_samples_mean_and_bound_are_zero() {
        assert_eq!((DelayEstimate::new().mean_ns(), DelayEstimate::new().bound_ns()), (0, 0));
    }

    #[test]
    fn a_delay_of_zero_is_a_sample() {
        assert_eq!(after(&[0, 8_000]).mean_ns(), 1_000);
    }

    #[test]
    fn the_bound_of_a_constant_delay_approaches_it() {
        let delay = after(&[1_000_000; 100]);
        assert_eq!(delay.mean_ns(), 1_000_000);
        assert!(delay.bound_ns() <= 1_000_003, "{delay:?}");
    }

    #[test]
    fn a_jump_widens_the_bound_at_once() {
        let mut delay = after(&[1_000; 100]);
        delay.note(9_000);
        assert_eq!(delay.mean_ns(), 2_000);
        assert!((10_000..=10_003).contains(&delay.bound_ns()), "{delay:?}");
    }

    /// The formulas of RFC 6298, section 2, in floating point.
    fn model(samples: &[u64]) -> (f64, f64) {
        let first = samples[0] as f64;
        samples[1..].iter().fold((first, first / 2.0), |(srtt, rttvar), &sample| {
            let sample = sample as f64;
            (0.875 * srtt + 0.125 * sample, 0.75 * rttvar + 0.25 * (srtt - sample).abs())
        })
    }

    proptest! {
        #[test]
        fn mean_and_bound_are_those_of_rfc_6298(samples in proptest::collection::vec(0..10_000_000_000_u64, 1..200)) {
            let (delay, (srtt, rttvar)) = (after(&samples), model(&samples));
            // Each rounding is below 1 ns, and its effect decays: 8 × 1/8 ns on the mean, 4 × (1 + 1) ns on the rest.
            prop_assert!((delay.mean_ns() as f64 - srtt).abs() <= 2.0, "{delay:?}, mean {srtt}");
            prop_assert!((delay.bound_ns() as f64 - (srtt + 4.0 * rttvar)).abs() <= 16.0, "{delay:?}, {rttvar}");
        }

        #[test]
        fn no_delay_overflows(samples in proptest::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 1..300)) {
            let delay = after(&samples);
            let (least, most) = (samples.iter().min().unwrap(), samples.iter().max().unwrap());
            prop_assert!((*least.min(&NS_MAX)..=*most).contains(&delay.mean_ns()) );
            prop_assert!(delay.bound_ns() >= delay.mean_ns());
        }
    }
}
