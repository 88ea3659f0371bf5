//! Estimates how long a call will take, by method and size class of its argument.
//!
//! An estimate is the median of the last 16 samples. A median ignores outliers as long as they are fewer than half of
//! the samples, and follows a real change within one window; a mean does neither. Admission by such estimates can
//! lock itself out: if an estimate is so high that each call is refused, no sample comes to correct it. Therefore a
//! probe is due when neither a sample nor a probe has come for [`PROBE_AFTER`]. (The half-open state of a circuit
//! breaker has the same purpose: Michael Nygard, "Release It!", 2007.)

use std::time::{Duration, Instant};

/// The number of samples from which the median is taken.
pub const SAMPLES: usize = 16;
/// A probe is due when neither a sample nor a probe has come for this long.
pub const PROBE_AFTER: Duration = Duration::from_millis(250);

/// The size class of an argument: each class but the first spans a factor of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeClass(u8);

impl SizeClass {
    /// The number of classes: up to 64 bytes, 1 KiB, 16 KiB, 256 KiB, and more.
    pub const COUNT: usize = 5;

    /// Returns the class of an argument of this length.
    ///
    /// ```
    /// use coreloop::policy::estimate::SizeClass;
    /// assert_eq!(SizeClass::of(0), SizeClass::of(64));
    /// assert!(SizeClass::of(64) < SizeClass::of(65));
    /// ```
    #[inline]
    pub fn of(bytes: usize) -> SizeClass {
        // The classes end at 2^6, 2^10, 2^14 and 2^18.
        let bits = usize::BITS - bytes.saturating_sub(1).leading_zeros();
        SizeClass((bits.saturating_sub(3) / 4).min(SizeClass::COUNT as u32 - 1) as u8)
    }

    /// Returns the number of the class, 0 for the smallest arguments.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The estimates of all methods: about 160 bytes for each method and size class, allocated at construction.
#[derive(Clone, Debug)]
pub struct Estimates {
    /// What [`Estimates::estimate_ns`] reads, by method and class. Kept apart from the samples: reading an estimate
    /// touches one cache line.
    estimates_ns: Box<[[u32; SizeClass::COUNT]]>,
    windows: Box<[[SampleWindow; SizeClass::COUNT]]>,
}

/// The last samples of one method and class.
#[derive(Clone, Copy, Debug)]
struct SampleWindow {
    /// The samples, a ring in order of arrival. Places without a sample yet are `u32::MAX`.
    samples_ns: [u32; SAMPLES],
    /// The same values in ascending order: a new sample moves past a few others, which is cheaper than to search the
    /// median among unsorted samples.
    sorted_ns: [u32; SAMPLES],
    /// The place of the oldest sample, which the next one replaces.
    next: u8,
    /// The number of samples.
    count: u8,
    /// The time of the last sample or probe.
    last: Option<Instant>,
}

impl Estimates {
    /// Creates the estimates of this number of methods, without samples.
    pub fn new(methods: usize) -> Estimates {
        Estimates {
            estimates_ns: vec![[0; SizeClass::COUNT]; methods].into_boxed_slice(),
            windows: vec![[SampleWindow::EMPTY; SizeClass::COUNT]; methods].into_boxed_slice(),
        }
    }

    /// Returns the time that a call is expected to take, in nanoseconds: the median of the last samples of its method
    /// and class. Without samples of the class it is the estimate of the next smaller class that has some, and 0 if
    /// there is none.
    ///
    /// # Panics
    ///
    /// If `method` is not below the number of methods.
    #[inline]
    pub fn estimate_ns(&self, method: u32, class: SizeClass) -> u32 {
        self.estimates_ns[method as usize][class.index()]
    }

    /// Records how long a call took, in nanoseconds; a longer time than `u32::MAX` (4.29 s) is passed as `u32::MAX`.
    ///
    /// # Panics
    ///
    /// If `method` is not below the number of methods.
    #[inline]
    pub fn note(&mut self, method: u32, class: SizeClass, took_ns: u32, now: Instant) {
        let (method, class) = (method as usize, class.index());
        let window = &mut self.windows[method][class];
        window.replace_oldest(took_ns);
        window.last = Some(now);
        let median = window.median();
        if self.estimates_ns[method][class] != median {
            self.set(method, class, median);
        }
    }

