//! Writes answers: a head, a message and trailers, or trailers only; and answers of HTTP to what is not gRPC.

use std::borrow::Cow;

use base64::Engine as _;

use super::request::{BASE64, JSON};
use crate::codec_number::Codec;
use crate::message::trailers::{LOAD, RETRY_AFTER_MS};
use crate::message::{Metadata, OutgoingReply, ReplyExtras, SendBody};
use crate::status::{Code, Detail};
use crate::wire::http2::hpack::Indexing;
use crate::wire::http2::{BodyPart, Http2Connection, OutField};
use crate::wire::{Out, ServerContext};

/// The bytes before a message: a flag and the length.
pub(super) const PREFIX_BYTES: usize = 5;
/// The longest text of an error that is sent, before it is percent-encoded: clients limit a head, often to 8 KiB.
const TEXT_BYTES_MAX: usize = 2048;
/// The most bytes of a `google.rpc.Status` that are sent, before base64: clients limit a head, often to 8 KiB.
const DETAILS_BYTES_MAX: usize = 4096;

/// How a call is answered, where that differs from an ordinary answer. It is carried in the upper half of the id of a
/// request that is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerKind {
    /// The HTTP status; 0 for an answer of gRPC.
    pub(super) http_status: u16,
    /// Whether the answer lists the message encodings.
    pub(super) names_encodings: bool,
}

impl AnswerKind {
    const NAMES_ENCODINGS: u64 = 1 << 48;

    /// Returns the id of a call with this stream.
    pub(super) fn in_id(self, stream: u32) -> u64 {
        let encodings = if self.names_encodings { AnswerKind::NAMES_ENCODINGS } else { 0 };
        u64::from(stream) | u64::from(self.http_status) << 32 | encodings
    }

    fn of_id(id: u64) -> AnswerKind {
        AnswerKind { http_status: (id >> 32) as u16, names_encodings: id & AnswerKind::NAMES_ENCODINGS != 0 }
    }
}

/// A field that is the same in many answers.
const fn repeated<'a>(name: &'static str, value: &'a [u8]) -> OutField<'a> {
    OutField { name: name.as_bytes(), value, indexing: Indexing::Add }
}

/// A field that differs from answer to answer.
const fn once<'a>(name: &'a str, value: &'a [u8]) -> OutField<'a> {
    OutField { name: name.as_bytes(), value, indexing: Indexing::Omit }
}

const STATUS_200: OutField<'static> = repeated(":status", b"200");

fn content_type(codec: u8) -> OutField<'static> {
    let is_json = codec == JSON;
    repeated("content-type", if is_json { b"application/grpc+json" } else { b"application/grpc" })
}

/// The numbers of the codes in decimal.
const NUMBERS: [&[u8]; 17] = [
    b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"12", b"13", b"14", b"15",
    b"16",
];

fn grpc_status(code: Code) -> OutField<'static> {
    repeated("grpc-status", NUMBERS.get(code as usize).copied().unwrap_or(b"2"))
}

/// Writes the answer of a call. `is_headed`: its head was written before.
#[inline]
pub(super) fn write_reply(
    side: &ServerContext,
    connection: &mut Http2Connection,
    reply: OutgoingReply<'_>,
    mut is_headed: bool,
    out: &mut Out<'_>,
) {
    let stream = reply.id as u32;
    if let Some(extras) = reply.extras
        && !extras.headers.is_empty()
        && !is_headed
        && AnswerKind::of_id(reply.id).http_status == 0
    {
        write_metadata(side, connection, stream, reply.codec, extras.headers.as_bytes(), out);
        is_headed = true;
    }
    if reply.code != Code::Ok {
        return write_error(side, connection, reply, is_headed, out);
    }
    if !is_headed {
        connection.send_head(stream, &[STATUS_200, content_type(reply.codec)], false, out);
    }
    // `reply_bytes_max` is at most `frame_bytes_max`, which fits.
    let [a, b, c, d] = (reply.body.len() as u32).to_be_bytes();
    let part = BodyPart { prefix: &[0, a, b, c, d], body: reply.body };
    connection.send_data(stream, part, false, out);
    if let Some(extras) = reply.extras {
        return write_ok_with_entries(side, connection, stream, extras, out);
    }
    connection.send_trailers(stream, &[grpc_status(Code::Ok)], out);
}

