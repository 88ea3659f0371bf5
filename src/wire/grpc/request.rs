//! Interprets the head of a request: which method, in which codec, until when, with which metadata; or why it is
//! refused.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::codec_number::Codec;
use crate::message::{JsonDialect, MetadataBuf};
use crate::method_name::MethodName;
use crate::status::Code;
use crate::wire::http2::Http2Head;
use crate::wire::http2::head::value_at;
use crate::wire::http2::hpack::FieldList;
use crate::wire::{DirectoryEntry, ROUTE_METHOD, ROUTE_TARGET, ServerContext, StreamSupport};

/// The number of the protobuf codec.
pub(super) const PROTOBUF: u8 = Codec::Protobuf.number();
/// The number of JSON as protobuf maps it.
pub(super) const JSON: u8 = JsonDialect::Connect.codec_number();

/// Values of `-bin` keys: written without padding, and read with or without it.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a head says of a call, apart from metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallHead {
    /// The hash of the method.
    pub(super) method: u32,
    /// The number of the codec.
    pub(super) codec: u8,
    /// Microseconds until the deadline; 0 is none.
    pub(super) time_left_us: u32,
}

/// What a head requests.
#[derive(Debug)]
pub(super) enum GrpcTarget {
    /// A call; the message follows.
    Call(CallHead),
    /// The route of a page with this hash, by GET or HEAD.
    Page { hash: u32, is_head: bool },
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct GrpcFault {
    /// The HTTP status of an answer that is not gRPC; 0 for gRPC.
    pub(super) http_status: u16,
    /// Whether the answer lists the message encodings.
    pub(super) names_encodings: bool,
    /// The code of the answer.
    pub(super) code: Code,
    /// What was expected and what was found.
    pub(super) message: String,
}

impl GrpcFault {
    /// A fault that is answered with a gRPC status.
    #[cold]
    pub(super) fn grpc(code: Code, message: impl Into<String>) -> GrpcFault {
        GrpcFault { http_status: 0, names_encodings: false, code, message: message.into() }
    }

    /// A fault that is answered with an HTTP status.
    #[cold]
    pub(super) fn http(http_status: u16, code: Code, message: impl Into<String>) -> GrpcFault {
        GrpcFault { http_status, ..GrpcFault::grpc(code, message) }
    }
}

/// Returns the codec for a content type; `None` if it is not one of gRPC that is served.
#[inline]
fn codec_of(content_type: &[u8]) -> Option<u8> {
    let rest = content_type.strip_prefix(b"application/grpc")?;
    // Parameters of the type have no meaning in gRPC.
    let subtype = rest.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    match subtype {
        b"" | b"+proto" => Some(PROTOBUF),
        b"+json" => Some(JSON),
        _ => None,
    }
}

/// Reads a `grpc-timeout`: at most 8 digits and a unit. Returns microseconds as a request states them: at least 1, and
/// 0 for a time over the hour that 32 bits hold.
fn timeout(value: &[u8]) -> Option<u32> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let us = match unit {
        b'H' => number * 3_600_000_000,
        b'M' => number * 60_000_000,
        b'S' => number * 1_000_000,
        b'm' => number * 1000,
        b'u' => number,
        b'n' => number.div_ceil(1000),
        _ => return None,
    };
    Some(u32::try_from(us).map_or(0, |us| us.max(1)))
}

/// Returns the method at a path.
fn method_at(side: &ServerContext, path: &[u8]) -> Option<DirectoryEntry> {
    let mut buffer = [0; MethodName::BYTES_MAX];
    let path = std::str::from_utf8(path).ok()?;
    side.site.method(MethodName::from_http_path(path, &mut buffer)?.as_str())
}

/// The last path of a connection that led to a unary method, which need not be looked up again.
#[derive(Debug, Default)]
pub(super) struct KnownPath {
    path: Box<[u8]>,
    method: u32,
}

impl KnownPath {
    /// A longer path is looked up each time.
    const BYTES_MAX: usize = 64;

