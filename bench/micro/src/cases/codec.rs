//! Encodes and decodes values in every codec: two integers, a user, a hundred users.
//!
//! Raw bodies are byte strings as long as the same values are in the compact codec. The fixed layout has neither
//! variable-length strings nor lists: it is measured with two integers, and with a user of fixed size.

use std::hint::black_box;

use coreloop::codec::{Argument, ArgumentEncode, Body, Codec, Fixed, Plain, Raw, ReplyDecode};
use coreloop::demo::{Args, Pair, User};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Case;

/// The codecs that support any type.
const PLAIN: [Codec; 4] = [Codec::Json, Codec::Gob, Codec::Compact, Codec::MessagePack];

/// A user in fixed layout: 41 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Serialize, Deserialize)]
#[repr(C)]
#[serde(from = "(u64, [u8; 32], u8)", into = "(u64, [u8; 32], u8)")]
struct FixedUser {
    id: U64,
    name: [u8; 32],
    age: u8,
}

impl From<(u64, [u8; 32], u8)> for FixedUser {
    fn from((id, name, age): (u64, [u8; 32], u8)) -> FixedUser {
        FixedUser { id: U64::new(id), name, age }
    }
}

impl From<FixedUser> for (u64, [u8; 32], u8) {
    fn from(user: FixedUser) -> (u64, [u8; 32], u8) {
        (user.id.get(), user.name, user.age)
    }
}

fn args() -> Args {
    Args { a: 1_234_567, b: -89 }
}

/// A user with three tags and two scores.
fn user() -> User {
    User::new(11)
}

fn users() -> Vec<User> {
    (1..=100).map(User::new).collect()
}

pub(super) fn add(cases: &mut Vec<Case>) {
    for codec in PLAIN {
        add_plain(cases, codec, "args", 256, args);
        add_plain(cases, codec, "user", 256, user);
        add_plain(cases, codec, "users", 8, users);
    }
    add_fixed(cases, "args", || Pair::from(args()));
    add_fixed(cases, "user", || {
        FixedUser::from((11, *b"user-11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 11))
    });
    add_raw(cases, "args", args);
    add_raw(cases, "user", user);
    add_raw(cases, "users", users);
}

fn encoded<M: ArgumentEncode>(value: &M::Given, codec: Codec) -> Vec<u8> {
    let mut body = Vec::new();
    M::encode(value, codec, &mut body).expect("a value of the demo can be written");
    body
}

/// Encodes into an existing buffer, as the server writes a reply.
fn encode<M: ArgumentEncode>(value: &M::Given, codec: Codec, body: &mut Vec<u8>) {
    body.clear();
    M::encode(black_box(value), black_box(codec), body).expect("it could be written before");
    black_box(body);
}

fn add_plain<T>(cases: &mut Vec<Case>, codec: Codec, what: &str, times: u64, make: fn() -> T)
where
    T: Serialize + DeserializeOwned + 'static,
{
    let name = |direction: &str| format!("codec/{}/{direction}/{what}", codec.name());
    cases.push(
        Case::new(name("encode"), move || {
            let (value, mut body) = (make(), Vec::new());
            move || encode::<Plain<T>>(&value, codec, &mut body)
        })
        .times(times),
    );
    cases.push(
        Case::new(name("decode"), move || {
            let body = encoded::<Plain<T>>(&make(), codec);
            move || {
                let body = Body::Slice(black_box(&body));
                let value = <Plain<T> as Argument>::decode(black_box(codec), body);
                black_box(value.expect("what was written can be read"));
            }
        })
        .times(times),
    );
}

fn add_fixed<T>(cases: &mut Vec<Case>, what: &str, make: impl Fn() -> T + Copy + Send + 'static)
where
    T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned,
    T: Serialize + DeserializeOwned + 'static,
{
    cases.push(Case::new(format!("codec/fixed/encode/{what}"), move || {
        let (value, mut body) = (make(), Vec::new());
        move || encode::<Fixed<T>>(&value, Codec::Fixed, &mut body)
    }));
    cases.push(Case::new(format!("codec/fixed/decode/{what}"), move || {
        let body = encoded::<Fixed<T>>(&make(), Codec::Fixed);
        move || {
            let body = Body::Slice(black_box(&body));
            let value = <Fixed<T> as Argument>::decode(black_box(Codec::Fixed), body);
            black_box(&*value.expect("what was written can be read"));
        }
    }));
    // The type of an answer owns its contents, because the caller keeps it after the buffer is gone.
    cases.push(Case::new(format!("codec/fixed/decode-owned/{what}"), move || {
        let body = encoded::<Fixed<T>>(&make(), Codec::Fixed);
        move || {
            let value = <Fixed<T> as ReplyDecode>::decode(black_box(Codec::Fixed), black_box(&body));
            black_box(value.expect("what was written can be read"));
        }
    }));
}

fn add_raw<T: Serialize + DeserializeOwned + 'static>(cases: &mut Vec<Case>, what: &str, make: fn() -> T) {
    cases.push(Case::new(format!("codec/raw/encode/{what}"), move || {
        let (value, mut body) = (encoded::<Plain<T>>(&make(), Codec::Compact), Vec::new());
        move || encode::<Raw>(&value, Codec::Raw, &mut body)
    }));
    cases.push(Case::new(format!("codec/raw/decode/{what}"), move || {
        let body = encoded::<Plain<T>>(&make(), Codec::Compact);
        move || {
            let value = <Raw as Argument>::decode(black_box(Codec::Raw), Body::Slice(black_box(&body)));
            black_box(value.expect("any bytes are raw"));
        }
    }));
}
