//! Axes of a picture and their ticks. Every axis is linear and begins at zero, so that lengths and distances can be
//! compared by eye.

/// An axis that begins at zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    high: f64,
}

impl Axis {
    /// Returns an axis up to the largest of these values, with some margin.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Axis {
        let values = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let high = values.fold(0.0, f64::max);
        Axis { high: if high > 0.0 { high * 1.04 } else { 1.0 } }
    }

    /// Returns the position of a value: 0 at zero, 1 at the high end, clamped to that range.
    pub fn place(&self, value: f64) -> f64 {
        let place = value / self.high;
        // NaN maps to zero.
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    /// Returns whether the value is beyond the high end.
    pub fn is_beyond(&self, value: f64) -> bool {
        value > self.high
    }

    /// Returns round values from zero to the high end.
    pub fn ticks(&self) -> Vec<f64> {
        let rough = self.high / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..10).map(|at| f64::from(at) * step).filter(|tick| *tick <= self.high).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_linear_and_begins_at_zero() {
        for values in [[2.0, 10.0], [0.001, 10.0]] {
            let axis = Axis::of(values);
            assert_eq!((axis.place(0.0), axis.ticks()), (0.0, vec![0.0, 5.0, 10.0]));
            assert!((axis.place(10.0) / axis.place(5.0) - 2.0).abs() < 1e-9);
        }
        assert!(Axis::of([1.0]).is_beyond(2.0) && !Axis::of([1.0]).is_beyond(1.0));
    }

    #[test]
    fn nan_has_a_place_on_the_axis() {
        for axis in [Axis::of([]), Axis::of([f64::NAN, 0.0, -1.0]), Axis::of([7.0, f64::INFINITY])] {
            for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1.0] {
                assert!((0.0..=1.0).contains(&axis.place(value)), "{axis:?}, {value}");
            }
            assert!(axis.ticks().len() > 1, "{axis:?}");
        }
    }
}
