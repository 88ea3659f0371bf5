//! Tests of missing and null values, of values that are not numbers, and of empty bodies, in each codec under each
//! rule.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, Codec, CodecError, ValueRules, decode, encode};
use crate::config::MissingFields;
use crate::message::JsonDialect;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
    price: f64,
    count: u32,
    tags: Vec<String>,
    stock: BTreeMap<String, i64>,
    maker: Maker,
    note: Option<String>,
    #[serde(default = "three")]
    stars: u8,
}

fn three() -> u8 {
    3
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Maker {
    id: i64,
    at: (i32, bool),
    color: Color,
    data: Bytes,
    unit: (),
    wrapped: WrappedNumber,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct WrappedNumber(u16);

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
enum Color {
    #[default]
    Red,
    Green,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Payment {
    Cash,
    Card { number: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Paid {
    id: u8,
    by: Payment,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CountedFields {
    count: NonZeroU8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OuterFields<T> {
    inner: T,
}

fn zero_item() -> Item {
    Item { stars: 3, ..Item::default() }
}

fn go<R>(run: impl FnOnce() -> R) -> R {
    ValueRules::of(JsonDialect::GoRpc, MissingFields::ByProtocol).apply(run)
}

fn connect<R>(run: impl FnOnce() -> R) -> R {
    ValueRules::of(JsonDialect::Connect, MissingFields::ByProtocol).apply(run)
}

fn set<R>(rule: MissingFields, run: impl FnOnce() -> R) -> R {
    ValueRules::of(JsonDialect::Serde, rule).apply(run)
}

fn json<T: DeserializeOwned>(body: &str) -> Result<T, CodecError> {
    decode(Codec::Json, body.as_bytes())
}

fn said<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
    json::<T>(body).unwrap_err().to_string()
}

#[test]
fn a_missing_field_gets_its_default_or_zero() {
    let all_null = r#"{"name":null,"price":null,"count":null,"tags":null,"stock":null,"maker":null,"note":null,"stars":null}"#;
    let inner = r#"{"maker":{"id":null,"color":null,"at":null,"wrapped":null,"unit":{}},"tags":[null]}"#;
    for _ in 0..2 {
        // What the first reading learned does not change the result of the second.
        for body in ["{}", "null", "", all_null] {
            assert_eq!(go(|| json(body)), Ok(zero_item()), "{body}");
            assert_eq!(connect(|| json(body)), Ok(zero_item()), "{body}");
        }
        assert_eq!(go(|| json(inner)), Ok(Item { tags: vec![String::new()], ..zero_item() }));
    }
    // Values that are present are kept, whatever else is missing.
    let body =
        r#"[{"name":"a","stars":null},{"stars":5,"count":7},{"maker":{"at":[1,true],"later":{"x":null}}}]"#;
    let items: Vec<Item> = go(|| json(body)).unwrap();
    assert_eq!(items[0], Item { name: "a".into(), ..zero_item() });
    assert_eq!(items[1], Item { stars: 5, count: 7, ..Item::default() });
    assert_eq!(items[2].maker, Maker { at: (1, true), ..Maker::default() });
}

#[test]
fn other_protocols_report_the_missing_field() {
    assert_eq!(said::<Maker>("{}"), r#"missing field "id" (missing_fields = "error")"#);
    let error = ValueRules::of(JsonDialect::Connect, MissingFields::Error);
    assert_eq!(error.apply(|| said::<Maker>("{}")), r#"missing field "id" (missing_fields = "error")"#);
    assert!(said::<CountedFields>(r#"{"count":null}"#).contains("invalid type: null"));
    assert_eq!(set(MissingFields::Zero, || json("{}")), Ok(zero_item()));
}

#[test]
fn a_type_without_a_zero_is_an_error() {
    let no_zero = |path: &str| {
        format!(r#"missing field "{path}": its type has no zero value (missing_fields = "zero")"#)
    };
    for _ in 0..2 {
        for body in ["{}", r#"{"id":1,"by":null}"#, r#"{"id":1}"#] {
            assert_eq!(go(|| said::<Paid>(body)), no_zero("by"), "{body}");
        }
        for body in ["{}", r#"{"count":null}"#] {
            assert_eq!(go(|| said::<CountedFields>(body)), no_zero("count"), "{body}");
        }
        assert_eq!(go(|| said::<OuterFields<CountedFields>>("{}")), no_zero("inner.count"));
        assert_eq!(
            go(|| json(r#"{"by":"Cash"}"#)),
            Ok(Paid { id: 0, by: Payment::Cash }),
            "what came is taken"
        );
    }
    // A struct variant follows the rules of a struct.
    let card = Payment::Card { number: String::new() };
    assert_eq!(go(|| json(r#"{"id":1,"by":{"Card":{}}}"#)), Ok(Paid { id: 1, by: card }));
}

#[test]
fn an_alias_is_not_taken_for_a_missing_field() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Aliased {
        #[serde(alias = "old")]
        new: u8,
        other: u8,
    }
    assert_eq!(go(|| json("{}")), Ok(Aliased { new: 0, other: 0 }));
    assert_eq!(go(|| json(r#"{"old":4}"#)), Ok(Aliased { new: 4, other: 0 }));
    assert_eq!(go(|| json(r#"{"new":5}"#)), Ok(Aliased { new: 5, other: 0 }));
    assert!(go(|| json::<Aliased>(r#"{"new":5,"old":5}"#)).is_err());
}

#[test]
fn a_list_is_no_struct() {
    let body = r#"[1,[0,false],"Red","",null,0]"#;
    let variant = r#"{"id":1,"by":{"Card":["1"]}}"#;
    assert!(said::<Maker>(body).contains("invalid type: sequence, expected struct Maker"));
    assert!(go(|| said::<Maker>(body)).contains("invalid type: sequence"));
    assert!(said::<Paid>(variant).contains("invalid type: sequence"));
    assert!(go(|| said::<Paid>(variant)).contains("invalid type: sequence"));
    assert_eq!(json("[1,2]"), Ok((1, 2)), "a tuple is one");
}

#[cfg(feature = "messagepack")]
#[test]
fn messagepack_follows_the_same_rules() {
    // {"inner": nil}, {}, and a list in place of the struct.
    let bodies: [&[u8]; 3] = [b"\x81\xa5inner\xc0", b"\x80", b"\x91\x80"];
    for body in &bodies[..2] {
        assert!(decode::<OuterFields<Maker>>(Codec::MessagePack, body).is_err());
        let filled = set(MissingFields::Zero, || decode::<OuterFields<Maker>>(Codec::MessagePack, body));
        assert_eq!(filled, Ok(OuterFields { inner: Maker::default() }));
    }
    let error = decode::<OuterFields<Maker>>(Codec::MessagePack, bodies[1]).unwrap_err();
    assert_eq!(error.to_string(), r#"missing field "inner" (missing_fields = "error")"#);
    let error = decode::<OuterFields<Maker>>(Codec::MessagePack, bodies[2]).unwrap_err();
    assert!(error.to_string().contains("sequence"), "{error}");
    let error = decode::<OuterFields<i64>>(Codec::MessagePack, b"\x81\xa5inner\xa11").unwrap_err();
    assert!(matches!(error, CodecError::Malformed { .. }), "only JSON has numbers as text: {error}");
}

#[cfg(feature = "gob")]
#[test]
fn gob_fills_missing_fields_with_zeros_by_default() {
    use crate::codec::encode_plain;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Older {
        id: u8,
    }
    let mut body = Vec::new();
    encode_plain(Codec::Gob, &Older { id: 4 }, &mut body).unwrap();
    #[derive(Debug, PartialEq, Deserialize)]
    struct Newer {
        id: u8,
        count: u32,
    }
    assert_eq!(decode(Codec::Gob, &body), Ok(Newer { id: 4, count: 0 }));
    let error = set(MissingFields::Error, || decode::<Newer>(Codec::Gob, &body)).unwrap_err();
    assert_eq!(error.to_string(), r#"missing field "count" (missing_fields = "error")"#);
    let error = decode::<Paid>(Codec::Gob, &body).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"missing field "by": its type has no zero value (missing_fields = "zero")"#
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NumberFields {
    long: i64,
    unsigned: u64,
    short: i8,
    real: f64,
    single: f32,
    data: Bytes,
}

#[test]
fn protobufs_json_has_numbers_as_text() {
    let body = r#"{"long":"-9223372036854775808","unsigned":"18446744073709551615","short":1e1,"real":"-Infinity",
        "single":"1.5","data":"-_8"}"#;
    assert!(json::<NumberFields>(body).is_err() && go(|| json::<NumberFields>(body)).is_err());
    let numbers: NumberFields = connect(|| json(body)).unwrap();
    let data = Bytes::from(vec![0xfb, 0xff]);
    let expected = NumberFields {
        long: i64::MIN,
        unsigned: u64::MAX,
        short: 10,
        real: f64::NEG_INFINITY,
        single: 1.5,
        data: data.clone(),
    };
    assert_eq!(numbers, expected);
    assert!(connect(|| json::<f32>(r#""NaN""#)).unwrap().is_nan());
    assert_eq!(connect(|| json(r#""-_8=""#)), Ok(data.clone()));
    assert_eq!(connect(|| json(r#""+/8""#)), Ok(data.clone()));
    assert_eq!(json(r#""+/8=""#), Ok(data));
    assert!(json::<Bytes>(r#""-_8=""#).is_err());
    for body in [r#""300""#, r#""1.5""#, r#""""#, r#"" 1""#, r#""+1""#, r#""NaN""#, "1.5", r#""0x1""#] {
        assert!(connect(|| json::<i8>(body)).is_err(), "{body}");
    }
    for body in [r#""inf""#, r#""nan""#, r#""""#, r#""infinity""#] {
        assert!(connect(|| json::<f64>(body)).is_err(), "{body}");
    }
    assert_eq!(connect(|| json(r#"{"1":"2"}"#)), Ok(BTreeMap::from([(1u32, 2i64)])));
}

#[test]
fn json_refuses_nan_and_infinity() {
    #[derive(Serialize)]
    struct Deep {
        list: Vec<Option<OuterFields<BTreeMap<String, f32>>>>,
    }
    let deep =
        Deep { list: vec![None, Some(OuterFields { inner: BTreeMap::from([("a".into(), f32::INFINITY)]) })] };
    let mut out = b"kept".to_vec();
    let error = encode(Codec::Json, &deep, &mut out).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the value cannot be written as json: field \"list[].inner.a\" is inf, which JSON has no number for"
    );
    assert_eq!(out, b"kept");
    assert!(encode(Codec::Json, &f64::NAN, &mut out).unwrap_err().to_string().contains("it is NaN"));
    assert!(encode(Codec::Json, &(1, [f64::NAN]), &mut out).is_err());
    assert!(go(|| encode(Codec::Json, &Some(f64::NAN), &mut Vec::new())).is_err());
    let written = |value: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        value(&mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written(&|out| connect(|| encode(Codec::Json, &deep, out)).unwrap()),
        r#"{"list":[null,{"inner":{"a":"Infinity"}}]}"#
    );
    assert_eq!(
        written(&|out| connect(|| encode(Codec::Json, &[f64::NAN, f64::NEG_INFINITY], out)).unwrap()),
        r#"["NaN","-Infinity"]"#
    );
    assert_eq!(written(&|out| connect(|| encode(Codec::Json, &(), out)).unwrap()), "{}");
    assert_eq!(written(&|out| go(|| encode(Codec::Json, &(), out)).unwrap()), "null");
    assert_eq!(written(&|out| connect(|| encode(Codec::Json, &None::<u8>, out)).unwrap()), "null");
    assert_eq!(
        written(&|out| connect(|| encode(Codec::Json, &serde_json::Value::Null, out)).unwrap()),
        "null"
    );
}

#[test]
fn a_second_reading_refuses_other_errors() {
    let deep = "[".repeat(200);
    for body in ["{", r#"{"maker":"x"}"#, r#"{"name":1}"#, "[]", r#"{"tags":{}}"#, r#"{"count":-1}"#, &deep] {
        assert!(go(|| json::<Item>(body)).is_err(), "{body}");
        assert!(connect(|| json::<Item>(body)).is_err(), "{body}");
    }
    /// It has no zero, and the search for one would not end.
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "never made")]
    struct EndlessType {
        next: Box<EndlessType>,
    }
    assert!(go(|| json::<EndlessType>("{}")).is_err());
    // The rules apply to the call and end with it, also when it panics.
    let _ = std::panic::catch_unwind(|| go(|| panic!("a handler")));
    assert!(json::<Item>("{}").is_err());
}

#[test]
fn a_null_field_with_a_default_needs_no_zero() {
    fn cash() -> Payment {
        Payment::Cash
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Defaulted {
        #[serde(default = "cash")]
        by: Payment,
        id: u8,
    }
    let one = Defaulted { by: Payment::Cash, id: 0 };
    assert_eq!(go(|| json(r#"{"by":null}"#)), Ok(one));
    assert_eq!(go(|| json::<Vec<Defaulted>>(r#"[{"by":null},{"by":null,"id":2}]"#)).unwrap()[1].id, 2);
    // But a body full of them does not cost one reading each.
    let many = format!("[{}]", vec![r#"{"by":null}"#; 10_000].join(","));
    assert!(go(|| json::<Vec<Defaulted>>(&many)).is_err());
}
