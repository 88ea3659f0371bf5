use super::*;
use crate::agent::http::ReceivedHead;

const NOW: u64 = 784_111_777;

fn answer(status: u16, field: Option<&str>, body: &[u8]) -> HttpResponse {
    let fields = field.map(|value| ("retry-after".to_owned(), value.as_bytes().to_vec()));
    HttpResponse { head: ReceivedHead { status, fields: fields.into_iter().collect() }, body: body.to_vec() }
}

fn of(status: u16, field: Option<&str>) -> Verdict {
    verdict(&answer(status, field, b""), BodyFormat::Protobuf, NOW)
}

fn taken(rejected: u64, message: &str) -> Verdict {
    Verdict::Taken { rejected, message: message.to_owned() }
}

#[test]
fn only_the_statuses_of_the_specification_are_tried_again() {
    assert_eq!(of(200, None), taken(0, ""));
    for status in [429, 502, 503, 504] {
        assert_eq!(of(status, None), Verdict::Retry { after: None });
    }
    for status in [301, 400, 401, 404, 413, 500, 501] {
        assert_eq!(of(status, Some("1")), Verdict::Refused, "{status}");
    }
}

#[test]
fn the_pause_is_seconds_or_a_date() {
    let after = |text| match of(429, Some(text)) {
        Verdict::Retry { after } => after.map(|after| after.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(after("0"), Some(0));
    assert_eq!(after("7"), Some(7));
    assert_eq!(after("86400"), Some(300));
    assert_eq!(after("99999999999999999999999"), Some(300));
    assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
    assert_eq!(after("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0));
    for text in ["", "-1", "1.5", "soon", "Sun, 06 Xxx 1994 08:49:47 GMT", "Sun, 99 Nov 1994 08:49:47 GMT"] {
        assert_eq!(after(text), None, "{text:?}");
    }
}

#[test]
fn dates_are_those_of_another_implementation() {
    for second in (0..4_000_000_000).step_by(86_399 * 17) {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(second);
        assert_eq!(second_of(&httpdate::fmt_http_date(at)), Some(second));
    }
}

#[test]
fn a_partial_success_is_read_in_both_formats() {
    let partial = [&[0x08, 0xac, 0x02][..], &[0x12, 3], b"bad"].concat();
    let body = [&[0x0a, partial.len() as u8], &partial[..]].concat();
    assert_eq!(verdict(&answer(200, None, &body), BodyFormat::Protobuf, NOW), taken(300, "bad"));
    let json = |body: &str| verdict(&answer(200, None, body.as_bytes()), BodyFormat::Json, NOW);
    assert_eq!(json(r#"{"partialSuccess":{"rejectedSpans":"300","errorMessage":"bad"}}"#), taken(300, "bad"));
    assert_eq!(json(r#"{"partialSuccess":{"rejectedDataPoints":3}}"#), taken(3, ""));
    assert_eq!(json(r#"{"partialSuccess":{}}"#), taken(0, ""));
}

#[test]
fn a_body_that_is_not_valid_says_nothing() {
    for body in
        [&b"<html>"[..], b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff\xff", b"\x0b"]
    {
        for format in [BodyFormat::Protobuf, BodyFormat::Json] {
            assert_eq!(verdict(&answer(200, None, body), format, NOW), taken(0, ""), "{body:?}");
        }
    }
}
