//! Compares the scanner with serde_json and with a list of cases, each at every split.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Texts that are JSON.
const YES: &[&[u8]] = &[
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-1",
    b"1.0",
    b"0.5",
    b"1e5",
    b"1E+5",
    b"1e-5",
    b"0e1",
    b"123456789012345678901234567890",
    b"1e3756501519",
    b"-0.0e-0",
    b"\"\"",
    b"\"a\"",
    b"\"\x7f\"",
    "\"é世🦀\"".as_bytes(),
    b"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    b"\"\\u0000\"",
    b"\"\\uD83E\\uDD80\"",
    b"\"\\ud800\"",
    b"[]",
    b"[ ]",
    b"[[],[[]]]",
    b"[1,\"a\",null,true,{}]",
    b"{}",
    b"{ }",
    b"{\"a\":1}",
    b"{\"a\":1,\"a\":2}",
    b"{\"\":{\"\":{}}}",
    b" \t\r\n[ 1 , 2 ] \t\r\n",
    b"{\"]\":\"}\"}",
];

/// Texts that are not JSON.
const NO: &[&[u8]] = &[
    b"",
    b" ",
    b"nul",
    b"nulll",
    b"True",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"+1",
    b"-",
    b"--1",
    b"01",
    b"-01",
    b"00",
    b"1.",
    b".5",
    b"1.e1",
    b"1e",
    b"1e+",
    b"1e1.5",
    b"0x10",
    b"1_000",
    b"1 2",
    "１".as_bytes(),
    b"\"",
    b"\"a",
    b"\"\\\"",
    b"\"\\x41\"",
    b"\"\\u12\"",
    b"\"\\u12g4\"",
    b"\"\\'\"",
    b"\"\n\"",
    b"\"\t\"",
    b"\"\0\"",
    b"\"\x1f\"",
    b"\"\xff\"",
    b"\"\xc0\x80\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe4\xb8\"",
    b"'a'",
    b"a",
    b"[",
    b"]",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1,,2]",
    b"[}",
    b"[1}",
    b"{",
    b"}",
    b"{]",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\" 1}",
    b"{\"a\":1,}",
    b"{,\"a\":1}",
    b"{a:1}",
    b"{1:1}",
    b"{null:1}",
    b"{'a':1}",
    b"{\"a\":1 \"b\":2}",
    b"{\"a\":1}}",
    b"{\"a\":1]",
    b"{\"a\":1}{}",
    b"[] []",
    b"[]\0",
    b"\x0c[]",
    b"\x0b[]",
    b"\xc2\xa0[]",
    b"\xef\xbb\xbf[]",
    b"[1]//",
    b"/**/[1]",
    b"[\"a\",\n4\n,1,#]",
];

fn is_json(text: &[u8]) -> bool {
    let mut reader = JsonReader::new(text, 128);
    reader.value().is_ok() && reader.end().is_ok()
}

fn serde_accepts(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Returns the end found for a text in two pieces.
fn framed(text: &[u8], cut: usize) -> FoundValue {
    let mut frame = ValueSearch::default();
    match frame.look(&text[..cut], 128) {
        FoundValue::Open => frame.look(text, 128),
        found => found,
    }
}

#[test]
fn the_list_is_read_as_by_serde_json() {
    for (texts, expected) in [(YES, true), (NO, false)] {
        for text in texts {
            assert_eq!(is_json(text), expected, "{}", text.escape_ascii());
            assert_eq!(serde_accepts(text), expected, "serde_json on {}", text.escape_ascii());
        }
    }
}

#[test]
fn a_prefix_is_not_read_past_its_end() {
    for text in YES.iter().chain(NO) {
        for cut in 0..=text.len() {
            assert_eq!(is_json(&text[..cut]), serde_accepts(&text[..cut]), "{}", text[..cut].escape_ascii());
        }
    }
}

#[test]
fn the_end_of_a_container_does_not_depend_on_the_split() {
    for text in YES.iter().chain(NO).filter(|text| matches!(text.first(), Some(b'{' | b'['))) {
        let whole = framed(text, text.len());
        for cut in 0..text.len() {
            assert_eq!(framed(text, cut), whole, "{} cut at {cut}", text.escape_ascii());
        }
        if let Ok(range) = JsonReader::new(text, 128).value() {
            assert_eq!(whole, FoundValue::End(range.end), "{}", text.escape_ascii());
        }
    }
}

#[test]
fn white_space_is_that_of_json() {
    assert!(is_blank(b"") && is_blank(b" \t\r\n") && !is_blank(b"\x0c") && !is_blank(b"\x0b"));
    assert_eq!(trim(b" \r\n a b\t "), b"a b");
    assert_eq!((trim(b" \t"), trim(b"\x0c ")), (&b""[..], &b"\x0c"[..]));
    assert_eq!(space_len(b" \t\r\n\x0c"), 4);
}

/// Texts that are often JSON or nearly so.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let pieces = || proptest::sample::select([YES, NO].concat());
    prop_oneof![
        proptest::collection::vec(pieces(), 0..4).prop_map(|pieces| [
            b"[",
            &pieces.join(&b","[..])[..],
            b"]"
        ]
        .concat()),
        proptest::collection::vec(pieces(), 0..4).prop_map(|pieces| {
            let members: Vec<Vec<u8>> = pieces.iter().map(|piece| [b"\"k\":", *piece].concat()).collect();
            [b"{", &members.join(&b","[..])[..], b"}"].concat()
        }),
        proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_as_by_serde_json(text in text(), (at, byte) in (any::<prop::sample::Index>(), any::<u8>())) {
        prop_assert_eq!(is_json(&text), serde_accepts(&text), "{}", text.escape_ascii());
        let mut bent = text.clone();
        if !bent.is_empty() {
            let at = at.index(bent.len());
            bent[at] = byte;
        }
        prop_assert_eq!(is_json(&bent), serde_accepts(&bent), "{}", bent.escape_ascii());
    }

    #[test]
    fn portable_json_is_a_value_to_serde_json(text in text()) {
        if is_json(&text) && portable::check(trim(&text)).is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn strings_are_read_as_by_serde_json(text in any::<String>()) {
        let written = serde_json::to_vec(&text).unwrap();
        let mut read = String::new();
        unescape(&written[1..written.len() - 1], &mut read);
        prop_assert_eq!(read, text);
    }
}
