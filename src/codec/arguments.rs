//! Several arguments of one method: on the wire a struct with a field for each, in memory a tuple.
//!
//! A type that derives serde's traits would have to be generated for each method, twice: the server owns the values, a
//! caller lends them. So the names are constants of a type, and the code for each number of arguments is here.
//! `value.rs` has the markers of single arguments.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::added::{AddedCodecs, UserCodecInfo};
use super::describe::{DescribeError, Description};
#[cfg(feature = "json")]
use super::rules::ValueRules;
use super::value::{Argument, ArgumentEncode, Body, Described, DescribedBy};
use super::{Codec, CodecError, UserCodecNumber, encode_described};

/// The names of several arguments.
pub trait ArgumentNames: 'static {
    /// The name of the struct.
    const TYPE: &'static str;
    /// The names of its fields, in the order of the arguments.
    const FIELDS: &'static [&'static str];
}

/// Several arguments as a tuple, each of which can be read.
pub trait ArgumentTuple: Sized {
    /// Reads the values by position. `names` are those of the fields.
    fn read_list<'de, A: SeqAccess<'de>>(list: A, names: &'static [&'static str]) -> Result<Self, A::Error>;

    /// Reads the values by name.
    fn read_map<'de, A: MapAccess<'de>>(map: A, names: &'static [&'static str]) -> Result<Self, A::Error>;
}

/// Several arguments as a tuple, each of which can be read and written.
pub trait GivenArguments: ArgumentTuple + 'static {
    /// The references that a caller passes.
    type Given<'a>: Copy;

    /// Writes the fields.
    fn write<S: SerializeStruct>(
        given: Self::Given<'_>,
        names: &'static [&'static str],
        out: &mut S,
    ) -> Result<(), S::Error>;
}

/// The forms of several arguments in protobuf: a tuple with the codecs that each of them has in addition.
///
/// The message of the arguments has a field for each, numbered from 1, with the message that the argument would have
/// as the only one.
pub trait ArgumentForms<T> {
    /// Returns whether all of them have a message.
    fn accepts(codec: Codec) -> bool;

    /// Decodes the message that is the whole body.
    ///
    /// # Errors
    ///
    /// The body is not such a message.
    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError>;
}

/// The forms of several arguments in protobuf, for a caller.
pub trait GivenForms<T: GivenArguments>: ArgumentForms<T> {
    /// Appends the message.
    ///
    /// # Errors
    ///
    /// An argument has no message.
    fn encode(codec: Codec, given: T::Given<'_>, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// The marker of several arguments, at the server. `N` names them, `F` has their forms in protobuf, `U` adds codecs of
/// the user's.
pub struct Several<T, N, F, U>(PhantomData<fn() -> (T, N)>, PhantomData<fn() -> (F, U)>);

/// The marker of several arguments, at the caller, which lends them.
pub struct SeveralGiven<'a, T, N, F, U>(PhantomData<&'a ()>, Several<T, N, F, U>);

impl<T, N, F, U> Default for Several<T, N, F, U> {
    fn default() -> Self {
        Several(PhantomData, PhantomData)
    }
}

impl<T, N, F, U> Clone for Several<T, N, F, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, N, F, U> Copy for Several<T, N, F, U> {}

impl<T, N, F, U> Default for SeveralGiven<'_, T, N, F, U> {
    fn default() -> Self {
        SeveralGiven(PhantomData, Several::default())
    }
}

impl<T, N, F, U> Argument for Several<T, N, F, U>
where
    T: ArgumentTuple,
    N: ArgumentNames,
    F: ArgumentForms<T>,
    U: AddedCodecs<ReceivedArguments<T, N>>,
{
    type Value<'a> = T;

    fn accepts(codec: Codec) -> bool {
        codec.takes_any_type() || F::accepts(codec) || U::accepts(codec)
    }

    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<T, CodecError> {
        let body = body.as_slice();
        if F::accepts(codec) {
            return F::decode(codec, body);
        }
        #[cfg(feature = "json")]
        if codec == Codec::Json && ValueRules::current().has_positions() {
            return super::json::decode::<ReceivedList<T, N>>(body).map(|received| received.0.values);
        }
        let received = match codec.is_added() {
            true => U::decode(codec, body),
            false => super::decode::<ReceivedArguments<T, N>>(codec, body),
        };
        received.map(|received| received.values)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        U::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<ReceivedArguments<T, N>>()
    }
}

