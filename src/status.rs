//! The outcome of a call: gRPC's seventeen codes, a message for people, details for programs.
//!
//! The numbers and names are those of gRPC (`google.rpc.Code`). One table holds their counterparts in every other
//! protocol, so that each mapping is defined once.

mod detail;

use std::fmt;
use std::time::Duration;

pub use detail::{DETAILS_BYTES_MAX, DETAILS_MAX, Detail, DetailsTooLarge};

use self::detail::TYPE_NAME_BYTES_MAX;

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $connect:literal $http:literal $jsonrpc:literal $doc:literal;)*) => {
        /// A status code with gRPC's number and meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Code { $(#[doc = $doc] $variant = $number,)* }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: [Code; 17] = [$(Code::$variant,)*];

            /// Returns the code with that number, if there is one.
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }

            /// Returns the code's name in lower snake case, as used in metrics.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// Returns the code's error number in JSON-RPC 2.0 (section 5.1 there): the standard number if there is
            /// one, else -32000 minus the code's number, in the range reserved for servers.
            pub fn jsonrpc_number(self) -> i32 {
                match self { $(Code::$variant => $jsonrpc,)* }
            }

            /// Returns the code's name in the Connect protocol; one name is spelled differently there.
            pub fn connect_name(self) -> &'static str {
                match self { $(Code::$variant => $connect,)* }
            }

            /// Returns the code with that name in the Connect protocol.
            pub fn from_connect_name(name: &str) -> Option<Code> {
                match name { $($connect => Some(Code::$variant),)* _ => None }
            }

            /// Returns the HTTP status to which the Connect protocol maps the code.
            pub fn http_status(self) -> u16 {
                match self { $(Code::$variant => $http,)* }
            }
        }
    };
}

codes! {
    0 Ok "ok" "ok" 200 -32000 "The call did what it was asked.";
    1 Cancelled "cancelled" "canceled" 499 -32001 "The caller cancelled the call.";
    2 Unknown "unknown" "unknown" 500 -32002 "An error that fits no other code.";
    3 InvalidArgument "invalid_argument" "invalid_argument" 400 -32602 "The argument is wrong whatever the state of the system.";
    4 DeadlineExceeded "deadline_exceeded" "deadline_exceeded" 504 -32004 "The deadline passed before the call was done.";
    5 NotFound "not_found" "not_found" 404 -32005 "What was asked for does not exist.";
    6 AlreadyExists "already_exists" "already_exists" 409 -32006 "What was to be made exists already.";
    7 PermissionDenied "permission_denied" "permission_denied" 403 -32007 "The caller may not do this.";
    8 ResourceExhausted "resource_exhausted" "resource_exhausted" 429 -32008 "A limit was hit: a quota, a queue, a size.";
    9 FailedPrecondition "failed_precondition" "failed_precondition" 400 -32009 "The system is not in the state that the call needs.";
    10 Aborted "aborted" "aborted" 409 -32010 "A conflict stopped the call; trying again from the start may work.";
    11 OutOfRange "out_of_range" "out_of_range" 400 -32011 "The argument is outside the range that is valid now.";
    12 Unimplemented "unimplemented" "unimplemented" 501 -32601 "The server has no such method, or not in this form.";
    13 Internal "internal" "internal" 500 -32603 "Something that must not happen happened: a broken invariant, a panic.";
    14 Unavailable "unavailable" "unavailable" 503 -32014 "The service cannot be reached now; trying again may work.";
    15 DataLoss "data_loss" "data_loss" 500 -32015 "Data was lost or corrupted beyond repair.";
    16 Unauthenticated "unauthenticated" "unauthenticated" 401 -32016 "The caller has not identified or \
        authenticated itself.";
}

