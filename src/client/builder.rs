//! The builder of a client: its address or its resolver, limits, and the driver.

use std::sync::Arc;

use super::CallError;
use super::address::{BuildError, ToAddress};
use super::config::{ClientConfig, WhenFull};
use super::driver::Driver;
use super::endpoint::{Endpoint, EndpointTarget};
use super::fleet::{FleetShared, FleetWatch, OnFleetEvent, OnUnavailable, Unavailable, updates_of};
use super::interceptor::{ClientInterceptor, ClientInterceptors};
use super::shared::{Client, ClientShared};
use super::traced::ClientTracing;
use crate::discovery::{DiscoveryError, Resolver, StaticResolver, Target, TargetError, builtin};
use crate::policy::fleet::{Balancer, FleetConfig, FleetEvent};
#[cfg(feature = "trace")]
use crate::trace::Tracer;
#[cfg(feature = "tls-core")]
use crate::transport::ClientTls;
use crate::transport::TlsClient;
use crate::wire::Scheme;

/// Builds a [`Client`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    address: String,
    driver: Option<Driver>,
    interceptors: Vec<Arc<dyn ClientInterceptor>>,
    config: ClientConfig,
    fleet: Option<FleetConfig>,
    resolvers: Vec<Arc<dyn Resolver>>,
    balancer: Option<Box<dyn Balancer>>,
    on_unavailable: Option<Arc<OnUnavailable>>,
    on_event: Option<OnFleetEvent>,
    tracing: Option<Arc<ClientTracing>>,
    tls: Option<TlsSettings>,
}

impl ClientBuilder {
    pub(super) fn new(address: impl ToAddress) -> ClientBuilder {
        ClientBuilder {
            address: address.to_address(),
            driver: None,
            interceptors: Vec::new(),
            config: ClientConfig::default(),
            fleet: None,
            resolvers: Vec::new(),
            balancer: None,
            on_unavailable: None,
            on_event: None,
            tracing: None,
            tls: None,
        }
    }

    /// Changes the TLS settings. The address must have TLS then: `native+tls:`, `https:`.
    #[cfg(feature = "tls-core")]
    pub fn tls(mut self, change: impl FnOnce(&mut ClientTls)) -> ClientBuilder {
        change(self.tls.get_or_insert_default());
        self
    }

    /// Uses this driver for the client's connections. By default the client starts one of its own.
    pub fn on(mut self, driver: &Driver) -> ClientBuilder {
        self.driver = Some(driver.clone());
        self
    }

    /// Sets all limits.
    pub fn config(mut self, config: ClientConfig) -> ClientBuilder {
        self.config = config;
        self
    }

    /// Changes some of the limits.
    pub fn configure(mut self, change: impl FnOnce(&mut ClientConfig)) -> ClientBuilder {
        change(&mut self.config);
        self
    }

    /// Sets the most calls that may be in flight, and what happens to calls beyond that: two fields of
    /// [`ClientConfig`].
    pub fn in_flight_max(self, in_flight_max: usize, when_full: WhenFull) -> ClientBuilder {
        self.configure(|config| (config.in_flight_max, config.when_full) = (in_flight_max, when_full))
    }

