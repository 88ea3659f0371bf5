//! What a reply says beside its result: the error in its body, and where the time went.

use serde_json::Value;

use super::framing::{digits, list, trim};
use crate::status::Code;

/// The largest body that is read as an error; parsed, it takes several times the memory.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The code and the message of a reply that is not 200. A body that is no error of the Connect protocol leaves it to
/// the status.
pub(super) fn read_error(status: u16, body: &[u8]) -> (Code, String) {
    let from_status =
        || (Code::from_http_status(status), format!("the server answered with HTTP status {status}"));
    if body.len() > ERROR_BYTES_MAX {
        return from_status();
    }
    let Ok(Value::Object(mut error)) = serde_json::from_slice::<Value>(body) else { return from_status() };
    let code = error.get("code").and_then(Value::as_str).and_then(Code::from_connect_name);
    match (code, error.remove("message")) {
        (None | Some(Code::Ok), _) => from_status(),
        (Some(code), Some(Value::String(message))) => (code, message),
        (Some(code), _) => (code, String::new()),
    }
}

/// Microseconds queued and in the handler, as `Server-Timing` has them. Whatever else it says is passed over.
pub(super) fn read_server_timing(value: &[u8], times: &mut (u32, u32)) {
    for metric in list(value) {
        let mut parts = metric.split(|byte| *byte == b';').map(trim);
        let name = parts.next().unwrap_or_default();
        let us = parts.find_map(|part| micros(part.strip_prefix(b"dur=")?)).unwrap_or(0);
        match name {
            b"queue" => times.0 = us,
            b"handler" => times.1 = us,
            _ => {}
        }
    }
}

/// Milliseconds with up to three decimals, more being cut off.
fn micros(text: &[u8]) -> Option<u32> {
    let mut halves = text.splitn(2, |byte| *byte == b'.');
    let whole = digits(halves.next()?, 10)?;
    let decimals = halves.next().unwrap_or_default();
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let decimal = |at: usize| decimals.get(at).map_or(0, |digit| u64::from(digit - b'0'));
    let us = whole * 1000 + decimal(0) * 100 + decimal(1) * 10 + decimal(2);
    Some(u32::try_from(us).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_what_went_wrong_and_the_status_only_where_it_does_not() {
        let of = |status, body: &str| read_error(status, body.as_bytes());
        let error = r#"{"code":"canceled","message":"é","details":[]}"#;
        assert_eq!(of(200, error), (Code::Cancelled, "é".into()));
        assert_eq!(of(500, r#"{"code":"not_found"}"#), (Code::NotFound, String::new()));
        for body in ["", "{}", "[]", "<html>", r#"{"code":null}"#, r#"{"code":"ok"}"#, r#"{"code":"none"}"#] {
            let said = (Code::Unimplemented, "the server answered with HTTP status 404".into());
            assert_eq!(of(404, body), said, "{body}");
        }
        assert_eq!(of(503, &format!("{error}{}", " ".repeat(ERROR_BYTES_MAX))).0, Code::Unavailable);
        assert_eq!(of(503, &"[".repeat(10_000)).0, Code::Unavailable);
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, times) in [
            ("queue;dur=0.012, handler;dur=0.034", (12, 34)),
            ("handler;dur=4294967.295,queue;dur=1", (1000, u32::MAX)),
            ("cache;desc=x;dur=9, queue; dur=2.5;x=y", (2500, 0)),
            ("queue;dur=1.00049", (1000, 0)),
            ("queue;dur=99999999999", (0, 0)),
            ("queue;dur=9999999999", (u32::MAX, 0)),
            ("queue;dur=-1, handler;dur=1.x", (0, 0)),
            ("queue, handler", (0, 0)),
        ] {
            let mut read = (0, 0);
            read_server_timing(text.as_bytes(), &mut read);
            assert_eq!(read, times, "{text}");
        }
    }
}
