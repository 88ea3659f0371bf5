//! The parts alone: the search for an end, strings, and the table of outstanding answers.

use super::super::escape::put_string;
use super::super::outstanding::{Dialect, OutstandingReplies, OutstandingReply, PeerId};
use super::super::sink::ByteSink;
use super::*;
use crate::json_text::{FoundValue, JsonReader, ValueSearch, unescape};

fn outstanding(id: &[u8]) -> OutstandingReply {
    OutstandingReply { id: PeerId::new(id), dialect: Dialect::One, number: None, batch: None }
}

#[test]
fn the_end_of_a_value_in_pieces_is_found_once() {
    let value = br#"{"a\"}":["]}\\",{"b":[]}],"c":"\\\\"}"#;
    for cut in 1..value.len() {
        let mut frame = ValueSearch::default();
        assert_eq!(frame.look(&value[..cut], 9), FoundValue::Open, "cut at {cut}");
        // Bytes that were read are not read again, even if they have changed.
        let mut later = value.to_vec();
        let seen = if value[cut - 1] == b'\\' { cut - 1 } else { cut };
        later[..seen.saturating_sub(1)].fill(b'}');
        assert_eq!(frame.look(&later, 9), FoundValue::End(value.len()), "cut at {cut}");
    }
    assert_eq!(ValueSearch::default().look(b"[[]] ]", 2), FoundValue::End(4));
    assert_eq!(ValueSearch::default().look(b"[[[", 2), FoundValue::TooDeep);
    assert_eq!(ValueSearch::default().look(b"[}", 2), FoundValue::Unbalanced);
    assert_eq!(ValueSearch::default().look(b"{\"a\":[1}]", 2), FoundValue::Unbalanced);
}

#[test]
fn strings_are_read_with_every_escape() {
    for (source, text) in [
        (&br#"plain"#[..], "plain"),
        (br#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (br#"a\u002eb\u00E9\u4e16"#, "a.bé世"),
        (br#"\ud83e\udd80!"#, "🦀!"),
        (br#"\ud83e!"#, "\u{fffd}!"),
        (br#"\udd80\ud83e"#, "\u{fffd}\u{fffd}"),
        (br#"\ud83e\n"#, "\u{fffd}\n"),
        (br#"\u0000"#, "\0"),
        // Strings that the reader would have refused.
        (br#"\u12"#, "\u{fffd}12"),
        (br#"\"#, "\u{fffd}"),
    ] {
        let mut read = String::new();
        unescape(source, &mut read);
        assert_eq!(read, text, "{}", source.escape_ascii());
    }
}

#[test]
fn a_written_string_reads_back() {
    let mut all: String = (0..0x3000).filter_map(char::from_u32).collect();
    all.push('🦀');
    let mut written = Vec::new();
    put_string(&mut written, all.as_bytes());
    assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), all);
}

#[test]
fn numbers_are_written_in_decimal() {
    for number in [0, 1, 9, 10, 99, 100, 32_601, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let mut written = Vec::new();
        written.put_number(number);
        assert_eq!(written, number.to_string().as_bytes());
    }
}

#[test]
fn an_answer_does_not_depend_on_buffer_ends() {
    let (mut server, mut written, mut expected) = (server(), String::new(), String::new());
    let result = format!("\"{}\"", "r".repeat(90));
    for id in 0..1000 {
        let (dialect, line) = match id % 2 {
            0 => ("", format!("{{\"id\":{id},\"result\":{result},\"error\":null}}\n")),
            _ => {
                ("\"jsonrpc\":\"2.0\",", format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n"))
            }
        };
        let call = format!("{{{dialect}\"method\":\"Echo.Echo\",\"params\":[1],\"id\":{id}}}");
        let judged = server.receive(call.as_bytes());
        server.reply(request_of(&judged[0]).id, Code::Ok, result.as_bytes());
        expected.push_str(&line);
        // A hundred thousand bytes wait together, and a few alone.
        if id > 900 {
            written.push_str(&server.output());
        }
    }
    assert_eq!(written, expected);
}

#[test]
fn nesting_is_counted_over_the_whole_message() {
    let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
    for depth_max in [1, 2, 63, 64, 65, 128, 131] {
        assert!(JsonReader::new(&deep(depth_max), depth_max).value().is_ok());
        assert_eq!(
            JsonReader::new(&deep(depth_max + 1), depth_max).value().unwrap_err().expected,
            "less nesting"
        );
    }
    assert!(JsonReader::new(b"[[],[],[[]],[]]", 3).value().is_ok(), "what is closed does not count");
}

#[test]
fn an_id_keeps_its_text_and_is_answered_once() {
    let mut pending = OutstandingReplies::new();
    let long = [b'7'; 40];
    let ids: Vec<u64> = [&b"1"[..], b"\"x\"", &[b'9'; 22], &[b'9'; 23], &long, b"1"]
        .map(|id| pending.begin(outstanding(id)))
        .to_vec();
    assert!(ids.is_sorted(), "later ids are larger");
    assert_eq!(pending.end(ids[4]).unwrap().id.text(), long);
    assert_eq!(pending.end(ids[4]), None);
    assert_eq!(pending.end(ids[0]).unwrap().id.text(), b"1");
    // Its slot is used again, with another id.
    let again = pending.begin(outstanding(b"null"));
    assert_eq!(again as u32, ids[0] as u32);
    assert_eq!(pending.end(ids[0]), None);
    assert_eq!(pending.end(again).unwrap().id, PeerId::NULL);
    let nobodys = pending.next_one_way();
    assert_eq!(pending.end(nobodys), None);
    assert_eq!(pending.end(ids[3]).unwrap().id.text(), [b'9'; 23]);
    assert_eq!(pending.end(ids[2]).unwrap().id.text(), [b'9'; 22]);
}

#[test]
fn an_empty_table_shrinks_after_a_burst() {
    let mut pending = OutstandingReplies::new();
    for round in 0..3 {
        let ids: Vec<u64> = (0..1000).map(|_| pending.begin(outstanding(b"1"))).collect();
        for id in ids {
            assert!(pending.end(id).is_some(), "round {round}");
        }
        assert!(format!("{pending:?}").contains("slots: []"));
    }
}
