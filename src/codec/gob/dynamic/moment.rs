//! Formats a time as RFC 3339 text, like Go's `time.RFC3339Nano`: without trailing zeros of the second.

use std::fmt::Write as _;

use super::super::time::TimeParts;

/// Days from the start of the year 0 (in March, so that a leap day comes last) to the start of 1970.
const MARCH_0_TO_EPOCH: i128 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const DAYS_OF_400_YEARS: i128 = 146_097;
const DAY_S: i128 = 86_400;

/// Returns the text of a time. Years that do not fit RFC 3339 are written with all their digits.
pub(super) fn rfc3339(moment: &TimeParts) -> String {
    // -1 is UTC itself.
    let offset = if moment.offset == -1 { 0 } else { i128::from(moment.offset) };
    let local_s = i128::from(moment.seconds) + 60 * offset;
    let (days, second) = (local_s.div_euclid(DAY_S), local_s.rem_euclid(DAY_S));
    let (year, month, day) = date(days);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if moment.nanos > 0 {
        let digits = format!("{:09}", moment.nanos);
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    if offset == 0 {
        text.push('Z');
    } else {
        let sign = if offset < 0 { '-' } else { '+' };
        let _ = write!(text, "{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60);
    }
    text
}

/// Returns year, month and day, from days since 1970.
fn date(days: i128) -> (i128, i128, i128) {
    let days = days + MARCH_0_TO_EPOCH;
    let (era, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    // A leap day every 4 years, not every 100, every 400.
    let year = (day - day / 1460 + day / 36_524 - day / (DAYS_OF_400_YEARS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on the lengths of months repeat: 153 days in five months.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (year + 400 * era + i128::from(is_next_year), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, nanos: u32, offset: i16) -> String {
        rfc3339(&TimeParts { seconds, nanos, offset })
    }

    #[test]
    fn times_match_gos_text() {
        assert_eq!(rfc3339(&TimeParts::ZERO), "0001-01-01T00:00:00Z");
        assert_eq!(text(0, 0, -1), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_700_000_000, 5_000_000, 60), "2023-11-14T23:13:20.005+01:00");
        assert_eq!(text(951_782_400, 1, -330), "2000-02-28T18:30:00.000000001-05:30");
        assert_eq!(text(951_868_799, 0, -1), "2000-02-29T23:59:59Z");
        assert_eq!(text(4_107_542_400, 0, 0), "2100-03-01T00:00:00Z");
        assert_eq!(text(-1, 999_999_999, -1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn every_day_is_followed_by_the_next() {
        let mut before = date(-200_000);
        for days in -199_999..200_000 {
            let next = date(days);
            let is_next_day = (next.0, next.1, next.2) == (before.0, before.1, before.2 + 1);
            let is_next_month = next.2 == 1 && before.2 >= 28 && next.1 == before.1 % 12 + 1;
            assert!(is_next_day || is_next_month, "{before:?} {next:?}");
            before = next;
        }
    }

    #[test]
    fn no_moment_is_too_far_away() {
        for seconds in [i64::MIN, i64::MAX] {
            assert!(text(seconds, 0, i16::MIN).contains("T"));
        }
    }
}
