//! The client that many threads share: its settings, and how a call starts.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::address::ToAddress;
use super::batch::Batch;
use super::builder::ClientBuilder;
use super::call_slot::{CallDraft, CallParts, DecodeReply, InFlight, ParentCall, Promise, PromiseKind};
use super::config::ClientConfig;
use super::driver::{ClientStats, Driver};
use super::endpoint::Endpoint;
use super::interceptor;
use super::options::Misfit;
use super::reply::{ReplyOutcome, as_bytes};
use super::traced::CallAttemptTrace;
use super::{CallError, Caller, MethodId, Starter, codec_for};
use crate::codec::{ArgumentEncode, Codec, CodecError, ReplyDecode, ValueRules, compress};
use crate::config::MissingFields;
use crate::message::trailers::WANT_LOAD;
use crate::message::{MetadataBuf, MetadataTooLong, Priority, method_hash};
use crate::wire::Scheme;

/// The state that all clones of a client share.
pub(super) struct ClientShared {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) driver: Driver,
    pub(super) config: Arc<ClientConfig>,
    pub(super) scheme: Scheme,
    #[cfg(feature = "json")]
    pub(super) description: super::dynamic::DescriptionCache,
}

/// The settings of every call that is made with one [`Client`].
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Option<Arc<MetadataBuf>>,
    /// An entry that cannot be transmitted: every call fails then.
    pub(super) misfit: Option<Arc<Misfit>>,
    pub(super) codec: Option<Codec>,
    pub(super) compresses: bool,
    pub(super) idempotent: bool,
    /// The hash of the calls' key.
    pub(super) key: Option<u64>,
    pub(super) parent: Option<Arc<ParentCall>>,
}

/// A client of one server that many threads share. It has any number of calls in flight on one connection, or, with
/// `http:`, a pool of connections with one call on each.
///
/// A clone is cheap and shares the connections. The `with_…` methods return a clone with other settings. A connection
/// is made when it is needed, and replaced after it was lost; the calls that were on it fail with
/// [`CallError::Lost`], which reports whether they may have run.
///
/// ```
/// # use coreloop::{Context, Server, Status};
/// use std::time::Duration;
/// use coreloop::client::Client;
///
/// struct Shop;
///
/// #[coreloop::service]
/// impl Shop {
///     fn price(&self, _cx: &Context, count: u32) -> Result<u64, Status> { Ok(40 * u64::from(count)) }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder().service(Shop).listen("127.0.0.1:0").start()?;
/// # let address = server.addresses()[0].to_string();
/// let client = Client::connect(&address)?.with_timeout(Duration::from_secs(2));
/// let shop = ShopClient::new(client);
/// std::thread::scope(|scope| {
///     for count in 1..=4 {
///         let shop = &shop;
///         scope.spawn(move || assert_eq!(shop.price(&count).unwrap(), 40 * u64::from(count)));
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<ClientShared>,
    settings: Settings,
}

impl Client {
    /// Connects to `host:port`, `unix:PATH` or `memory:NAME`, with the default limits and a thread of its own. The
    /// prefixes `http:`, `jsonrpc:`, `gob:` and `gob-http:` select another protocol than native frames (`native:`, the
    /// default).
    ///
    /// # Errors
    ///
    /// [`CallError::Build`] or [`CallError::Connect`].
    pub fn connect(address: impl ToAddress) -> Result<Client, CallError> {
        Client::builder(address).connect()
    }

    /// Returns the builder of a client.
    pub fn builder(address: impl ToAddress) -> ClientBuilder {
        ClientBuilder::new(address)
    }

    pub(super) fn of(shared: ClientShared) -> Client {
        Client { shared: Arc::new(shared), settings: Settings::default() }
    }

