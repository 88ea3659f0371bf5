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
    let is_accepted = method.accepts_number(request.codec);
    let is_same = request.schema == 0 || request.schema == method.schema();
    if is_accepted && is_same && request.name.is_none() {
        return Ok(());
    }
    // The number of a JSON dialect. A native frame cannot carry it.
    if JsonDialect::split(request.codec).1 != JsonDialect::Serde
        && method.accepts_codec(Codec::Json)
        && request.name.is_none()
        && cx.protocol().id() != Some(ProtocolId::Native)
    {
        return Ok(());
    }
    admit_slow(method, request, cx)
}

#[inline(never)]
fn admit_slow(method: &Method, request: &Request, cx: &Cx<'_>) -> Result<(), Status> {
    let number = match cx.protocol().id() {
        Some(ProtocolId::Native) => request.codec,
        _ => JsonDialect::split(request.codec).0,
    };
    let codec = Codec::from_number(number);
    if let Some(name) = request.name
        && cx.bytes(name) != method.name().as_bytes()
    {
        let name = String::from_utf8_lossy(cx.bytes(name));
        return Err(Status::unimplemented(format!("there is no method {name} here")));
    }
    let Some(codec) = codec else {
        return Err(Status::unimplemented(format!("codec {} is not known", request.codec)));
    };
    if !method.accepts_codec(codec) {
        let takes: Vec<&str> = method.codec_names().collect();
        let (name, takes) = (method.name(), takes.join(", "));
        let why = method.warning().map(|warning| format!(" ({warning})")).unwrap_or_default();
        return Err(Status::unimplemented(format!("{name} takes {takes}, not {}{why}", codec.name())));
    }
    if request.schema != 0 && request.schema != method.schema() && !method.is_self_describing(codec) {
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
