//! Tests of the codecs as a whole: round trips, golden bytes, and hostile bodies in each.

#[cfg(feature = "json")]
#[test]
fn an_empty_json_object_decodes_as_unit() {
    use std::collections::BTreeMap;

    use super::{Codec, decode};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct UnitStruct;
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Braces {}

    for body in [&b"{}"[..], b" {\n} ", b"null", b""] {
        assert_eq!(decode::<()>(Codec::Json, body), Ok(()));
        assert_eq!(decode::<UnitStruct>(Codec::Json, body), Ok(UnitStruct));
    }
    // A type with content keeps its own meaning of `{}`.
    assert_eq!(decode::<Braces>(Codec::Json, b"{}"), Ok(Braces {}));
    assert_eq!(decode(Codec::Json, b"{}"), Ok(BTreeMap::<String, u8>::new()));
    assert!(decode::<Option<u8>>(Codec::Json, b"{}").is_err());
    for body in [&b"{\"a\":1}"[..], b"{", b"}", b"{}{}", b"[]"] {
        assert!(decode::<()>(Codec::Json, body).is_err());
    }
}

#[cfg(all(feature = "json", feature = "compact", feature = "messagepack"))]
mod serde_codecs {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use crate::codec::{Codec, CodecError, DEPTH_MAX_DEFAULT, decode, encode};
    use crate::status::{Code, Status};

