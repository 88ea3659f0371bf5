//! What a reply carries besides its body: response headers and trailers, the details of its status, and the hints of the
//! server.

use std::fmt;

use super::trailers::{LOAD, RETRY_AFTER_MS, TRAILER_BYTES_MAX, encode};
use super::{MetadataBuf, MetadataTooLong};
use crate::status::{Detail, Status};

/// The key of the details of a status in the metadata of a native reply.
pub const DETAILS: &str = "details";

/// The most bytes of the headers of a reply, and of its trailers, as encoded metadata.
pub const RESPONSE_METADATA_BYTES_MAX: usize = 16 << 10;

/// The keys that only the server itself sets.
const RESERVED: [&str; 3] = [DETAILS, RETRY_AFTER_MS, LOAD];

/// What a reply carries besides its body. Almost no reply has any of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyExtras {
    /// Entries that precede the body.
    pub headers: MetadataBuf,
    /// Entries that follow the body.
    pub trailers: MetadataBuf,
    /// The details of a status other than ok.
    pub details: Vec<Detail>,
    /// Milliseconds after which a refused call may be repeated.
    pub retry_after_ms: Option<u32>,
    /// Microseconds that a new call would wait for a worker.
    pub load_us: Option<u32>,
    /// The head of the response of a route; only HTTP has a place for it.
    pub http: Option<HttpResponseHead>,
}

/// The head of an HTTP response that a route gives, in place of that of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponseHead {
    /// The status: 200 to 599.
    pub status: u16,
    /// Whole lines with valid names and values, each with CR and LF.
    pub fields: Vec<u8>,
}

impl ReplyExtras {
    /// Extras with the time after which a call may be repeated, in milliseconds.
    pub fn retry_after(ms: u32) -> ReplyExtras {
        ReplyExtras { retry_after_ms: Some(ms), ..ReplyExtras::default() }
    }

    /// Extras with the load of the server, in microseconds.
    pub fn load(us: u32) -> ReplyExtras {
        ReplyExtras { load_us: Some(us), ..ReplyExtras::default() }
    }

    /// Returns what a status carries besides its code and message; `None` for most.
    pub fn of_status(status: &Status) -> Option<Box<ReplyExtras>> {
        if !status.has_extras() {
            return None;
        }
        let mut extras = Box::<ReplyExtras>::default();
        extras.add_status(status);
        Some(extras)
    }

    /// Adds what a status carries besides its code and message.
    pub fn add_status(&mut self, status: &Status) {
        self.details.extend_from_slice(status.details());
        self.retry_after_ms = status.retry_after_ms().or(self.retry_after_ms);
    }

    /// Sets a header: all entries with that key are replaced.
    ///
    /// # Errors
    ///
    /// [`SetMetadataError::TooLong`] or [`SetMetadataError::Reserved`].
    pub fn set_header(&mut self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        set(&mut self.headers, key, value)
    }

    /// Sets a trailer: all entries with that key are replaced.
    ///
    /// # Errors
    ///
    /// As [`ReplyExtras::set_header`].
    pub fn set_trailer(&mut self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        set(&mut self.trailers, key, value)
    }

    /// Returns whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.trailers.is_empty()
            && self.details.is_empty()
            && self.retry_after_ms.is_none()
            && self.load_us.is_none()
            && self.http.is_none()
    }

    /// Returns the number of headers and trailers.
    pub(crate) fn entries(&self) -> usize {
        self.headers.view().iter().count() + self.trailers.view().iter().count()
    }

    /// Returns the bytes that it occupies, about.
    pub fn bytes(&self) -> usize {
        self.headers.as_bytes().len()
            + self.trailers.as_bytes().len()
            + self.details.iter().map(Detail::bytes).sum::<usize>()
            + self.http.as_ref().map_or(0, |head| head.fields.len())
    }

    /// Passes the metadata of a native reply to `write`: the trailers, the hints of the server, and the details. Hints
    /// alone are encoded without allocation.
    pub(crate) fn with_native<R>(&self, write: impl FnOnce(&[u8]) -> R) -> R {
        let mut room = [0; TRAILER_BYTES_MAX];
        let hints = encode(self.retry_after_ms, self.load_us, &mut room);
        if self.details.is_empty() && self.trailers.as_bytes().is_empty() {
            return write(hints);
        }
        let mut all = self.trailers.clone();
        for (key, value) in super::Metadata::checked_before(hints).iter() {
            // The limits of trailers and details leave room for all of it.
            let _ = all.push(key, value);
        }
        if !self.details.is_empty() {
            let _ = all.push(DETAILS, &Detail::encode_all(&self.details));
        }
        write(all.as_bytes())
    }
}

fn set(entries: &mut MetadataBuf, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
    if RESERVED.contains(&key) {
        return Err(SetMetadataError::Reserved { key: key.to_owned() });
    }
    let too_long =
        || SetMetadataError::TooLong(MetadataTooLong { key_len: key.len(), value_len: value.len() });
    let replaced = entries.view().find(key).map_or(0, <[u8]>::len);
    let bytes = entries.as_bytes().len() + 3 + key.len() + value.len();
    if bytes.saturating_sub(replaced) > RESPONSE_METADATA_BYTES_MAX {
        return Err(too_long());
    }
    let result =
        if entries.view().find(key).is_some() { entries.set(key, value) } else { entries.push(key, value) };
    result.map_err(SetMetadataError::TooLong)
}

