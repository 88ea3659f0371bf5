//! `Debug` of the error types: their readable text; and the text of a panic.
//!
//! `fn main() -> Result<(), coreloop::Error>`, `unwrap` and `expect` print an error with `Debug`. An error either
//! includes the text of its cause, or returns the cause from `source`, never both: so no text appears twice in a
//! chain.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Writes the error's text and those of its sources, separated by colons.
pub(crate) fn write_chain(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    let mut source = error.source();
    while let Some(error) = source {
        write!(f, ": {error}")?;
        source = error.source();
    }
    Ok(())
}

/// The most bytes of the types of a method in an error.
pub(crate) const TYPES_TEXT_BYTES_MAX: usize = 512;

/// Returns a text of at most about `bytes_max` bytes: a longer one is cut between two characters, and ends with `…`.
pub(crate) fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", beginning(text, bytes_max)))
}

/// Returns the first characters of a text, those that fit into `bytes_max` bytes.
pub(crate) fn beginning(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Returns the text of a panic.
#[cold]
pub(crate) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // The payload's destructor may panic, and that panic would not be caught.
    std::mem::forget(payload);
    text
}

/// Implements `Debug` for an error type with [`write_chain`].
macro_rules! debug_as_text {
    ($name:ty) => {
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::error_text::write_chain(self, f)
            }
        }
    };
}
pub(crate) use debug_as_text;

#[cfg(all(test, feature = "http", feature = "netrpc"))]
mod tests {
    use std::io;

    use super::*;
    use crate::client::{CallError, ClientConfigError};
    use crate::codec::compress::CompressError;
    use crate::codec::describe::DescribeError;
    use crate::codec::gob::stream::StreamError;
    use crate::codec::{Codec, CodecError};
    use crate::config::{ConfigError, Origin, SocketMode};
    use crate::message::{MetadataError, MetadataTooLong};
    use crate::method_name::MethodNameError;
    use crate::reactor::Address;
    use crate::service::RegisterError;
    use crate::status::{Code, Status};
    use crate::wire::netrpc::connect::ConnectError;
    use crate::wire::{Broken, Scheme};

