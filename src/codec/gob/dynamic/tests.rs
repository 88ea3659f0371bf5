use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::number::{put_bytes, put_int};
use super::*;
use crate::codec::DEPTH_MAX_DEFAULT;
use crate::codec::gob::{self, Time};

fn encoded(value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    encode_json(value, &mut body).unwrap_or_else(|error| panic!("{value}: {error}"));
    body
}

fn there_and_back(value: &Value) -> Value {
    decode_json(&encoded(value)).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn refused(value: &Value) -> String {
    let mut out = vec![7];
    let error = encode_json(value, &mut out).expect_err("it has no form");
    assert_eq!(out, [7], "{value}");
    error.to_string()
}

#[test]
fn streams_of_gos_documentation_are_decoded() {
    let point =
        b"\x1f\xff\x81\x03\x01\x01\x05\x50\x6f\x69\x6e\x74\x01\xff\x82\x00\x01\x02\x01\x01\x58\x01\x04\
        \x00\x01\x01\x59\x01\x04\x00\x00\x00\x07\xff\x82\x01\x2c\x01\x42\x00";
    assert_eq!(decode_json(point), Ok(json!({"X": 22, "Y": 33})));
    assert_eq!(decode_json(&[3, 4, 0, 6]), Ok(json!(3)));
    assert_eq!(decode_json(&[]), Ok(Value::Null));
    assert_eq!(encoded(&json!(3)), [3, 4, 0, 6]);
}

#[test]
fn rust_types_read_encoded_json() {
    assert_eq!(gob::decode::<u64>(&encoded(&json!({"$uint": u64::MAX}))), Ok(u64::MAX));
    assert_eq!(gob::decode::<f64>(&encoded(&json!({"$float": 1}))), Ok(1.0));
    assert_eq!(gob::decode::<f64>(&encoded(&json!({"$float": "-Inf"}))), Ok(f64::NEG_INFINITY));
    assert_eq!(gob::decode::<f64>(&encoded(&json!(7.0))), Ok(7.0));
    assert_eq!(gob::decode::<String>(&encoded(&json!("é世"))), Ok("é世".to_owned()));
    assert_eq!(
        gob::decode::<crate::codec::Bytes>(&encoded(&json!({"$bytes": "aGk="}))),
        Ok(b"hi".as_slice().into())
    );
    assert_eq!(gob::decode::<Vec<i64>>(&encoded(&json!([1, 0, -3]))), Ok(vec![1, 0, -3]));
    let map = gob::decode::<std::collections::BTreeMap<i64, bool>>(&encoded(
        &json!({"$map": [[1, true], [2, false]]}),
    ));
    assert_eq!(map, Ok([(1, true), (2, false)].into()));
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Two {
        a: Vec<u64>,
        b: std::collections::BTreeMap<String, f64>,
        c: i64,
    }
    let value = json!({"c": 0, "a": [{"$uint": 1}], "b": {"$map": {"k": 0.5}}, "unknown": {"x": [[1.5]]}, "none": null});
    let two = Two { a: vec![1], b: [("k".to_owned(), 0.5)].into(), c: 0 };
    assert_eq!(gob::decode::<Two>(&encoded(&value)), Ok(two));
}

#[test]
fn omitted_fields_are_shown_as_zero() {
    let sent = json!([{"A": 0, "B": "", "C": 0.5, "D": {}, "E": null, "F": []}, {"E": true, "F": [1], "G": {"$map": {}}}]);
    let shown = json!([
        {"A": 0, "B": "", "C": 0.5, "D": {}, "E": false, "F": []},
        {"A": 0, "B": "", "C": 0.0, "D": {}, "E": true, "F": [1]},
    ]);
    assert_eq!(there_and_back(&sent), shown);
}

#[test]
fn structs_in_a_list_may_omit_different_fields() {
    let sent = json!([[], [{"A": [[]]}], [{"B": 1}, {"A": [[2]]}]]);
    assert_eq!(
        there_and_back(&sent),
        json!([[], [{"A": [[]], "B": 0}], [{"A": [], "B": 1}, {"A": [[2]], "B": 0}]])
    );
}

#[test]
fn unsupported_json_is_refused_without_output() {
    for (value, why) in [
        (json!(null), "null is allowed for an omitted field"),
        (json!([1, null]), "null is allowed for an omitted field"),
        (json!([1, "a"]), "a list holds an int and a string"),
        (json!({"A": [1, 2.5]}), "a list holds an int and a float"),
        (json!([[1], [[1]]]), "a list holds an int and a list"),
        (json!([{"A": 1}, {"A": "x"}]), "a list holds an int and a string"),
        (json!({"$map": {"a": 1, "b": true}}), "a map holds an int and a bool"),
        (json!({"$map": [[1, 2], ["a", 2]]}), "the keys of a map holds an int and a string"),
        (json!({"$map": [[1, 2, 3]]}), "[[key, value], …]"),
        (json!([]), "the element type of an empty list"),
        (json!({"$map": {}}), "the element type of an empty list"),
        (json!([[]]), "the element type of an empty list"),
        (json!({"$uint": -1}), "not negative"),
        (json!({"$bytes": "a"}), "base64"),
        (json!({"$float": "1"}), "\"NaN\""),
        (json!({"$int": 1}), "none of $uint"),
        (json!({"$uint": 1, "A": 2}), "only member"),
        (json!({"": 1}), "no name"),
        (json!(u64::MAX), "write {\"$uint\": 18446744073709551615}"),
    ] {
        let message = refused(&value);
        assert!(message.contains(why), "{value}: {message}");
    }
}

#[test]
fn nesting_is_bounded_both_ways() {
    let nested = |depth: usize| (1..depth).fold(json!([1]), |value, _| json!([value]));
    let deepest = nested(DEPTH_MAX_DEFAULT - 1);
    assert_eq!(there_and_back(&deepest), deepest);
    assert!(refused(&nested(DEPTH_MAX_DEFAULT)).contains("too deep"));
    // A slice of itself: Go's `type T []T`.
    let mut body = definition(65, |out| {
        out.extend_from_slice(&[2, 1, 2]);
        put_int(out, 65);
        out.push(0);
        out.push(1);
        put_int(out, 65);
        out.extend_from_slice(&[0, 0]);
    });
    let mut message = Vec::new();
    put_int(&mut message, 65);
    message.push(0);
    message.extend(std::iter::repeat_n(1, 4 * DEPTH_MAX_DEFAULT));
    message.push(0);
    put_bytes(&mut body, &message);
    assert!(matches!(decode_json(&body), Err(CodecError::TooDeep { .. })));
}

/// Returns the message that defines a type; `form` writes the wireType.
fn definition(id: i64, form: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::new();
    put_int(&mut message, -id);
    form(&mut message);
    let mut whole = Vec::new();
    put_bytes(&mut whole, &message);
    whole
}

/// Returns the definition of a struct with these fields.
fn structure(id: i64, fields: &[(&str, i64)]) -> Vec<u8> {
    definition(id, |out| {
        out.extend_from_slice(&[3, 1, 2]);
        put_int(out, id);
        out.push(0);
        out.push(1);
        out.push(fields.len() as u8);
        for (name, id) in fields {
            out.push(1);
            put_bytes(out, name.as_bytes());
            out.push(1);
            put_int(out, *id);
            out.push(0);
        }
        out.extend_from_slice(&[0, 0]);
    })
}

#[test]
fn doubling_types_have_an_output_budget() {
    let mut body: Vec<u8> = (65..105).flat_map(|id| structure(id, &[("a", id + 1), ("b", id + 1)])).collect();
    body.extend(structure(105, &[("c", 2)]));
    put_bytes(&mut body, &[0xff, 65 * 2, 0]);
    let error = decode_json(&body).expect_err("two to the fortieth").to_string();
    assert!(error.contains("too much to be shown"), "{error}");
}

#[test]
fn long_names_of_omitted_fields_have_an_output_budget() {
    let name = "n".repeat(120);
    let mut body = structure(66, &[(name.as_str(), 2); 100]);
    body.extend(definition(65, |out| {
        out.extend_from_slice(&[2, 1, 2]);
        put_int(out, 65);
        out.push(0);
        out.push(1);
        put_int(out, 66);
        out.extend_from_slice(&[0, 0]);
    }));
    let mut message = Vec::new();
    put_int(&mut message, 65);
    message.push(0);
    super::super::number::put_uint(&mut message, 100_000);
    message.resize(message.len() + 100_000, 0);
    put_bytes(&mut body, &message);
    let error = decode_json(&body).expect_err("a gigabyte").to_string();
    assert!(error.contains("too much to be shown"), "{error}");
}

#[test]
fn recursive_structs_end_with_null() {
    let mut body = structure(65, &[("Value", 2), ("Next", 65), ("Other", 66)]);
    body.extend(structure(66, &[("Back", 65), ("Own", 66), ("N", 3)]));
    put_bytes(&mut body, &[0xff, 65 * 2, 1, 2, 1, 0, 0]);
    let zero = json!({"Back": null, "N": 0, "Own": null});
    let shown = json!({"Value": 1, "Next": {"Value": 0, "Next": null, "Other": zero}, "Other": zero});
    assert_eq!(decode_json(&body), Ok(shown));
}

#[test]
fn times_are_text_and_opaque_types_base64() {
    let moment = Time { seconds: 1_700_000_000, nanos: 5, offset_minutes: Some(60) };
    let mut body = Vec::new();
    gob::encode(&moment, &mut body).expect("it has a form");
    assert_eq!(decode_json(&body), Ok(json!("2023-11-14T23:13:20.000000005+01:00")));
    // The same with another name, and one with this name that is not a time.
    let opaque = |name: &str, bytes: &[u8]| {
        let mut body = definition(65, |out| {
            out.extend_from_slice(&[5, 1, 1]);
            put_bytes(out, name.as_bytes());
            out.push(1);
            put_int(out, 65);
            out.extend_from_slice(&[0, 0, 0]);
        });
        let mut message = vec![0xff, 130, 0];
        put_bytes(&mut message, bytes);
        put_bytes(&mut body, &message);
        decode_json(&body)
    };
    assert_eq!(opaque("Money", b"hi"), Ok(json!("aGk=")));
    assert_eq!(opaque("Time", b"hi"), Ok(json!("aGk=")));
}

#[test]
fn complex_numbers_infinities_and_interfaces_are_shown() {
    // 1+2i, as Go has it: the id, a zero, two floats.
    let mut message = vec![7 * 2, 0];
    super::super::number::put_float(&mut message, 1.0);
    super::super::number::put_float(&mut message, f64::INFINITY);
    let mut body = Vec::new();
    put_bytes(&mut body, &message);
    assert_eq!(decode_json(&body), Ok(json!([1.0, "+Inf"])));
    // A struct with an interface that holds an int 5, and one that is nil.
    let mut body = structure(65, &[("Any", 8), ("None", 8)]);
    put_bytes(&mut body, b"\xff\x82\x01\x03int\x04\x02\x00\x0a\x00");
    assert_eq!(decode_json(&body), Ok(json!({"Any": {"$type": "int", "value": 5}, "None": null})));
}

#[test]
fn bytes_after_a_value_are_refused() {
    let mut body = encoded(&json!(1));
    body.push(1);
    assert_eq!(decode_json(&body), Err(CodecError::TrailingBytes { codec: Codec::Gob, count: 1 }));
}

/// Generates JSON to encode, and the JSON expected after decoding.
fn pieces() -> impl Strategy<Value = (Value, Value)> {
    let name = "[A-Za-zé][a-z0-9]{0,5}";
    let same = |value: Value| (value.clone(), value);
    let leaf = prop_oneof![
        any::<bool>().prop_map(move |it| same(it.into())),
        any::<i64>().prop_map(move |it| same(it.into())),
        any::<u64>().prop_map(|it| (json!({"$uint": it}), it.into())),
        (-1e9..1e9).prop_map(move |it: f64| same(it.into())),
        ".{0,9}".prop_map(move |it| same(it.into())),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|it| {
            let text = json!(crate::codec::Bytes::from(it));
            (json!({ "$bytes": text }), text)
        }),
        prop::collection::vec(any::<i64>(), 1..9).prop_map(move |it| same(it.into())),
        prop::collection::hash_map(name, any::<bool>(), 1..4)
            .prop_map(|it| (json!({ "$map": it }), json!(it))),
        prop::collection::btree_map(any::<i64>(), ".{0,3}", 1..4).prop_map(|it| {
            let pairs = json!(it.into_iter().collect::<Vec<_>>());
            (json!({ "$map": pairs }), pairs)
        }),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            // Elements of one type: copies of the same one.
            (inner.clone(), 1..4_usize)
                .prop_map(|((sent, shown), count)| { (vec![sent; count].into(), vec![shown; count].into()) }),
            prop::collection::hash_map(name, inner.clone(), 0..5).prop_map(|fields| {
                let sent = fields.iter().map(|(name, (sent, _))| (name.clone(), sent.clone()));
                let shown = fields.iter().map(|(name, (_, shown))| (name.clone(), shown.clone()));
                (Value::Object(sent.collect()), Value::Object(shown.collect()))
            }),
            (name, inner)
                .prop_map(|(name, (sent, shown))| (json!({"$map": {&name: sent}}), json!({&name: shown}))),
        ]
    })
}

proptest! {
    #[test]
    fn values_come_back((sent, shown) in pieces()) {
        prop_assert_eq!(there_and_back(&sent), shown);
    }

    #[test]
    fn damaged_bodies_are_errors_or_other_values((sent, _) in pieces(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut body = encoded(&sent);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decode_json(&body);
        let _ = decode_json(&body[..at]);
    }
}
