//! `Arith`: sums, products and quotients of two integers, in the general codecs and in fixed layout.

use coreloop_macros::service;
use serde::{Deserialize, Serialize};
use zerocopy::little_endian::I64;

use crate::codec::protobuf::AsProtobuf;
use crate::context::Context;
use crate::status::Status;

/// Two integers.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
#[serde(rename_all = "PascalCase")]
pub struct Args {
    /// The first.
    #[prost(int64, tag = "1")]
    pub a: i64,
    /// The second.
    #[prost(int64, tag = "2")]
    pub b: i64,
}

/// Two integers in fixed layout: 16 bytes, read in place.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
#[serde(from = "Args", into = "Args")]
pub struct Pair {
    /// The first.
    pub a: I64,
    /// The second.
    pub b: I64,
}

impl From<Args> for Pair {
    fn from(args: Args) -> Pair {
        Pair { a: I64::new(args.a), b: I64::new(args.b) }
    }
}

impl From<Pair> for Args {
    fn from(pair: Pair) -> Args {
        Args { a: pair.a.get(), b: pair.b.get() }
    }
}

impl AsProtobuf for Pair {
    type Message = Args;

    fn to_message(&self) -> Args {
        Args::from(*self)
    }

    fn from_message(args: Args) -> Result<Pair, String> {
        Ok(Pair::from(args))
    }
}

/// Quotient and remainder.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
#[serde(rename_all = "PascalCase")]
pub struct Quotient {
    /// The quotient, rounded towards zero.
    #[prost(int64, tag = "1")]
    pub quo: i64,
    /// The remainder, with the sign of `A`.
    #[prost(int64, tag = "2")]
    pub rem: i64,
}

/// Integer arithmetic. Results beyond 64 bits wrap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arith;

#[service(crate = crate)]
impl Arith {
    /// Sum of the two; wraps.
    #[rpc(inline)]
    fn add(&self, _cx: &Context, args: Args) -> Result<i64, Status> {
        Ok(args.a.wrapping_add(args.b))
    }

    /// Sum of the two in fixed layout; wraps.
    ///
    /// The argument has 16 bytes, the reply 8, little-endian. In the other codecs they are `{A, B}` and an integer.
    #[rpc(inline)]
    fn add_fixed(&self, _cx: &Context, pair: &Pair) -> Result<i64, Status> {
        Ok(pair.a.get().wrapping_add(pair.b.get()))
    }

    /// Product of the two; wraps.
    fn multiply(&self, _cx: &Context, args: Args) -> Result<i64, Status> {
        Ok(args.a.wrapping_mul(args.b))
    }

    /// Quotient and remainder of A by B, rounded towards zero.
    ///
    /// `invalid_argument` if B is 0.
    fn divide(&self, _cx: &Context, args: Args) -> Result<Quotient, Status> {
        divide(args)
    }
}

fn divide(Args { a, b }: Args) -> Result<Quotient, Status> {
    if b == 0 {
        return Err(Status::invalid_argument("divide by zero"));
    }
    // `i64::MIN / -1` is the only quotient that does not fit; it wraps.
    Ok(Quotient { quo: a.wrapping_div(b), rem: a.wrapping_rem(b) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_rounds_towards_zero_and_never_panics() {
        for (a, b, quo, rem) in [(7, 2, 3, 1), (-7, 2, -3, -1), (7, -2, -3, 1), (i64::MIN, -1, i64::MIN, 0)] {
            assert_eq!(divide(Args { a, b }), Ok(Quotient { quo, rem }), "{a} / {b}");
        }
        assert_eq!(divide(Args { a: 1, b: 0 }), Err(Status::invalid_argument("divide by zero")));
    }

    #[test]
    fn a_pair_has_16_bytes_and_serializes_as_args() {
        assert_eq!(size_of::<Pair>(), 16);
        let args = Args { a: -1, b: 2 };
        assert_eq!(serde_json::to_string(&Pair::from(args)).unwrap(), r#"{"A":-1,"B":2}"#);
        assert_eq!(Args::from(serde_json::from_str::<Pair>(r#"{"A":-1,"B":2}"#).unwrap()), args);
        assert_eq!(serde_json::to_string(&Quotient { quo: 3, rem: 1 }).unwrap(), r#"{"Quo":3,"Rem":1}"#);
    }
}
