//! `Echo`: returns its argument, as text, as bytes, after a delay, or each message of a stream.

use std::ops::RangeInclusive;
use std::time::Duration;

use coreloop_macros::service;

use crate::codec::Bytes;
use crate::context::Context;
use crate::status::Status;
use crate::stream::{Sink, Stream, StreamEvent};

/// The allowed length of a sleep.
const SLEEP_MS: RangeInclusive<i64> = 0..=60_000;

/// Returns its argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

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