    /// Adds a [`ClientInterceptor`] of all calls of the client and its clones. To use it elsewhere too, pass an [`Arc`].
    pub fn interceptor(mut self, interceptor: impl ClientInterceptor) -> ClientBuilder {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Makes spans of the client's calls, and sends their trace context (feature `trace`). A call that a traced call of a
    /// server has made ([`Context::client`](crate::Context::client)) belongs to the trace of that call; of the others one in
    /// `trace.sample_one_in` begins a trace. An attempt that repeats or hedges a call has a span of its own.
    ///
    /// A [`Direct`](super::Direct) makes no spans.
    #[cfg(feature = "trace")]
    pub fn tracer(mut self, tracer: &Tracer) -> ClientBuilder {
        self.tracing = Some(Arc::new(ClientTracing::new(tracer)));
        self
    }

    /// Changes the settings of a client that has several servers: balancing, circuit breaker, retries, hedging, health
    /// checks, zones. The client of one address has the same policies then: its circuit breaker opens, and calls that
    /// may be repeated are.
    pub fn fleet(mut self, change: impl FnOnce(&mut FleetConfig)) -> ClientBuilder {
        change(self.fleet.get_or_insert_default());
        self
    }

    /// Adds a resolver of the program's own, for the URLs of its scheme. It is preferred to a built-in one.
    pub fn resolver(mut self, resolver: impl Resolver) -> ClientBuilder {
        self.resolvers.push(Arc::new(resolver));
        self
    }

    /// Balances in a way of the program's own, in place of [`FleetConfig::balance`].
    ///
    /// ```
    /// use coreloop::client::{Balancer, Candidates, Client, PickFor};
    ///
    /// /// Uses the server with the fewest calls.
    /// #[derive(Debug)]
    /// struct LeastBusy;
    ///
    /// impl Balancer for LeastBusy {
    ///     fn pick(&mut self, _call: &PickFor<'_>, candidates: &Candidates<'_>) -> usize {
    ///         let least = candidates.iter().enumerate().min_by_key(|(_, candidate)| candidate.in_flight);
    ///         least.map_or(0, |(index, _)| index)
    ///     }
    /// }
    ///
    /// let client = Client::builder("static:10.0.0.7:6550,10.0.0.8:6550").balancer(LeastBusy).build()?;
    /// # Ok::<(), coreloop::client::BuildError>(())
    /// ```
    pub fn balancer(mut self, balancer: impl Balancer + 'static) -> ClientBuilder {
        self.balancer = Some(Box::new(balancer));
        self
    }

    /// Answers calls that no server has answered: every attempt has failed or was refused by a limit, or no server is
    /// usable. The function returns the encoded answer in the codec of the argument, or `None` to let the call fail. It
    /// runs on the thread that drives the client, and must not wait. Its panic is reported by the panic hook, and the
    /// call fails. Calls with streams and one-way calls are not passed to it.
    ///
    /// ```
    /// use coreloop::client::Client;
    /// use coreloop::codec::Codec;
    ///
    /// // Nothing listens there: the recommendations are empty until something does.
    /// let client = Client::builder("static:127.0.0.1:1")
    ///     .on_unavailable(|call| match (call.method, call.codec) {
    ///         ("Shop.Recommend", Codec::Json) => Some(b"[]".to_vec()),
    ///         _ => None,
    ///     })
    ///     .build()?;
    /// assert_eq!(client.call_bytes("Shop.Recommend", Codec::Json, b"7")?, b"[]");
    /// assert!(client.call_bytes("Shop.Order", Codec::Json, b"7").is_err());
    /// # Ok::<(), coreloop::client::CallError>(())
    /// ```
    pub fn on_unavailable(
        mut self,
        answer: impl Fn(&Unavailable<'_>) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.on_unavailable = Some(Arc::new(answer));
        self
    }

    /// Calls the function for each [`FleetEvent`]: servers that appear and disappear, circuit breakers that open. It runs
    /// on the thread that drives the client, and must not wait. Its panic is reported by the panic hook and contained.
    pub fn on_fleet_event(mut self, on_event: impl Fn(&FleetEvent) + Send + Sync + 'static) -> ClientBuilder {
        self.on_event = Some(Arc::new(on_event));
        self
    }

    /// Builds the client. It connects at its first call.
    ///
    /// # Errors
    ///
    /// A setting is wrong, no resolver handles the URL, or no thread could be started.
    pub fn build(mut self) -> Result<Client, BuildError> {
        self.config.check()?;
        let (scheme, is_secured, plain) = Scheme::split_tls(&self.address);
        let resolved = match Target::scheme_of(plain) {
            Some(_) if !is_host_and_port(plain) => {
                Some(Target::parse(plain).map_err(DiscoveryError::Target)?)
            }
            // A plain address with the policies of a fleet.
            _ if self.wants_fleet() => {
                let url = format!("static:{plain}");
                plain.parse::<crate::reactor::Address>()?;
                Some(Target::parse(&url).map_err(DiscoveryError::Target)?)
            }
            _ => None,
        };
        let address = self.address.clone();
        let Some(target) = resolved else {
            let target = EndpointTarget::One(plain.parse()?);
            let tls = load_tls(&self.address, is_secured, self.tls.as_ref())?;
            return self.finish(scheme, tls, address, target).map(Client::of);
        };
        let (scheme, is_secured) = scheme_of_all((scheme, is_secured), &self.address, &target)?;
        let tls = load_tls(&self.address, is_secured, self.tls.as_ref())?;
        let resolver = self.find_resolver(target.scheme())?;
        let mut config = self.fleet.take().unwrap_or_default();
        // The URL places the client, unless the settings do.
        config.zone = config.zone.or_else(|| target.parameter("zone").map(str::to_owned));
        config.check()?;
        let fleet =
            FleetShared::new(config, self.balancer.take(), self.on_unavailable.take(), self.on_event.take());
        let endpoint_target = EndpointTarget::Fleet(FleetWatch::new(fleet));
        let shared = self.finish(scheme, tls, address, endpoint_target)?;
        let updates = updates_of(&shared.endpoint);
        let watch = resolver.watch(&target, updates, shared.driver.discovery())?;
        if let EndpointTarget::Fleet(fleet) = shared.endpoint.target() {
            fleet.set_watch(watch);
        }
        Ok(Client::of(shared))
    }

    /// Returns whether a setting needs the policies of a fleet.
    fn wants_fleet(&self) -> bool {
        self.fleet.is_some()
            || self.balancer.is_some()
            || self.on_unavailable.is_some()
            || self.on_event.is_some()
    }

    fn find_resolver(&self, scheme: &str) -> Result<Arc<dyn Resolver>, DiscoveryError> {
        let own = self.resolvers.iter().find(|resolver| resolver.scheme() == scheme);
        own.cloned()
            .or_else(|| builtin(scheme).map(Arc::from))
            .ok_or_else(|| DiscoveryError::UnknownScheme { scheme: scheme.to_owned() })
    }

    /// Makes what the clones of the client share.
    fn finish(
        self,
        scheme: Scheme,
        tls: Option<TlsClient>,
        address: String,
        target: EndpointTarget,
    ) -> Result<ClientShared, BuildError> {
        let driver = match self.driver {
            Some(driver) => driver,
            None => Driver::spawn().map_err(BuildError::Thread)?,
        };
        let config = Arc::new(self.config);
        let interceptors: ClientInterceptors = self.interceptors.into();
        let endpoint = Endpoint::new(driver.clone(), scheme, address, target, config.clone(), interceptors)
            .secured(tls)
            .traced(self.tracing);
        Ok(ClientShared {
            endpoint: Arc::new(endpoint),
            driver,
            config,
            scheme,
            #[cfg(feature = "json")]
            description: Default::default(),
        })
    }

    /// Builds the client and waits until it is connected, for up to `connect_timeout_ms`. Do not call this with a
    /// driver on a reactor of a server that has not started yet, nor in async code: there use [`ClientBuilder::build`] and
    /// [`Client::ready`].
    ///
    /// # Errors
    ///
    /// [`CallError::Build`] where [`ClientBuilder::build`] fails; [`CallError::Connect`] if the connection cannot be made.
    pub fn connect(self) -> Result<Client, CallError> {
        let client = self.build()?;
        client.ready().wait()?;
        Ok(client)
    }
}

/// The TLS settings of a client: there are none in a build without TLS.
#[cfg(feature = "tls-core")]
pub(super) type TlsSettings = ClientTls;
#[cfg(not(feature = "tls-core"))]
pub(super) enum TlsSettings {}

/// Reads the files of the TLS settings, if the address asks for TLS.
pub(super) fn load_tls(
    address: &str,
    is_secured: bool,
    settings: Option<&TlsSettings>,
) -> Result<Option<TlsClient>, BuildError> {
    match (is_secured, settings) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(BuildError::WithoutTls { address: address.to_owned() }),
        #[cfg(feature = "tls-core")]
        (true, settings) => Ok(Some(TlsClient::load(settings.unwrap_or(&ClientTls::default()))?)),
        #[cfg(not(feature = "tls-core"))]
        (true, _) => Err(BuildError::TlsNotCompiledIn { address: address.to_owned() }),
    }
}

/// Returns whether the text is a host that is named as a scheme, and a port: `static:80`.
fn is_host_and_port(text: &str) -> bool {
    text.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// Returns the protocol of all instances, and whether they have TLS. The addresses of `static:` may name it, instead of the URL.
fn scheme_of_all(
    of_url: (Scheme, bool),
    address: &str,
    target: &Target,
) -> Result<(Scheme, bool), BuildError> {
    if target.scheme() != StaticResolver.scheme() {
        return Ok(of_url);
    }
    let is_named = address.starts_with(of_url.0.name()) || of_url.1;
    let mut first = is_named.then_some(of_url);
    for instance in StaticResolver::instances(target).map_err(DiscoveryError::Target)? {
        let (other, is_secured, plain) = Scheme::split_tls(&instance.address);
        plain.parse::<crate::reactor::Address>()?;
        // An address without a prefix takes the protocol of the URL.
        let other = if plain.len() == instance.address.len() { of_url } else { (other, is_secured) };
        let first = *first.get_or_insert(other);
        if first.0 != other.0 {
            return Err(BuildError::Protocols { first: first.0, other: other.0 });
        }
        if first.1 != other.1 {
            return Err(BuildError::WithoutTls { address: target.to_string() });
        }
    }
    first.ok_or_else(|| {
        let expected = "at least one address".to_owned();
        DiscoveryError::Target(TargetError { url: target.to_string(), expected }).into()
    })
}