impl<T, N, F, U> Argument for SeveralGiven<'_, T, N, F, U>
where
    T: ArgumentTuple,
    N: ArgumentNames,
    F: ArgumentForms<T>,
    U: AddedCodecs<ReceivedArguments<T, N>>,
{
    type Value<'v> = T;

    fn accepts(codec: Codec) -> bool {
        Several::<T, N, F, U>::accepts(codec)
    }

    fn decode<'v>(codec: Codec, body: Body<'v>) -> Result<T, CodecError> {
        Several::<T, N, F, U>::decode(codec, body)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        U::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Several::<T, N, F, U>::describe()
    }
}

impl<'a, T, N, F, U> ArgumentEncode for SeveralGiven<'a, T, N, F, U>
where
    T: GivenArguments,
    N: ArgumentNames,
    F: GivenForms<T>,
    U: AddedCodecs<ReceivedArguments<T, N>> + AddedCodecs<Sent<'a, T, N>>,
{
    type Given = T::Given<'a>;

    fn encode(given: &T::Given<'a>, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode::<ReceivedArguments<T, N>, T, N, F, U>(given, codec, Self::describe, out)
    }

    fn encode_as<D: DescribedBy>(
        given: &T::Given<'a>,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let describe = || Ok(D::description());
        encode::<Described<ReceivedArguments<T, N>, D>, T, N, F, U>(given, codec, describe, out)
    }
}

/// Appends several arguments. `K` stands for the type with this description.
fn encode<'a, K, T, N, F, U>(
    given: &T::Given<'a>,
    codec: Codec,
    describe: fn() -> Result<Description, DescribeError>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError>
where
    K: 'static,
    T: GivenArguments,
    N: ArgumentNames,
    F: GivenForms<T>,
    U: AddedCodecs<Sent<'a, T, N>>,
{
    if !codec.is_added() {
        return encode_described::<K, _>(codec, &Sent::<T, N>::new(*given), describe, out);
    }
    let len_before = out.len();
    let outcome = match F::accepts(codec) {
        true => F::encode(codec, *given, out),
        false => U::encode(codec, &Sent::<T, N>::new(*given), out),
    };
    outcome.inspect_err(|_| out.truncate(len_before))
}

/// Several arguments as they are sent: a struct of references.
pub struct Sent<'a, T: GivenArguments, N> {
    given: T::Given<'a>,
    names: PhantomData<N>,
}

impl<'a, T: GivenArguments, N> Sent<'a, T, N> {
    fn new(given: T::Given<'a>) -> Self {
        Sent { given, names: PhantomData }
    }
}

impl<T: GivenArguments, N: ArgumentNames> Serialize for Sent<'_, T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct(N::TYPE, N::FIELDS.len())?;
        T::write(self.given, N::FIELDS, &mut out)?;
        out.end()
    }
}

/// Several arguments as they are received: a struct that becomes a tuple.
pub struct ReceivedArguments<T, N> {
    values: T,
    names: PhantomData<N>,
}

impl<'de, T: ArgumentTuple, N: ArgumentNames> Deserialize<'de> for ReceivedArguments<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct(N::TYPE, N::FIELDS, ReceivedVisitor(PhantomData))
    }
}

/// Several arguments as they are received in a list, by position.
#[cfg(feature = "json")]
struct ReceivedList<T, N>(ReceivedArguments<T, N>);

#[cfg(feature = "json")]
impl<'de, T: ArgumentTuple, N: ArgumentNames> Deserialize<'de> for ReceivedList<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(N::FIELDS.len(), ReceivedVisitor(PhantomData)).map(ReceivedList)
    }
}

