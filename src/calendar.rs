//! Dates of the Gregorian calendar, from counts of days and seconds.

/// Days from the start of the year 0 (in March, so that a leap day comes last) to the start of 1970.
const MARCH_0_TO_EPOCH: i128 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const DAYS_OF_400_YEARS: i128 = 146_097;

/// Returns year, month and day, from days since 1970.
pub(crate) fn date(days: i128) -> (i128, i128, i128) {
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

/// Returns the days from 1970 to a date.
#[cfg(feature = "tls-core")]
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + of_year - MARCH_0_TO_EPOCH as i64
}

/// Formats seconds since 1970 as HTTP writes a time (IMF-fixdate, RFC 9110 section 5.6.7). The format has no year after
/// 9999.
#[cfg(all(feature = "http", feature = "server"))]
pub(crate) fn imf_fixdate(second: u64) -> [u8; 29] {
    // 1 January 1970 was a Thursday.
    const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let second = second.min(253_402_300_799);
    let (days, second) = (second / 86_400, second % 86_400);
    let (year, month, day) = date(i128::from(days));
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(WEEKDAYS[(days % 7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    let pairs = [
        (5, day as u64),
        (12, year as u64 / 100),
        (14, year as u64 % 100),
        (17, second / 3600),
        (20, second / 60 % 60),
        (23, second % 60),
    ];
    for (at, number) in pairs {
        text[at] = b'0' + (number / 10) as u8;
        text[at + 1] = b'0' + (number % 10) as u8;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn a_time_is_written_as_http_writes_it(second in 0..253_402_300_800u64) {
            let expected = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let text = imf_fixdate(second);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
        }
    }

    #[test]
    fn a_time_after_the_year_9999_is_the_last_of_it() {
        for second in [253_402_300_799, u64::MAX] {
            assert_eq!(&imf_fixdate(second), b"Fri, 31 Dec 9999 23:59:59 GMT");
        }
    }
}
