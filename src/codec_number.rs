//! The encodings of a body and their numbers. This is the only table of them.
//!
//! 0 to 6 are the codecs of this crate, 64 to 127 those of the user: these are the numbers of a native frame. 128 to
//! 131 are JSON in a dialect; they exist inside the process only, in the `codec` of a request. How the codecs read and
//! write is in [`codec`](mod@crate::codec).

use std::fmt;

/// The encoding of a body. It takes one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Codec {
    /// The body is the value itself, a byte string. Only for methods over byte strings.
    Raw,
    /// The memory of the value, little-endian and without padding. Only for methods over fixed-layout types.
    Fixed,
    /// JSON text.
    Json,
    /// One self-contained gob stream that starts with its type definitions.
    Gob,
    /// postcard's wire format: no names and no tags, so both sides must know the types.
    Compact,
    /// MessagePack, with structs as maps keyed by field name.
    MessagePack,
    /// Protocol Buffers, for types that implement `prost::Message`, and for numbers, text, byte strings and lists.
    Protobuf,
    /// A codec of the user's, by its number: see [`UserCodec`](crate::codec::UserCodec).
    User(UserCodecNumber),
}

impl Codec {
    /// The codecs of this crate, ordered by number.
    pub const ALL: [Codec; 7] = [
        Codec::Raw,
        Codec::Fixed,
        Codec::Json,
        Codec::Gob,
        Codec::Compact,
        Codec::MessagePack,
        Codec::Protobuf,
    ];

    /// Returns the codec with this number, if there is one.
    #[inline]
    pub const fn from_number(number: u8) -> Option<Codec> {
        Some(match number {
            0 => Codec::Raw,
            1 => Codec::Fixed,
            2 => Codec::Json,
            3 => Codec::Gob,
            4 => Codec::Compact,
            5 => Codec::MessagePack,
            6 => Codec::Protobuf,
            user => match UserCodecNumber::from_number(user) {
                Some(user) => Codec::User(user),
                None => return None,
            },
        })
    }

