//! What a collector's answer means: success, in part or in whole, another try, or a loss.

use std::time::Duration;

use super::writer::BodyFormat;
use crate::agent::http_client::HttpResponse;

/// The longest pause that a collector can demand; a longer one is this long.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The collector has it, but for this number of spans or points, and says why.
    Taken { rejected: u64, message: String },
    /// Another try may succeed, not before this time if there is one.
    Retry { after: Option<Duration> },
    /// Another try would fail too.
    Refused,
}

/// Returns what an answer means (OTLP specification, "OTLP/HTTP Response"). `unix_second` is the time now.
pub(super) fn verdict(response: &HttpResponse, format: BodyFormat, unix_second: u64) -> Verdict {
    match response.head.status {
        200..=299 => {
            let (rejected, message) = match format {
                BodyFormat::Protobuf => partial_protobuf(&response.body),
                BodyFormat::Json => partial_json(&response.body),
            }
            // The request was taken; a body that cannot be read says nothing of losses.
            .unwrap_or_default();
            Verdict::Taken { rejected, message }
        }
        429 | 502 | 503 | 504 => Verdict::Retry { after: retry_after(response, unix_second) },
        _ => Verdict::Refused,
    }
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(response: &HttpResponse, unix_second: u64) -> Option<Duration> {
    let text = std::str::from_utf8(response.head.field("Retry-After")?).ok()?.trim();
    let seconds = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time.
        true if !text.is_empty() => text.parse().unwrap_or(u64::MAX),
        _ => second_of(text)?.saturating_sub(unix_second),
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Returns the second since the Unix epoch of a date in the preferred format (RFC 9110, section 5.6.7).
fn second_of(text: &str) -> Option<u64> {
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    if text.len() != 29 || !text.is_ascii() || !text.ends_with(" GMT") {
        return None;
    }
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let month = MONTHS.find(&text[8..11]).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);
    if !(1..=31).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since the epoch (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Reads the field `partial_success` of an answer in protobuf.
fn partial_protobuf(body: &[u8]) -> Option<(u64, String)> {
    let mut found = (0, String::new());
    for (number, value) in fields(body)? {
        if let (1, ProtobufValue::Bytes(partial)) = (number, value) {
            for (number, value) in fields(partial)? {
                match (number, value) {
                    (1, ProtobufValue::Number(rejected)) => found.0 = rejected,
                    (2, ProtobufValue::Bytes(message)) => {
                        found.1 = String::from_utf8_lossy(message).into_owned()
                    }
                    _ => {}
                }
            }
        }
    }
    Some(found)
}

/// The value of a field of a message.
enum ProtobufValue<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Returns the fields of a message; `None` if it is not valid.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, ProtobufValue<'_>)>> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => ProtobufValue::Number(varint(&mut message)?),
            1 => ProtobufValue::Bytes(message.split_off(..8)?),
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                ProtobufValue::Bytes(message.split_off(..len)?)
            }
            5 => ProtobufValue::Bytes(message.split_off(..4)?),
            _ => return None,
        };
        all.push((tag >> 3, value));
    }
    Some(all)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads `partialSuccess` of an answer in JSON. A 64-bit number is a string there, and some collectors write a number.
fn partial_json(body: &[u8]) -> Option<(u64, String)> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let partial = answer.get("partialSuccess")?;
    let rejected = ["rejectedSpans", "rejectedDataPoints"].into_iter().find_map(|name| {
        let value = partial.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    });
    let message = partial.get("errorMessage").and_then(|message| message.as_str()).unwrap_or_default();
    Some((rejected.unwrap_or(0), message.to_owned()))
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
