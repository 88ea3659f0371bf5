//! Tests what decoding allocates: nothing for fixed-layout and raw bodies, and never the size that a hostile body
//! declares.

use std::collections::HashMap;

use crate::counting::{Allocations, counted};
use coreloop::codec::{self, Argument, Body, Codec, Fixed, Raw};
use zerocopy::little_endian::U64;

#[derive(
    serde::Deserialize, zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned,
)]
#[serde(from = "(u64, [u8; 32], u8)")]
#[repr(C)]
struct Person {
    id: U64,
    name: [u8; 32],
    age: u8,
}

impl From<(u64, [u8; 32], u8)> for Person {
    fn from((id, name, age): (u64, [u8; 32], u8)) -> Person {
        Person { id: U64::new(id), name, age }
    }
}

#[derive(Debug, serde::Deserialize)]
struct Tree {
    #[expect(dead_code, reason = "what matters is what reading it costs")]
    kids: Vec<Tree>,
}

#[test]
fn fixed_and_raw_arguments_allocate_nothing() {
    let _turn = crate::counting::serial();
    let body = [7; 41];
    let (age, Allocations { times, .. }) = counted(|| {
        let person = Fixed::<Person>::decode(Codec::Fixed, Body::Slice(&body)).unwrap();
        assert_eq!((person.id.get(), person.name[31]), (0x0707_0707_0707_0707, 7));
        person.age
    });
    assert_eq!((age, times), (7, 0));
    let (len, Allocations { times, .. }) =
        counted(|| Raw::decode(Codec::Raw, Body::Slice(&body)).unwrap().len());
    assert_eq!((len, times), (41, 0));
}

#[test]
fn declared_counts_reserve_nothing() {
    let _turn = crate::counting::serial();
    const COUNT_COMPACT: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1];
    const COUNT_MESSAGEPACK: &[u8] = &[0xdd, 0xff, 0xff, 0xff, 0xff, 1, 1, 1];
    const COUNT_MAP: &[u8] = &[0xdf, 0xff, 0xff, 0xff, 0xff, 1, 1, 1];
    const COUNT_BYTES: &[u8] = &[0xc6, 0xff, 0xff, 0xff, 0xff, 1, 1, 1];
    const COUNT_STRING: &[u8] = &[0xdb, 0xff, 0xff, 0xff, 0xff, b'a'];

    fn bytes_to_refuse<T: serde::de::DeserializeOwned>(codec: Codec, body: &[u8]) -> usize {
        let (is_refused, Allocations { bytes, .. }) = counted(|| codec::decode::<T>(codec, body).is_err());
        assert!(is_refused, "{codec}: {body:?}");
        bytes
    }

    type Large = (u64, [u64; 31]);
    for (codec, body) in [(Codec::Compact, COUNT_COMPACT), (Codec::MessagePack, COUNT_MESSAGEPACK)] {
        assert!(bytes_to_refuse::<Vec<u64>>(codec, body) < 1024);
        // At most one reserved element per byte of the body.
        assert!(bytes_to_refuse::<Vec<Large>>(codec, body) <= 8 * 256 + 1024);
        assert!(bytes_to_refuse::<HashMap<u64, u64>>(codec, body) < 4096);
        assert!(bytes_to_refuse::<String>(codec, body) < 1024);
        assert!(bytes_to_refuse::<codec::Bytes>(codec, body) < 1024);
    }
    assert!(bytes_to_refuse::<HashMap<u64, u64>>(Codec::MessagePack, COUNT_MAP) < 4096);
    assert!(bytes_to_refuse::<codec::Bytes>(Codec::MessagePack, COUNT_BYTES) < 1024);
    assert!(bytes_to_refuse::<Vec<u8>>(Codec::MessagePack, COUNT_BYTES) < 1024);
    assert!(bytes_to_refuse::<String>(Codec::MessagePack, COUNT_STRING) < 1024);
}

