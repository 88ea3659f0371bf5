//! Tests of the codec's parts together: evolution, refusals, hostile bodies, and streams split at every byte.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::stream::{DefinitionLimits, Definitions, ReceivedItem, SentTypes, SplitItem, StreamError, split};
use super::*;
use crate::codec::Shape;

/// Written by Go 1.27: a struct with interfaces, one of them nested, whose types are defined in place.
const HOLDER: &[u8] = include_bytes!("../../../fuzz/corpus/codec_gob/go-holder");
/// Two such structs on one stream.
const TWO_HOLDERS: &[u8] = include_bytes!("../../../fuzz/corpus/codec_gob/go-two-holders");
/// `complex(1.5, -2)`.
const COMPLEX: &[u8] = include_bytes!("../../../fuzz/corpus/codec_gob/go-complex");
/// A struct with a `time.Time`.
const WHEN: &[u8] = include_bytes!("../../../fuzz/corpus/codec_gob/go-when");

fn body_of<T: Serialize + DeserializeOwned + 'static>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out).unwrap();
    out
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(value: T) {
    assert_eq!(decode::<T>(&body_of(&value)), Ok(value));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    a: i64,
    b: String,
    c: Vec<Old>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    c: Vec<New>,
    #[serde(default = "ten")]
    limit: u8,
    #[serde(alias = "a")]
    first: i64,
    extra: BTreeMap<String, u8>,
    nested: Nested,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    x: u32,
    y: (bool, String),
    z: Option<i8>,
}

