//! The streaming methods of the demo. They use callbacks, so a stream that waits holds no thread.

use std::sync::{Arc, Mutex, PoisonError};

use super::User;
use crate::codec::Plain;
use crate::context::Context;
use crate::service::{Kind, Method, RegisterError};
use crate::status::Status;
use crate::stream::{Sink, SinkError, Stream, StreamEvent};

/// Returns `Users.Watch`, `Users.Import` and `Echo.Chat`.
///
/// # Errors
///
/// Those of [`Method::new`].
pub(super) fn methods() -> Result<[Method; 3], RegisterError> {
    let watch =
        Method::server_stream::<Plain<i64>, Plain<User>>("Users.Watch", |_cx, n, users| watch(n, users))?
            .docs("Sends the users 1 to n.\n\n`out_of_range` below 0.")
            .kind(Kind::Inline);
    let import =
        Method::client_stream_deferring::<Plain<User>, Plain<i64>>("Users.Import", |_cx, users, reply| {
            let (mut count, mut reply) = (0_i64, Some(reply));
            users.for_each_message(move |event| match event {
                StreamEvent::Message(_) => count += 1,
                StreamEvent::End(result) => {
                    if let Some(reply) = reply.take() {
                        reply.send(result.map(|()| count));
                    }
                }
            });
        })?
        .docs("Returns how many users were sent.")
        .kind(Kind::Inline);
    let chat = Method::bidirectional::<Plain<String>, Plain<String>>("Echo.Chat", chat)?
        .docs("Sends each message back.")
        .kind(Kind::Inline);
    Ok([watch, import, chat])
}

/// A stream of users that goes on when its sink is ready.
struct Watch {
    users: Sink<User>,
    /// The number of the next user, while it is not being sent.
    next: Mutex<u64>,
    last: u64,
}

fn watch(n: i64, users: Sink<User>) -> Result<(), Status> {
    let last = u64::try_from(n).map_err(|_| Status::out_of_range("n out of range"))?;
    Arc::new(Watch { users, next: Mutex::new(1), last }).run();
    Ok(())
}

impl Watch {
    fn run(self: Arc<Self>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next <= self.last {
            match self.users.try_send(&User::new(*next)) {
                Ok(()) => *next += 1,
                Err(SinkError::NotReady) => {
                    drop(next);
                    let watch = self.clone();
                    return self.users.on_ready(move || watch.run());
                }
                Err(error) => return self.users.finish(Err(error.into())),
            }
        }
        self.users.finish(Ok(()));
    }
}

fn chat(_cx: &Context<'_>, messages: Stream<String>, sink: Sink<String>) -> Result<(), Status> {
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