/// Why a header or a trailer of a reply cannot be set.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetMetadataError {
    /// The key is empty or longer than 255 bytes, or all entries are longer than [`RESPONSE_METADATA_BYTES_MAX`].
    TooLong(MetadataTooLong),
    /// The server sets this entry itself.
    Reserved {
        /// The key.
        key: String,
    },
    /// A message was sent before: headers precede the first message.
    HeadersSent,
    /// The right to answer was taken from the context: set it on the [`Reply`](crate::Reply), the
    /// ticket of the call or the [`Sink`](crate::Sink).
    ReplyTaken,
    /// The sink is a caller's, which sends no reply.
    NoReply,
}

crate::error_text::debug_as_text!(SetMetadataError);

impl fmt::Display for SetMetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetMetadataError::TooLong(MetadataTooLong { key_len, value_len }) => write!(
                f,
                "a key of {key_len} bytes (1 to 255) with a value of {value_len} bytes does not fit: the headers of a \
                 reply take at most {RESPONSE_METADATA_BYTES_MAX} bytes, and so do its trailers"
            ),
            SetMetadataError::Reserved { key } => {
                write!(f, "the metadata key {key:?} is reserved in replies: the server sets it")
            }
            SetMetadataError::HeadersSent => {
                f.write_str("the headers of the stream were sent, with its first message or before")
            }
            SetMetadataError::ReplyTaken => {
                f.write_str("the reply of the call was taken: set its headers and trailers there")
            }
            SetMetadataError::NoReply => f.write_str("the sink of a caller sends no reply"),
        }
    }
}

impl std::error::Error for SetMetadataError {}

/// For a handler that sets metadata with `?`: an error of the handler.
impl From<SetMetadataError> for Status {
    fn from(error: SetMetadataError) -> Status {
        Status::internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Metadata;

    #[test]
    fn entries_are_replaced_bounded_and_reserved() {
        let mut extras = ReplyExtras::default();
        extras.set_header("a", b"1").unwrap();
        extras.set_header("a", b"2").unwrap();
        extras.set_trailer("a", b"3").unwrap();
        assert_eq!(extras.headers.view().iter().collect::<Vec<_>>(), [("a", &b"2"[..])]);
        assert_eq!(extras.trailers.view().find("a"), Some(&b"3"[..]));
        for key in RESERVED {
            assert_eq!(extras.set_trailer(key, b""), Err(SetMetadataError::Reserved { key: key.to_owned() }));
        }
        assert!(matches!(extras.set_header("", b""), Err(SetMetadataError::TooLong(_))));
        assert!(matches!(extras.set_header("b", &[0; 17 << 10]), Err(SetMetadataError::TooLong(_))));
        let value = [7; 1000];
        let fitting = (0..100).take_while(|n| extras.set_header(&format!("k{n}"), &value).is_ok()).count();
        assert_eq!(fitting, 16);
        // A value of the same length still replaces another.
        extras.set_header("k0", &[8; 1000]).unwrap();
        assert!(extras.headers.as_bytes().len() <= RESPONSE_METADATA_BYTES_MAX + 8);
    }

    #[test]
    fn native_metadata_has_trailers_hints_and_details() {
        let status =
            Status::not_found("").with_encoded_detail(Detail::new("a.B").form(2, b"{}".to_vec())).unwrap();
        let mut extras = ReplyExtras { load_us: Some(7), ..*ReplyExtras::of_status(&status).unwrap() };
        extras.set_trailer("t", b"1").unwrap();
        extras.retry_after_ms = Some(250);
        extras.with_native(|bytes| {
            let metadata = Metadata::check(bytes).unwrap();
            let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
            assert_eq!(keys, ["t", RETRY_AFTER_MS, LOAD, DETAILS]);
            assert_eq!(Detail::decode_all(metadata.find(DETAILS).unwrap()), status.details());
        });
        assert_eq!(ReplyExtras::of_status(&Status::not_found("")), None);
        ReplyExtras::load(3).with_native(|bytes| assert_eq!(bytes, b"\x04load\x01\x003"));
    }

    #[test]
    fn the_largest_extras_fit_into_a_frame() {
        let mut extras = ReplyExtras { load_us: Some(u32::MAX), ..ReplyExtras::retry_after(u32::MAX) };
        let mut n = 0;
        while extras.set_trailer(&format!("{n}"), &[0; 100]).is_ok() {
            n += 1;
        }
        let mut status = Status::internal("");
        let full = Detail::new("t").form(2, vec![b' '; 500]);
        while let Ok(more) = status.clone().with_encoded_detail(full.clone()) {
            status = more;
        }
        extras.add_status(&status);
        extras.with_native(|bytes| {
            let metadata = Metadata::check(bytes).unwrap();
            assert_eq!(Detail::decode_all(metadata.find(DETAILS).unwrap()).len(), status.details().len());
        });
    }
}
