//! What the code that `#[coreloop::service]` writes refers to; not public API.
//!
//! Re-exports only. The code goes by these paths alone, so it means the same whatever the user's module has in
//! scope, and under whatever name the user's crate knows this one.

pub use std::boxed::Box;
pub use std::option::Option;
pub use std::result::Result::{self, Err, Ok};
pub use std::string::String;
pub use std::sync::Arc;
pub use std::vec::Vec;

pub use coreloop_bufpool::Chunk;

pub use crate::client::{CallError, Caller, Direct, InFlight, MethodId, Starter};
#[cfg(feature = "fixed")]
pub use crate::codec::Fixed;
pub use crate::codec::{
    Argument, ArgumentEncode, Body, Codec, CodecError, DescribeError, Description, EncodeOnly, Plain, Raw,
    RawBytes, ReplyDecode, ReplyEncode,
};
pub use crate::config::MissingFields;
pub use crate::context::{Context, Outcome};
pub use crate::service::{Kind, Method, RegisterError, Reply, Service, finish, refuse_argument};
pub use crate::status::Status;
