//! Numbers as Prometheus and OpenMetrics have them.

use std::fmt::Write;

/// Appends a number in the canonical form of OpenMetrics 1.0 (section "Considerations: Canonical Numbers"), which is Go's
/// `%g` with a fraction: `1.0`, `0.25`, `1e-06`, `1.048576e+06`, `+Inf`, `NaN`. The value is exact: parsed, it is the same
/// float again.
pub(super) fn write_float(value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let magnitude = value.abs();
    // Writing to a string never fails.
    if magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        let _ = write!(out, "{value:?}");
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    // Rust writes `1e-6` and `1e6`; the exponent has a sign and two digits.
    let Some(at) = out[start..].find('e') else { return };
    let digits = out.split_off(start + at + 1);
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', digits.as_str()),
    };
    let _ = write!(out, "{sign}{digits:0>2}");
}

/// Appends a whole number.
pub(super) fn write_count(value: u64, out: &mut String) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float(value: f64) -> String {
        let mut out = String::new();
        write_float(value, &mut out);
        out
    }

    #[test]
    fn floats_are_canonical() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.25, "0.25"),
            (1e-6, "1e-06"),
            (1.6e-5, "1.6e-05"),
            (0.0001, "0.0001"),
            (1.048576, "1.048576"),
            (999_999.0, "999999.0"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (1e100, "1e+100"),
            (-2.5e-300, "-2.5e-300"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    proptest! {
        #[test]
        fn a_float_is_read_back_exactly(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn a_count_is_written_as_display_does(value in any::<u64>(), shift in 0..64u32) {
            let value = value >> shift;
            let mut out = String::new();
            write_count(value, &mut out);
            prop_assert_eq!(out, value.to_string());
        }
    }
}