struct ReceivedVisitor<T, N>(PhantomData<(T, N)>);

impl<'de, T: ArgumentTuple, N: ArgumentNames> Visitor<'de> for ReceivedVisitor<T, N> {
    type Value = ReceivedArguments<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the arguments {}", N::FIELDS.join(", "))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ReceivedArguments<T, N>, A::Error> {
        T::read_list(list, N::FIELDS).map(|values| ReceivedArguments { values, names: PhantomData })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ReceivedArguments<T, N>, A::Error> {
        T::read_map(map, N::FIELDS).map(|values| ReceivedArguments { values, names: PhantomData })
    }
}

/// Reads the name of a field as its index; `None` for a field that is not known.
struct FieldIndex(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for FieldIndex {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldIndex {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an argument")
    }

    fn visit_u64<E: Error>(self, index: u64) -> Result<Option<usize>, E> {
        Ok(usize::try_from(index).ok().filter(|index| *index < self.0.len()))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|known| known.as_bytes() == name))
    }
}

/// Returns the value of a field that the body lacks: `None` for an option, an error for others, as serde's derive does.
fn missing<'de, T: Deserialize<'de>, E: Error>(name: &'static str) -> Result<T, E> {
    T::deserialize(MissingField { name, error: PhantomData })
}

struct MissingField<E> {
    name: &'static str,
    error: PhantomData<E>,
}

impl<'de, E: Error> Deserializer<'de> for MissingField<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, E> {
        Err(E::missing_field(self.name))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

macro_rules! argument_tuples {
    ($(($($T:ident $F:ident $at:tt),+) $count:literal;)*) => {$(
        impl<$($T: DeserializeOwned),+> ArgumentTuple for ($($T,)+) {
            fn read_list<'de, A: SeqAccess<'de>>(
                mut list: A,
                names: &'static [&'static str],
            ) -> Result<Self, A::Error> {
                let values = ($(
                    match list.next_element::<$T>()? {
                        Some(value) => value,
                        None => return Err(A::Error::missing_field(names[$at])),
                    },
                )+);
                match list.next_element::<IgnoredAny>()? {
                    None => Ok(values),
                    Some(_) => {
                        let expected = format!("{} arguments ({})", $count, names.join(", "));
                        Err(A::Error::invalid_length($count + 1, &expected.as_str()))
                    }
                }
            }

            fn read_map<'de, A: MapAccess<'de>>(
                mut map: A,
                names: &'static [&'static str],
            ) -> Result<Self, A::Error> {
                let mut values = ($(None::<$T>,)+);
                while let Some(index) = map.next_key_seed(FieldIndex(names))? {
                    match index {
                        $(Some($at) => {
                            if values.$at.is_some() {
                                return Err(A::Error::duplicate_field(names[$at]));
                            }
                            values.$at = Some(map.next_value()?);
                        })+
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(($(
                    match values.$at {
                        Some(value) => value,
                        None => missing(names[$at])?,
                    },
                )+))
            }
        }

        impl<$($T: Serialize + DeserializeOwned + 'static),+> GivenArguments for ($($T,)+) {
            type Given<'a> = ($(&'a $T,)+);

            fn write<S: SerializeStruct>(
                given: Self::Given<'_>,
                names: &'static [&'static str],
                out: &mut S,
            ) -> Result<(), S::Error> {
                $(out.serialize_field(names[$at], given.$at)?;)+
                Ok(())
            }
        }

        impl<$($T: DeserializeOwned, $F: AddedCodecs<$T>),+> ArgumentForms<($($T,)+)> for ($($F,)+) {
            fn accepts(codec: Codec) -> bool {
                true $(&& $F::accepts(codec))+
            }

            fn decode(codec: Codec, body: &[u8]) -> Result<($($T,)+), CodecError> {
                let fields = message::fields::<$count>(body)?;
                Ok(($($F::decode(codec, fields[$at]).map_err(|error| message::in_field(error, $at))?,)+))
            }
        }

