//! The client that many threads share: its settings, and the start of a call.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::builder::ClientBuilder;
use super::call_slot::{CallDraft, CallParts, DecodeReply, InFlight, ParentCall, Promise, PromiseKind};
use super::config::ClientConfig;
use super::driver::{ClientStats, Driver};
use super::endpoint::Endpoint;
use super::reply::{ReplyOutcome, as_bytes};
use super::route::Endpoints;
use super::{CallError, Caller, MethodId, Route, Starter, codec_for};
use crate::codec::{ArgumentEncode, Codec, CodecError, ReplyDecode, ValueRules, compress};
use crate::config::MissingFields;
use crate::message::{MetadataBuf, MetadataTooLong, method_hash};
use crate::wire::Scheme;

/// What all clones of a client share.
pub(super) struct ClientShared {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) route: Option<Arc<dyn Route>>,
    pub(super) driver: Driver,
    pub(super) config: Arc<ClientConfig>,
    pub(super) scheme: Scheme,
}

/// What goes for every call that is made with one [`Client`].
#[derive(Clone, Default)]
struct Settings {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    metadata: Option<Arc<MetadataBuf>>,
    /// The key of one of them that the protocol cannot carry: no call is made then.
    misfit: Option<Arc<str>>,
    codec: Option<Codec>,
    compresses: bool,
    idempotent: bool,
    parent: Option<Arc<ParentCall>>,
}

