//! Batches of calls: collected on the caller's thread, passed to the reactor in one message, sent in one write.

use std::cell::RefCell;
use std::fmt;

use super::call_slot::{InFlight, Promise};
use super::reply::{ReplyOutcome, as_bytes};
use super::shared::{Client, PreparedCall};
use super::{CallError, MethodId, Starter};
use crate::codec::{ArgumentEncode, Codec, ReplyDecode};

/// Calls that are to be sent together. Dropping a batch without [`Batch::send`] fails its calls with
/// [`CallError::NotSent`].
///
/// ```
/// # use coreloop::{Context, Server, Status};
/// use coreloop::client::Client;
/// use coreloop::codec::Codec;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .method("Math.Double", |_cx: &Context, number: i64| Ok(number * 2))
/// #     .listen("127.0.0.1:0").start()?;
/// # let address = server.addresses()[0].to_string();
/// let batch = Client::connect(&address)?.batch();
/// let calls: Vec<_> = (1..=3)
///     .map(|number| batch.start_bytes("Math.Double", Codec::Json, number.to_string().as_bytes()))
///     .collect();
/// batch.send();
/// let replies: Vec<Vec<u8>> = calls.into_iter().map(|call| call.wait()).collect::<Result<_, _>>()?;
/// assert_eq!(replies, [b"2", b"4", b"6"]);
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    client: Client,
    calls: RefCell<Vec<Promise>>,
}

impl Batch {
    pub(super) fn new(client: Client) -> Batch {
        Batch { client, calls: RefCell::new(Vec::new()) }
    }

    /// Returns the number of calls in the batch.
    pub fn len(&self) -> usize {
        self.calls.borrow().len()
    }

    /// Returns whether the batch has no calls.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends the calls: in one write to each server, as far as the limits allow. The time to the deadline of a call
    /// counts from when it was added.
    pub fn send(self) {
        let calls = self.calls.into_inner();
        if !calls.is_empty() {
            self.client.endpoint().start_all(calls);
        }
    }

    /// Adds a call of a method by name, with an encoded argument.
    pub fn start_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> InFlight<Vec<u8>> {
        let draft = self.client.draft(codec, |out| {
            out.extend_from_slice(argument);
            Ok(())
        });
        let target = self.client.named_target(method, codec, false);
        match self.client.prepare(draft, target) {
            Ok(prepared) => {
                let PreparedCall { draft, endpoint, promise } = prepared;
                self.calls.borrow_mut().push(promise);
                draft.handle(endpoint, as_bytes)
            }
            Err(error) => InFlight::failed(error, as_bytes),
        }
    }
}

impl Starter for Batch {
    fn start<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> InFlight<R::Value> {
        let target = self.client.target::<A, R>(method);
        match self.client.prepare(self.client.typed::<A>(target.codec, argument), target) {
            Ok(PreparedCall { draft, endpoint, promise }) => {
                self.calls.borrow_mut().push(promise);
                draft.handle(endpoint, R::decode)
            }
            Err(error) => InFlight::failed(error, R::decode),
        }
    }

    fn start_then<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
        then: impl FnOnce(Result<R::Value, CallError>) + Send + 'static,
    ) {
        let target = self.client.target::<A, R>(method);
        match self.client.prepare(self.client.typed::<A>(target.codec, argument), target) {
            Ok(PreparedCall { mut promise, .. }) => {
                promise.call_then(Box::new(move |outcome: Result<(ReplyOutcome, &[u8]), CallError>| {
                    then(outcome.and_then(|(answer, body)| answer.decode(body, R::decode)));
                }));
                self.calls.borrow_mut().push(promise);
            }
            Err(error) => then(Err(error)),
        }
    }

    fn start_one_way<A: ArgumentEncode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError> {
        let target = self.client.one_way_target::<A>(method);
        let PreparedCall { promise, .. } =
            self.client.prepare(self.client.typed::<A>(target.codec, argument), target)?;
        self.calls.borrow_mut().push(promise);
        Ok(())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish_non_exhaustive()
    }
}