    /// Returns the hash of the unary method at a path.
    #[inline]
    fn find(&mut self, side: &ServerContext, path: &[u8]) -> Result<u32, GrpcFault> {
        // No path is empty.
        if *self.path == *path {
            return Ok(self.method);
        }
        let Some(entry) = method_at(side, path) else { return Err(not_found(side, path)) };
        if entry.streams != StreamSupport::Unary {
            let path = String::from_utf8_lossy(path);
            let message = format!("{path} streams messages; this server carries unary calls only over gRPC");
            return Err(GrpcFault::grpc(Code::Unimplemented, message));
        }
        if path.len() <= KnownPath::BYTES_MAX {
            *self = KnownPath { path: path.into(), method: entry.hash };
        }
        Ok(entry.hash)
    }

    /// Returns the bytes that it has allocated.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.path.len()
    }
}

/// Interprets the head of a request. Adds its metadata to `metadata`.
pub(super) fn interpret(
    side: &ServerContext,
    known: &mut KnownPath,
    fields: &FieldList,
    head: Http2Head,
    metadata: &mut MetadataBuf,
) -> Result<GrpcTarget, GrpcFault> {
    let (mut content_type, mut encoding, mut timeout_value) = (None, None, None);
    let mut fault = None;
    for field in fields.iter() {
        let (name, value) = (field.name, field.value);
        match name {
            b"content-type" => content_type = Some(value),
            b"te" | b"host" | b"content-length" => {}
            b"grpc-timeout" => timeout_value = Some(value),
            b"grpc-encoding" => encoding = Some(value),
            [b':', ..] | [b'g', b'r', b'p', b'c', b'-', ..] => {}
            _ => {
                if let Err(found) = push(metadata, name, value) {
                    fault = Some(found);
                }
            }
        }
    }
    let method = value_at(fields, Some(head.method));
    let path = value_at(fields, head.path);
    let Some(codec) = codec_of(content_type.unwrap_or_default()) else {
        let target = other_target(side, method, path, content_type)?;
        let authority = value_at(fields, head.authority);
        let complete = fault.map_or_else(|| complete(metadata, method, path, authority), Err);
        // The head is too large, or has a value that cannot be read.
        return match complete {
            Ok(()) => Ok(target),
            Err(fault) if fault.code == Code::ResourceExhausted => {
                Err(GrpcFault { http_status: 431, ..fault })
            }
            Err(fault) => Err(GrpcFault { http_status: 400, ..fault }),
        };
    };
    if method != b"POST" {
        let method = String::from_utf8_lossy(method);
        let message = format!("gRPC expects POST, found {method}");
        return Err(GrpcFault::http(405, Code::Internal, message));
    }
    let hash = known.find(side, path)?;
    if let Some(encoding) = encoding.filter(|encoding| *encoding != b"identity") {
        let encoding = encoding.escape_ascii();
        let message = format!("grpc-encoding: expected identity, found {encoding}");
        let fault = GrpcFault::grpc(Code::Unimplemented, message);
        return Err(GrpcFault { names_encodings: true, ..fault });
    }
    let time_left_us = match timeout_value {
        None => 0,
        Some(value) => timeout(value).ok_or_else(|| {
            let value = value.escape_ascii();
            let message =
                format!("grpc-timeout: expected 1 to 8 digits and one of H, M, S, m, u, n; found {value}");
            GrpcFault::grpc(Code::InvalidArgument, message)
        })?,
    };
    match fault {
        None => Ok(GrpcTarget::Call(CallHead { method: hash, codec, time_left_us })),
        Some(fault) => Err(fault),
    }
}

#[cold]
fn not_found(side: &ServerContext, path: &[u8]) -> GrpcFault {
    let mut buffer = [0; MethodName::BYTES_MAX];
    let path = String::from_utf8_lossy(path);
    let message = match MethodName::from_http_path(&path, &mut buffer) {
        Some(name) if side.site.has_service(name.service()) => format!("there is no method {name} here"),
        Some(name) => format!("there is no service {} here", name.service()),
        None => format!("there is nothing at {path}; methods are at /Service/Method"),
    };
    GrpcFault::grpc(Code::Unimplemented, message)
}

