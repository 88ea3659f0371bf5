//! What a request calls.

use super::reply::PendingResponse;
use crate::codec_number::Codec;
use crate::message::JsonDialect;

/// The meaning of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallTarget {
    /// The argument of the method with this hash.
    Method(u32),
    /// That of a request for the route with this hash.
    Route(u32),
    /// JSON-RPC, which names its methods.
    #[cfg(feature = "jsonrpc")]
    JsonRpc,
}

impl CallTarget {
    /// Returns the hash of the method. A JSON-RPC body has none, and is handled before this is called.
    #[inline(always)]
    pub(super) fn method(self) -> u32 {
        match self {
            CallTarget::Method(hash) | CallTarget::Route(hash) => hash,
            #[cfg(feature = "jsonrpc")]
            CallTarget::JsonRpc => 0,
        }
    }

    /// Returns the number of the codec of the body.
    #[inline(always)]
    pub(super) fn codec_number(self, dialect: JsonDialect) -> u8 {
        match self {
            CallTarget::Route(_) => Codec::Raw.number(),
            _ => dialect.codec_number(),
        }
    }

    /// Returns whether the body is passed on as it is.
    #[inline(always)]
    pub(super) fn takes_body_in_place(self) -> bool {
        matches!(self, CallTarget::Method(_) | CallTarget::Route(_))
    }
}

/// A call whose head was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestCall {
    pub(super) target: CallTarget,
    pub(super) time_left_us: u32,
    pub(super) dialect: JsonDialect,
    pub(super) pending: PendingResponse,
}
