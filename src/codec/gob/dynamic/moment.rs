//! Formats a time as RFC 3339 text, like Go's `time.RFC3339Nano`: without trailing zeros of the second.

use std::fmt::Write as _;

use super::super::time::TimeParts;
use crate::calendar::date;

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
    fn no_moment_is_too_far_away() {
        for seconds in [i64::MIN, i64::MAX] {
            assert!(text(seconds, 0, i16::MIN).contains("T"));
        }
    }
}