    /// An error with a source, as a program may put into an `io::Error`.
    #[derive(Debug)]
    struct Outer;

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer text")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&fmt::Error)
        }
    }

    fn io_errors() -> [io::Error; 3] {
        [io::Error::from_raw_os_error(98), io::Error::other("text alone"), io::Error::other(Outer)]
    }

    fn codec_errors() -> Vec<CodecError> {
        let codec = Codec::Json;
        vec![
            CodecError::NotAccepted { codec, why: "raw bytes" },
            CodecError::NotCompiledIn { codec, feature: "json" },
            CodecError::Malformed { codec, what: "a comma".into() },
            CodecError::TooDeep { codec, depth_max: 128 },
            CodecError::TrailingBytes { codec, count: 3 },
            CodecError::WrongLength { codec, expected: 16, actual: 8 },
            CodecError::Encode { codec, what: "a map".into() },
        ]
    }

    fn describe_errors() -> [DescribeError; 3] {
        let (type_name, path) = ("T", "a.b".to_owned());
        [
            DescribeError::SelfDescribing { type_name, path: path.clone() },
            DescribeError::Refused { type_name, path: path.clone(), message: "too small".into() },
            DescribeError::Unsupported { type_name, path, what: "it nests without end" },
        ]
    }

    fn broken_errors() -> [Broken; 7] {
        [
            Broken::UnknownProtocol,
            Broken::NotSpoken("gob"),
            Broken::Magic([1, 2]),
            Broken::Version(9),
            Broken::TooLarge { bytes: 9, bytes_max: 8 },
            Broken::WrongDirection(3),
            Broken::Other("text".into()),
        ]
    }

    fn register_errors() -> Vec<RegisterError> {
        let described = describe_errors().map(|error| RegisterError::Describe {
            method: "A.B".into(),
            side: "argument",
            error,
        });
        let others = [
            RegisterError::SameName { method: "A.B".into() },
            RegisterError::SameHash { first: "A.B".into(), second: "C.D".into(), hash: 7 },
            RegisterError::Name { method: "A".into(), error: MethodNameError::NoDot },
        ];
        described.into_iter().chain(others).collect()
    }

    fn config_errors() -> Vec<ConfigError> {
        let (key, expected, came) = ("cores".to_owned(), "a number".to_owned(), "two".to_owned());
        let origin = Origin::Flag("--cores".into());
        let (path, line) = ("a.toml".to_owned(), 3);
        let mut all = vec![
            ConfigError::UnknownKey {
                key: "coers".into(),
                origin: origin.clone(),
                nearest: key.clone(),
                likely: true,
            },
            ConfigError::Invalid {
                key: key.clone(),
                expected: expected.clone(),
                came: came.clone(),
                origin: origin.clone(),
            },
            ConfigError::OutOfRange {
                key: key.clone(),
                expected: expected.clone(),
                came: came.clone(),
                origin: origin.clone(),
            },
            ConfigError::Conflict { key, expected, came, origin },
            ConfigError::Syntax { path: path.clone(), line, message: "no value".into() },
            ConfigError::NotAPair { came: "cores".into() },
        ];
        all.extend(io_errors().map(|cause| ConfigError::Unreadable { path: path.clone(), cause }));
        all
    }

    fn call_errors() -> Vec<CallError> {
        let status = || Status::new(Code::Internal, "no");
        let mut all = vec![
            CallError::Status(status()),
            CallError::DeadlineExceeded,
            CallError::Draining,
            CallError::ReplyRefused(status()),
            CallError::Cancelled { may_have_run: true },
            CallError::Full { calls_max: 1 },
            CallError::OnReactor,
            CallError::NotSent,
            CallError::Metadata { scheme: Scheme::Http, key: "a".into() },
            CallError::Metadata { scheme: Scheme::Gob, key: "a".into() },
            CallError::TooLarge { bytes: 2, bytes_max: 1 },
        ];
        all.extend(
            codec_errors()
                .into_iter()
                .flat_map(|error| [CallError::Argument(error.clone()), CallError::Reply(error)]),
        );
        all.extend(broken_errors().map(CallError::Broken));
        all.extend(io_errors().map(CallError::Connect));
        all.extend(io_errors().map(|error| CallError::Lost { error, may_have_run: true }));
        all.extend(io_errors().map(|error| CallError::Lost { error, may_have_run: false }));
        all
    }

    fn server_errors() -> Vec<crate::Error> {
        let mut all = vec![crate::Error::ReactorPanicked { reactor: 1 }];
        all.extend(register_errors().into_iter().map(crate::Error::Register));
        all.extend(config_errors().into_iter().map(crate::Error::Config));
        all.extend(io_errors().map(crate::Error::Io));
        all
    }

    fn stream_errors() -> [StreamError; 5] {
        [
            StreamError::TooLarge { bytes: 9, bytes_max: 8 },
            StreamError::Malformed("a length".into()),
            StreamError::Redefined { id: 65 },
            StreamError::Undefined { id: 65 },
            StreamError::TooManyDefinitions,
        ]
    }

    fn connect_errors() -> [ConnectError; 5] {
        [
            ConnectError::Refused { line: "HTTP/1.1 404".into() },
            ConnectError::NotHttp { begins: "SSH".into() },
            ConnectError::TooLong,
            ConnectError::Unasked,
            ConnectError::Closed,
        ]
    }

    fn compress_errors() -> [CompressError; 3] {
        [
            CompressError::NotCompiledIn,
            CompressError::TooLarge { declared: 9, output_bytes_max: 8 },
            CompressError::Malformed { what: "a length".into() },
        ]
    }

    fn all_errors() -> Vec<Box<dyn Error>> {
        fn boxed<E: Error + 'static>(errors: impl IntoIterator<Item = E>) -> Vec<Box<dyn Error>> {
            errors.into_iter().map(|error| Box::new(error) as Box<dyn Error>).collect()
        }
        let mut all = boxed(server_errors());
        all.extend(boxed(call_errors()));
        all.extend(boxed(register_errors()));
        all.extend(boxed(config_errors()));
        all.extend(boxed(codec_errors()));
        all.extend(boxed(describe_errors()));
        all.extend(boxed(broken_errors()));
        all.extend(boxed(stream_errors()));
        all.extend(boxed(connect_errors()));
        all.extend(boxed(compress_errors()));
        all.extend(boxed([MetadataError { at: 3, what: "it is cut" }]));
        all.extend(boxed([MetadataTooLong { key_len: 300, value_len: 2 }]));
        all.extend(boxed([ClientConfigError { field: "ping_ms", value: 0, range: (1, 2) }]));
        all.extend(boxed(["nowhere".parse::<Address>().unwrap_err()]));
        all.extend(boxed(["rw".parse::<SocketMode>().unwrap_err()]));
        all.extend(boxed([Status::not_found("no such user")]));
        all
    }

    #[test]
    fn debug_is_the_readable_text() {
        for error in all_errors() {
            let text = error.to_string();
            let debug = format!("{error:?}");
            assert!(debug.starts_with(&text), "{debug} does not begin with {text}");
            assert_eq!(format!("{error:#?}"), debug);
            let mut rest = debug[text.len()..].to_owned();
            let mut source = error.source();
            while let Some(error) = source {
                rest = rest.strip_prefix(&format!(": {error}")).expect("the chain").to_owned();
                source = error.source();
            }
            assert_eq!(rest, "", "{debug}");
        }
    }

    #[test]
    fn no_text_repeats_in_a_chain() {
        for error in all_errors() {
            let mut texts = vec![error.to_string()];
            let mut source = error.source();
            while let Some(error) = source {
                texts.push(error.to_string());
                source = error.source();
            }
            for (at, text) in texts.iter().enumerate() {
                let earlier = texts[..at].iter().any(|earlier| earlier.contains(text.as_str()));
                assert!(!earlier, "{text:?} comes twice in {texts:?}");
            }
        }
    }

    #[test]
    fn debug_includes_the_source_of_an_io_error() {
        let error = crate::Error::Io(io::Error::other(Outer));
        assert_eq!(format!("{error:?}"), format!("outer text: {}", fmt::Error));
    }
}
