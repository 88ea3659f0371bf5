//! How times and texts are written in the lines of logs.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::calendar;

/// Appends a JSON string. Control characters and the separators of lines are escaped: a value cannot begin a line.
pub fn put_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            line.push('\\');
            line.push(c);
        } else if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            // Writing to a string does not fail.
            let _ = write!(line, "\\u{:04x}", c as u32);
        } else {
            line.push(c);
        }
    }
    line.push('"');
}

/// Appends a time as RFC 3339 writes it: UTC, with milliseconds. A time before 1970 is written as its beginning.
pub fn put_time(line: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = calendar::date(i128::from(days));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    let _ = write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
}