    /// Returns whether this call is a probe: to be started even though its estimate says that it would finish too
    /// late. This is so if neither a sample nor a probe of its method and class has come for [`PROBE_AFTER`]. The
    /// probe is recorded: the next one is due after the same time.
    ///
    /// # Panics
    ///
    /// If `method` is not below the number of methods.
    pub fn take_probe(&mut self, method: u32, class: SizeClass, now: Instant) -> bool {
        let last = &mut self.windows[method as usize][class.index()].last;
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= PROBE_AFTER);
        if is_due {
            *last = Some(now);
        }
        is_due
    }

    /// Sets the estimate of a class, which is also that of the larger classes without samples that follow.
    fn set(&mut self, method: usize, class: usize, median: u32) {
        let (windows, estimates) = (&self.windows[method], &mut self.estimates_ns[method]);
        estimates[class] = median;
        for larger in class + 1..SizeClass::COUNT {
            if windows[larger].count > 0 {
                break;
            }
            estimates[larger] = median;
        }
    }
}

impl SampleWindow {
    const EMPTY: SampleWindow = SampleWindow {
        samples_ns: [u32::MAX; SAMPLES],
        sorted_ns: [u32::MAX; SAMPLES],
        next: 0,
        count: 0,
        last: None,
    };

    /// Replaces the oldest sample; in a window that is not full, one of the unused places.
    #[inline]
    fn replace_oldest(&mut self, sample: u32) {
        let oldest = std::mem::replace(&mut self.samples_ns[usize::from(self.next)], sample);
        self.next = (self.next + 1) % SAMPLES as u8;
        self.count = (self.count + 1).min(SAMPLES as u8);
        // The new sample starts in the place of the oldest and moves to where the order has it.
        let sorted = &mut self.sorted_ns;
        let mut at = sorted.iter().position(|&other| other == oldest).unwrap_or(0);
        while at + 1 < SAMPLES && sorted[at + 1] < sample {
            sorted[at] = sorted[at + 1];
            at += 1;
        }
        while at > 0 && sorted[at - 1] > sample {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = sample;
    }

    /// Returns the median, of an even number the lower one of the two in the middle. There is at least one sample.
    #[inline]
    fn median(&self) -> u32 {
        self.sorted_ns[usize::from(self.count - 1) / 2]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SMALL: SizeClass = SizeClass(0);

    #[test]
    fn a_class_ends_at_its_bound() {
        let bounds = [64, 1 << 10, 16 << 10, 256 << 10];
        for (index, bound) in bounds.into_iter().enumerate() {
            assert_eq!(SizeClass::of(bound).index(), index);
            assert_eq!(SizeClass::of(bound + 1).index(), index + 1);
        }
        assert_eq!(SizeClass::of(0).index(), 0);
        assert_eq!(SizeClass::of(usize::MAX).index(), SizeClass::COUNT - 1);
    }

    #[test]
    fn there_is_no_estimate_before_the_first_sample() {
        let mut estimates = Estimates::new(2);
        assert_eq!(estimates.estimate_ns(1, SMALL), 0);
        estimates.note(1, SMALL, 700, Instant::now());
        assert_eq!(estimates.estimate_ns(1, SMALL), 700);
        assert_eq!(estimates.estimate_ns(0, SMALL), 0);
    }

    #[test]
    fn a_change_by_a_factor_of_100_is_followed_within_the_window() {
        let now = Instant::now();
        for (before, after) in [(1_000, 100_000), (100_000, 1_000)] {
            for samples_before in 1..50 {
                let mut estimates = Estimates::new(1);
                (0..samples_before).for_each(|_| estimates.note(0, SMALL, before, now));
                assert_eq!(estimates.estimate_ns(0, SMALL), before);
                (0..SAMPLES).for_each(|_| estimates.note(0, SMALL, after, now));
                assert_eq!(estimates.estimate_ns(0, SMALL), after, "after {samples_before} samples");
            }
        }
    }

    #[test]
    fn a_class_without_samples_has_the_estimate_of_the_next_smaller_one() {
        let now = Instant::now();
        let mut estimates = Estimates::new(1);
        let read =
            |estimates: &Estimates| [0, 1, 2, 3, 4].map(|class| estimates.estimate_ns(0, SizeClass(class)));
        estimates.note(0, SizeClass(1), 10, now);
        assert_eq!(read(&estimates), [0, 10, 10, 10, 10]);
        estimates.note(0, SizeClass(3), 30, now);
        assert_eq!(read(&estimates), [0, 10, 10, 30, 30]);
        estimates.note(0, SizeClass(0), 5, now);
        assert_eq!(read(&estimates), [5, 10, 10, 30, 30]);
        (0..2).for_each(|_| estimates.note(0, SizeClass(1), 12, now));
        assert_eq!(read(&estimates), [5, 12, 12, 30, 30]);
    }

    #[test]
    fn an_estimate_that_refuses_each_call_is_probed_four_times_a_second() {
        let start = Instant::now();
        let mut estimates = Estimates::new(1);
        estimates.note(0, SMALL, u32::MAX, start);
        let millisecond = |ms: u64| start + Duration::from_millis(ms);
        let probes: Vec<u64> =
            (0..=1000).filter(|&ms| estimates.take_probe(0, SMALL, millisecond(ms))).collect();
        assert_eq!(probes, [250, 500, 750, 1000]);
        // A sample delays the next probe too.
        estimates.note(0, SMALL, u32::MAX, millisecond(1100));
        assert!(!estimates.take_probe(0, SMALL, millisecond(1349)));
        assert!(estimates.take_probe(0, SMALL, millisecond(1350)));
    }

    #[test]
    fn a_class_with_a_borrowed_estimate_is_probed_at_once() {
        let now = Instant::now();
        let mut estimates = Estimates::new(1);
        estimates.note(0, SMALL, u32::MAX, now);
        assert!(estimates.take_probe(0, SizeClass(4), now));
        assert!(!estimates.take_probe(0, SizeClass(4), now));
    }

    #[test]
    fn a_time_before_the_last_one_is_no_reason_to_probe() {
        let now = Instant::now();
        let mut estimates = Estimates::new(1);
        estimates.note(0, SMALL, 1, now + Duration::from_secs(1));
        assert!(!estimates.take_probe(0, SMALL, now));
    }

    /// A plain model: all samples, from which the estimate is derived when it is read.
    #[derive(Default)]
    struct Model {
        samples: HashMap<(u32, usize), Vec<u32>>,
        last: HashMap<(u32, usize), Instant>,
    }

    impl Model {
        fn estimate(&self, method: u32, class: usize) -> u32 {
            let Some(samples) = (0..=class).rev().find_map(|class| self.samples.get(&(method, class))) else {
                return 0;
            };
            let mut last = samples[samples.len().saturating_sub(SAMPLES)..].to_vec();
            last.sort_unstable();
            last[(last.len() - 1) / 2]
        }
    }

    proptest! {
        #[test]
        fn the_estimates_are_those_of_a_plain_model(
            steps in proptest::collection::vec((0..2_u32, 0..3_u8, any::<Option<u32>>(), 0..120_u64), 0..600)
        ) {
            let (mut estimates, mut model, mut now) = (Estimates::new(2), Model::default(), Instant::now());
            for (method, class, took_ns, later_ms) in steps {
                now += Duration::from_millis(later_ms);
                let key = (method, usize::from(class));
                if let Some(took_ns) = took_ns {
                    estimates.note(method, SizeClass(class), took_ns, now);
                    model.samples.entry(key).or_default().push(took_ns);
                    model.last.insert(key, now);
                } else {
                    let is_due = model.last.get(&key).is_none_or(|&last| now - last >= PROBE_AFTER);
                    prop_assert_eq!(estimates.take_probe(method, SizeClass(class), now), is_due);
                    if is_due {
                        model.last.insert(key, now);
                    }
                }
                for (method, class) in (0..2).flat_map(|method| (0..5).map(move |class| (method, class))) {
                    let expected = model.estimate(method, usize::from(class));
                    prop_assert_eq!(estimates.estimate_ns(method, SizeClass(class)), expected);
                }
            }
        }

        #[test]
        fn fewer_outliers_than_half_do_not_move_the_estimate(
            outliers in proptest::collection::vec(prop_oneof![0..100_u32, 10_000..u32::MAX], 0..8),
            order in any::<prop::sample::Index>(),
            windows in 1..5_usize,
        ) {
            // The same 16 samples again and again: each run of 16 contains all the outliers.
            let mut samples = vec![1_000; SAMPLES - outliers.len()];
            for outlier in outliers {
                samples.insert(order.index(samples.len()), outlier);
            }
            let (mut estimates, now) = (Estimates::new(1), Instant::now());
            (0..SAMPLES).for_each(|_| estimates.note(0, SMALL, 1_000, now));
            for &sample in samples.iter().cycle().take(windows * SAMPLES) {
                estimates.note(0, SMALL, sample, now);
                prop_assert_eq!(estimates.estimate_ns(0, SMALL), 1_000);
            }
        }
    }
}