    /// Returns the same client with a time limit for each call, from its start. The server receives the time that is
    /// left. When the time has passed, the call fails with [`CallError::DeadlineExceeded`], or with the server's own
    /// status for that. A time beyond the range of the clock is no limit.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        self.with(|settings| settings.timeout = Some(timeout))
    }

    /// Returns the same client, whose calls all end by that time, or by an earlier one that was set before.
    pub fn with_deadline(&self, deadline: Instant) -> Client {
        self.with(|settings| {
            settings.deadline = Some(settings.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        })
    }

    /// Returns the same client, with one more entry of metadata for each call.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`]: the entry does not fit beside the existing ones. An entry that the address's protocol
    /// cannot transmit fails each call with [`CallError::Metadata`].
    pub fn with_metadata(&self, key: &str, value: &[u8]) -> Result<Client, MetadataTooLong> {
        let mut metadata = self.settings.metadata.as_deref().cloned().unwrap_or_default();
        metadata.push(key, value)?;
        let misfit = Misfit::of_entry(self.shared.scheme, key, value);
        Ok(self.with(|settings| {
            settings.metadata = Some(Arc::new(metadata));
            settings.misfit = misfit.or(settings.misfit.take());
        }))
    }

    /// Returns the same client with a priority for each call, instead of one that was set before: an overloaded server
    /// refuses calls of a lower priority first. A protocol that transmits no metadata transmits no priority.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`]: the entry does not fit beside the existing ones.
    pub fn with_priority(&self, priority: Priority) -> Result<Client, MetadataTooLong> {
        self.with_hint(Priority::KEY, Some(priority.as_bytes()))
    }

    /// Returns the same client, whose calls ask the server for its load if `wants_load` is true. The
    /// answer is in [`Client::endpoints`]. A protocol that transmits no metadata does not ask.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`]: the entry does not fit beside the existing ones.
    pub fn with_want_load(&self, wants_load: bool) -> Result<Client, MetadataTooLong> {
        self.with_hint(WANT_LOAD, wants_load.then_some(b"1"))
    }

    /// Sets or removes an entry of metadata that a call can do without.
    fn with_hint(&self, key: &str, value: Option<&[u8]>) -> Result<Client, MetadataTooLong> {
        if !self.shared.scheme.carries_metadata() {
            return Ok(self.clone());
        }
        let mut metadata = self.settings.metadata.as_deref().cloned().unwrap_or_default();
        match value {
            Some(value) => metadata.set(key, value)?,
            None => metadata.remove(key),
        }
        let metadata = (!metadata.as_bytes().is_empty()).then(|| Arc::new(metadata));
        Ok(self.with(|settings| settings.metadata = metadata))
    }

    /// Returns the same client, with typed calls in that codec. By default: raw and fixed for the methods that take
    /// them, compact for the others, or JSON where compact is not compiled in. A method that does not take the codec
    /// uses the default; so does every method where the address's protocol has only one codec.
    pub fn with_codec(&self, codec: Codec) -> Client {
        self.with(|settings| settings.codec = Some(codec))
    }

    /// Returns the same client, with compressed arguments (feature `lz4`), which requests compressed replies too.
    /// Only the native protocol can mark a body as compressed; with the others arguments are sent uncompressed.
    pub fn with_compression(&self, compresses: bool) -> Client {
        self.with(|settings| settings.compresses = compresses)
    }

    /// Returns the same client, whose calls may all run twice if `idempotent` is true. Otherwise each method decides,
    /// as `#[rpc(idempotent)]` declares. With `http:` such a call is sent again, at most twice, when its connection
    /// ends before the reply; the other protocols send no call again.
    pub fn with_idempotent(&self, idempotent: bool) -> Client {
        self.with(|settings| settings.idempotent = idempotent)
    }

    pub(super) fn with(&self, change: impl FnOnce(&mut Settings)) -> Client {
        let mut client = self.clone();
        change(&mut client.settings);
        client
    }

    /// Returns the same client for calls on behalf of another call.
    pub(super) fn nested(
        &self,
        deadline: Option<Instant>,
        metadata: Option<MetadataBuf>,
        parent: Option<Arc<ParentCall>>,
    ) -> Client {
        let client = match deadline {
            Some(deadline) => self.with_deadline(deadline),
            None => self.clone(),
        };
        client.with(|settings| {
            settings.parent = parent.or(settings.parent.take());
            settings.metadata = metadata.map(Arc::new).or(settings.metadata.take());
        })
    }

    pub(super) fn metadata(&self) -> Option<&MetadataBuf> {
        self.settings.metadata.as_deref()
    }

    #[cfg(feature = "json")]
    pub(super) fn description(&self) -> &super::dynamic::DescriptionCache {
        &self.shared.description
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.shared.scheme
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.shared.driver
    }

    /// Connects if necessary. The handle completes when there is a connection, and fails as a call would. With several
    /// servers it is the connection to one of them.
    pub fn ready(&self) -> InFlight<()> {
        fn nothing(_: Codec, _: &[u8]) -> Result<(), CodecError> {
            Ok(())
        }
        let endpoint = &self.shared.endpoint;
        let draft = CallDraft::new();
        let promise = match self.promise(&draft, endpoint, "", PromiseKind::Reach, false) {
            Ok(promise) => promise,
            Err(error) => return InFlight::failed(error, nothing),
        };
        endpoint.start(promise);
        draft.handle(endpoint.clone(), nothing)
    }

    /// Calls a method by name with an encoded argument; returns the encoded reply.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub fn call_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> Result<Vec<u8>, CallError> {
        self.start_bytes(method, codec, argument).wait()
    }

    /// Starts a call of a method by name with an encoded argument.
    pub fn start_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> InFlight<Vec<u8>> {
        let draft = self.draft(codec, |out| {
            out.extend_from_slice(argument);
            Ok(())
        });
        let target = self.named_target(method, codec, false);
        self.start_draft(draft, target, as_bytes)
    }

    /// Sends a one-way call of a method by name with an encoded argument.
    ///
    /// # Errors
    ///
    /// The call could not be passed to the reactor. Whether it arrives, and its result, are not known.
    pub fn send_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> Result<(), CallError> {
        let draft = self.draft(codec, |out| {
            out.extend_from_slice(argument);
            Ok(())
        });
        let target = self.named_target(method, codec, true);
        self.send_draft(draft, target)
    }

    /// Returns an empty batch, for calls that are to be sent together, in one write.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Returns the counters of the client's driver, over all clients that it drives.
    pub fn stats(&self) -> ClientStats {
        self.shared.driver.stats()
    }

    /// Returns the number of calls started and not ended, over all clones: in flight, or waiting.
    pub fn in_flight(&self) -> usize {
        self.shared.endpoint.in_flight()
    }

    /// Waits until every call has ended, also those of clones, everything that was queued is written, and the connections
    /// are closed: with a close_notify where there is TLS. Returns whether all of that happened within this time.
    ///
    /// A program calls it before it exits: one-way calls that are still queued are lost with the process, and a server with
    /// TLS takes a connection without a close_notify for one that was cut. Dropping the last clone does the same without
    /// waiting. Where other clones exist, this waits for their end. It cannot wait on the thread that drives the client, and
    /// returns false there at once.
    pub fn close(self, within: Duration) -> bool {
        if self.shared.endpoint.is_driven_here() {
            return false;
        }
        let watch = self.shared.endpoint.watch_end();
        drop(self);
        watch.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }

    // The start of a call.

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.shared.endpoint
    }

    fn deadline(&self) -> Option<Instant> {
        // A time beyond the range of the clock is no limit.
        let by_timeout = self.settings.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.settings.deadline.into_iter().chain(by_timeout).min()
    }

    /// Returns the codec of every body, where the protocol has only one.
    fn only_codec(&self) -> Option<Codec> {
        self.shared.scheme.codec_number().and_then(Codec::from_number)
    }

    /// Only native frames can mark a body as compressed.
    pub(super) fn compresses(&self) -> bool {
        self.settings.compresses && self.shared.scheme == Scheme::Native
    }

    /// Encodes the argument into a new slot.
    pub(super) fn draft(
        &self,
        codec: Codec,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<CallDraft, CallError> {
        self.draft_of(codec, self.compresses(), encode)
    }

    /// Encodes the argument into a new slot, and compresses it if it `compresses`.
    pub(super) fn draft_of(
        &self,
        codec: Codec,
        compresses: bool,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<CallDraft, CallError> {
        let fits = self.only_codec().is_none_or(|only| only == codec);
        let encoded = CallDraft::encoded(|out| {
            if !fits {
                return Err(CodecError::NotAccepted {
                    codec,
                    why: "the protocol of the address uses another codec",
                });
            }
            encode(out)?;
            if compresses {
                let plain = std::mem::take(out);
                compress::compress(&plain, out)
                    .map_err(|_| CodecError::NotCompiledIn { codec, feature: "lz4" })?;
            }
            Ok(())
        });
        let bytes_max = self.shared.config.frame_bytes_max;
        let draft = encoded.map_err(CallError::Argument)?;
        let bytes = draft.body_bytes();
        if bytes > bytes_max {
            draft.discard();
            return Err(CallError::TooLarge { bytes, bytes_max });
        }
        Ok(draft)
    }

    fn promise(
        &self,
        draft: &CallDraft,
        endpoint: &Arc<Endpoint>,
        method_name: &str,
        what: PromiseKind,
        is_streaming: bool,
    ) -> Result<Promise, CallError> {
        let Settings { parent, .. } = &self.settings;
        if parent.as_ref().is_some_and(|parent| parent.scope.is_cancelled(parent.place)) {
            return Err(CallError::Cancelled { may_have_run: false });
        }
        if let Some(misfit) = &self.settings.misfit {
            return Err(misfit.error(self.shared.scheme));
        }
        let mut parts = CallParts {
            endpoint: endpoint.clone(),
            what,
            deadline: self.deadline(),
            metadata: self.settings.metadata.clone(),
            parent: parent.clone(),
            extensions: None,
            key: self.settings.key,
            trace: CallAttemptTrace::default(),
        };
        let enter = || if is_streaming { endpoint.enter_stream() } else { endpoint.enter() };
        if endpoint.interceptors().is_empty() {
            enter()?;
        } else {
            interceptor::begin(draft, method_name, &mut parts, is_streaming, enter)?;
        }
        if let Some(tracing) = endpoint.tracing().filter(|_| matches!(parts.what, PromiseKind::Call { .. })) {
            parts.trace = CallAttemptTrace::begin(tracing, endpoint.scheme, &mut parts.metadata);
        }
        Ok(draft.promise(method_name, parts))
    }

    /// Prepares the call up to passing it to the reactor.
    pub(super) fn prepare(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
    ) -> Result<PreparedCall, CallError> {
        self.prepare_as(draft, target, false)
    }

    /// Prepares a streaming call, which counts against another limit. Its streams must be set.
    pub(super) fn prepare_streaming(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
    ) -> Result<PreparedCall, CallError> {
        self.prepare_as(draft, target, true)
    }

    #[inline]
    fn prepare_as(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
        is_streaming: bool,
    ) -> Result<PreparedCall, CallError> {
        let draft = draft?;
        let endpoint = self.shared.endpoint.clone();
        let MethodTarget { name, method_name, method, schema, codec, one_way, idempotent } = target;
        let compressed = self.compresses();
        let idempotent = idempotent || self.settings.idempotent;
        let what = PromiseKind::Call { name, method, schema, codec, compressed, one_way, idempotent };
        let promise = self.promise(&draft, &endpoint, method_name, what, is_streaming)?;
        Ok(PreparedCall { draft, endpoint, promise })
    }

    fn start_draft<T>(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
        decode: DecodeReply<T>,
    ) -> InFlight<T> {
        match self.prepare(draft, target) {
            Ok(PreparedCall { draft, endpoint, promise }) => {
                endpoint.start(promise);
                draft.handle(endpoint, decode)
            }
            Err(error) => InFlight::failed(error, decode),
        }
    }

    fn send_draft(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
    ) -> Result<(), CallError> {
        let PreparedCall { endpoint, promise, .. } = self.prepare(draft, target)?;
        endpoint.start(promise);
        Ok(())
    }

    pub(super) fn typed<A: ArgumentEncode>(
        &self,
        codec: Codec,
        argument: &A::Given,
    ) -> Result<CallDraft, CallError> {
        let rules = ValueRules::of(self.shared.scheme.json_dialect(), MissingFields::ByProtocol);
        self.draft(codec, |out| rules.apply(|| A::encode(argument, codec, out)))
    }

    pub(super) fn target<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
    ) -> MethodTarget<'static> {
        let codec = match self.only_codec() {
            Some(codec) => codec,
            None => codec_for(self.settings.codec, |codec| A::accepts(codec) && R::accepts(codec)),
        };
        let schema = if codec.is_self_describing() { 0 } else { method.schema::<A, R>() };
        let (name, idempotent) = (self.name_of(method), method.is_idempotent());
        let method_name = method.name();
        MethodTarget { name, method_name, method: method.hash(), schema, codec, one_way: false, idempotent }
    }

    fn name_of(&self, method: &MethodId) -> Option<Arc<String>> {
        (self.shared.scheme != Scheme::Native).then(|| method.shared_name())
    }

    /// Returns the target of a call by name. The protocols that send the name get it; the native one uses the hash.
    pub(super) fn named_target<'n>(&self, method: &'n str, codec: Codec, one_way: bool) -> MethodTarget<'n> {
        let name = (self.shared.scheme != Scheme::Native).then(|| Arc::new(method.to_owned()));
        let hash = method_hash(method);
        MethodTarget { name, method_name: method, method: hash, schema: 0, codec, one_way, idempotent: false }
    }

    pub(super) fn one_way_target<A: ArgumentEncode>(&self, method: &MethodId) -> MethodTarget<'static> {
        let codec = self.only_codec().unwrap_or_else(|| codec_for(self.settings.codec, A::accepts));
        let (name, idempotent) = (self.name_of(method), method.is_idempotent());
        let method_name = method.name();
        MethodTarget { name, method_name, method: method.hash(), schema: 0, codec, one_way: true, idempotent }
    }
}

