//! Codecs that a type has beside those for any serde type: the user's own, and protobuf.
//!
//! A codec of the user's is a type, since serde's functions are generic: no trait object could call them for every
//! type. It is named where the argument and reply types are known, in the attribute of a service or in a marker, and
//! compiled for exactly these types. So nothing is looked up when a call comes, a method without such codecs pays
//! nothing for them, and two servers in one process may use one number for two codecs. `value.rs` holds the markers.

use std::cell::Cell;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use super::nesting::Guard;
use super::{Codec, CodecError, UserCodecNumber, depth_max, not_here};

/// A codec of the user's: a serde format with a number of its own.
///
/// Name it in the attribute of a service, `#[coreloop::service(codecs(Lines))]`, and the server accepts it for every
/// method of the service, and the typed client can be set to it: `client.with_codec(Lines::CODEC)`. For a method
/// without the attribute, add it to the markers: `Plain<Order, Lines>`.
///
/// Peers choose the bytes of a body. The depth of nesting, what declared lengths reserve, and the number of elements
/// that take no bytes are limited around the format, as for the codecs of this crate; skipped values are read with
/// `deserialize_any`. The rest is the format's own: it must not panic, must not allocate from a declared length, and
/// should refuse bytes after the value.
///
/// ```
/// use coreloop::codec::{Codec, UserCodec, UserCodecNumber};
/// use serde::{Deserialize, Serialize};
///
/// /// JSON with line breaks.
/// struct Pretty;
///
/// impl UserCodec for Pretty {
///     const NUMBER: UserCodecNumber = UserCodecNumber::N64;
///     const NAME: &'static str = "pretty";
///     const IS_SELF_DESCRIBING: bool = true;
///     type Error = serde_json::Error;
///
///     fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Self::Error> {
///         serde_json::to_writer_pretty(out, value)
///     }
///
///     fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Self::Error> {
///         serde_json::from_slice(body)
///     }
/// }
///
/// assert_eq!(Pretty::CODEC.number(), 64);
/// ```
pub trait UserCodec: 'static {
    /// The number in native frames. Callers and servers must agree on it.
    const NUMBER: UserCodecNumber;
    /// The name in lists of a method's codecs and in messages about them.
    const NAME: &'static str;
    /// Whether a body describes itself well enough that a changed type is detected or bridged. Otherwise caller and
    /// server compare the fingerprints of their types.
    const IS_SELF_DESCRIBING: bool = false;
    /// The codec, for a client's settings.
    const CODEC: Codec = Codec::User(Self::NUMBER);
    /// Why a value is not encoded, or a body not decoded. Its text is sent to the caller.
    type Error: fmt::Display;

    /// Appends the value to `out`.
    ///
    /// # Errors
    ///
    /// The value has no form in this codec. What was appended is removed.
    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// Decodes the value in a body, which contains exactly one.
    ///
    /// # Errors
    ///
    /// The body is not a value of the type.
    fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Self::Error>;
}

/// What a method says about a codec of the user's that it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserCodecInfo {
    /// Its name.
    pub name: &'static str,
    /// Whether its bodies describe themselves.
    pub is_self_describing: bool,
}

/// The codecs that a marker adds to those for any serde type: a parameter of [`Plain`](super::Plain) and
/// [`Fixed`](super::Fixed). `()` adds none, a [`UserCodec`] adds itself, and a pair adds both of its parts.
pub trait AddedCodecs<T> {
    /// Returns whether this codec is added.
    fn accepts(codec: Codec) -> bool;

    /// Describes the codec of the user's with this number, if it is added.
    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo>;

    /// Decodes a body in an added codec.
    ///
    /// # Errors
    ///
    /// [`CodecError::NotAccepted`] for any other codec; the body is not a value of the type.
    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError>
    where
        T: DeserializeOwned;

    /// Appends a value in an added codec. On an error `out` may be longer.
    ///
    /// # Errors
    ///
    /// [`CodecError::NotAccepted`] for any other codec; the value has no form in this one.
    fn encode(codec: Codec, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>
    where
        T: Serialize;
}

impl<T> AddedCodecs<T> for () {
    fn accepts(_codec: Codec) -> bool {
        false
    }

    fn user_codec(_number: UserCodecNumber) -> Option<UserCodecInfo> {
        None
    }

    #[cold]
    fn decode(codec: Codec, _body: &[u8]) -> Result<T, CodecError> {
        Err(not_here(codec))
    }

    #[cold]
    fn encode(codec: Codec, _value: &T, _out: &mut Vec<u8>) -> Result<(), CodecError> {
        Err(not_here(codec))
    }
}

impl<T, X: AddedCodecs<T>, Y: AddedCodecs<T>> AddedCodecs<T> for (X, Y) {
    fn accepts(codec: Codec) -> bool {
        X::accepts(codec) || Y::accepts(codec)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        X::user_codec(number).or_else(|| Y::user_codec(number))
    }

    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError>
    where
        T: DeserializeOwned,
    {
        if X::accepts(codec) { X::decode(codec, body) } else { Y::decode(codec, body) }
    }

    fn encode(codec: Codec, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>
    where
        T: Serialize,
    {
        if X::accepts(codec) { X::encode(codec, value, out) } else { Y::encode(codec, value, out) }
    }
}

impl<T, U: UserCodec> AddedCodecs<T> for U {
    fn accepts(codec: Codec) -> bool {
        codec == Codec::User(U::NUMBER)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        let info = UserCodecInfo { name: U::NAME, is_self_describing: U::IS_SELF_DESCRIBING };
        (number == U::NUMBER).then_some(info)
    }

    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError>
    where
        T: DeserializeOwned,
    {
        if codec != Codec::User(U::NUMBER) {
            return Err(not_here(codec));
        }
        let outer = CURRENT.replace(CurrentBody { len: body.len(), is_too_deep: false });
        let restore = RestoreBody(outer);
        let outcome = U::decode::<Limited<T>>(body);
        let is_too_deep = CURRENT.get().is_too_deep;
        drop(restore);
        match outcome {
            Ok(Limited(value)) => Ok(value),
            Err(_) if is_too_deep => Err(CodecError::TooDeep { codec, depth_max: depth_max() }),
            Err(error) => Err(CodecError::Malformed { codec, what: error.to_string() }),
        }
    }

    fn encode(codec: Codec, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>
    where
        T: Serialize,
    {
        if codec != Codec::User(U::NUMBER) {
            return Err(not_here(codec));
        }
        U::encode(value, out).map_err(|error| CodecError::Encode { codec, what: error.to_string() })
    }
}

/// The body that this thread decodes in a codec of the user's: serde's `Deserialize` takes no context.
#[derive(Clone, Copy)]
struct CurrentBody {
    len: usize,
    is_too_deep: bool,
}

thread_local! {
    static CURRENT: Cell<CurrentBody> = const { Cell::new(CurrentBody { len: 0, is_too_deep: false }) };
}

/// Restores the outer body, also when the format panics.
struct RestoreBody(CurrentBody);

impl Drop for RestoreBody {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// A value that is read under the limits of its body.
struct Limited<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Limited<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limited<T>, D::Error> {
        let current = CURRENT.get();
        let guard = Guard::for_len(current.len);
        let value = guard.run(deserializer);
        if guard.was_too_deep() {
            CURRENT.set(CurrentBody { is_too_deep: true, ..current });
        }
        value.map(Limited)
    }
}
