//! The outcome of a reply, and how its bytes are decoded: the same for every client of the native protocol.

use std::time::Duration;

use super::call_slot::DecodeReply;
use super::stated::with_stated_types;
use super::{CallError, Times};
use crate::codec::compress::CompressError;
use crate::codec::{Codec, CodecError, ValueRules, compress};
use crate::config::MissingFields;
use crate::message::trailers::{self, LOAD, RETRY_AFTER_MS};
use crate::message::{DETAILS, IncomingReply, JsonDialect, Metadata, MetadataBuf, ReplyExtras};
use crate::status::{Code, Detail, Status};
use crate::wire::Scheme;

/// Before the name of a trailer among the fields of a response, in the Connect protocol.
const TRAILER_PREFIX: &str = "trailer-";

/// A reply without its body.
#[derive(Debug)]
pub(super) struct ReplyOutcome {
    codec: u8,
    compressed: bool,
    status: u32,
    /// At most `u32::MAX`, which [`ClientConfig::check`](super::ClientConfig::check) ensures.
    frame_bytes_max: u32,
    pub(super) times: Times,
    /// Headers, trailers, details and hints; absent in almost every reply.
    pub(super) extras: Option<Box<ReplyExtras>>,
}

impl ReplyOutcome {
    pub(super) fn of(answered: &IncomingReply, frame_bytes_max: usize) -> ReplyOutcome {
        ReplyOutcome {
            codec: answered.codec,
            compressed: answered.compressed,
            status: answered.status,
            frame_bytes_max: frame_bytes_max as u32,
            extras: None,
            times: Times { queue_us: answered.queue_us, handler_us: answered.handler_us },
        }
    }

    /// The outcome of what is not a call: ok, with an empty body.
    pub(super) fn empty() -> ReplyOutcome {
        let times = Times::default();
        ReplyOutcome {
            codec: Codec::Raw.number(),
            compressed: false,
            status: Code::Ok.number(),
            frame_bytes_max: 0,
            times,
            extras: None,
        }
    }

    /// The outcome of a call that the program answers itself.
    pub(super) fn local(codec: Codec) -> ReplyOutcome {
        ReplyOutcome { codec: codec.number(), ..ReplyOutcome::empty() }
    }

    /// Reads the metadata of the reply. With HTTP these are the header fields; those behind `Trailer-` are trailers.
    #[cold]
    pub(super) fn read_metadata(&mut self, metadata: Metadata<'_>, scheme: Scheme) {
        let mut extras = Box::new(ReplyExtras {
            retry_after_ms: trailers::number(metadata, RETRY_AFTER_MS),
            load_us: trailers::number(metadata, LOAD),
            details: metadata.find(DETAILS).map(Detail::decode_all).unwrap_or_default(),
            ..ReplyExtras::default()
        });
        let is_own = |key: &str| matches!(key, RETRY_AFTER_MS | LOAD | DETAILS);
        for (key, value) in metadata.iter().filter(|(key, _)| !is_own(key)) {
            // They fitted into the metadata of the reply.
            let _ = match key.strip_prefix(TRAILER_PREFIX) {
                Some(trailer) if scheme.has_fields() => extras.trailers.push(trailer, value),
                _ if scheme.has_fields() => extras.headers.push(key, value),
                _ => extras.trailers.push(key, value),
            };
        }
        self.extras = Some(extras);
    }

    /// Returns the headers and trailers of the response; `headers` preceded the reply.
    #[cold]
    pub(super) fn response(&self, headers: Option<Box<MetadataBuf>>) -> Box<ReplyExtras> {
        let mut response = self.extras.clone().unwrap_or_default();
        if let Some(headers) = headers {
            response.headers = *headers;
        }
        response
    }

    /// Returns the status code.
    pub(super) fn code(&self) -> Code {
        Code::from_number(self.status).unwrap_or(Code::Unknown)
    }