#[cold]
fn write_error(
    side: &ServerContext,
    connection: &mut Http2Connection,
    reply: OutgoingReply<'_>,
    is_headed: bool,
    out: &mut Out<'_>,
) {
    let stream = reply.id as u32;
    let text = match reply.body {
        SendBody::Bytes(bytes) => Cow::Borrowed(bytes),
        SendBody::Chunk(chunk) => Cow::Owned(chunk.to_vec()),
    };
    let kind = AnswerKind::of_id(reply.id);
    if kind.http_status != 0 {
        let head = HttpHead { status: kind.http_status, fields: &[TEXT] };
        return write_http(connection, stream, head, SendBody::Bytes(&text), false, out);
    }
    let message = percent_encoded(&text);
    let mut trailers = vec![grpc_status(reply.code)];
    if !message.is_empty() {
        trailers.push(once("grpc-message", &message));
    }
    if kind.names_encodings {
        trailers.push(repeated("grpc-accept-encoding", b"identity"));
    }
    let mut entries = Vec::new();
    if let Some(extras) = reply.extras {
        entries = trailing_entries(side, extras);
        if !extras.details.is_empty() {
            let cut = cut(&text);
            entries.extend(status_details(side, reply.code, cut, &extras.details));
        }
    }
    trailers.extend(entries.iter().map(|(key, value)| once(key, value)));
    if is_headed {
        return connection.send_trailers(stream, &trailers, out);
    }
    let mut fields = vec![STATUS_200, content_type(reply.codec)];
    fields.append(&mut trailers);
    connection.send_head(stream, &fields, true, out);
}

/// Writes the trailers of a result, with entries besides the status.
#[cold]
fn write_ok_with_entries(
    side: &ServerContext,
    connection: &mut Http2Connection,
    stream: u32,
    extras: &ReplyExtras,
    out: &mut Out<'_>,
) {
    let entries = trailing_entries(side, extras);
    let mut trailers = vec![grpc_status(Code::Ok)];
    trailers.extend(entries.iter().map(|(key, value)| once(key, value)));
    connection.send_trailers(stream, &trailers, out);
}

type TrailerEntry<'a> = (&'a str, Cow<'a, [u8]>);

/// Returns trailers and the hints of the server as fields. The time after which a call may be repeated follows once more
/// under the name that gRPC's clients read; they take a number of 32 bits with a sign.
fn trailing_entries<'a>(side: &ServerContext, extras: &'a ReplyExtras) -> Vec<TrailerEntry<'a>> {
    let mut entries = custom_entries(side, extras.trailers.view());
    let mut number = |name, number: u32| entries.push((name, Cow::Owned(number.to_string().into_bytes())));
    if let Some(ms) = extras.retry_after_ms {
        number(RETRY_AFTER_MS, ms);
        number("grpc-retry-pushback-ms", ms.min(i32::MAX as u32));
    }
    if let Some(us) = extras.load_us {
        number(LOAD, us);
    }
    entries
}

/// Returns metadata as fields. Entries that have no form as fields are left out, and counted.
fn custom_entries<'a>(side: &ServerContext, metadata: Metadata<'a>) -> Vec<TrailerEntry<'a>> {
    let (mut fields, mut dropped) = (Vec::new(), 0);
    for (key, value) in metadata.iter() {
        match key.ends_with("-bin") {
            _ if !fits(key, value) => dropped += 1,
            true => fields.push((key, Cow::Owned(BASE64.encode(value).into_bytes()))),
            false => fields.push((key, Cow::Borrowed(value))),
        }
    }
    if dropped > 0 {
        side.note_dropped(dropped);
    }
    fields
}