#[test]
fn nested_declared_counts_reserve_nothing() {
    let _turn = crate::counting::serial();
    // Each level declares four billion elements: reserving even one cautious megabyte per level would add up to a
    // hundred.
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f].repeat(120);
    let messagepack = b"\x81\xa4kids\xdd\xff\xff\xff\xff".repeat(60);
    for (codec, body) in [(Codec::Compact, compact), (Codec::MessagePack, messagepack)] {
        let (outcome, Allocations { bytes, .. }) = counted(|| codec::decode::<Tree>(codec, &body));
        assert!(outcome.is_err());
        assert!(bytes <= body.len() * size_of::<Tree>() * 2 + 1024, "{codec}: {bytes} bytes");
    }
}

#[cfg(feature = "gob")]
mod gob {
    use std::collections::HashMap;

    use coreloop::codec::gob::{decode, encode};
    use serde::{Deserialize, Serialize};

    use super::{Allocations, Tree, counted};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Args {
        a: i64,
        b: Option<u8>,
        inner: Inner,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        name: Option<String>,
        pair: (f64, bool),
        three: [u16; 3],
    }

    /// The sender's type, with fewer fields than the receiver's.
    #[derive(Serialize, Deserialize)]
    #[serde(rename = "Args", rename_all = "PascalCase")]
    struct Less {
        a: i64,
    }

    #[test]
    fn with_known_types_only_the_value_allocates() {
        let _turn = crate::counting::serial();
        let args = Args {
            a: -7,
            b: None,
            inner: Inner { name: Some("eight by".into()), pair: (1.5, true), three: [1, 0, 3] },
        };
        let mut body = Vec::with_capacity(1024);
        encode(&args, &mut body).unwrap();
        assert_eq!(decode::<Args>(&body).unwrap(), args);
        let mut again = Vec::with_capacity(1024);
        let (outcome, Allocations { times, .. }) = counted(|| encode(&args, &mut again));
        assert_eq!((outcome, times), (Ok(()), 0));
        assert_eq!(again, body);
        let (read, Allocations { times, bytes }) = counted(|| decode::<Args>(&body).unwrap());
        assert_eq!((read, times, bytes), (args, 1, 8), "the one string");
        body.clear();
        encode(&Less { a: 1 }, &mut body).unwrap();
        assert_eq!(decode::<Args>(&body).unwrap().inner.three, [0; 3]);
        let (read, Allocations { times, .. }) = counted(|| decode::<Args>(&body).unwrap());
        assert_eq!((read.a, times), (1, 0));
    }

    #[test]
    fn declared_counts_reserve_nothing() {
        let _turn = crate::counting::serial();
        // Values of `[]int` (65) and `map[uint]uint` (65) that declare more than four billion elements.
        const SLICE: &[u8] =
            b"\x0c\xff\x81\x02\x01\x02\xff\x82\x00\x01\x06\x00\x00\x0a\xff\x82\x00\xfc\xff\xff\xff\xff\x01";
        const MAP: &[u8] = b"\x0e\xff\x81\x04\x01\x02\xff\x82\x00\x01\x06\x01\x06\x00\x00\x0a\xff\x82\x00\xfc\xff\xff\xff\xff\x01";
        const TEXT: &[u8] = b"\x08\x0c\x00\xfc\xff\xff\xff\xff\x61";
        fn bytes_to_refuse<T: serde::de::DeserializeOwned>(body: &[u8]) -> usize {
            let _ = decode::<T>(body);
            let (outcome, Allocations { bytes, .. }) = counted(|| decode::<T>(body).map(drop));
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("count") || error.contains("ends before"), "{error}");
            bytes
        }
        assert!(bytes_to_refuse::<Vec<u64>>(SLICE) < 1024);
        assert!(bytes_to_refuse::<HashMap<u64, u64>>(MAP) < 1024);
        assert!(bytes_to_refuse::<String>(TEXT) < 1024);
        assert!(decode::<Tree>(SLICE).is_err());
    }
}
