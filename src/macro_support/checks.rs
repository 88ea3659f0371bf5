//! Checks of the types in a service's signatures, so that a mistake is one error at the user's type.
//!
//! Generated code uses a type in many places, and each would be an error of its own. So it asks whether the type fits,
//! as it asks for the form in protobuf, and goes on with a stand-in ([`Absent`]) where it does not; one function then
//! requires that it fits.
#![allow(missing_debug_implementations, reason = "only generated code names these types")]

use std::marker::PhantomData;

use coreloop_bufpool::Chunk;

use super::Probe;
use crate::codec::{
    Argument, ArgumentEncode, Body, Codec, CodecError, DescribeError, Description, GivenArguments, Plain,
    ReplyDecode, ReplyEncode, Several, SeveralGiven,
};
use crate::status::Status;

/// A type that is sent and received. The compiler names this trait in its error, and not each of those that it consists
/// of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent in a call: it needs serde's `Serialize` and `Deserialize`",
    label = "is not `Serialize` and `Deserialize`, or borrows",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to the type"
)]
pub trait Transmitted: serde::Serialize + serde::de::DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Transmitted for T {}

/// Requires that a type can be sent.
#[inline(always)]
pub fn check_transmitted<T: Transmitted>() {}

/// The error of a method.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a method: it does not convert to `Status`",
    label = "does not convert to `Status`",
    note = "return `coreloop::Status`, or implement `From<{Self}> for coreloop::Status`"
)]
pub trait MethodError: Into<Status> {}

#[diagnostic::do_not_recommend]
impl<E: Into<Status>> MethodError for E {}

/// Requires that a type can be the error of a method.
#[inline(always)]
pub fn check_error<E: MethodError>() {}

/// The types of a method's marker: the value, the names of several arguments, the codecs of the user's.
pub type MarkerTypes<T, N, U> = PhantomData<fn() -> (T, N, U)>;

/// The answer that a type fits.
pub struct Fits;

impl Fits {
    /// Returns the marker of a serde type, with its form in protobuf.
    pub fn one<T, N, U, F>(self, _types: MarkerTypes<T, N, U>, _form: F) -> Plain<T, (F, U)> {
        Plain::default()
    }

    /// Returns the marker of several arguments at the server, with their forms in protobuf.
    pub fn several<T, N, U, F>(self, _types: MarkerTypes<T, N, U>, _forms: F) -> Several<T, N, F, U> {
        Several::default()
    }

    /// Returns the marker of several arguments at the caller, which passes these.
    pub fn several_given<'a, T: GivenArguments, N, U, F>(
        self,
        _types: MarkerTypes<T, N, U>,
        _forms: F,
        _given: &T::Given<'a>,
    ) -> SeveralGiven<'a, T, N, F, U> {
        SeveralGiven::default()
    }

    /// Converts the error of a method.
    ///
    /// # Errors
    ///
    /// That of the method.
    #[inline(always)]
    pub fn result<R, E: Into<Status>>(self, result: Result<R, E>) -> Result<R, Status> {
        result.map_err(E::into)
    }
}

/// The answer that it does not. Its functions take the place of those of [`Fits`].
pub struct Lacks;

impl Lacks {
    /// Returns a stand-in for the marker.
    pub fn one<T, N, U, F>(self, _types: MarkerTypes<T, N, U>, _form: F) -> Absent<T, T> {
        Absent::default()
    }

    /// Returns a stand-in for the marker.
    pub fn several<T, N, U, F>(self, _types: MarkerTypes<T, N, U>, _forms: F) -> Absent<T, T> {
        Absent::default()
    }

    /// Returns a stand-in for the marker.
    pub fn several_given<T, N, U, F, G>(
        self,
        _types: MarkerTypes<T, N, U>,
        _forms: F,
        _given: &G,
    ) -> Absent<T, G> {
        Absent::default()
    }

    /// Replaces the error of a method.
    ///
    /// # Errors
    ///
    /// The method failed.
    pub fn result<R, E>(self, result: Result<R, E>) -> Result<R, Status> {
        result.map_err(|_| Status::internal("the error does not convert to a status"))
    }
}

/// Returns the types of a marker, as a value.
pub fn types<T, N, U>() -> MarkerTypes<T, N, U> {
    PhantomData
}

/// Asks whether a type can be sent: answers that it can.
pub trait ProbeTransmitted {
    /// Returns the answer.
    fn transmitted(&self) -> Fits {
        Fits
    }
}

impl<T: Transmitted> ProbeTransmitted for &Probe<T> {}

/// Asks whether several arguments can be sent: answers that they can.
pub trait ProbeAllTransmitted {
    /// Returns the answer.
    fn all_transmitted(&self) -> Fits {
        Fits
    }
}

impl<T: GivenArguments> ProbeAllTransmitted for &Probe<T> {}

/// Asks whether a type can be the error of a method: answers that it can.
pub trait ProbeError {
    /// Returns the answer.
    fn converts(&self) -> Fits {
        Fits
    }
}

impl<T: MethodError> ProbeError for &Probe<T> {}

/// Answers each question with no: asked last.
pub trait ProbeLacks {
    /// Returns the answer.
    fn transmitted(&self) -> Lacks {
        Lacks
    }

    /// Returns the answer.
    fn all_transmitted(&self) -> Lacks {
        Lacks
    }

    /// Returns the answer.
    fn converts(&self) -> Lacks {
        Lacks
    }
}

impl<T> ProbeLacks for Probe<T> {}

/// The marker of a type that cannot be sent, for which an error has been reported: it accepts no codec.
pub struct Absent<V, G>(PhantomData<fn() -> V>, PhantomData<fn() -> G>);

impl<V, G> Default for Absent<V, G> {
    fn default() -> Self {
        Absent(PhantomData, PhantomData)
    }
}

impl<V, G> Clone for Absent<V, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, G> Copy for Absent<V, G> {}

fn not_accepted<T>(codec: Codec) -> Result<T, CodecError> {
    Err(CodecError::NotAccepted { codec, why: "the type cannot be sent" })
}

fn not_described<T>() -> Result<Description, DescribeError> {
    let type_name = std::any::type_name::<T>();
    Err(DescribeError::Unsupported { type_name, path: String::new(), what: "the type cannot be sent" })
}

impl<V, G> Argument for Absent<V, G> {
    type Value<'a> = V;

    fn accepts(_codec: Codec) -> bool {
        false
    }

    fn decode<'a>(codec: Codec, _body: Body<'a>) -> Result<V, CodecError> {
        not_accepted(codec)
    }

    fn describe() -> Result<Description, DescribeError> {
        not_described::<V>()
    }
}

impl<V, G> ArgumentEncode for Absent<V, G> {
    type Given = G;

    fn encode(_value: &G, codec: Codec, _out: &mut Vec<u8>) -> Result<(), CodecError> {
        not_accepted(codec)
    }
}

impl<V, G> ReplyEncode for Absent<V, G> {
    type Value = V;

    fn accepts(_codec: Codec) -> bool {
        false
    }

    fn encode(_value: V, codec: Codec, _out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        not_accepted(codec)
    }

    fn describe() -> Result<Description, DescribeError> {
        not_described::<V>()
    }
}

impl<V, G> ReplyDecode for Absent<V, G> {
    fn decode(codec: Codec, _body: &[u8]) -> Result<V, CodecError> {
        not_accepted(codec)
    }
}