/// Returns the details of a status as gRPC's clients read them: a `google.rpc.Status` with the details that are protobuf
/// messages (status.proto of googleapis). The others are left out, and counted; all are, if they are too large.
fn status_details(
    side: &ServerContext,
    code: Code,
    text: &[u8],
    details: &[Detail],
) -> Option<TrailerEntry<'static>> {
    let mut status = vec![1 << 3, code as u8];
    put_field(2, text, &mut status);
    let mut sent = 0;
    for detail in details {
        let Some(message) = detail.value(Codec::Protobuf.number()) else { continue };
        let mut any = Vec::new();
        put_field(1, format!("type.googleapis.com/{}", detail.type_name()).as_bytes(), &mut any);
        put_field(2, message, &mut any);
        put_field(3, &any, &mut status);
        sent += 1;
    }
    if status.len() > DETAILS_BYTES_MAX {
        sent = 0;
    }
    if sent < details.len() {
        side.note_dropped(details.len() - sent);
    }
    (sent > 0).then(|| ("grpc-status-details-bin", Cow::Owned(BASE64.encode(&status).into_bytes())))
}

/// Writes a field of bytes; its number is below 16.
fn put_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// Returns what is sent of a text: a long one is cut, not in the middle of a character.
fn cut(text: &[u8]) -> &[u8] {
    let Some(cut) = text.get(..TEXT_BYTES_MAX) else { return text };
    let is_inside = |byte: &u8| *byte & 0xc0 == 0x80;
    let inside = text[TEXT_BYTES_MAX..].iter().take(1).filter(|byte| is_inside(byte)).count();
    let back = cut.iter().rev().take_while(|byte| is_inside(byte)).count() + 1;
    &cut[..cut.len() - inside * back.min(cut.len())]
}

/// Returns a text as `grpc-message` carries it: bytes outside of the printable ASCII characters, and `%`, are
/// percent-encoded. A long text is cut.
fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let text = cut(text);
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(byte);
        } else {
            let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
            encoded.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    // A blank at an end is not part of a field's value.
    for at in [encoded.len().saturating_sub(1), 0] {
        if encoded.get(at) == Some(&b' ') {
            encoded.splice(at..at + 1, *b"%20");
        }
    }
    encoded
}

/// Writes the response of a page; one that failed has the text of its status as the body.
#[cold]
pub(super) fn write_page(
    side: &ServerContext,
    connection: &mut Http2Connection,
    reply: OutgoingReply<'_>,
    is_head: bool,
    out: &mut Out<'_>,
) {
    let stream = reply.id as u32;
    let mut entries = Vec::new();
    if let Some(extras) = reply.extras {
        entries = custom_entries(side, extras.headers.view());
        if let Some(ms) = extras.retry_after_ms {
            entries.push(("retry-after", Cow::Owned(ms.div_ceil(1000).to_string().into_bytes())));
        }
    }
    let page = reply.extras.and_then(|extras| extras.http.as_ref()).filter(|_| reply.code == Code::Ok);
    // Names are in lower case in HTTP/2.
    let lines = page.map_or(&[][..], |page| &page.fields).split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| {
        let line = line.strip_suffix(b"\r")?;
        let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
        Some((name.to_ascii_lowercase(), value[1..].trim_ascii()))
    });
    let lines: Vec<(Vec<u8>, &[u8])> = lines.collect();
    let mut fields: Vec<OutField<'_>> = entries.iter().map(|(key, value)| once(key, value)).collect();
    fields.extend(lines.iter().map(|(name, value)| OutField { name, value, indexing: Indexing::Omit }));
    let status = page.map_or(reply.code.http_status(), |page| page.status);
    if page.is_none() {
        fields.push(TEXT);
    }
    if status == 401 && !fields.iter().any(|field| field.name == CHALLENGE.name) {
        fields.push(CHALLENGE);
    }
    write_http(connection, stream, HttpHead { status, fields: &fields }, reply.body, is_head, out);
}

const TEXT: OutField<'static> = once("content-type", b"text/plain; charset=utf-8");
/// The field that a response with the status 401 must have (RFC 9110 section 15.5.2).
const CHALLENGE: OutField<'static> = once("www-authenticate", b"Bearer");

