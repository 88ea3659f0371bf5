//! The bytes of each form, against prost's own and against golden ones, and bodies that are not messages.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::codec::{Argument, ArgumentEncode, Body, Bytes, Plain, Raw, RawBytes, ReplyDecode, ReplyEncode};
use crate::macro_support::{
    self, Probe, ProbeConverted as _, ProbeConvertedLists as _, ProbeLists as _, ProbeMessages as _,
    ProbeNone as _, ProbeScalars as _,
};
use crate::status::{Code, Status};

/// A message with several types of fields, among them its own.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
struct Part {
    #[prost(string, tag = "1")]
    item: String,
    #[prost(int64, tag = "2")]
    count: i64,
    #[prost(double, tag = "3")]
    price: f64,
    #[prost(message, repeated, tag = "4")]
    parts: Vec<Part>,
}

/// A list as a protobuf compiler generates it.
#[derive(Clone, PartialEq, prost::Message)]
struct PartList {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Part>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NumberList {
    #[prost(sint32, tag = "9")]
    unknown: i32,
    #[prost(int32, repeated, tag = "1")]
    items: Vec<i32>,
}

/// A type without a message, in a type with one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Small(u8);

impl AsProtobuf for Small {
    type Message = Part;

    fn to_message(&self) -> Part {
        Part { count: self.0.into(), ..Part::default() }
    }

