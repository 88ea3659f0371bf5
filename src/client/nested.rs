//! Calls on behalf of a call: the calls that a handler makes end when its own caller stops waiting.

use std::sync::Arc;

use super::app::ClientCommand;
use super::call_slot::ParentCall;
use super::shared::Client;
use crate::context::{Context, OwnedContext, Scope};
use crate::message::trailers::WANT_LOAD;
use crate::message::{Metadata, MetadataBuf};
#[cfg(feature = "trace")]
use crate::trace::CallTrace;
#[cfg(feature = "trace")]
use crate::trace::propagation::{self, InheritedEntries};

/// Metadata for this server only: the name of the method, the caller's credentials, and the question for its load.
const NOT_INHERITED: [&str; 3] = ["method", "authorization", WANT_LOAD];

impl Context<'_> {
    /// Returns the client for calls on behalf of this one: they have what is left of its time (or less, if the client
    /// has a shorter limit), are cancelled when it is, and carry its metadata, including its priority and those of
    /// traces.
    ///
    /// If the call is traced, its span takes the place of the caller's in the trace headers of the nested calls. Baggage is
    /// inherited unless it has more than 8,192 bytes or 180 members.
    ///
    /// `method`, `authorization` and `want-load` are not inherited: the caller sent its credentials to this server and to no
    /// other. A handler that needs to pass them on does so with [`Client::with_metadata`]. Entries that the client
    /// already has take precedence over the caller's entries of the same name.
    ///
    /// An inline method must not wait for such calls: it uses a callback and a deferred [`Reply`](crate::Reply).
    /// Without a deferred reply, a cancellation by its caller cannot be received while the method runs: its calls
    /// have the deadline and the metadata, but are not cancelled.
    ///
    /// ```
    /// use coreloop::client::Client;
    /// use coreloop::{Context, Server, Status};
    ///
    /// struct Back;
    ///
    /// #[coreloop::service]
    /// impl Back {
    ///     fn double(&self, _cx: &Context, number: i64) -> Result<i64, Status> { Ok(number * 2) }
    /// }
    ///
    /// struct Front { back: Client }
    ///
    /// #[coreloop::service]
    /// impl Front {
    ///     #[rpc(blocking)]
    ///     fn quadruple(&self, cx: &Context, number: i64) -> Result<i64, Status> {
    ///         let back = BackClient::new(cx.client(&self.back));
    ///         Ok(back.double(&back.double(&number)?)?)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let back = Server::builder().service(Back).listen("127.0.0.1:0").start()?;
    /// let client = Client::connect(&back.addresses()[0].to_string())?;
    /// let front = Server::builder().service(Front { back: client }).listen("127.0.0.1:0").start()?;
    ///
    /// let client = Client::connect(&front.addresses()[0].to_string())?;
    /// assert_eq!(FrontClient::new(client).quadruple(&10)?, 40);
    /// # Ok(())
    /// # }
    /// ```
    pub fn client(&self, client: &Client) -> Client {
        let parent = self
            .cancellation()
            .map(|(scope, place)| parent(client, scope, place, |cancel| self.on_cancel(cancel)));
        #[cfg(feature = "trace")]
        let metadata = inherited(self.metadata(), client, self.call_trace());
        #[cfg(not(feature = "trace"))]
        let metadata = inherited(self.metadata(), client);
        client.nested(self.deadline(), metadata, parent)
    }
}

impl OwnedContext {
    /// Returns the client for calls on behalf of this one, as [`Context::client`] does.
    ///
    /// ```
    /// use coreloop::client::Client;
    /// use coreloop::{Context, OwnedContext, Status};
    ///
    /// struct Back;
    ///
    /// #[coreloop::service]
    /// impl Back {
    ///     fn double(&self, _cx: &Context, number: i64) -> Result<i64, Status> { Ok(number * 2) }
    /// }
    ///
    /// async fn quadruple(cx: OwnedContext, back: Client, number: i64) -> Result<i64, Status> {
    ///     let back = BackClient::new(cx.client(&back));
    ///     let twice = back.double_start(&number).await?;
    ///     Ok(back.double_start(&twice).await?)
    /// }
    /// # let _ = (coreloop::Server::builder().service(Back), quadruple);
    /// ```
    pub fn client(&self, client: &Client) -> Client {
        let (scope, place) = self.cancellation();
        let parent = parent(client, scope, place, |cancel| self.on_cancel(cancel));
        #[cfg(feature = "trace")]
        let metadata = inherited(self.metadata(), client, self.call_trace());
        #[cfg(not(feature = "trace"))]
        let metadata = inherited(self.metadata(), client);
        client.nested(self.deadline(), metadata, Some(parent))
    }
}

/// Makes nested calls end with the call at a place of a scope.
fn parent(
    client: &Client,
    scope: &Arc<Scope>,
    place: u8,
    on_cancel: impl FnOnce(Box<dyn FnOnce() + Send>),
) -> Arc<ParentCall> {
    let driver = client.driver();
    let group = driver.take_number();
    let remote = driver.remote().clone();
    on_cancel(Box::new(move || drop(remote.mail(ClientCommand::CancelGroup { group }))));
    Arc::new(ParentCall { scope: scope.clone(), place, group })
}

/// Returns the client's own metadata and the inherited entries of the caller; `None` if the caller has no metadata.
#[cfg(not(feature = "trace"))]
fn inherited(metadata: Metadata<'_>, client: &Client) -> Option<MetadataBuf> {
    (!metadata.is_empty()).then(|| merged(metadata, client, |_| true))
}

/// Returns the client's own metadata, the inherited entries of the caller, and the span of the call as the parent of
/// those that it makes. `None` if there is nothing to inherit.
#[cfg(feature = "trace")]
fn inherited(metadata: Metadata<'_>, client: &Client, trace: Option<&CallTrace>) -> Option<MetadataBuf> {
    let own = client.metadata().map_or_else(Metadata::default, MetadataBuf::view);
    // A client that has trace headers of its own keeps them.
    let has_own = own.iter().any(|(key, _)| propagation::is_context_key(key));
    let trace = trace.filter(|trace| trace.context.is_sampled && !has_own);
    if metadata.is_empty() && trace.is_none() {
        return None;
    }
    let entries = InheritedEntries::new(metadata, trace.is_some() || has_own);
    let mut all = merged(metadata, client, |key| entries.includes(key));
    if let Some(trace) = trace.filter(|_| client.scheme().carries_metadata()) {
        trace.context.inject(&mut all, trace.sends_b3);
    }
    Some(all)
}

/// Adds the inherited entries of the caller to the client's own metadata.
fn merged(metadata: Metadata<'_>, client: &Client, is_inherited: impl Fn(&str) -> bool) -> MetadataBuf {
    let mut all = client.metadata().cloned().unwrap_or_default();
    for (key, value) in metadata.iter() {
        let is_known = NOT_INHERITED.contains(&key) || all.view().find(key).is_some();
        if !is_known && is_inherited(key) {
            // What fits in one frame may not fit together with the client's own entries; those take precedence.
            let _ = all.push(key, value);
        }
    }
    all
}