/// A call that is ready to be passed to the reactor.
pub(super) struct PreparedCall {
    pub(super) draft: CallDraft,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) promise: Promise,
}

/// The method and codec of a call.
pub(super) struct MethodTarget<'n> {
    pub(super) method_name: &'n str,
    /// The same, for the protocols that send it.
    pub(super) name: Option<Arc<String>>,
    pub(super) method: u32,
    pub(super) schema: u32,
    pub(super) codec: Codec,
    pub(super) one_way: bool,
    pub(super) idempotent: bool,
}

impl Caller for Client {
    fn call<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError> {
        self.start::<A, R>(method, argument).wait()
    }
}

impl Starter for Client {
    fn start<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> InFlight<R::Value> {
        let target = self.target::<A, R>(method);
        self.start_draft(self.typed::<A>(target.codec, argument), target, R::decode)
    }

    fn start_then<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
        then: impl FnOnce(Result<R::Value, CallError>) + Send + 'static,
    ) {
        let target = self.target::<A, R>(method);
        match self.prepare(self.typed::<A>(target.codec, argument), target) {
            Ok(PreparedCall { endpoint, mut promise, .. }) => {
                promise.call_then(Box::new(move |outcome: Result<(ReplyOutcome, &[u8]), CallError>| {
                    then(outcome.and_then(|(answer, body)| answer.decode(body, R::decode)));
                }));
                endpoint.start(promise);
            }
            Err(error) => then(Err(error)),
        }
    }

    fn start_one_way<A: ArgumentEncode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError> {
        let target = self.one_way_target::<A>(method);
        self.send_draft(self.typed::<A>(target.codec, argument), target)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.shared.endpoint.address)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
