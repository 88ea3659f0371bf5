//! Admission: whether a request may be run, by its method, its codec, and its types.

use super::Cx;
use crate::codec::Codec;
use crate::message::{JsonDialect, Request};
use crate::service::Method;
use crate::status::Status;
use crate::wire::ProtocolId;

/// Checks whether a request fits the method that it names.
#[inline]
pub(super) fn admit(method: &Method, request: &Request, cx: &Cx<'_>) -> Result<(), Status> {
    let codec = Codec::from_number(request.codec);
    let is_accepted = codec.is_some_and(|codec| method.accepts_codec(codec));
    let is_same = request.schema == 0 || request.schema == method.schema();
    if is_accepted && is_same && request.name.is_none() {
        return Ok(());
    }
    admit_slow(method, request, codec, is_accepted, cx)
}

#[inline(never)]
fn admit_slow(
    method: &Method,
    request: &Request,
    codec: Option<Codec>,
    is_accepted: bool,
    cx: &Cx<'_>,
) -> Result<(), Status> {
    // A frame cannot carry such a codec number.
    if let (number, JsonDialect::GoRpc | JsonDialect::Connect) = JsonDialect::split(request.codec)
        && cx.protocol().id() != Some(ProtocolId::Native)
    {
        return admit(method, &Request { codec: number, ..*request }, cx);
    }
    if let Some(name) = request.name
        && cx.bytes(name) != method.name().as_bytes()
    {
        let name = String::from_utf8_lossy(cx.bytes(name));
        return Err(Status::unimplemented(format!("there is no method {name} here")));
    }
    let Some(codec) = codec else {
        return Err(Status::unimplemented(format!("codec {} is not known", request.codec)));
    };
    if !is_accepted {
        let takes: Vec<&str> = method.codecs().map(Codec::name).collect();
        let (name, takes) = (method.name(), takes.join(", "));
        let why = method.warning().map(|warning| format!(" ({warning})")).unwrap_or_default();
        return Err(Status::unimplemented(format!("{name} takes {takes}, not {}{why}", codec.name())));
    }
    if request.schema != 0 && request.schema != method.schema() && !codec.is_self_describing() {
        return Err(Status::failed_precondition(format!(
            "the caller's types of {} have the fingerprint {:#010x}, here they are {} with {:#010x}",
            method.name(),
            request.schema,
            method.signature(),
            method.schema()
        )));
    }
    Ok(())
}
