//! The details of a status in JSON, as the Connect protocol has them: `[{"type": NAME, "value": BASE64, "debug": JSON}]`,
//! for HTTP and JSON-RPC.
//!
//! `value` is the protobuf message without padding, empty for a type that has none; `debug` is the value in JSON.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::IgnoredAny;

use crate::codec_number::Codec;
use crate::json_text::parts;
use crate::status::{DETAILS_BYTES_MAX, DETAILS_MAX, Detail};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest text of details that is read.
const TEXT_BYTES_MAX: usize = 4 * DETAILS_BYTES_MAX;

/// Writes the list of details.
pub(super) fn write(details: &[Detail], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, detail) in details.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{\"type\":" } else { b",{\"type\":" });
        // It cannot fail: every string has a JSON form, and a vector accepts all bytes.
        let _ = serde_json::to_writer(&mut *out, detail.type_name());
        out.extend_from_slice(b",\"value\":\"");
        let message = detail.value(Codec::Protobuf.number()).unwrap_or_default();
        out.extend_from_slice(BASE64.encode(message).as_bytes());
        out.push(b'"');
        // A detail that is passed on comes from a peer.
        let json = detail.value(Codec::Json.number());
        if let Some(json) = json.filter(|json| serde_json::from_slice::<IgnoredAny>(json).is_ok()) {
            out.extend_from_slice(b",\"debug\":");
            out.extend_from_slice(json);
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Reads a list of details. What is not well formed, or more than a status may have, counts as none.
pub(super) fn read(text: &[u8]) -> Vec<Detail> {
    if text.len() > TEXT_BYTES_MAX {
        return Vec::new();
    }
    let Some(items) = parts::items(text) else { return Vec::new() };
    let details: Option<Vec<Detail>> = items.into_iter().map(detail).collect();
    let fits = |details: &Vec<Detail>| {
        details.len() <= DETAILS_MAX && details.iter().map(Detail::bytes).sum::<usize>() <= DETAILS_BYTES_MAX
    };
    details.filter(fits).unwrap_or_default()
}

fn detail(text: &[u8]) -> Option<Detail> {
    let members = parts::members(text)?;
    let text = |name: &str| serde_json::from_slice::<String>(parts::member(&members, name)?).ok();
    let type_name = text("type")?;
    let type_name = type_name.strip_prefix("type.googleapis.com/").unwrap_or(&type_name);
    let mut detail = Detail::new(type_name);
    let message = BASE64.decode(text("value").unwrap_or_default()).ok()?;
    let json = parts::member(&members, "debug");
    if let Some(json) = json {
        detail = detail.form(Codec::Json.number(), json.to_vec());
    }
    if !message.is_empty() || json.is_none() {
        detail = detail.form(Codec::Protobuf.number(), message);
    }
    Some(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(details: &[Detail]) -> String {
        let mut out = Vec::new();
        write(details, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn details_are_written_as_in_connect() {
        let (json, protobuf) = (Codec::Json.number(), Codec::Protobuf.number());
        let both = Detail::new("a.\"B").form(json, br#"{"x": 1}"#.to_vec()).form(protobuf, vec![8, 1, 0xff]);
        let only = Detail::new("c").form(json, b"[]".to_vec());
        let details = [both, only];
        let expected =
            r#"[{"type":"a.\"B","value":"CAH/","debug":{"x": 1}},{"type":"c","value":"","debug":[]}]"#;
        assert_eq!(text(&details), expected);
        assert_eq!(read(expected.as_bytes()), details);
        assert_eq!((text(&[]), read(b"[]")), ("[]".to_owned(), Vec::new()));
        // A value that a peer calls JSON cannot break the text.
        let broken = Detail::new("a").form(json, b"1},{\"type\":\"b\"".to_vec());
        assert_eq!(text(&[broken]), r#"[{"type":"a","value":""}]"#);
    }

    #[test]
    fn what_peers_send_is_read_or_ignored() {
        let one = |text: &str| match &read(text.as_bytes())[..] {
            [detail] => Some(detail.clone()),
            _ => None,
        };
        let protobuf = Codec::Protobuf.number();
        let empty = Detail::new("a").form(protobuf, Vec::new());
        assert_eq!(one(r#"[{"type":"a"}]"#), Some(empty.clone()));
        assert_eq!(one(r#"[{"type":"type.googleapis.com/a","value":"","more":[1]}]"#), Some(empty));
        let padded = Detail::new("a").form(protobuf, vec![1]);
        assert_eq!(one(r#"[{"value":"AQ==","type":"a"}]"#), Some(padded));
        for garbage in
            ["", "{}", "1", "[1]", "[{}]", r#"[{"type":1}]"#, r#"[{"type":"a","value":"*"}]"#, "[[["]
        {
            assert!(read(garbage.as_bytes()).is_empty(), "{garbage}");
        }
        let many = format!("[{}]", vec![r#"{"type":"a"}"#; DETAILS_MAX + 1].join(","));
        assert!(read(many.as_bytes()).is_empty());
        let large = format!(r#"[{{"type":"a","debug":"{}"}}]"#, "x".repeat(DETAILS_BYTES_MAX));
        assert!(read(large.as_bytes()).is_empty());
    }
}
