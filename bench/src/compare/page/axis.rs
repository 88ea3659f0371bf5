//! Where values stand on a picture, and the ticks beside them; linear or logarithmic.

/// More than so much between the least and the largest does not fit on a linear axis.
const LINEAR_MAX: f64 = 12.0;

/// An axis over some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Axis {
    /// For bars: from zero, unless they differ too much.
    pub fn of_bars(values: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = ends(values);
        if high / low <= LINEAR_MAX {
            Axis { low: 0.0, high: high * 1.02, is_log: false }
        } else {
            // The least must have a length too.
            Axis { low: low / 2.0, high: high * 1.05, is_log: true }
        }
    }

    /// Logarithmic, with some room at both ends.
    pub fn of_points(values: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = ends(values);
        Axis { low: low / 1.25, high: high * 1.25, is_log: true }
    }

    /// Whether equal distances are equal factors.
    pub fn is_log(&self) -> bool {
        self.is_log
    }

    /// The place of a value: 0 at the low end, 1 at the high one, never beyond them.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        // What is no number stands at the low end.
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    /// Round values from the low end to the high one.
    pub fn ticks(&self) -> Vec<f64> {
        if self.is_log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..10).map(|at| f64::from(at) * step).filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let digits: &[f64] = match decades {
            decades if decades > 3.0 => &[1.0],
            decades if decades > 1.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        };
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let all = (first..=last).flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// The least and the largest of those above zero.
fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let ends = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = ends.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)));
    if low.is_finite() { (low, high) } else { (1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_begin_at_zero_until_they_differ_too_much() {
        let near = Axis::of_bars([2.0, 10.0]);
        assert!(!near.is_log() && near.place(0.0) == 0.0);
        assert_eq!(near.ticks(), [0.0, 5.0, 10.0]);
        let far = Axis::of_bars([0.5, 50.0]);
        assert!(far.is_log() && far.place(0.5) > 0.1 && far.place(50.0) < 1.0);
        assert_eq!(far.ticks(), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn values_that_are_none_have_a_place_too() {
        for axis in [Axis::of_bars([]), Axis::of_points([f64::NAN, 0.0, -1.0]), Axis::of_points([7.0])] {
            for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1.0] {
                assert!((0.0..=1.0).contains(&axis.place(value)), "{axis:?}, {value}");
            }
            assert!(!axis.ticks().is_empty(), "{axis:?}");
        }
    }
}