        impl<$($T: Serialize + DeserializeOwned + 'static, $F: AddedCodecs<$T>),+>
            GivenForms<($($T,)+)> for ($($F,)+)
        {
            fn encode(
                codec: Codec,
                given: <($($T,)+) as GivenArguments>::Given<'_>,
                out: &mut Vec<u8>,
            ) -> Result<(), CodecError> {
                $(message::append($at, out, |out| $F::encode(codec, given.$at, out))?;)+
                Ok(())
            }
        }
    )*};
}

argument_tuples! {
    (T0 F0 0, T1 F1 1) 2;
    (T0 F0 0, T1 F1 1, T2 F2 2) 3;
    (T0 F0 0, T1 F1 1, T2 F2 2, T3 F3 3) 4;
    (T0 F0 0, T1 F1 1, T2 F2 2, T3 F3 3, T4 F4 4) 5;
    (T0 F0 0, T1 F1 1, T2 F2 2, T3 F3 3, T4 F4 4, T5 F5 5) 6;
    (T0 F0 0, T1 F1 1, T2 F2 2, T3 F3 3, T4 F4 4, T5 F5 5, T6 F6 6) 7;
    (T0 F0 0, T1 F1 1, T2 F2 2, T3 F3 3, T4 F4 4, T5 F5 5, T6 F6 6, T7 F7 7) 8;
}

/// The message of several arguments in protobuf.
#[cfg(feature = "protobuf")]
mod message {
    use prost::encoding::{
        DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint,
        skip_field,
    };

    use crate::codec::CodecError;
    use crate::codec::protobuf::ProtobufError;

    /// Returns the content of the fields 1 to `COUNT`, each of which is a message; empty for those that the body lacks.
    /// Of a repeated field, the last counts.
    pub(super) fn fields<const COUNT: usize>(body: &[u8]) -> Result<[&[u8]; COUNT], CodecError> {
        read(body).map_err(CodecError::from)
    }

    fn read<const COUNT: usize>(mut body: &[u8]) -> Result<[&[u8]; COUNT], ProtobufError> {
        let mut fields = [&body[..0]; COUNT];
        while !body.is_empty() {
            let (tag, wire_type) = decode_key(&mut body)?;
            let Some(field) = (tag as usize).checked_sub(1).and_then(|at| fields.get_mut(at)) else {
                skip_field(wire_type, tag, &mut body, DecodeContext::default())?;
                continue;
            };
            check_wire_type(WireType::LengthDelimited, wire_type)?;
            let len = usize::try_from(decode_varint(&mut body)?).unwrap_or(usize::MAX);
            let (content, after) = body.split_at_checked(len).ok_or_else(|| {
                ProtobufError::Value(format!("expected {len} bytes in field {tag}, found {}", body.len()))
            })?;
            (*field, body) = (content, after);
        }
        Ok(fields)
    }

    /// Adds to an error which field it concerns.
    #[cold]
    pub(super) fn in_field(error: CodecError, at: usize) -> CodecError {
        match error {
            CodecError::Malformed { codec, what } => {
                CodecError::Malformed { codec, what: format!("field {}: {what}", at + 1) }
            }
            other => other,
        }
    }

    /// Appends the field of the argument at this place.
    pub(super) fn append(
        at: usize,
        out: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let mut content = Vec::new();
        encode(&mut content)?;
        encode_key(at as u32 + 1, WireType::LengthDelimited, out);
        encode_varint(content.len() as u64, out);
        out.extend_from_slice(&content);
        Ok(())
    }
}

/// Without the codec no argument has a message, so these are never called.
#[cfg(not(feature = "protobuf"))]
mod message {
    use crate::codec::{Codec, CodecError, not_here};

    pub(super) fn fields<const COUNT: usize>(_body: &[u8]) -> Result<[&[u8]; COUNT], CodecError> {
        Err(not_here(Codec::Protobuf))
    }

    pub(super) fn in_field(error: CodecError, _at: usize) -> CodecError {
        error
    }

    pub(super) fn append(
        _at: usize,
        _out: &mut Vec<u8>,
        _encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        Err(not_here(Codec::Protobuf))
    }
}