    /// Returns the status that the server sent, if it is not ok.
    pub(super) fn status(&self, body: &[u8]) -> Result<(), Status> {
        if self.status == Code::Ok.number() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(body).into_owned();
        let status = match Code::from_number(self.status) {
            Some(code) => Status::new(code, message),
            None => Status::unknown(format!("status {}: {message}", self.status)),
        };
        Err(match &self.extras {
            Some(extras) => with_extras(status, extras),
            None => status,
        })
    }

    /// Decodes the body, or returns the status that the server sent instead.
    pub(super) fn decode<T>(&self, body: &[u8], decode: DecodeReply<T>) -> Result<T, CallError> {
        self.status(body).map_err(CallError::Status)?;
        let (number, dialect) = JsonDialect::split(self.codec);
        let codec = Codec::from_number(number).ok_or_else(|| {
            let what = format!("the reply has the unknown codec {}", self.codec);
            CallError::Reply(CodecError::Malformed { codec: Codec::Raw, what })
        })?;
        let rules = ValueRules::of(dialect, MissingFields::ByProtocol);
        if !self.compressed {
            return rules.apply(|| decode(codec, body)).map_err(CallError::Reply);
        }
        let mut plain = Vec::new();
        compress::decompress(body, self.frame_bytes_max as usize, &mut plain).map_err(
            |error| match error {
                CompressError::TooLarge { declared, output_bytes_max } => {
                    CallError::ReplyRefused(Status::resource_exhausted(format!(
                        "a reply of {declared} bytes, decompressed, is over the limit of {output_bytes_max} \
                     (frame_bytes_max)"
                    )))
                }
                error => CallError::Reply(CodecError::Malformed { codec, what: error.to_string() }),
            },
        )?;
        rules.apply(|| decode(codec, &plain)).map_err(CallError::Reply)
    }
}

#[cold]
fn with_extras(status: Status, extras: &ReplyExtras) -> Status {
    let status = match extras.retry_after_ms {
        Some(ms) => status.with_retry_after(Duration::from_millis(u64::from(ms))),
        None => status,
    };
    // They were read within the limits.
    extras.details.iter().fold(status, |status, detail| {
        let before = status.clone();
        status.with_encoded_detail(detail.clone()).unwrap_or(before)
    })
}

/// The result of a call with the metadata of its response.
///
/// ```
/// # use coreloop::{Context, Server, Status};
/// use coreloop::client::{Client, Response};
///
/// # struct Shop;
/// # #[coreloop::service]
/// # impl Shop {
/// #     fn price(&self, cx: &Context, count: u64) -> Result<u64, Status> {
/// #         cx.set_header("currency", "cent")?;
/// #         Ok(40 * count)
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder().service(Shop).listen("127.0.0.1:0").start()?;
/// let shop = ShopClient::new(Client::connect(&server.addresses()[0])?);
/// let response: Response<u64> = shop.price_start(&2).response()?;
/// assert_eq!((response.value, response.headers.view().find("currency")), (80, Some(&b"cent"[..])));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response<T> {
    /// The result.
    pub value: T,
    /// The response headers. With `http:` these are all fields of the response that HTTP and Connect do not use.
    pub headers: MetadataBuf,
    /// The response trailers.
    pub trailers: MetadataBuf,
}

/// Completes the text of an error with what only the caller knows; `None` if that is nothing.
#[cold]
pub(super) fn completed(code: Code, text: &str, (hash, name): (u32, &str), schema: u32) -> Option<String> {
    match code {
        Code::Unimplemented => with_method_name(text, hash, name),
        Code::FailedPrecondition => with_stated_types(text, schema),
        _ => None,
    }
}

/// Replaces a method's hash in a server's message by the name that the caller knows; `None` where the hash is not in
/// it.
#[cold]
fn with_method_name(text: &str, hash: u32, name: &str) -> Option<String> {
    let hash = format!("{hash:#010x}");
    if name.is_empty() || !text.contains(&hash) {
        return None;
    }
    Some(text.replace(&format!("with the hash {hash}"), name).replace(&hash, name))
}

/// Returns the bytes as they are, whatever the codec.
pub(super) fn as_bytes(_codec: Codec, body: &[u8]) -> Result<Vec<u8>, CodecError> {
    Ok(body.to_vec())
}
