//! Parses rates, durations and objectives, and formats numbers for people.

use std::str::FromStr;
use std::time::Duration;

/// The longest run, and the maximum of every other duration: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// Parses calls per second: `200`, `50k`, `1.5M`.
pub fn rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.trim().as_bytes().last() {
        Some(b'k' | b'K') => (&text.trim()[..text.trim().len() - 1], 1e3),
        Some(b'm' | b'M') => (&text.trim()[..text.trim().len() - 1], 1e6),
        _ => (text.trim(), 1.0),
    };
    let rate =
        digits.parse::<f64>().map_err(|_| format!("`{text}` is no rate: write 200, 50k or 1.5M"))? * factor;
    if (0.001..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err("a rate is between 0.001 and 1000M a second".into())
    }
}

/// Parses a duration: `10`, `10s`, `250ms`, `80us`, `2m`, `1h`; a bare number is seconds. At most a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').unwrap_or(text.len());
    let factor = match &text[unit_at..] {
        "" | "s" => 1.0,
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("`{unit}` is no unit of time: use us, ms, s, m or h")),
    };
    let number = text[..unit_at].trim().parse::<f64>();
    let seconds = number.map_err(|_| format!("`{text}` is no length of time: write 10s or 250ms"))? * factor;
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("a length of time is between 0 and a day".into())
    }
}

/// Parses a [`duration`] that is not zero.
pub fn some_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than 0".into()),
        some => Ok(some),
    }
}

/// An objective: percentiles with their limits, and the share of calls that may fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    /// The objective as given.
    pub text: String,
    /// Quantile (0 to 1) and the maximum latency at it, in ns.
    pub bounds: Vec<(f64, u64)>,
    /// Share of the calls that may fail.
    pub errors_max: f64,
}

impl FromStr for Promise {
    type Err = String;

    /// Parses `p99=2ms,p99.9=10ms,errors=0.1%`.
    fn from_str(text: &str) -> Result<Promise, String> {
        let mut promise = Promise { text: text.trim().to_owned(), bounds: Vec::new(), errors_max: 0.0 };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(format!("`{part}`: write p99=2ms"))?;
            if name.trim() == "errors" {
                let percent = value.trim().strip_suffix('%').ok_or("errors are in percent: errors=0.1%")?;
                let percent = percent.parse::<f64>().map_err(|_| format!("`{value}` is no percentage"))?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err("a percentage is between 0 and 100".into());
                }
                promise.errors_max = percent / 100.0;
                continue;
            }
            let quantile = match name.trim() {
                "max" => Some(100.0),
                name => name.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok()),
            };
            let quantile = quantile.filter(|percent| *percent > 0.0 && *percent <= 100.0);
            let quantile = quantile.ok_or(format!("`{name}` is no percentile: write p99 or max"))? / 100.0;
            promise.bounds.push((quantile, some_duration(value)?.as_nanos() as u64));
        }
        if promise.bounds.is_empty() {
            return Err("a promise has a percentile in it: p99=2ms".into());
        }
        Ok(promise)
    }
}

/// Formats a time in ns with three significant digits: `87.3 µs`, `2.04 ms`, `1.20 s`.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    match value {
        value if value < 10.0 => format!("{value:.2} {unit}"),
        value if value < 100.0 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// Formats a latency the same way; below a microsecond, the unit of the server's reports, it is `< 1 µs`.
pub fn latency(ns: f64) -> String {
    if ns < 1e3 { "< 1 µs".into() } else { time(ns) }
}

/// Formats a count with spaces between thousands; a small one with two decimals.
pub fn count(number: f64) -> String {
    if number < 100.0 && number.fract() != 0.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Formats a share as a percentage; a small one keeps a significant digit.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".into(),
        percent if percent < 0.01 => "under 0.01 %".into(),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_with_and_without_a_suffix() {
        assert_eq!(rate("200"), Ok(200.0));
        assert_eq!(rate("50k"), Ok(50_000.0));
        assert_eq!(rate("1.5M"), Ok(1_500_000.0));
        for wrong in ["", "k", "0", "-5", "1e12", "NaN", "fast", "5é"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_with_their_units() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("80 µs"), Ok(Duration::from_micros(80)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(some_duration("0").is_err());
        for wrong in ["", "s", "-1s", "5 days", "25h", "inf", "NaN"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn objectives_are_percentiles_and_errors() {
        let promise: Promise = "p99=2ms, max=1s,errors=0.5%".parse().expect("well-formed");
        assert_eq!(promise.bounds, [(0.99, 2_000_000), (1.0, 1_000_000_000)]);
        assert_eq!(promise.errors_max, 0.005);
        for wrong in ["", "p99", "p0=1s", "p101=1s", "p99=0", "mean=1s", "errors=1%", "p99=1s,errors=5"] {
            assert!(wrong.parse::<Promise>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_formatted_for_people() {
        assert_eq!([0.0, 999.0, 1e3].map(latency), ["< 1 µs", "< 1 µs", "1.00 µs"]);
        let times = [0.0, 87_300.0, 2_040_000.0, 1.2e9, 999.6e6].map(time);
        assert_eq!(times, ["0 ns", "87.3 µs", "2.04 ms", "1.20 s", "1000 ms"]);
        assert_eq!([7.0, 0.5, 1234.4, 1_234_567.0].map(count), ["7", "0.50", "1 234", "1 234 567"]);
        assert_eq!([0.0, 0.00001, 0.005, 0.25].map(percent), ["0 %", "under 0.01 %", "0.50 %", "25.0 %"]);
    }
}