    fn from_message(message: Part) -> Result<Small, String> {
        u8::try_from(message.count).map(Small).map_err(|_| "field \"count\" is not small".to_owned())
    }
}

/// Returns the marker of a type, as the attribute finds it.
macro_rules! marker_of {
    ($type:ty) => {
        macro_support::plain::<$type, _, ()>((&&&&&&Probe::<$type>::NEW).protobuf_form())
    };
}

fn encoded<A: ArgumentEncode>(_marker: A, value: &A::Given) -> Vec<u8> {
    let mut out = b"before".to_vec();
    A::encode(value, CODEC, &mut out).unwrap();
    out.split_off(6)
}

fn decoded<R: ReplyDecode>(_marker: R, body: &[u8]) -> Result<R::Value, CodecError> {
    R::decode(CODEC, body)
}

/// Asserts that a value has these bytes in protobuf, and that they are read as it.
macro_rules! assert_bytes {
    ($type:ty, $value:expr, $bytes:expr) => {
        let value: $type = $value;
        assert_eq!(encoded(marker_of!($type), &value), $bytes, "{value:?}");
        assert_eq!(decoded(marker_of!($type), &$bytes), Ok(value));
    };
}

#[test]
fn bare_values_are_the_wrappers_of_google_protobuf() {
    assert_bytes!(i64, 300, *b"\x08\xac\x02");
    assert_bytes!(i64, -1, *b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    assert_bytes!(i32, 1, *b"\x08\x01");
    assert_bytes!(i16, -2, *b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    assert_bytes!(i8, 7, *b"\x08\x07");
    assert_bytes!(u8, 255, *b"\x08\xff\x01");
    assert_bytes!(u16, 256, *b"\x08\x80\x02");
    assert_bytes!(u32, u32::MAX, *b"\x08\xff\xff\xff\xff\x0f");
    assert_bytes!(u64, 1, *b"\x08\x01");
    assert_bytes!(usize, 1, *b"\x08\x01");
    assert_bytes!(bool, true, *b"\x08\x01");
    assert_bytes!(f64, 1.5, *b"\x09\0\0\0\0\0\0\xf8\x3f");
    assert_bytes!(f32, 1.5, *b"\x0d\0\0\xc0\x3f");
    assert_bytes!(String, "é".to_owned(), *b"\x0a\x02\xc3\xa9");
    assert_bytes!(Vec<u8>, vec![0, 255], *b"\x0a\x02\0\xff");
    assert_bytes!(Bytes, Bytes::from(&b"\0\xff"[..]), *b"\x0a\x02\0\xff");
    assert_bytes!((), (), *b"");
    // A zero is not written.
    assert_bytes!(i64, 0, *b"");
    assert_bytes!(u8, 0, *b"");
    assert_bytes!(String, String::new(), *b"");
    assert_bytes!(Bytes, Bytes::default(), *b"");
}

#[test]
fn a_list_is_a_message_with_one_repeated_field() {
    let parts = vec![Part { item: "a".into(), ..Part::default() }, Part::default()];
    assert_bytes!(Vec<Part>, parts.clone(), *b"\x0a\x03\x0a\x01a\x0a\0");
    let list = PartList { items: parts };
    assert_eq!(encoded(marker_of!(Vec<Part>), &list.items), prost::Message::encode_to_vec(&list));
    assert_bytes!(Vec<Small>, vec![Small(1), Small(0)], *b"\x0a\x02\x10\x01\x0a\0");
    assert_bytes!(Vec<i64>, vec![1, 300], *b"\x0a\x03\x01\xac\x02");
    assert_bytes!(Vec<u16>, vec![1, 300], *b"\x0a\x03\x01\xac\x02");
    assert_bytes!(Vec<f64>, vec![1.5], *b"\x0a\x08\0\0\0\0\0\0\xf8\x3f");
    assert_bytes!(Vec<bool>, vec![true, false], *b"\x0a\x02\x01\0");
    assert_bytes!(Vec<String>, vec!["a".into(), String::new()], *b"\x0a\x01a\x0a\0");
    assert_bytes!(Vec<i64>, vec![], *b"");
    // Not packed, with a field that is not known.
    assert_eq!(decoded(marker_of!(Vec<i64>), b"\x08\x01\x12\x01x\x08\xac\x02"), Ok(vec![1, 300]));
}

#[test]
fn byte_strings_are_borrowed_and_the_last_field_counts() {
    let body = b"\x0a\x01x\x10\x07\x0a\x02hi";
    let borrowed = <Raw as Argument>::decode(CODEC, Body::Slice(body)).unwrap();
    assert!(std::ptr::eq(borrowed.as_ptr(), body[7..].as_ptr()) && &*borrowed == b"hi");
    assert_eq!(<RawBytes as Argument>::decode(CODEC, Body::Slice(body)).unwrap(), Bytes::from(&b"hi"[..]));
    let mut out = Vec::new();
    assert_eq!(<RawBytes as ReplyEncode>::encode(Bytes::from(vec![7; 5000]), CODEC, &mut out), Ok(None));
    assert_eq!((&out[..4], out.len()), (&b"\x0a\x88\x27\x07"[..], 5003));
    assert_eq!(<Raw as ReplyDecode>::decode(CODEC, &out), Ok(vec![7; 5000]));
}

#[test]
fn a_type_without_a_message_is_not_accepted() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nameless {
        a: i64,
    }
    fn accepts<A: Argument>(_marker: A) -> bool {
        A::accepts(CODEC)
    }
    assert!(!accepts(marker_of!(Nameless)) && !accepts(marker_of!(Vec<Nameless>)));
    assert!(!accepts(marker_of!(Option<i64>)) && !accepts(marker_of!((i64, i64))));
    assert!(accepts(marker_of!(Part)) && accepts(marker_of!(Box<Part>)) && accepts(marker_of!(Small)));
    let error = decoded(marker_of!(Nameless), b"\x08\x01").unwrap_err();
    assert!(matches!(error, CodecError::NotAccepted { codec: Codec::Protobuf, .. }), "{error}");
    let mut out = vec![1];
    assert!(<Plain<i64> as ArgumentEncode>::encode(&1, CODEC, &mut out).is_err());
    assert_eq!(out, [1]);
    assert!(crate::codec::decode::<i64>(CODEC, b"").is_err());
}

/// Returns the text of the error for a part.
fn refused(body: &[u8]) -> String {
    let error = decoded(marker_of!(Part), body).unwrap_err();
    assert_eq!(Status::from(error.clone()).code, Code::InvalidArgument);
    error.to_string()
}

#[test]
fn bodies_that_are_no_messages_are_refused_with_the_reason() {
    for (body, reason) in [
        (&b"\x08\x01"[..], "Part.item: invalid wire type: Varint (expected LengthDelimited)"),
        (b"\x12\x01a", "Part.count: invalid wire type: LengthDelimited (expected Varint)"),
        (b"\x0a\x05abc", "buffer underflow"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "buffer underflow"),
        (b"\x0a\x01\xff", "Part.item: invalid string value: data is not UTF-8 encoded"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "invalid varint"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "invalid varint"),
        (b"\x10", "invalid varint"),
        (b"\x80", "invalid varint"),
        (b"\x00\x01", "invalid tag value: 0"),
        (b"\x0e\x01", "invalid wire type value: 6"),
        (b"\x2c", "unexpected end group tag"),
        (b"\x2b\x34", "unexpected end group tag"),
        (b"\xff\xff\xff\xff\xff\x01\x01", "invalid key value"),
        (b"\x2b", "invalid varint"),
    ] {
        let text = refused(body);
        assert!(text.starts_with("malformed protobuf body: ") && text.contains(reason), "{body:?}: {text}");
    }
    let text = decoded(marker_of!(u8), b"\x08\x80\x02").unwrap_err().to_string();
    assert_eq!(text, "malformed protobuf body: expected 0 to 255, found 256");
    assert!(decoded(marker_of!(Vec<i8>), b"\x0a\x02\x80\x01").is_err(), "128 is no i8");
    let text = decoded(marker_of!(Vec<Small>), b"\x0a\x03\x10\x80\x02").unwrap_err().to_string();
    assert_eq!(text, "malformed protobuf body: field \"count\" is not small");
    for body in [&b"\x0a\x03hi"[..], b"\x08\x01", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
        let error = <Raw as Argument>::decode(CODEC, Body::Slice(body)).unwrap_err();
        assert!(matches!(error, CodecError::Malformed { .. }), "{body:?}: {error}");
    }
}

/// Returns parts that contain each other, this many levels below the first.
fn nested(levels: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..levels {
        let mut outer = Vec::new();
        prost::encoding::encode_key(4, prost::encoding::WireType::LengthDelimited, &mut outer);
        prost::encoding::encode_varint(body.len() as u64, &mut outer);
        outer.extend(&body);
        body = outer;
    }
    body
}

#[test]
fn nesting_ends_at_prosts_limit() {
    let too_deep = Err(CodecError::TooDeep { codec: CODEC, depth_max: NESTED_MAX });
    assert!(decoded(marker_of!(Part), &nested(NESTED_MAX - 1)).is_ok());
    assert_eq!(decoded(marker_of!(Part), &nested(NESTED_MAX)), too_deep);
    assert_eq!(decoded(marker_of!(Part), &nested(3_000)), too_deep);
    // Unknown groups inside one another, 15 being their number; they are skipped.
    let groups = |deep: usize| [vec![0x7b; deep], vec![0x7c; deep]].concat();
    assert_eq!(decoded(marker_of!(Part), &groups(NESTED_MAX - 1)), Ok(Part::default()));
    assert_eq!(decoded(marker_of!(Part), &groups(NESTED_MAX)), too_deep);
    assert_eq!(decoded(marker_of!(Part), &vec![0x7b; 1_000_000]), too_deep);
    let error = decoded(marker_of!(Vec<i64>), &vec![0x7b; 1_000_000]).unwrap_err();
    assert!(matches!(error, CodecError::TooDeep { .. }));
    assert!(matches!(
        <Raw as Argument>::decode(CODEC, Body::Slice(&[0x7b; 1_000])),
        Err(CodecError::TooDeep { .. })
    ));
}

fn parts() -> impl Strategy<Value = Part> {
    let leaf = (".*", any::<i64>(), proptest::num::f64::NORMAL).prop_map(|(item, count, price)| Part {
        item,
        count,
        price,
        parts: Vec::new(),
    });
    leaf.prop_recursive(4, 20, 3, |inner| {
        (".*", proptest::collection::vec(inner, 0..3)).prop_map(|(item, parts)| Part {
            item,
            parts,
            ..Part::default()
        })
    })
}

proptest! {
    #[test]
    fn values_come_back_and_have_the_bytes_of_prost(
        part in parts(), number in any::<i64>(), small in any::<i16>(), text in ".*",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        items in proptest::collection::vec(any::<i32>(), 0..50),
    ) {
        use prost::Message;
        let body = encoded(marker_of!(Part), &part);
        prop_assert_eq!(&body, &part.encode_to_vec());
        prop_assert_eq!(decoded(marker_of!(Part), &body), Ok(part));
        prop_assert_eq!(encoded(marker_of!(i64), &number), number.encode_to_vec());
        prop_assert_eq!(encoded(marker_of!(i16), &small), i32::from(small).encode_to_vec());
        prop_assert_eq!(decoded(marker_of!(i16), &i32::from(small).encode_to_vec()), Ok(small));
        prop_assert_eq!(encoded(marker_of!(String), &text), text.encode_to_vec());
        prop_assert_eq!(encoded(Raw, &bytes), bytes.encode_to_vec());
        prop_assert_eq!(decoded(Raw, &bytes.encode_to_vec()), Ok(bytes));
        let list = NumberList { unknown: 0, items };
        prop_assert_eq!(encoded(marker_of!(Vec<i32>), &list.items), list.encode_to_vec());
        let list = NumberList { unknown: 7, ..list };
        prop_assert_eq!(decoded(marker_of!(Vec<i32>), &list.encode_to_vec()), Ok(list.items));
    }

    #[test]
    fn a_part_of_a_message_or_any_bytes_end_in_an_answer(
        part in parts(), noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let body = encoded(marker_of!(Vec<Part>), &vec![part]);
        for body in (0..body.len()).map(|len| &body[..len]).chain([&noise[..]]) {
            let _ = decoded(marker_of!(Part), body);
            let _ = decoded(marker_of!(Vec<Part>), body);
            let _ = decoded(marker_of!(Vec<Small>), body);
            let _ = decoded(marker_of!(Vec<i8>), body);
            let _ = decoded(marker_of!(Vec<String>), body);
            let _ = decoded(marker_of!(()), body);
            let _ = decoded(Raw, body);
        }
    }
}