impl Code {
    /// Returns the number used by the protocols.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Returns the code for an HTTP status whose body names no code. This is the Connect protocol's table for that
    /// case, which is not the inverse of [`http_status`](Code::http_status).
    pub fn from_http_status(status: u16) -> Code {
        match status {
            200 => Code::Ok,
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

/// The error numbers of JSON-RPC 2.0 for invalid messages (not for failed calls).
pub mod jsonrpc {
    /// The message is not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// The message is JSON, but not a request.
    pub const INVALID_REQUEST: i32 = -32600;
}

impl Code {
    /// Returns the code of a JSON-RPC 2.0 error number. Numbers that are not in the table are `unknown`.
    pub fn from_jsonrpc_number(number: i64) -> Code {
        match i32::try_from(number) {
            Ok(jsonrpc::PARSE_ERROR | jsonrpc::INVALID_REQUEST) => Code::InvalidArgument,
            Ok(number) => {
                let mut codes = Code::ALL.into_iter().filter(|code| *code != Code::Ok);
                codes.find(|code| code.jsonrpc_number() == number).unwrap_or(Code::Unknown)
            }
            Err(_) => Code::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The failure of a call: the code, a message for people, details for programs.
///
/// A handler returns it as its error; the client receives it. Details are typed
/// ([`Status::with_detail`](Status::with_detail), [`StatusDetail`](crate::codec::StatusDetail)).
#[derive(Clone, PartialEq, Eq)]
pub struct Status {
    /// The kind of failure.
    pub code: Code,
    /// What happened, for people: what was expected and what was found.
    pub message: String,
    /// Milliseconds, or [`NO_RETRY_AFTER`].
    retry_after_ms: u32,
    /// Absent for most.
    details: Option<Box<StatusDetails>>,
}

#[derive(Clone, PartialEq, Eq)]
struct StatusDetails(Vec<Detail>);

/// No time is stated after which the call may be repeated.
const NO_RETRY_AFTER: u32 = u32::MAX;

macro_rules! constructors {
    ($($fn_name:ident $variant:ident;)*) => {
        impl Status {
            $(
                #[doc = concat!("A status with the code `", stringify!($fn_name), "` and this message.")]
                pub fn $fn_name(message: impl Into<String>) -> Status {
                    Status::new(Code::$variant, message)
                }
            )*
        }
    };
}

constructors! {
    cancelled Cancelled; unknown Unknown; invalid_argument InvalidArgument; deadline_exceeded DeadlineExceeded;
    not_found NotFound; already_exists AlreadyExists; permission_denied PermissionDenied;
    resource_exhausted ResourceExhausted; failed_precondition FailedPrecondition; aborted Aborted;
    out_of_range OutOfRange; unimplemented Unimplemented; internal Internal; unavailable Unavailable;
    data_loss DataLoss; unauthenticated Unauthenticated;
}

impl Status {
    /// Creates a status with this code and message, and no details.
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into(), retry_after_ms: NO_RETRY_AFTER, details: None }
    }

    /// Returns the details, as they are transmitted. Typed values are read by
    /// [`Status::detail`](Status::detail).
    pub fn details(&self) -> &[Detail] {
        self.details.as_ref().map_or(&[], |details| &details.0)
    }

    /// Returns the same status with one more encoded detail.
    ///
    /// # Errors
    ///
    /// [`DetailsTooLarge`]: the details would exceed [`DETAILS_MAX`] or [`DETAILS_BYTES_MAX`].
    pub fn with_encoded_detail(mut self, detail: Detail) -> Result<Status, DetailsTooLarge> {
        let bytes = self.details().iter().map(Detail::bytes).sum::<usize>() + detail.bytes();
        let count = self.details().len() + 1;
        if count > DETAILS_MAX || bytes > DETAILS_BYTES_MAX || detail.type_name.len() > TYPE_NAME_BYTES_MAX {
            return Err(DetailsTooLarge { count, bytes });
        }
        self.details.get_or_insert_with(|| Box::new(StatusDetails(Vec::new()))).0.push(detail);
        Ok(self)
    }

    /// Whether it carries more than a code and a message.
    #[inline]
    pub(crate) fn has_extras(&self) -> bool {
        self.details.is_some() || self.retry_after_ms != NO_RETRY_AFTER
    }

    /// Returns the time of [`Status::retry_after`] in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> Option<u32> {
        (self.retry_after_ms != NO_RETRY_AFTER).then_some(self.retry_after_ms)
    }

    /// Returns the same status with the time after which the caller may repeat the call, in whole milliseconds, rounded
    /// up. More than 49 days count as 49 days.
    pub fn with_retry_after(mut self, time: Duration) -> Status {
        let ms = time.as_nanos().div_ceil(1_000_000);
        self.retry_after_ms = ms.min(u128::from(NO_RETRY_AFTER - 1)) as u32;
        self
    }

    /// Returns the time after which the caller may repeat the call, if the server has stated it: an overloaded server
    /// does, with a refusal. It is transmitted by native frames, HTTP, gRPC and JSON-RPC 2.0.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms().map(|ms| Duration::from_millis(u64::from(ms)))
    }
}

crate::error_text::debug_as_text!(Status);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_match_grpc() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.number() as usize, number);
            assert_eq!(Code::from_number(number as u32), Some(code));
        }
        assert_eq!(Code::from_number(17), None);
        assert_eq!(Code::from_number(4).map(Code::name), Some("deadline_exceeded"));
        assert_eq!(Code::from_number(16).map(Code::name), Some("unauthenticated"));
    }

    #[test]
    fn jsonrpc_numbers_round_trip() {
        let standard = [(12, -32601), (3, -32602), (13, -32603)];
        for code in Code::ALL {
            let own = standard.iter().find(|(number, _)| *number == code.number());
            assert_eq!(code.jsonrpc_number(), own.map_or(-32000 - code.number() as i32, |own| own.1));
            if code != Code::Ok {
                assert_eq!(Code::from_jsonrpc_number(i64::from(code.jsonrpc_number())), code);
            }
        }
        for (number, code) in [
            (-32700, Code::InvalidArgument),
            (-32600, Code::InvalidArgument),
            (-32000, Code::Unknown),
            (0, Code::Unknown),
            (1 << 40, Code::Unknown),
            (i64::MIN, Code::Unknown),
        ] {
            assert_eq!(Code::from_jsonrpc_number(number), code, "{number}");
        }
    }

    #[test]
    fn connect_maps_every_code_to_a_name_and_http_status() {
        let differ: Vec<_> =
            Code::ALL.into_iter().filter(|code| code.name() != code.connect_name()).collect();
        assert_eq!(differ, [Code::Cancelled]);
        assert_eq!(Code::Cancelled.connect_name(), "canceled");
        for code in Code::ALL {
            assert_eq!(Code::from_connect_name(code.connect_name()), Some(code));
            assert!((400..=504).contains(&code.http_status()) || code == Code::Ok);
        }
        assert_eq!(Code::from_connect_name("cancelled"), None);
        let statuses = [Code::Cancelled, Code::ResourceExhausted, Code::Unimplemented].map(Code::http_status);
        assert_eq!(statuses, [499, 429, 501]);
        let codes = [404, 400, 504, 418, 200].map(Code::from_http_status);
        assert_eq!(codes, [Code::Unimplemented, Code::Internal, Code::Unavailable, Code::Unknown, Code::Ok]);
    }

    #[test]
    fn a_time_to_wait_is_rounded_up_to_milliseconds() {
        let of = |time| Status::unavailable("").with_retry_after(time).retry_after();
        assert_eq!(Status::unavailable("").retry_after(), None);
        assert_eq!(of(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(of(Duration::from_micros(1001)), Some(Duration::from_millis(2)));
        assert_eq!(of(Duration::MAX), Some(Duration::from_millis(u64::from(u32::MAX) - 1)));
        assert_eq!(size_of::<Status>(), size_of::<(u64, String, usize)>(), "it needs no memory of its own");
    }

    #[test]
    fn a_status_displays_code_and_message() {
        assert_eq!(Status::not_found("no user 7").to_string(), "not_found: no user 7");
    }
}