/// What a request wants that is not gRPC.
#[cold]
fn other_target(
    side: &ServerContext,
    method: &[u8],
    path: &[u8],
    content_type: Option<&[u8]>,
) -> Result<GrpcTarget, GrpcFault> {
    let path_only = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let found = match (method, content_type) {
        (b"GET" | b"HEAD", _) => {
            let page = std::str::from_utf8(path_only).ok().and_then(|path| side.site.page(path));
            if let Some(hash) = page {
                return Ok(GrpcTarget::Page { hash, is_head: method == b"HEAD" });
            }
            if method_at(side, path_only).is_none() {
                let message = format!("there is nothing at {} over HTTP/2", path_only.escape_ascii());
                return Err(GrpcFault::http(404, Code::Unimplemented, message));
            }
            let message = "over HTTP/2, methods are called by POST with gRPC";
            return Err(GrpcFault::http(405, Code::Unimplemented, message));
        }
        (b"POST", Some(found)) => found.escape_ascii().to_string(),
        (b"POST", None) => "none".to_owned(),
        _ => {
            let message = format!("expected POST, found {}", method.escape_ascii());
            return Err(GrpcFault::http(405, Code::Unimplemented, message));
        }
    };
    let message = format!(
        "content-type: expected application/grpc, application/grpc+proto or application/grpc+json over HTTP/2; \
         found {found}"
    );
    Err(GrpcFault::http(415, Code::Internal, message))
}

/// Adds to the metadata what else belongs to the request of a page, as HTTP/1.1 does for routes.
#[cold]
fn complete(
    metadata: &mut MetadataBuf,
    method: &[u8],
    path: &[u8],
    authority: &[u8],
) -> Result<(), GrpcFault> {
    for (name, value) in [("host", authority), (ROUTE_METHOD, method), (ROUTE_TARGET, path)] {
        push(metadata, name.as_bytes(), value)?;
    }
    Ok(())
}

/// Adds a field to the metadata.
#[inline]
fn push(metadata: &mut MetadataBuf, name: &[u8], value: &[u8]) -> Result<(), GrpcFault> {
    // Names are tokens in lower case: the head was checked.
    let name = std::str::from_utf8(name).unwrap_or_default();
    let too_long = |why| GrpcFault::grpc(Code::ResourceExhausted, format!("metadata: {why}"));
    if !name.ends_with("-bin") {
        return metadata.push(name, value).map_err(too_long);
    }
    // Intermediaries may join several values.
    for value in value.split(|byte| *byte == b',') {
        let value = BASE64.decode(value.trim_ascii()).map_err(|error| {
            GrpcFault::grpc(
                Code::InvalidArgument,
                format!("metadata {name}: expected base64 text, found {error}"),
            )
        })?;
        metadata.push(name, &value).map_err(too_long)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_six_units_and_at_most_eight_digits() {
        for (text, us) in [
            ("1H", 3_600_000_000),
            ("2H", 0),
            ("99999999H", 0),
            ("71M", 4_260_000_000),
            ("72M", 0),
            ("3S", 3_000_000),
            ("00000005m", 5000),
            ("7u", 7),
            ("1n", 1),
            ("1001n", 2),
            ("0n", 1),
            ("0S", 1),
        ] {
            assert_eq!(timeout(text.as_bytes()), Some(us), "{text}");
        }
        for text in ["", "S", "1", "1s", "123456789m", "+5m", "-1m", "1.5S", " 1S", "1 S", "0x1S", "1SS"] {
            assert_eq!(timeout(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn content_types_are_those_of_grpc_with_two_codecs() {
        for (text, codec) in [
            ("application/grpc", Some(PROTOBUF)),
            ("application/grpc+proto", Some(PROTOBUF)),
            ("application/grpc;charset=utf-8", Some(PROTOBUF)),
            ("application/grpc+proto ; x=y", Some(PROTOBUF)),
            ("application/grpc+json", Some(JSON)),
            ("application/grpc+thrift", None),
            ("application/grpc-web", None),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(codec_of(text.as_bytes()), codec, "{text}");
        }
    }

    #[test]
    fn binary_metadata_is_base64_with_or_without_padding_and_may_be_joined() {
        let mut metadata = MetadataBuf::new();
        for value in ["AAE=", "AAE", "AAE, /w==", ""] {
            push(&mut metadata, b"x-bin", value.as_bytes()).unwrap();
        }
        let values: Vec<&[u8]> = metadata.view().iter().map(|(_, value)| value).collect();
        assert_eq!(values, [&[0, 1][..], &[0, 1], &[0, 1], &[255], &[]]);
        let fault = push(&mut metadata, b"x-bin", b"a*").unwrap_err();
        assert_eq!((fault.code, fault.http_status), (Code::InvalidArgument, 0));
        let fault = push(&mut metadata, &[b'k'; 256], b"").unwrap_err();
        assert_eq!(fault.code, Code::ResourceExhausted);
    }
}