    const SERDE_CODECS: [Codec; 3] = [Codec::Json, Codec::Compact, Codec::MessagePack];

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct PlainUser {
        #[serde(rename = "ID")]
        id: u64,
        name: String,
        age: u8,
        email: String,
        tags: Vec<String>,
        scores: BTreeMap<String, f64>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Wrap(Box<Tree>),
        Both(Box<Tree>, Option<Box<Tree>>),
        Many { kids: Vec<Tree>, id: i64 },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct ChainLink {
        next: Option<Box<ChainLink>>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Ring(Option<Box<Ring>>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One {
        a: i64,
    }

    fn bytes_of<T: Serialize>(codec: Codec, value: &T) -> Vec<u8> {
        let mut out = b"before".to_vec();
        encode(codec, value, &mut out).unwrap();
        out.split_off(6)
    }

    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        for codec in SERDE_CODECS {
            assert_eq!(&decode::<T>(codec, &bytes_of(codec, value)).unwrap(), value, "{codec}");
        }
    }

    fn user() -> PlainUser {
        PlainUser {
            id: 300,
            name: "é".into(),
            age: 7,
            email: "u@x".into(),
            tags: vec!["t0".into(), "t1".into()],
            scores: BTreeMap::from([("s".into(), 1.5)]),
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        Just(Tree::Leaf).prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|tree| Tree::Wrap(Box::new(tree))),
                (inner.clone(), proptest::option::of(inner.clone()))
                    .prop_map(|(left, right)| Tree::Both(Box::new(left), right.map(Box::new))),
                (proptest::collection::vec(inner, 0..4), any::<i64>())
                    .prop_map(|(kids, id)| Tree::Many { kids, id }),
            ]
        })
    }

    proptest! {
        #[test]
        fn users_come_back(
            id in any::<u64>(), name in ".*", age in any::<u8>(), email in ".*",
            tags in proptest::collection::vec(".*", 0..4),
            scores in proptest::collection::btree_map(".*", proptest::num::f64::NORMAL, 0..4),
        ) {
            comes_back(&PlainUser { id, name, age, email, tags, scores });
        }

        #[test]
        fn trees_come_back(tree in trees()) {
            comes_back(&tree);
        }

        #[test]
        fn any_bytes_end_in_an_answer(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in SERDE_CODECS {
                let _ = decode::<PlainUser>(codec, &body);
                let _ = decode::<Tree>(codec, &body);
                let _ = decode::<Ring>(codec, &body);
                let _ = decode::<Vec<()>>(codec, &body);
            }
        }
    }

    #[test]
    fn every_truncation_and_every_extra_byte_is_refused() {
        for codec in SERDE_CODECS {
            let body = bytes_of(codec, &user());
            for len in 0..body.len() {
                assert!(decode::<PlainUser>(codec, &body[..len]).is_err(), "{codec} at {len}");
            }
            let longer = [&body[..], b"0"].concat();
            let error = decode::<PlainUser>(codec, &longer).unwrap_err();
            match codec {
                Codec::Json => assert!(matches!(error, CodecError::Malformed { .. })),
                codec => assert_eq!(error, CodecError::TrailingBytes { codec, count: 1 }),
            }
        }
    }

    #[test]
    fn compact_bytes_are_postcards() {
        let expected = [
            &[0xac, 0x02][..],                  // 300 as a varint
            &[2, 0xc3, 0xa9],                   // "é" after its length
            &[7],                               // u8, unencoded
            &[3, b'u', b'@', b'x'],             //
            &[2, 2, b't', b'0', 2, b't', b'1'], // two strings
            &[1, 1, b's'],                      // one entry
            &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f],    // 1.5 little-endian
        ];
        assert_eq!(bytes_of(Codec::Compact, &user()), expected.concat());
    }

    #[test]
    fn messagepack_structs_are_maps_with_names() {
        let expected = [
            &[0x86][..],                                    // map of 6
            b"\xa2ID\xcd\x01\x2c",                          // u16 300
            b"\xa4Name\xa2\xc3\xa9",                        //
            b"\xa3Age\x07",                                 //
            b"\xa5Email\xa3u@x",                            //
            b"\xa4Tags\x92\xa2t0\xa2t1",                    // array of 2
            b"\xa6Scores\x81\xa1s\xcb\x3f\xf8\0\0\0\0\0\0", // map of 1, f64 big-endian
        ];
        assert_eq!(bytes_of(Codec::MessagePack, &user()), expected.concat());
    }

    #[test]
    fn the_unit_value_may_be_an_empty_body() {
        for codec in SERDE_CODECS {
            assert_eq!(decode::<()>(codec, b""), Ok(()));
            assert_eq!(decode::<()>(codec, &bytes_of(codec, &())), Ok(()));
            assert!(decode::<i64>(codec, b"").is_err());
        }
        assert_eq!(decode::<()>(Codec::Json, b" null "), Ok(()));
        let message = decode::<One>(Codec::Json, b"").unwrap_err().to_string();
        assert_eq!(message, "malformed json body: expected a value, the body is empty");
    }

    /// Returns a chain of this many links.
    fn links(count: usize) -> ChainLink {
        (1..count).fold(ChainLink { next: None }, |inner, _| ChainLink { next: Some(Box::new(inner)) })
    }

    #[test]
    fn nesting_ends_at_the_limit_in_each_codec() {
        for codec in SERDE_CODECS {
            let body = bytes_of(codec, &links(DEPTH_MAX_DEFAULT - 1));
            assert!(decode::<ChainLink>(codec, &body).is_ok(), "{codec}");
            let body = bytes_of(codec, &links(DEPTH_MAX_DEFAULT));
            let error = decode::<ChainLink>(codec, &body).unwrap_err();
            assert_eq!(error, CodecError::TooDeep { codec, depth_max: DEPTH_MAX_DEFAULT });
        }
    }

    #[test]
    fn deep_bodies_are_refused_in_every_container() {
        let deep = 1_000_000;
        let too_deep = |codec| CodecError::TooDeep { codec, depth_max: DEPTH_MAX_DEFAULT };
        // Lists and maps.
        let cases = [
            (Codec::Json, "[".repeat(deep).into_bytes()),
            (Codec::Json, "{\"a\":".repeat(deep).into_bytes()),
            (Codec::MessagePack, vec![0x91; deep]),
            (Codec::MessagePack, b"\x81\xa1a".repeat(deep)),
        ];
        for (codec, body) in cases {
            assert_eq!(decode::<serde::de::IgnoredAny>(codec, &body).err(), Some(too_deep(codec)));
        }
        // Variants: rmp-serde does not count them.
        assert_eq!(decode::<Tree>(Codec::Json, &b"{\"Wrap\":".repeat(deep)), Err(too_deep(Codec::Json)));
        assert_eq!(
            decode::<Tree>(Codec::MessagePack, &b"\x81\xa4Wrap".repeat(deep)),
            Err(too_deep(Codec::MessagePack))
        );
        assert_eq!(decode::<Tree>(Codec::Compact, &vec![1; deep]), Err(too_deep(Codec::Compact)));
        assert_eq!(decode::<ChainLink>(Codec::Compact, &vec![1; deep]), Err(too_deep(Codec::Compact)));
        // A type that contains itself only through constructs that take no bytes.
        assert_eq!(decode::<Ring>(Codec::Json, b"1").err(), Some(too_deep(Codec::Json)));
        assert_eq!(decode::<Ring>(Codec::MessagePack, b"\x01").err(), Some(too_deep(Codec::MessagePack)));
    }

    #[test]
    fn a_skipped_field_counts_towards_the_depth() {
        let json =
            |deep: usize| format!("{{\"x\":{}{},\"a\":1}}", "[".repeat(deep), "]".repeat(deep)).into_bytes();
        let messagepack = |deep: usize| [b"\x82\xa1x", &vec![0x91; deep - 1][..], b"\x90\xa1a\x01"].concat();
        for (codec, body) in [(Codec::Json, json as fn(usize) -> _), (Codec::MessagePack, messagepack)] {
            assert_eq!(decode::<One>(codec, &body(DEPTH_MAX_DEFAULT - 2)), Ok(One { a: 1 }));
            for deep in [DEPTH_MAX_DEFAULT - 1, 1_000_000] {
                let error = decode::<One>(codec, &body(deep)).unwrap_err();
                assert_eq!(error, CodecError::TooDeep { codec, depth_max: DEPTH_MAX_DEFAULT });
            }
        }
    }

    #[test]
    fn elements_that_take_no_bytes_are_bounded() {
        assert_eq!(decode::<Vec<()>>(Codec::Compact, &[3]), Ok(vec![(); 3]));
        // 2^63 units, which postcard alone would count one by one.
        let body = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert!(matches!(decode::<Vec<()>>(Codec::Compact, &body), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn a_body_in_json_is_utf8_throughout() {
        type Names = std::collections::BTreeMap<String, String>;
        let named = |bytes: &[u8]| [&b"{\"name\":\""[..], bytes, b"\"}"].concat();
        let names = decode::<Names>(Codec::Json, &named("Zoë".as_bytes())).unwrap();
        assert_eq!(names["name"], "Zoë");
        for bytes in [&b"\xff"[..], b"Zo\xc3", b"\xed\xa0\x80", b"\xc0\x80"] {
            let at = 9 + bytes.len() - bytes.iter().skip_while(|byte| byte.is_ascii()).count();
            let what = format!("expected UTF-8 at byte {at}");
            let refused = CodecError::Malformed { codec: Codec::Json, what };
            assert_eq!(decode::<Names>(Codec::Json, &named(bytes)).unwrap_err(), refused);
            // Also in a value that is ignored.
            assert_eq!(decode::<serde::de::IgnoredAny>(Codec::Json, &named(bytes)).map(|_| ()), Err(refused));
        }
    }

    #[test]
    fn a_failed_encoding_leaves_nothing_behind() {
        // JSON has no keys that are lists.
        let mut out = b"kept".to_vec();
        let error = encode(Codec::Json, &BTreeMap::from([(vec![1], 1)]), &mut out).unwrap_err();
        assert!(matches!(error, CodecError::Encode { .. }));
        assert_eq!(Status::from(error).code, Code::Internal);
        assert_eq!(out, b"kept");
    }

    #[test]
    fn errors_map_to_status_codes() {
        let code = |error: CodecError| Status::from(error).code;
        assert_eq!(code(decode::<i64>(Codec::Json, b"x").unwrap_err()), Code::InvalidArgument);
        assert_eq!(code(decode::<i64>(Codec::Raw, b"x").unwrap_err()), Code::Unimplemented);
        assert_eq!(code(decode::<i64>(Codec::Protobuf, b"x").unwrap_err()), Code::Unimplemented);
    }
}

mod codecs {
    use crate::codec::Codec;

    #[test]
    fn numbers_and_names_are_those_of_the_frame() {
        let names = ["raw", "fixed", "json", "gob", "compact", "messagepack", "protobuf"];
        for (number, name) in (0..).zip(names) {
            let codec = Codec::from_number(number).unwrap();
            assert_eq!((codec.number(), codec.name()), (number, name));
        }
        assert_eq!(Codec::from_number(7), None);
        assert!(!Codec::Compact.is_self_describing() && Codec::Raw.is_self_describing());
    }
}