fn ten() -> u8 {
    10
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum GobTree {
    Leaf,
    Wrap(Box<GobTree>),
    Both(Box<GobTree>, Option<Box<GobTree>>),
    Many { kids: Vec<GobTree>, id: i64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    #[serde(rename = "After")]
    after: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Any {
    #[serde(rename = "main.Leaf")]
    Leaf {
        #[serde(rename = "Name")]
        name: String,
    },
    #[serde(rename = "main.Deep")]
    Deep {
        #[serde(rename = "Of")]
        of: Box<Any>,
        #[serde(rename = "N")]
        n: i64,
    },
    #[serde(rename = "main.Point")]
    Point {
        #[serde(rename = "X")]
        x: i64,
        #[serde(rename = "Y")]
        y: i64,
    },
    #[serde(rename = "string")]
    Text(String),
    #[serde(rename = "int64")]
    Number(i64),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FullHolder {
    any: Any,
    list: Vec<Option<Any>>,
    after: i64,
}

#[test]
fn missing_fields_are_zero_or_default() {
    let old = Old { a: 7, b: "x".into(), c: vec![Old { a: 0, b: String::new(), c: vec![] }] };
    let nested = || Nested { x: 0, y: (false, String::new()), z: None };
    for _ in 0..2 {
        let new: New = decode(&body_of(&old)).unwrap();
        let kid = New { c: vec![], limit: 10, first: 0, extra: BTreeMap::new(), nested: nested() };
        assert_eq!(new, New { c: vec![kid], limit: 10, first: 7, extra: BTreeMap::new(), nested: nested() });
    }
    assert_eq!(decode::<IgnoredAny>(&body_of(&old)), Ok(IgnoredAny));
    assert_eq!(decode::<()>(&body_of(&old)), Ok(()));
}

#[test]
fn a_struct_without_matching_fields_is_refused() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sent {
        x: i64,
    }
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct WantedFields {
        a: i64,
        #[serde(default, alias = "z")]
        b: i64,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Empty {}
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Around<T> {
        inside: T,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct GobAliased {
        z: i64,
    }

    let why = "type mismatch: no fields matched compiling decoder for WantedFields";
    for _ in 0..2 {
        let error = decode::<WantedFields>(&body_of(&Sent { x: 0 })).unwrap_err().to_string();
        assert!(error.ends_with(why), "{error}");
        let error = decode::<Option<Box<WantedFields>>>(&body_of(&Sent { x: 1 })).unwrap_err().to_string();
        assert!(error.ends_with(why), "{error}");
    }
    // A type without fields cannot mismatch.
    assert_eq!(decode::<WantedFields>(&body_of(&Empty {})), Ok(WantedFields::default()));
    assert_eq!(decode::<WantedFields>(&body_of(&())), Ok(WantedFields::default()));
    assert_eq!(decode::<Empty>(&body_of(&Sent { x: 1 })), Ok(Empty {}));
    assert_eq!(decode::<()>(&body_of(&Sent { x: 1 })), Ok(()));
    // An alias counts as a name of the field; the check applies to the outermost struct only.
    assert_eq!(decode::<WantedFields>(&body_of(&GobAliased { z: 7 })), Ok(WantedFields { a: 0, b: 7 }));
    let inside = body_of(&Around { inside: Sent { x: 1 } });
    assert_eq!(decode::<Around<WantedFields>>(&inside), Ok(Around { inside: WantedFields::default() }));
}

#[test]
fn kinds_must_agree_and_numbers_must_fit() {
    assert!(decode::<u64>(&body_of(&3i64)).is_err());
    assert!(decode::<f64>(&body_of(&3i64)).is_err());
    assert_eq!(decode::<i8>(&body_of(&-128i64)), Ok(-128));
    assert!(decode::<i8>(&body_of(&128i64)).is_err());
    assert!(decode::<u32>(&body_of(&u64::MAX)).is_err());
    assert!(decode::<f32>(&body_of(&1e300f64)).is_err());
    assert_eq!(decode::<f32>(&body_of(&f64::INFINITY)), Ok(f32::INFINITY));
    assert!(decode::<[i64; 3]>(&body_of(&[1i64, 2])).is_err());
    assert!(decode::<char>(&body_of(&0xd800i64)).is_err());
    assert!(decode::<Any>(&body_of(&"int64".to_string())).is_err());
}

#[test]
fn every_kind_round_trips() {
    comes_back((1u8, "two".to_string(), Some(3.5f64)));
    comes_back((None::<i64>, Some(0i64)));
    comes_back([0u8; 4]);
    comes_back(vec![1u8, 0, 255]);
    comes_back((i128::MIN, u128::MAX));
    comes_back('世');
    comes_back(());
    comes_back(vec![(), ()]);
    comes_back(HashMap::from([(1u16, vec![true])]));
    comes_back(Time { seconds: -1, nanos: 999_999_999, offset_minutes: Some(-330) });
    comes_back(vec![Time::default()]);
    comes_back((Time::default(), 1u8));
}

#[test]
fn unsupported_values_are_refused_without_output() {
    let mut out = b"kept".to_vec();
    assert!(encode(&vec![Some(1i64), None], &mut out).is_err());
    assert!(encode(&None::<i64>, &mut out).is_err());
    assert_eq!(out, b"kept");
    #[derive(Serialize, Deserialize)]
    struct GobRing(Option<Box<GobRing>>);
    let error = encode(&GobRing(None), &mut out).unwrap_err();
    assert!(error.to_string().contains("contains only itself"), "{error}");
}

#[test]
fn a_type_described_by_hand_is_encoded_as_described() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Number(i64),
    }
    let mut out = Vec::new();
    assert!(encode(&Loose::Number(3), &mut out).is_err());
    let by_hand = gob_type(&Description::new(Shape::int(64))).unwrap();
    encode_as(&Loose::Number(3), &by_hand, &mut out).unwrap();
    assert_eq!(out, [3, 4, 0, 6]);
}

#[test]
fn equal_types_have_equal_ids() {
    #[derive(Serialize, Deserialize)]
    struct Kid {
        kids: Vec<Kid>,
    }
    let of = |description: Result<Description, _>| gob_type(&description.unwrap()).unwrap();
    let (one, many) = (of(Description::of::<Kid>()), of(Description::of::<Vec<Kid>>()));
    assert_eq!(one.id, of(Description::of::<Kid>()).id);
    let list = Definitions::new(DefinitionLimits::default());
    let mut list = (list, &many.definitions[..]);
    while let ReceivedItem::Definition { bytes } = list.0.take(list.1, 1000).unwrap() {
        list.1 = &list.1[bytes..];
    }
    // `[]Kid` is the same type inside Kid and around it.
    assert_eq!((list.0.len(), one.definitions.len()), (2, many.definitions.len()));
}

#[test]
fn gos_interfaces_complex_numbers_and_times_are_read() {
    assert_eq!(decode::<Holder>(HOLDER), Ok(Holder { after: 7 }));
    let full: FullHolder = decode(HOLDER).unwrap();
    let leaf = Any::Leaf { name: "x".into() };
    assert_eq!(full.any, Any::Deep { of: Box::new(leaf), n: 5 });
    let list = [Some(Any::Point { x: 1, y: 2 }), None, Some(Any::Text("text".into())), Some(Any::Number(9))];
    assert_eq!((&full.list[..], full.after), (&list[..], 7));
    assert_eq!(decode::<(f64, f64)>(COMPLEX), Ok((1.5, -2.0)));
    #[derive(Debug, PartialEq, Deserialize)]
    struct When {
        #[serde(rename = "T")]
        at: Time,
    }
    let at = Time { seconds: 1_700_000_000, nanos: 5, offset_minutes: None };
    assert_eq!(decode::<When>(WHEN), Ok(When { at }));
}

/// Splits a stream into bodies as its bytes arrive, in pieces that end at `cuts`.
fn bodies(stream: &[u8], cuts: &[usize]) -> Result<Vec<Vec<u8>>, StreamError> {
    let mut definitions = Definitions::new(DefinitionLimits::default());
    let (mut at, mut found) = (0, Vec::new());
    for end in cuts.iter().copied().chain([stream.len()]) {
        loop {
            match definitions.take(&stream[at..end.max(at)], 1000)? {
                ReceivedItem::Definition { bytes } => at += bytes,
                ReceivedItem::Value { bytes, definitions, .. } => {
                    found.push([&definitions, &stream[at..at + bytes]].concat());
                    at += bytes;
                }
                ReceivedItem::NeedMore { bytes_min } => {
                    assert!(bytes_min > end.max(at) - at);
                    break;
                }
            }
        }
    }
    assert_eq!(at, stream.len());
    Ok(found)
}

#[test]
fn stream_pieces_do_not_change_the_bodies() {
    let old = Old { a: 7, b: "x".into(), c: vec![] };
    let (mut ours, mut sent) = (Vec::new(), SentTypes::new());
    for body in [body_of(&old), body_of(&5i64), body_of(&old), body_of(&vec![old.clone()])] {
        sent.append(&body, &mut ours).unwrap();
    }
    assert!(ours.len() < 2 * body_of(&old).len() + 60, "each type is defined once");
    for stream in [&ours[..], HOLDER, TWO_HOLDERS] {
        let whole = bodies(stream, &[]).unwrap();
        for cut in 0..stream.len() {
            assert_eq!(bodies(stream, &[cut]).unwrap(), whole);
        }
        assert_eq!(bodies(stream, &(0..stream.len()).collect::<Vec<_>>()).unwrap(), whole);
    }
    let ours = bodies(&ours, &[]).unwrap();
    assert_eq!(decode::<Old>(&ours[2]), Ok(old.clone()));
    assert_eq!(decode::<Vec<Old>>(&ours[3]), Ok(vec![old]));
    let holders = bodies(TWO_HOLDERS, &[]).unwrap();
    assert_eq!(decode::<Holder>(&holders[0]), Ok(Holder { after: 1 }));
    assert_eq!(decode::<Holder>(&holders[1]), Ok(Holder { after: 2 }));
}

#[test]
fn definitions_have_limits_and_are_made_once() {
    let body = body_of(&Old { a: 1, b: String::new(), c: vec![] });
    let Ok(SplitItem::Message(first)) = split(&body, 1000) else { panic!() };
    let mut definitions = Definitions::new(DefinitionLimits::default());
    definitions.define(first).unwrap();
    assert!(matches!(definitions.define(first), Err(StreamError::Redefined { .. })));
    // `[]Old` is not defined.
    let id = -first.id().unwrap();
    assert!(matches!(definitions.closure(id), Err(StreamError::Undefined { .. })));
    assert!(matches!(definitions.take(&[3, 0x7e, 0, 0], 9), Err(StreamError::Undefined { id: 63 })));
    assert_eq!(split(&[100], 99), Err(StreamError::TooLarge { bytes: 100, bytes_max: 99 }));
    for limits in [
        DefinitionLimits { count_max: 0, ..DefinitionLimits::default() },
        DefinitionLimits { bytes_max: 10, ..DefinitionLimits::default() },
        DefinitionLimits { total_bytes_max: 10, ..DefinitionLimits::default() },
    ] {
        assert_eq!(Definitions::new(limits).define(first), Err(StreamError::TooManyDefinitions));
    }
}

/// Returns a slice of itself (`type T []T`), nested this deep.
fn nested(depth: usize) -> Vec<u8> {
    let definition = [&[0xff, 0x83, 2, 1, 2, 0xff, 0x84, 0, 1, 0xff, 0x84, 0, 0][..]].concat();
    let mut value = vec![0xff, 0x84, 0];
    value.resize(value.len() + depth - 1, 1);
    value.push(0);
    let mut body = vec![definition.len() as u8];
    body.extend(definition);
    number::put_bytes(&mut body, &value);
    body
}

#[test]
fn skipped_values_count_towards_the_depth() {
    #[derive(Debug, Deserialize)]
    struct Itself(#[allow(dead_code)] Vec<Itself>);
    for (depth, is_refused) in [(127, false), (128, true), (100_000, true)] {
        let body = nested(depth);
        for outcome in
            [decode::<Itself>(&body).map(drop), decode::<IgnoredAny>(&body).map(drop), decode::<()>(&body)]
        {
            assert_eq!(
                matches!(outcome, Err(CodecError::TooDeep { .. })),
                is_refused,
                "{depth}: {outcome:?}"
            );
        }
    }
}

fn trees() -> impl Strategy<Value = GobTree> {
    Just(GobTree::Leaf).prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|tree| GobTree::Wrap(Box::new(tree))),
            (inner.clone(), proptest::option::of(inner.clone()))
                .prop_map(|(left, right)| GobTree::Both(Box::new(left), right.map(Box::new))),
            (proptest::collection::vec(inner, 0..4), any::<i64>())
                .prop_map(|(kids, id)| GobTree::Many { kids, id }),
        ]
    })
}

