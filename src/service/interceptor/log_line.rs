//! The lines of an access log.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use super::EndPlace;
use crate::context::Peer;
use crate::log_text::{put_string, put_time};
use crate::status::Code;
use crate::wire::ProtocolId;

/// The format of the lines of an access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogFormat {
    /// `key=value` pairs with spaces between them. A value with a space, a quote, an equals sign or a control character
    /// is written as a JSON string; `-` is a value that does not exist.
    #[default]
    Text,
    /// A JSON object. A value that does not exist is null.
    Json,
}

macro_rules! log_fields {
    ($($(#[$docs:meta])* $variant:ident $name:literal;)*) => {
        /// A field of the lines of an access log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum LogField {
            $($(#[$docs])* $variant,)*
        }

        impl LogField {
            /// Every field.
            pub const ALL: &[LogField] = &[$(LogField::$variant),*];

            /// Returns its key in a line.
            pub fn name(self) -> &'static str {
                match self { $(LogField::$variant => $name,)* }
            }
        }
    };
}

log_fields! {
    /// The time at which the call ended: RFC 3339, UTC, with milliseconds.
    Time "time";
    /// The peer.
    Peer "peer";
    /// The protocol.
    Protocol "protocol";
    /// The caller's id of the call.
    Id "id";
    /// The name of the method; it does not exist if the request was refused before its method was known.
    Method "method";
    /// The name of the authenticated caller.
    Principal "principal";
    /// Whether the caller expects no answer.
    OneWay "one_way";
    /// The status code.
    Code "code";
    /// Where the call ended.
    Place "place";
    /// Microseconds that the call was queued.
    QueueUs "queue_us";
    /// Microseconds that the handler took.
    HandlerUs "handler_us";
    /// Bytes of the argument.
    RequestBytes "request_bytes";
    /// Bytes of the reply.
    ReplyBytes "reply_bytes";
}

impl LogField {
    pub(super) const USUAL: [LogField; 10] = [
        LogField::Time,
        LogField::Peer,
        LogField::Protocol,
        LogField::Method,
        LogField::Principal,
        LogField::Code,
        LogField::QueueUs,
        LogField::HandlerUs,
        LogField::RequestBytes,
        LogField::ReplyBytes,
    ];
}

/// A call that has ended, on its way to the log.
#[derive(Debug)]
pub(super) struct LogEntry {
    pub(super) at: SystemTime,
    pub(super) peer: Peer,
    pub(super) protocol: Option<ProtocolId>,
    pub(super) id: u64,
    pub(super) method: Option<u32>,
    pub(super) principal: Option<Arc<str>>,
    pub(super) one_way: bool,
    pub(super) code: Code,
    pub(super) place: EndPlace,
    pub(super) queue_us: u32,
    pub(super) handler_us: u32,
    pub(super) request_bytes: usize,
    pub(super) reply_bytes: usize,
}

/// The value of a field.
enum LogValue<'a> {
    Missing,
    Number(u64),
    Flag(bool),
    Word(&'a str),
    /// Text that may need quotes.
    Text(&'a str),
    Time(SystemTime),
    Peer(Peer),
}

fn value<'a>(field: LogField, entry: &'a LogEntry, method: Option<&'a str>) -> LogValue<'a> {
    let text = |text: Option<&'a str>| text.map_or(LogValue::Missing, LogValue::Text);
    match field {
        LogField::Time => LogValue::Time(entry.at),
        LogField::Peer => LogValue::Peer(entry.peer),
        LogField::Protocol => entry.protocol.map_or(LogValue::Missing, |id| LogValue::Word(id.name())),
        LogField::Id => LogValue::Number(entry.id),
        LogField::Method => text(method),
        LogField::Principal => text(entry.principal.as_deref()),
        LogField::OneWay => LogValue::Flag(entry.one_way),
        LogField::Code => LogValue::Word(entry.code.name()),
        LogField::Place => LogValue::Word(entry.place.name()),
        LogField::QueueUs => LogValue::Number(entry.queue_us.into()),
        LogField::HandlerUs => LogValue::Number(entry.handler_us.into()),
        LogField::RequestBytes => LogValue::Number(entry.request_bytes as u64),
        LogField::ReplyBytes => LogValue::Number(entry.reply_bytes as u64),
    }
}

/// Appends the line of a call.
pub(super) fn put_line(
    out: &mut Vec<u8>,
    format: LogFormat,
    fields: &[LogField],
    entry: &LogEntry,
    method: Option<&str>,
) {
    let mut line = String::new();
    let is_json = format == LogFormat::Json;
    let (open, between, close) = if is_json { ("{", ",", "}\n") } else { ("", " ", "\n") };
    line.push_str(open);
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            line.push_str(between);
        }
        // The keys need no quotes of their own.
        let _ = match format {
            LogFormat::Json => write!(line, "\"{}\":", field.name()),
            LogFormat::Text => write!(line, "{}=", field.name()),
        };
        put_value(&mut line, is_json, value(*field, entry, method));
    }
    line.push_str(close);
    out.extend_from_slice(line.as_bytes());
}

fn put_value(line: &mut String, is_json: bool, value: LogValue<'_>) {
    let quote = if is_json { "\"" } else { "" };
    let _ = match value {
        LogValue::Missing => line.write_str(if is_json { "null" } else { "-" }),
        LogValue::Number(number) => write!(line, "{number}"),
        LogValue::Flag(flag) => write!(line, "{flag}"),
        LogValue::Word(word) => write!(line, "{quote}{word}{quote}"),
        LogValue::Text(text) if !is_json && is_plain(text) => line.write_str(text),
        LogValue::Text(text) => {
            put_string(line, text);
            Ok(())
        }
        LogValue::Time(time) => {
            line.push_str(quote);
            put_time(line, time);
            line.write_str(quote)
        }
        LogValue::Peer(peer) => write!(line, "{quote}{peer}{quote}"),
    };
}

/// Returns whether a value in text needs no quotes, and is not taken for one that is missing.
fn is_plain(text: &str) -> bool {
    let needs_quotes = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
    !text.is_empty() && text != "-" && !text.contains(needs_quotes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry(principal: Option<&str>) -> LogEntry {
        LogEntry {
            at: UNIX_EPOCH + Duration::from_millis(1_796_083_200_007),
            peer: Peer::Tcp("[::1]:80".parse().unwrap()),
            protocol: Some(ProtocolId::Native),
            id: 7,
            method: Some(0),
            principal: principal.map(Arc::from),
            one_way: false,
            code: Code::NotFound,
            place: EndPlace::Worker,
            queue_us: 1,
            handler_us: 22,
            request_bytes: 333,
            reply_bytes: 4444,
        }
    }

    fn line(format: LogFormat, fields: &[LogField], entry: &LogEntry, method: Option<&str>) -> String {
        let mut out = Vec::new();
        put_line(&mut out, format, fields, entry, method);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_fields_in_their_order() {
        let text = line(LogFormat::Text, LogField::ALL, &entry(Some("ann")), Some("A.B"));
        assert_eq!(
            text,
            "time=2026-12-01T00:00:00.007Z peer=[::1]:80 protocol=native id=7 method=A.B principal=ann \
             one_way=false code=not_found place=worker queue_us=1 handler_us=22 request_bytes=333 reply_bytes=4444\n"
        );
        let json = line(LogFormat::Json, &[LogField::Code, LogField::Time, LogField::Id], &entry(None), None);
        assert_eq!(json, "{\"code\":\"not_found\",\"time\":\"2026-12-01T00:00:00.007Z\",\"id\":7}\n");
        let fields = [LogField::Method, LogField::Principal];
        assert_eq!(
            line(LogFormat::Json, &fields, &entry(None), None),
            "{\"method\":null,\"principal\":null}\n"
        );
        assert_eq!(line(LogFormat::Text, &fields, &entry(None), None), "method=- principal=-\n");
    }

    #[test]
    fn a_value_cannot_look_like_another_field_or_line() {
        for (name, text, json) in [
            ("a b", "\"a b\"", "\"a b\""),
            ("a\ncode=ok", "\"a\\u000acode=ok\"", "\"a\\u000acode=ok\""),
            ("\"\\", "\"\\\"\\\\\"", "\"\\\"\\\\\""),
            ("x=1", "\"x=1\"", "\"x=1\""),
            ("-", "\"-\"", "\"-\""),
            ("", "\"\"", "\"\""),
            ("é世", "é世", "\"é世\""),
            ("a\u{2028}b", "\"a\\u2028b\"", "\"a\\u2028b\""),
        ] {
            let entry = entry(Some(name));
            let fields = [LogField::Principal];
            assert_eq!(line(LogFormat::Text, &fields, &entry, None), format!("principal={text}\n"));
            assert_eq!(line(LogFormat::Json, &fields, &entry, None), format!("{{\"principal\":{json}}}\n"));
            #[cfg(feature = "json")]
            assert_eq!(serde_json::from_str::<String>(json).unwrap(), name);
        }
    }
}