/// A client of one server that many threads share: one connection with any number of calls in flight on it, or by
/// `http:` a pool of connections with one call on each.
///
/// A clone is cheap and shares the connections. What `with_…` gives is a clone with other settings. A connection is
/// made when it is needed, and another one after it was lost; the calls that were on it fail with
/// [`CallError::Lost`], which says whether they may have run.
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
    /// Connects to `host:port` or `unix:PATH`, with the prefix `http:`, `jsonrpc:`, `gob:` or `gob-http:` for another
    /// protocol than native frames (`native:`, the default), with the default bounds and a
    /// thread of its own.
    ///
    /// # Errors
    ///
    /// [`CallError::Connect`].
    pub fn connect(address: &str) -> Result<Client, CallError> {
        Client::builder(address).connect()
    }

    /// A client to be built.
    pub fn builder(address: &str) -> ClientBuilder {
        ClientBuilder::new(address)
    }

    pub(super) fn of(shared: ClientShared) -> Client {
        Client { shared: Arc::new(shared), settings: Settings::default() }
    }

    /// The same client, whose calls have that much time each, from their start. The server is told what is left, and the
    /// call is given up here when it has passed: it fails with [`CallError::DeadlineExceeded`], or with what the server
    /// said about that. One that no clock can name is none.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        self.with(|settings| settings.timeout = Some(timeout))
    }

    /// The same client, whose calls all end by that time; by an earlier one, where there is one.
    pub fn with_deadline(&self, deadline: Instant) -> Client {
        self.with(|settings| {
            settings.deadline = Some(settings.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        })
    }

    /// The same client, with one more entry of metadata for each call.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`]: the entry does not fit beside those that are there. One that cannot travel by the address's
    /// protocol fails each call with [`CallError::Metadata`].
    pub fn with_metadata(&self, key: &str, value: &[u8]) -> Result<Client, MetadataTooLong> {
        let mut metadata = self.settings.metadata.as_deref().cloned().unwrap_or_default();
        metadata.push(key, value)?;
        let is_misfit = !self.shared.scheme.fits_metadata(key, value);
        Ok(self.with(|settings| {
            settings.metadata = Some(Arc::new(metadata));
            if is_misfit {
                settings.misfit = Some(key.into());
            }
        }))
    }

    /// The same client, with typed calls in that codec. Unless it is set: raw and fixed for the methods that take them,
    /// compact for the others, or JSON where compact is not compiled in. A method that does not take it goes as if it were
    /// not set; so does every method where the address's protocol has one codec only.
    pub fn with_codec(&self, codec: Codec) -> Client {
        self.with(|settings| settings.codec = Some(codec))
    }

    /// The same client, with compressed arguments (feature `lz4`), which asks for compressed replies too. Of the protocols
    /// only the native one can say so; by the others arguments go as they are.
    pub fn with_compression(&self, compresses: bool) -> Client {
        self.with(|settings| settings.compresses = compresses)
    }

    /// The same client, whose calls may run twice, or not: so it is for each method by itself unless this is set to true,
    /// as `#[rpc(idempotent)]` says. By `http:` such a call is sent again, at most twice, when its connection ends
    /// before the answer; by the other protocols nothing is.
    pub fn with_idempotent(&self, idempotent: bool) -> Client {
        self.with(|settings| settings.idempotent = idempotent)
    }

    fn with(&self, change: impl FnOnce(&mut Settings)) -> Client {
        let mut client = self.clone();
        change(&mut client.settings);
        client
    }

    /// The same client for calls on behalf of another one.
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

    pub(super) fn driver(&self) -> &Driver {
        &self.shared.driver
    }

    /// Is done when there is a connection; connects if need be, and fails as a call would. Where somebody routes, it is
    /// the connection of the line that is picked for method 0.
    pub fn ready(&self) -> InFlight<()> {
        fn nothing(_: Codec, _: &[u8]) -> Result<(), CodecError> {
            Ok(())
        }
        let endpoint = match self.endpoint(0) {
            Ok(endpoint) => endpoint,
            Err(error) => return InFlight::failed(error, nothing),
        };
        let draft = CallDraft::new();
        let promise = match self.promise(&draft, endpoint, "", PromiseKind::Reach) {
            Ok(promise) => promise,
            Err(error) => return InFlight::failed(error, nothing),
        };
        endpoint.start(promise);
        draft.handle(endpoint.clone(), nothing)
    }

    /// Calls a method by name with an encoded argument; gives the encoded reply.
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

    /// Starts one that wants no answer.
    ///
    /// # Errors
    ///
    /// It could not be handed over. That it arrives, and what comes of it, is not known.
    pub fn send_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> Result<(), CallError> {
        let draft = self.draft(codec, |out| {
            out.extend_from_slice(argument);
            Ok(())
        });
        let target = self.named_target(method, codec, true);
        self.send_draft(draft, target)
    }

    /// Calls that are to leave together, in one write.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// What its driver has counted, over all clients that it drives.
    pub fn stats(&self) -> ClientStats {
        self.shared.driver.stats()
    }

    /// Calls begun and not ended, over all lines and all clones: on their way, with the server, or waiting.
    pub fn in_flight(&self) -> usize {
        self.shared.endpoints.iter().map(|endpoint| endpoint.in_flight()).sum()
    }

    // The start of a call.

    fn endpoint(&self, method: u32) -> Result<&Arc<Endpoint>, CallError> {
        let endpoints = &self.shared.endpoints;
        let index = match &self.shared.route {
            None => 0,
            Some(route) => route.pick(method, Endpoints { endpoints }).map_err(CallError::Status)?,
        };
        endpoints.get(index).ok_or_else(|| {
            let error = format!("the route picked line {index} of {}", endpoints.len());
            CallError::Connect(io::Error::new(io::ErrorKind::InvalidInput, error))
        })
    }

    fn deadline(&self) -> Option<Instant> {
        // One that no clock can name is none.
        let by_timeout = self.settings.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.settings.deadline.into_iter().chain(by_timeout).min()
    }

    /// The codec of every body, where the protocol has but one.
    fn only_codec(&self) -> Option<Codec> {
        self.shared.scheme.codec_number().and_then(Codec::from_number)
    }

    /// Only native frames say that they are compressed.
    fn compresses(&self) -> bool {
        self.settings.compresses && self.shared.scheme == Scheme::Native
    }

    /// The argument in its cell.
    pub(super) fn draft(
        &self,
        codec: Codec,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<CallDraft, CallError> {
        let mut draft = CallDraft::new();
        let compresses = self.compresses();
        let fits = self.only_codec().is_none_or(|only| only == codec);
        let filled = draft.fill(|out| {
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
        match filled {
            Ok(bytes) if bytes <= bytes_max => Ok(draft),
            Ok(bytes) => {
                draft.discard();
                Err(CallError::TooLarge { bytes, bytes_max })
            }
            Err(error) => {
                draft.discard();
                Err(CallError::Argument(error))
            }
        }
    }

    fn promise(
        &self,
        draft: &CallDraft,
        endpoint: &Arc<Endpoint>,
        method_name: &str,
        what: PromiseKind,
    ) -> Result<Promise, CallError> {
        let Settings { metadata, parent, .. } = &self.settings;
        if parent.as_ref().is_some_and(|parent| parent.scope.is_cancelled(parent.place)) {
            return Err(CallError::Cancelled { may_have_run: false });
        }
        if let Some(key) = &self.settings.misfit {
            return Err(CallError::Metadata { scheme: self.shared.scheme, key: key.to_string() });
        }
        let deadline = self.deadline();
        endpoint.enter()?;
        let parts = CallParts {
            endpoint: endpoint.clone(),
            what,
            deadline,
            metadata: metadata.clone(),
            parent: parent.clone(),
        };
        Ok(draft.promise(method_name, parts))
    }

    /// Everything but handing it over.
    pub(super) fn prepare(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
    ) -> Result<PreparedCall, CallError> {
        let draft = draft?;
        let endpoint = self.endpoint(target.method)?.clone();
        let MethodTarget { name, method_name, method, schema, codec, one_way, idempotent } = target;
        let compressed = self.compresses();
        let idempotent = idempotent || self.settings.idempotent;
        let what = PromiseKind::Call { name, method, schema, codec, compressed, one_way, idempotent };
        let promise = self.promise(&draft, &endpoint, method_name, what)?;
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

    /// A call by name: the protocols that call by it are given it, the native one has the hash.
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

/// A call that only needs to be handed over.
pub(super) struct PreparedCall {
    pub(super) draft: CallDraft,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) promise: Promise,
}

/// Which method, in which codec.
pub(super) struct MethodTarget<'n> {
    pub(super) method_name: &'n str,
    /// The same, for the protocols that call by it.
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
            .field("lines", &Endpoints { endpoints: &self.shared.endpoints })
            .finish_non_exhaustive()
    }
}
