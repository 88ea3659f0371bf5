//! `Echo`: returns its argument, as text, as bytes, after a delay, as a failure, or each message of a stream; and returns
//! metadata.

use std::ops::RangeInclusive;
use std::time::Duration;

use coreloop_macros::service;
use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, ErrorInfo};
use crate::context::Context;
use crate::status::{Code, Status};
use crate::stream::{Sink, Stream, StreamEvent};

/// The allowed length of a sleep.
const SLEEP_MS: RangeInclusive<i64> = 0..=60_000;

/// Returns its argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// The status of a failure.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
#[serde(rename_all = "PascalCase")]
pub struct Failure {
    /// The number of its code, 1 to 16.
    #[prost(int64, tag = "1")]
    pub code: i64,
    /// Its text.
    #[prost(string, tag = "2")]
    pub message: String,
}

#[service(crate = crate)]
impl Echo {
    /// Returns the text unchanged.
    fn echo(&self, _cx: &Context, text: String) -> Result<String, Status> {
        Ok(text)
    }

    /// Returns the bytes unchanged.
    ///
    /// In the codec raw the body is the byte string; in JSON it is base64 text.
    #[rpc(inline)]
    fn bytes(&self, _cx: &Context, bytes: Bytes) -> Result<Bytes, Status> {
        Ok(bytes)
    }

    /// Sleeps for that many milliseconds, and returns their number.
    ///
    /// `out_of_range` below 0 and above 60000. Ends at once when the call is cancelled or its deadline passes.
    #[rpc(blocking)]
    fn sleep(&self, cx: &Context, ms: i64) -> Result<i64, Status> {
        cx.sleep(sleep_of(ms)?)?;
        Ok(ms)
    }

    /// Fails with the status code of that number, the text, and one detail, a `google.rpc.ErrorInfo`.
    ///
    /// `invalid_argument` if the number is no code of a failure.
    fn fail(&self, _cx: &Context, wanted: Failure) -> Result<String, Status> {
        let code = u32::try_from(wanted.code).ok().and_then(Code::from_number);
        let Some(code) = code.filter(|code| *code != Code::Ok) else {
            let text = format!("code of a failure: expected 1 to 16, found {}", wanted.code);
            return Err(Status::invalid_argument(text));
        };
        let info = ErrorInfo::new("WANTED", "coreloop.demo").with("code", code.name());
        Err(Status::new(code, wanted.message).with_detail(&info)?)
    }

    /// Returns the text unchanged, and the metadata of the call: entries whose key begins with `echo-` come back as headers,
    /// those with `trail-` as trailers.
    fn meta(&self, cx: &Context, text: String) -> Result<String, Status> {
        for (key, value) in cx.metadata().iter() {
            if key.starts_with("echo-") {
                cx.set_header(key, value)?;
            } else if key.starts_with("trail-") {
                cx.set_trailer(key, value)?;
            }
        }
        Ok(text)
    }

    /// Sends each message back.
    #[rpc(inline)]
    fn chat(&self, _cx: &Context, messages: Stream<String>, sink: Sink<String>) -> Result<(), Status> {
        messages.for_each_message_into(sink, |sink, event| match event {
            StreamEvent::Message(text) => {
                if let Err(error) = sink.try_send(&text) {
                    sink.finish(Err(error.into()));
                }
            }
            StreamEvent::End(result) => sink.finish(result),
        });
        Ok(())
    }
}

fn sleep_of(ms: i64) -> Result<Duration, Status> {
    match u64::try_from(ms) {
        Ok(duration_ms) if SLEEP_MS.contains(&ms) => Ok(Duration::from_millis(duration_ms)),
        _ => Err(Status::out_of_range(format!(
            "{ms} ms is out of range: {} to {}",
            SLEEP_MS.start(),
            SLEEP_MS.end()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    #[test]
    fn a_sleep_is_bounded() {
        assert_eq!(sleep_of(0), Ok(Duration::ZERO));
        assert_eq!(sleep_of(60_000), Ok(Duration::from_secs(60)));
        for ms in [-1, 60_001, i64::MIN, i64::MAX] {
            assert_eq!(sleep_of(ms).map_err(|status| status.code), Err(Code::OutOfRange), "{ms}");
        }
    }
}