/// The head of an answer of HTTP, without the length of its body.
struct HttpHead<'a> {
    status: u16,
    fields: &'a [OutField<'a>],
}

/// Writes an answer of HTTP, without its body if it answers HEAD.
fn write_http(
    connection: &mut Http2Connection,
    stream: u32,
    head: HttpHead<'_>,
    body: SendBody<'_>,
    is_head: bool,
    out: &mut Out<'_>,
) {
    let (status, length) = (head.status.to_string(), body.len().to_string());
    let mut fields = vec![once(":status", status.as_bytes())];
    fields.extend_from_slice(head.fields);
    fields.push(once("content-length", length.as_bytes()));
    if head.status == 405 {
        fields.push(once("allow", b"POST"));
    }
    let is_last = is_head || body.is_empty();
    connection.send_head(stream, &fields, is_last, out);
    if !is_last {
        connection.send_data(stream, BodyPart { prefix: &[], body }, true, out);
    }
}

/// Writes the head of an answer with metadata.
#[cold]
pub(super) fn write_metadata(
    side: &ServerContext,
    connection: &mut Http2Connection,
    stream: u32,
    codec: u8,
    metadata: &[u8],
    out: &mut Out<'_>,
) {
    let entries = custom_entries(side, Metadata::checked_before(metadata));
    let mut fields = vec![STATUS_200, content_type(codec)];
    fields.extend(entries.iter().map(|(key, value)| once(key, value)));
    connection.send_head(stream, &fields, false, out);
}

/// Whether an entry can be sent: its key is one of gRPC's custom metadata and is not reserved, its value is binary or
/// printable.
fn fits(key: &str, value: &[u8]) -> bool {
    let is_key_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let is_reserved = key.starts_with("grpc-")
        || matches!(
            key,
            "content-type"
                | "content-length"
                | "te"
                | "host"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
        );
    let is_printable = value.iter().all(|byte| (b' '..=b'~').contains(byte)) && value.trim_ascii() == value;
    !key.is_empty() && key.bytes().all(is_key_byte) && !is_reserved && (key.ends_with("-bin") || is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_percent_encoded_and_cut_between_characters() {
        let encoded = |text: &str| String::from_utf8(percent_encoded(text.as_bytes())).unwrap();
        assert_eq!(encoded("100 % é\n~"), "100 %25 %C3%A9%0A~");
        assert_eq!(encoded(" a "), "%20a%20");
        assert_eq!((encoded(" "), encoded("")), ("%20".to_owned(), String::new()));
        let long = "é".repeat(2000);
        assert_eq!(encoded(&long), "%C3%A9".repeat(1024));
        let odd = format!("a{long}");
        assert_eq!(encoded(&odd), format!("a{}", "%C3%A9".repeat(1023)));
        assert_eq!(percent_encoded(&[0xff; 5000]).len(), 3 * TEXT_BYTES_MAX);
        assert!(percent_encoded(&[0x80; 5000]).len() <= 3 * TEXT_BYTES_MAX);
    }

    #[test]
    fn the_kind_of_an_answer_travels_in_the_id() {
        for kind in [
            AnswerKind::default(),
            AnswerKind { http_status: 415, names_encodings: false },
            AnswerKind { http_status: 0, names_encodings: true },
        ] {
            let id = kind.in_id(u32::MAX);
            assert_eq!((AnswerKind::of_id(id), id as u32), (kind, u32::MAX));
        }
        assert_eq!(AnswerKind::default().in_id(7), 7);
    }

    #[test]
    fn reserved_keys_and_values_without_a_form_are_not_sent() {
        assert!(fits("x-a", b"text") && fits("x-bin", &[0, 255]) && fits("user_1.b", b""));
        for (key, value) in [
            ("grpc-status", &b"0"[..]),
            ("te", b"trailers"),
            (":path", b"/"),
            ("X", b"x"),
            ("", b"x"),
            ("x", b"\n"),
            ("x", b"\xff"),
            ("x", b" x"),
            ("connection", b"close"),
        ] {
            assert!(!fits(key, value), "{key}");
        }
    }
}
