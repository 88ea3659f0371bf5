//! The futures of a [`Sink`]: until it is ready, and until a message is sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use super::sink::{Sink, SinkLink, SinkWaiter};
use super::sink_error::SinkError;
use crate::conn::streams::StreamMessage;

impl<T> Sink<T> {
    /// Waits, as a future, until the sink is ready or the stream has ended.
    pub fn ready(&self) -> SinkReady<'_, T> {
        SinkReady { sink: self }
    }

    /// Sends a message, as a future, once the sink is ready. The message is encoded now; nothing is sent if the future is
    /// dropped before it completes.
    ///
    /// ```
    /// use coreloop::{Sink, Status};
    ///
    /// async fn count(to: u32, numbers: Sink<u32>) -> Result<(), Status> {
    ///     for number in 1..=to {
    ///         numbers.send_message(&number).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # drop(count);
    /// ```
    ///
    /// # Errors
    ///
    /// [`SinkError::Ended`] once the stream has ended, [`SinkError::Message`] or [`SinkError::TooLarge`].
    pub fn send_message(&self, message: &T) -> SinkSend<'_, T> {
        SinkSend { sink: self, encoded: Some(self.encoded(message)) }
    }
}

/// Returns whether the sink is ready or has ended, and if not, wakes the task then.
fn poll_ready(link: &SinkLink, task: &mut TaskContext<'_>) -> Poll<Result<(), SinkError>> {
    match link.check_ready() {
        Err(SinkError::NotReady) => {
            // Wakes the task at once if the sink is ready by now.
            link.wait(SinkWaiter::Waker(task.waker().clone()));
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}

/// The future of [`Sink::ready`].
#[must_use = "a future does nothing unless it is polled"]
pub struct SinkReady<'a, T> {
    sink: &'a Sink<T>,
}

impl<T> Future for SinkReady<'_, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        poll_ready(self.sink.link(), task).map(|_| ())
    }
}

impl<T> fmt::Debug for SinkReady<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkReady")
    }
}

/// The future of [`Sink::send_message`].
#[must_use = "a future does nothing unless it is polled"]
pub struct SinkSend<'a, T> {
    sink: &'a Sink<T>,
    /// Until the message is sent.
    encoded: Option<Result<StreamMessage, SinkError>>,
}

impl<T> Future for SinkSend<'_, T> {
    type Output = Result<(), SinkError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Result<(), SinkError>> {
        loop {
            let message = match self.encoded.take() {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            };
            let link = self.sink.link();
            match poll_ready(link, task) {
                Poll::Ready(Ok(())) => match link.post(message) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    // Another thread has used the credit.
                    Err(again) => self.encoded = Some(Ok(again)),
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.encoded = Some(Ok(message));
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<T> fmt::Debug for SinkSend<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkSend")
    }
}
