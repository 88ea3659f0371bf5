//! Reads the metadata of a reply: the error in its body, and its timing.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::framing::{digits, list, trim};
use crate::json_text::parts;
use crate::status::{Code, Detail};
use crate::wire::details;

/// The members of an error that are read. Others are skipped, and need no memory.
#[derive(Default)]
struct ErrorBody<'a> {
    code: Text<'a>,
    message: Text<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ErrorBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ErrorBody<'a>, D::Error> {
        deserializer.deserialize_map(ErrorBodyVisitor)
    }
}

struct ErrorBodyVisitor;

impl<'de> Visitor<'de> for ErrorBodyVisitor {
    type Value = ErrorBody<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ErrorBody<'de>, A::Error> {
        let mut body = ErrorBody::default();
        while let Some(name) = members.next_key::<Text<'de>>()? {
            match name {
                Text::Is(name) if name == "code" => body.code = members.next_value()?,
                Text::Is(name) if name == "message" => body.message = members.next_value()?,
                Text::Is(_) | Text::None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(body)
    }
}

/// A member that must be a string.
#[derive(Default)]
enum Text<'a> {
    Is(Cow<'a, str>),
    /// The member is missing, or is not a string.
    #[default]
    None,
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Is(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Is(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text::None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
        Ok(Text::None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
        Ok(Text::None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text<'de>, E> {
        Ok(Text::None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
        Ok(Text::None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Text<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::None)
    }
}

/// Returns the code, the message and the details of a reply with a status other than 200. If the body is no error of the
/// Connect protocol, the status decides.
pub(super) fn read_error(status: u16, body: &[u8]) -> (Code, String, Vec<Detail>) {
    let from_status = || {
        let message = format!("the server answered with HTTP status {status}");
        (Code::from_http_status(status), message, Vec::new())
    };
    let Ok(ErrorBody { code: Text::Is(code), message }) = serde_json::from_slice::<ErrorBody<'_>>(body)
    else {
        return from_status();
    };
    let details = || {
        let members = parts::members(body).unwrap_or_default();
        parts::member(&members, "details").map(details::read).unwrap_or_default()
    };
    match (Code::from_connect_name(&code), message) {
        (None | Some(Code::Ok), _) => from_status(),
        (Some(code), Text::Is(message)) => (code, message.into_owned(), details()),
        (Some(code), Text::None) => (code, String::new(), details()),
    }
}

/// Reads the queue and handler times, in microseconds, from a `Server-Timing` value. Other metrics are skipped.
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

/// Reads milliseconds with up to three decimals, and returns microseconds. Further decimals are cut off.
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
    fn the_body_has_precedence_over_the_status() {
        let of = |status, body: &str| {
            let (code, message, details) = read_error(status, body.as_bytes());
            assert!(details.is_empty());
            (code, message)
        };
        let error = r#"{"code":"canceled","message":"é","details":[]}"#;
        assert_eq!(of(200, error), (Code::Cancelled, "é".into()));
        assert_eq!(of(500, r#"{"code":"not_found"}"#), (Code::NotFound, String::new()));
        for body in ["", "{}", "[]", "<html>", r#"{"code":null}"#, r#"{"code":"ok"}"#, r#"{"code":"none"}"#] {
            let response = (Code::Unimplemented, "the server answered with HTTP status 404".into());
            assert_eq!(of(404, body), response, "{body}");
        }
        // At any length, and with any other members.
        let long = "é\\n".repeat(100_000);
        let (code, message) =
            of(503, &format!(r#"{{"details":[{{"x":[1]}}],"message":"{long}","code":"not_found"}}"#));
        assert_eq!((code, message), (Code::NotFound, "é\n".repeat(100_000)));
        let spaced = format!("{error}{}", " ".repeat(1 << 20));
        assert_eq!(of(503, &spaced), (Code::Cancelled, "é".into()));
        assert_eq!(
            of(503, r#"{"code":"not_found","message":[1,{"a":null}]}"#),
            (Code::NotFound, String::new())
        );
        assert_eq!(of(503, &"[".repeat(10_000)).0, Code::Unavailable);
        let detail = Detail::new("a.B").form(6, vec![8, 1]);
        let detailed = r#"{"details":[{"type":"a.B","value":"CAE"}],"code":"aborted"}"#;
        assert_eq!(read_error(409, detailed.as_bytes()), (Code::Aborted, String::new(), vec![detail]));
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