proptest! {
    #[test]
    fn values_come_back(tree in trees(), map in any::<BTreeMap<String, (i32, f32, Option<u64>)>>()) {
        comes_back(tree);
        let map: BTreeMap<_, _> = map.into_iter().map(|(k, (a, b, c))| (k, (a, b + 0.0, c))).collect();
        comes_back(map);
    }

    #[test]
    fn any_bytes_give_a_value_or_an_error(
        at in 0usize..400,
        byte in any::<u8>(),
        which in 0usize..4,
        cut in 0usize..400,
    ) {
        let tree = GobTree::Many { kids: vec![GobTree::Leaf, GobTree::Wrap(Box::new(GobTree::Leaf))], id: -5 };
        let mut body = [HOLDER.to_vec(), WHEN.to_vec(), body_of(&tree), nested(9)][which].clone();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(cut.max(at));
        let _ = decode::<FullHolder>(&body);
        let _ = decode::<GobTree>(&body);
        let _ = decode::<New>(&body);
        let _ = decode::<IgnoredAny>(&body);
        let _ = bodies_of_any(&body);
    }
}

fn bodies_of_any(mut stream: &[u8]) -> Result<(), StreamError> {
    let mut definitions = Definitions::new(DefinitionLimits::default());
    loop {
        match definitions.take(stream, 1000)? {
            ReceivedItem::Definition { bytes } | ReceivedItem::Value { bytes, .. } => {
                stream = &stream[bytes..]
            }
            ReceivedItem::NeedMore { .. } => return Ok(()),
        }
    }
}
