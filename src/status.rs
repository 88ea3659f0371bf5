//! The outcome of a call: gRPC's seventeen codes, a message for people, details for programs.
//!
//! The numbers and names are those of gRPC (`google.rpc.Code`), so that every protocol maps from one table.
//! This file knows no protocol; the mappings to HTTP, JSON-RPC and Go live here too once those protocols do,
//! in the same table, so that a code is never translated twice.

use std::fmt;

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $doc:literal;)*) => {
        /// A status code with gRPC's number and meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Code { $(#[doc = $doc] $variant = $number,)* }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: [Code; 17] = [$(Code::$variant,)*];

            /// The code of that number, if there is one.
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }

            /// The code's name in lower snake case, as Connect and the metrics spell it.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }
        }
    };
}

codes! {
    0 Ok "ok" "The call did what it was asked.";
    1 Cancelled "cancelled" "The caller gave the call up.";
    2 Unknown "unknown" "An error that fits no other code.";
    3 InvalidArgument "invalid_argument" "The argument is wrong whatever the state of the system.";
    4 DeadlineExceeded "deadline_exceeded" "The deadline passed before the call was done.";
    5 NotFound "not_found" "What was asked for does not exist.";
    6 AlreadyExists "already_exists" "What was to be made exists already.";
    7 PermissionDenied "permission_denied" "The caller may not do this.";
    8 ResourceExhausted "resource_exhausted" "A limit was hit: a quota, a queue, a size.";
    9 FailedPrecondition "failed_precondition" "The system is not in the state that the call needs.";
    10 Aborted "aborted" "A conflict stopped the call; trying again from the start may work.";
    11 OutOfRange "out_of_range" "The argument is outside the range that is valid now.";
    12 Unimplemented "unimplemented" "The server has no such method, or not in this form.";
    13 Internal "internal" "Something that must not happen happened: a broken invariant, a panic.";
    14 Unavailable "unavailable" "The service cannot be reached now; trying again may work.";
    15 DataLoss "data_loss" "Data was lost or corrupted beyond repair.";
    16 Unauthenticated "unauthenticated" "The caller has not said, or not proved, who it is.";
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call ended when it did not end well: the code, a message for people, details for programs.
///
/// A handler returns it as its error; a client gets it back. `details` is opaque to coreloop and stays on this
/// side of the wire unless the protocol has room for it (the native one has not).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of failure it is.
    pub code: Code,
    /// What happened, for people: what was expected and what came.
    pub message: String,
    /// What happened, for programs; opaque bytes, empty if there are none.
    pub details: Vec<u8>,
}

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
    /// A status of that code with this message and no details.
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into(), details: Vec::new() }
    }

    /// The same status with these details.
    pub fn with_details(mut self, details: Vec<u8>) -> Status {
        self.details = details;
        self
    }
}

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
    fn numbers_and_names_are_grpcs() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.number() as usize, number);
            assert_eq!(Code::from_number(number as u32), Some(code));
        }
        assert_eq!(Code::from_number(17), None);
        assert_eq!(Code::from_number(4).map(Code::name), Some("deadline_exceeded"));
        assert_eq!(Code::from_number(16).map(Code::name), Some("unauthenticated"));
    }

    #[test]
    fn a_status_says_its_code_and_its_message() {
        assert_eq!(Status::not_found("no user 7").to_string(), "not_found: no user 7");
    }
}