    /// Returns the number used on the wire.
    #[inline]
    pub const fn number(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Fixed => 1,
            Codec::Json => 2,
            Codec::Gob => 3,
            Codec::Compact => 4,
            Codec::MessagePack => 5,
            Codec::Protobuf => 6,
            Codec::User(user) => user.number(),
        }
    }

    /// Returns the name used in configuration, metrics and messages. A codec of the user's is `user-64`, by its
    /// number; only the methods that accept it know the name that the user gave it.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Raw => "raw",
            Codec::Fixed => "fixed",
            Codec::Json => "json",
            Codec::Gob => "gob",
            Codec::Compact => "compact",
            Codec::MessagePack => "messagepack",
            Codec::Protobuf => "protobuf",
            Codec::User(user) => user.name(),
        }
    }

    /// Returns whether a body describes itself well enough that a changed type is detected or bridged.
    ///
    /// For the other codecs, caller and server compare fingerprints of the types. Raw counts as self-describing
    /// because a byte string has no structure that could be misread. A codec of the user's counts as not
    /// self-describing: callers state the fingerprint, and the server ignores it if the codec says that it is.
    pub const fn is_self_describing(self) -> bool {
        match self {
            Codec::Raw | Codec::Json | Codec::Gob | Codec::MessagePack => true,
            // protobuf's field numbers and wire types bridge changes, although its names are not transmitted.
            Codec::Protobuf => true,
            Codec::Fixed | Codec::Compact | Codec::User(_) => false,
        }
    }

    /// Returns whether this build can read and write bodies in this codec.
    pub const fn is_compiled_in(self) -> bool {
        match self {
            Codec::Raw | Codec::User(_) => true,
            Codec::Fixed => cfg!(feature = "fixed"),
            Codec::Json => cfg!(feature = "json"),
            Codec::Compact => cfg!(feature = "compact"),
            Codec::MessagePack => cfg!(feature = "messagepack"),
            Codec::Gob => cfg!(feature = "gob"),
            Codec::Protobuf => cfg!(feature = "protobuf"),
        }
    }

    /// Returns whether only types and methods that are made for it have this codec. One comparison.
    #[inline]
    pub(crate) const fn is_added(self) -> bool {
        matches!(self, Codec::Protobuf | Codec::User(_))
    }

    /// Returns whether this build can write any serde type in this codec.
    pub(crate) const fn takes_any_type(self) -> bool {
        match self {
            Codec::Json | Codec::Gob | Codec::Compact | Codec::MessagePack => self.is_compiled_in(),
            Codec::Raw | Codec::Fixed | Codec::Protobuf | Codec::User(_) => false,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Defines the numbers of user codecs. As an enum with exactly these values it leaves the others to the codecs of this
/// crate, so that [`Codec`] takes one byte.
macro_rules! user_codec_numbers {
    ($($variant:ident $number:literal,)*) => {
        /// The number of a codec of the user's: 64 to 127.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum UserCodecNumber {
            $(#[doc = concat!("The number ", $number, ".")] $variant = $number,)*
        }

        impl UserCodecNumber {
            /// All of them, in order.
            pub const ALL: [UserCodecNumber; 64] = [$(UserCodecNumber::$variant),*];

            /// Returns the number as a type, if it is in the range.
            pub const fn from_number(number: u8) -> Option<UserCodecNumber> {
                match number {
                    $($number => Some(UserCodecNumber::$variant),)*
                    _ => None,
                }
            }

            const fn name(self) -> &'static str {
                match self {
                    $(UserCodecNumber::$variant => concat!("user-", $number),)*
                }
            }
        }
    };
}

user_codec_numbers! {
    N64 64, N65 65, N66 66, N67 67, N68 68, N69 69, N70 70, N71 71,
    N72 72, N73 73, N74 74, N75 75, N76 76, N77 77, N78 78, N79 79,
    N80 80, N81 81, N82 82, N83 83, N84 84, N85 85, N86 86, N87 87,
    N88 88, N89 89, N90 90, N91 91, N92 92, N93 93, N94 94, N95 95,
    N96 96, N97 97, N98 98, N99 99, N100 100, N101 101, N102 102, N103 103,
    N104 104, N105 105, N106 106, N107 107, N108 108, N109 109, N110 110, N111 111,
    N112 112, N113 113, N114 114, N115 115, N116 116, N117 117, N118 118, N119 119,
    N120 120, N121 121, N122 122, N123 123, N124 124, N125 125, N126 126, N127 127,
}

impl UserCodecNumber {
    /// Returns the number used on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// The number of JSON as Go writes it, inside the process.
const JSON_OF_GO: u8 = 128;
/// The number of JSON in protobuf's mapping, inside the process.
const JSON_OF_CONNECT: u8 = 129;

/// The number of JSON with several arguments by position, inside the process.
const JSON_POSITIONS: u8 = 130;
/// The number of JSON as Go writes it, with several arguments by position, inside the process.
const JSON_OF_GO_POSITIONS: u8 = 131;

/// How a protocol's clients write their values in JSON, if that differs from serde.
///
/// The dialect is carried inside the codec number of a request to where its body is decoded and its reply encoded:
/// numbers from 128 on are never those of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonDialect {
    /// As serde does.
    #[default]
    Serde,
    /// As Go's encoding/json does, in JSON-RPC 1.0: zero values may be left out, nil pointers are null.
    GoRpc,
    /// As protobuf's JSON mapping does, in the Connect protocol: zero values are left out; NaN and 64-bit integers
    /// are strings.
    Connect,
    /// As serde does; several arguments of a method are a list, in JSON-RPC 2.0.
    Positions,
    /// As Go's encoding/json does; several arguments of a method are a list, in JSON-RPC 1.0.
    GoRpcPositions,
}

impl JsonDialect {
    /// Returns the codec number of a request: JSON in this dialect.
    pub const fn codec_number(self) -> u8 {
        match self {
            JsonDialect::Serde => Codec::Json.number(),
            JsonDialect::GoRpc => JSON_OF_GO,
            JsonDialect::Connect => JSON_OF_CONNECT,
            JsonDialect::Positions => JSON_POSITIONS,
            JsonDialect::GoRpcPositions => JSON_OF_GO_POSITIONS,
        }
    }

    /// Splits the codec number of a request into the number in frames and the dialect.
    #[inline]
    pub const fn split(codec: u8) -> (u8, JsonDialect) {
        match codec {
            JSON_OF_GO => (Codec::Json.number(), JsonDialect::GoRpc),
            JSON_OF_CONNECT => (Codec::Json.number(), JsonDialect::Connect),
            JSON_POSITIONS => (Codec::Json.number(), JsonDialect::Positions),
            JSON_OF_GO_POSITIONS => (Codec::Json.number(), JsonDialect::GoRpcPositions),
            _ => (codec, JsonDialect::Serde),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_takes_one_byte() {
        // Two bytes cost 13 instructions for each inline call.
        assert_eq!((size_of::<Codec>(), size_of::<Option<Codec>>()), (1, 1));
    }

    #[test]
    fn each_number_has_one_codec_and_each_codec_one_number_and_one_name() {
        let known: Vec<Codec> = (0..=255).filter_map(Codec::from_number).collect();
        let users = UserCodecNumber::ALL.map(Codec::User);
        assert_eq!(known, [&Codec::ALL[..], &users].concat());
        assert_eq!(
            known.iter().map(|codec| codec.number()).collect::<Vec<_>>(),
            (0..7).chain(64..128).collect::<Vec<_>>()
        );
        let names: std::collections::BTreeSet<&str> = known.iter().map(|codec| codec.name()).collect();
        assert_eq!(names.len(), known.len());
        assert_eq!(Codec::User(UserCodecNumber::N64).to_string(), "user-64");
    }

    #[test]
    fn a_dialect_is_json_and_its_number_is_never_that_of_a_frame() {
        for dialect in [
            JsonDialect::Serde,
            JsonDialect::GoRpc,
            JsonDialect::Connect,
            JsonDialect::Positions,
            JsonDialect::GoRpcPositions,
        ] {
            assert_eq!(JsonDialect::split(dialect.codec_number()), (Codec::Json.number(), dialect));
            let is_in_frames = Codec::from_number(dialect.codec_number()).is_some();
            assert_eq!(is_in_frames, dialect == JsonDialect::Serde);
        }
        assert_eq!(JsonDialect::split(3), (3, JsonDialect::Serde));
    }
}
