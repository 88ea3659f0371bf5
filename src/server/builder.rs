//! Building a server: services, methods, listeners, configuration; all of it is checked together at the start.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coreloop_bufpool::PoolConfig;
use coreloop_poller::{os, quota};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::app::{AppParts, AppStats, Completion, Forwarding, RpcApp};
use super::auth::Auth;
#[cfg(feature = "admin")]
use super::bind::bind_in_memory;
use super::bind::{BoundListeners, NumberedListeners, allowed, bind};
use super::directory::RegistryDirectory;
use super::executor::{refuse_async, work_limits};
use super::observe::Observation;
use super::reactor_thread::{descriptors_for, spawn};
use super::registration::{PlannedRegistrations, Registrations};
use super::reload::Reloads;
use super::restart::{PlannedRestart, RunningRestart, SocketStore};
use super::started::StartedInterceptors;
use super::{Error, ReactorThread, Server, ServerShared};
use crate::codec::{Argument, Plain};
use crate::config::{Config, Limits, ValidConfig};
use crate::context::Context;
use crate::policy::flush::FlushPolicy;
use crate::reactor::{AcceptorShare, Loads, Reactor, ReactorConfig, RoleHandle, UnbuiltReactor};
use crate::service::builtin::{Health, Meta};
use crate::service::futures::{AsyncCalls, Executor};
use crate::service::interceptor::Interceptor;
use crate::service::interceptor::chain::ScopedInterceptor;
use crate::service::{Kind, Method, Registry, Service, finish, refuse_argument};
use crate::status::Status;
use crate::wire::{AddedProtocol, AddedProtocols, ProtocolSet, ServerContext};
use crate::workers::{Pools, PoolsConfig};

/// What the pools hold besides the batches of the run queues' calls: invitations to help.
const PARTS_MAX: usize = 1024;
/// The most reactors that a server can have (`cores`).
const REACTORS_MAX: usize = 1024;

/// A builder for servers. [`ServerBuilder::start`] and [`ServerBuilder::run`] report what is wrong with any part.
#[must_use = "a builder does nothing until the server is started"]
pub struct ServerBuilder {
    pub(super) config: Config,
    pub(super) listens: Vec<String>,
    pub(super) protocols: Vec<ProtocolSet>,
    methods: Vec<Method>,
    health: Arc<Health>,
    meta: Arc<Meta>,
    interceptors: Vec<ScopedInterceptor>,
    /// The reactors that have a handle already, by index.
    reactors: Vec<Option<UnbuiltReactor<Completion>>>,
    /// Protocols of the program's own.
    added: AddedProtocols,
    /// What runs the futures of async methods.
    pub(super) executor: Option<Executor>,
    /// Where the server registers itself.
    pub(super) registrations: PlannedRegistrations,
    pub(super) observation: Observation,
    auth: Auth,
    reloads: Arc<Reloads>,
    /// Listening sockets from other processes, and for them.
    pub(super) sockets: SocketStore,
    pub(super) error: Option<Error>,
}

impl ServerBuilder {
    pub(super) fn new() -> ServerBuilder {
        let builder = ServerBuilder {
            config: Config::default(),
            listens: Vec::new(),
            protocols: Vec::new(),
            methods: Vec::new(),
            health: Arc::new(Health::new()),
            meta: Arc::new(Meta::new()),
            interceptors: Vec::new(),
            reactors: Vec::new(),
            added: AddedProtocols::default(),
            executor: None,
            registrations: PlannedRegistrations::default(),
            observation: Observation::default(),
            auth: Auth::default(),
            reloads: Arc::new(Reloads::new(Config::default())),
            sockets: SocketStore::default(),
            error: None,
        };
        let (health, meta) = (builder.health.clone(), builder.meta.clone());
        #[cfg(feature = "grpc")]
        let builder = builder.service(crate::service::grpc_health::GrpcHealth(health.clone()));
        builder.service_arc(health).service_arc(meta)
    }

    /// Adds a service.
    pub fn service(self, service: impl Service) -> ServerBuilder {
        self.service_arc(Arc::new(service))
    }

    /// Adds a service that is also used elsewhere.
    pub fn service_arc<S: Service>(mut self, service: Arc<S>) -> ServerBuilder {
        self.health.set(service.service_name(), true);
        let rule = service.missing_fields();
        match service.methods() {
            Ok(methods) => {
                let methods = methods.into_iter().map(|method| method.missing_fields_or(rule));
                self = methods.fold(self, ServerBuilder::method_of);
            }
            Err(error) => {
                self.error.get_or_insert(error.into());
            }
        }
        self
    }

    /// Adds a pooled method without a service: its name ([`MethodName`](crate::MethodName)), and a function of the
    /// context and the argument.
    pub fn method<T, R>(
        self,
        name: &str,
        function: impl Fn(&Context<'_>, T) -> Result<R, Status> + Send + Sync + 'static,
    ) -> ServerBuilder
    where
        T: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.method_of_kind(name, Kind::Pooled, function)
    }

    /// Adds a method without a service that runs as `kind` specifies.
    pub fn method_of_kind<T, R>(
        mut self,
        name: &str,
        kind: Kind,
        function: impl Fn(&Context<'_>, T) -> Result<R, Status> + Send + Sync + 'static,
    ) -> ServerBuilder
    where
        T: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let method = Method::new::<Plain<T>, Plain<R>>(
            name,
            Box::new(move |cx, codec, body, out| match <Plain<T> as Argument>::decode(codec, body) {
                Ok(argument) => finish::<Plain<R>>(cx, codec, function(cx, argument), out),
                Err(error) => refuse_argument(cx, error),
            }),
        );
        match method {
            Ok(method) => self = self.method_of(method.kind(kind)),
            Err(error) => {
                self.error.get_or_insert(error.into());
            }
        }
        self
    }

    /// Adds a [`Method`] that was built by hand.
    pub fn method_of(mut self, method: Method) -> ServerBuilder {
        if let Some(service) = method.service() {
            self.health.set(service, true);
        }
        self.methods.push(method);
        self
    }

    /// Listens on an address, instead of those of the configuration: `host:port`, `unix:PATH`, or `memory:NAME` for
    /// clients in this process ([`ServerBuilder::in_memory`]). With the name of a protocol in front
    /// (`http:127.0.0.1:8080`) it serves that protocol only. Each call adds a listener.
    pub fn listen(self, address: &str) -> ServerBuilder {
        self.listen_for(address, ProtocolSet::SERVED)
    }

    /// Listens on an address, for these protocols only. The name of a protocol before the address takes precedence.
    pub fn listen_for(mut self, address: &str, protocols: ProtocolSet) -> ServerBuilder {
        self.listens.push(address.to_owned());
        self.protocols.push(protocols);
        self
    }

    /// Listens in memory, at an unused name: clients in this process connect without a socket. Their address is in
    /// [`Server::addresses`]. The same as `listen("memory:0")`; [`ServerBuilder::listen`] takes a name of your choice.
    pub fn in_memory(self) -> ServerBuilder {
        self.listen("memory:0")
    }

    /// Returns a handle on a reactor that the server will have, for further roles on its thread: a client's
    /// ([`Driver::on`](crate::client::Driver::on)), so that services call others without a thread in between. The
    /// roles begin before the reactor serves anything; if the server is not started, they are dropped.
    ///
    /// `index` must be below the number of reactors (`cores`); the start fails otherwise.
    ///
    /// # Errors
    ///
    /// The system provides no event queue; `InvalidInput` with an index of 1,024 or more.
    pub fn reactor(&mut self, index: usize) -> io::Result<RoleHandle> {
        if index >= REACTORS_MAX {
            let text = format!("expected the index of a reactor, below {REACTORS_MAX}; found {index}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.reactors.len() <= index {
            self.reactors.resize_with(index + 1, || None);
        }
        let unbuilt = match self.reactors[index].take() {
            Some(unbuilt) => unbuilt,
            None => UnbuiltReactor::new()?,
        };
        Ok(self.reactors[index].insert(unbuilt).remote().roles())
    }

    /// Adds an [`Interceptor`] of the calls of every method, those of the built-in services included, and of requests
    /// whose method is not known. It is outside those that are added after it, and those for some methods. To use it
    /// elsewhere too, pass an [`Arc`].
    pub fn interceptor(self, interceptor: impl Interceptor) -> ServerBuilder {
        self.intercept(None, interceptor)
    }

    /// Adds an [`Interceptor`] of the calls of some methods: of one, by its name (`Orders.Price`, with the package if
    /// there is one), or of those that match a pattern, in which each `*` stands for any characters (`Orders.*`). Those
    /// with a pattern are outside those with a name; otherwise the order is that of their registration.
    ///
    /// [`ServerBuilder::start`] fails if no method matches.
    pub fn interceptor_for(self, methods: &str, interceptor: impl Interceptor) -> ServerBuilder {
        self.intercept(Some(methods.to_owned()), interceptor)
    }

    fn intercept(mut self, pattern: Option<String>, interceptor: impl Interceptor) -> ServerBuilder {
        self.interceptors.push(ScopedInterceptor { pattern, interceptor: Arc::new(interceptor) });
        self
    }

    /// Serves a protocol of the program's own beside the others, on each listener that is not restricted to one of
    /// them; see `examples/own_protocol.rs`. [`ServerBuilder::start`] fails if its first bytes are those of another.
    pub fn protocol(mut self, protocol: AddedProtocol) -> ServerBuilder {
        if let Err(text) = self.added.add(protocol) {
            self.error.get_or_insert(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        self
    }

    /// Starts the server and returns a handle on it.
    ///
    /// # Errors
    ///
    /// Anything that is wrong with the methods, the configuration or the listeners; nothing has been started then.
    pub fn start(mut self) -> Result<Server, Error> {
        self.take_passed_sockets()?;
        let (config, registry) = self.check()?;
        #[cfg_attr(not(feature = "tls-core"), allow(unused_mut))]
        let mut restart = PlannedRestart::begin(&config, &self.sockets)?;
        let protocols = allowed(&config.listen, &self.protocols);
        let make = ServerPlan {
            config: &config,
            registry,
            health: self.health,
            protocols,
            interceptors: StartedInterceptors::default(),
            added: self.added,
            executor: self.executor,
            async_calls: AsyncCalls::new(config.limits.async_in_flight_max),
            observation: self.observation.in_force(&config),
            auth: self.auth,
            reloads: self.reloads,
            sockets: self.sockets,
            #[cfg(feature = "tls-core")]
            ticket_state: restart.take_ticket_state(),
        };
        let interceptors = self.interceptors.into_iter().map(|scoped| scoped.interceptor).collect();
        let mut server = start(make, self.reactors, interceptors, self.registrations)?;
        server.restart = restart.complete(&server)?;
        server.log_started(&config);
        Ok(server)
    }

    /// Checks the configuration and the methods, and returns both.
    pub(super) fn check(&mut self) -> Result<(ValidConfig, Arc<Registry>), Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if !self.listens.is_empty() {
            self.config.listen = std::mem::take(&mut self.listens);
        }
        let config = std::mem::take(&mut self.config);
        self.reloads = Arc::new(Reloads::new(config.clone()));
        let config = config.validate(quota::usable_cores())?;
        #[cfg(feature = "otlp")]
        self.observation.plan_export(&config)?;
        self.auth = Auth::install(&config, &mut self.interceptors)?;
        #[cfg(feature = "metrics")]
        {
            self.observation.sources.push(self.reloads.clone());
            self.observation.sources.extend(self.auth.metrics());
        }
        let rule = Some(config.missing_fields);
        let methods = std::mem::take(&mut self.methods).into_iter();
        let methods: Vec<Method> = methods.map(|method| method.missing_fields_or(rule)).collect();
        #[cfg(feature = "http")]
        let methods = {
            let pages = super::pages::routes(&methods, &self.health, &config.http)?;
            methods.into_iter().chain(pages).collect()
        };
        let registry = Registry::new(methods, &config.limits)?.intercepted_by(&self.interceptors)?;
        let is_observed = !config.http.forwarded_from.is_empty();
        #[cfg(feature = "trace")]
        let is_observed = is_observed || self.observation.is_traced(&config);
        let registry = if is_observed { registry.observed() } else { registry };
        if self.executor.is_none() {
            refuse_async(&registry)?;
        }
        self.meta.fill(registry.methods());
        Ok((config, Arc::new(registry)))
    }

    /// Runs the server until SIGTERM or SIGINT (feature `signals`) and drains it then. A second signal cuts the drain
    /// short.
    ///
    /// # Errors
    ///
    /// Those of [`ServerBuilder::start`], and the error of a reactor that ended by itself.
    pub fn run(mut self) -> Result<(), Error> {
        // A logger receives what is printed otherwise.
        self.registrations.print_unless_reported();
        #[cfg(feature = "otlp")]
        self.observation.export.print_unless_reported();
        let server = self.start()?;
        server.print_warnings_unless_logged();
        #[cfg(feature = "signals")]
        let _signals = {
            let stopper = server.stopper();
            coreloop_poller::signals::on_stop(move |_signal| stopper.stop())?
        };
        server.wait().map(|_| ())
    }
}

/// The parts of a server, after the checks.
pub(super) struct ServerPlan<'a> {
    config: &'a ValidConfig,
    registry: Arc<Registry>,
    health: Arc<Health>,
    protocols: Vec<ProtocolSet>,
    interceptors: StartedInterceptors,
    added: AddedProtocols,
    executor: Option<Executor>,
    async_calls: Arc<AsyncCalls>,
    observation: Observation,
    auth: Auth,
    reloads: Arc<Reloads>,
    sockets: SocketStore,
    /// From the process from which this one takes over.
    #[cfg(feature = "tls-core")]
    ticket_state: Option<Vec<u8>>,
}

#[cfg(feature = "bench-internals")]
impl<'a> ServerPlan<'a> {
    /// Creates a plan without listeners, whose health state nothing reports.
    pub(super) fn alone(
        config: &'a ValidConfig,
        registry: Arc<Registry>,
        executor: Option<Executor>,
    ) -> ServerPlan<'a> {
        ServerPlan {
            config,
            registry,
            health: Arc::default(),
            protocols: Vec::new(),
            interceptors: StartedInterceptors::default(),
            added: AddedProtocols::default(),
            executor,
            async_calls: AsyncCalls::new(config.limits.async_in_flight_max),
            observation: Observation::default(),
            auth: Auth::default(),
            reloads: Arc::new(Reloads::new(Config::default())),
            sockets: SocketStore::default(),
            #[cfg(feature = "tls-core")]
            ticket_state: None,
        }
    }
}

fn start(
    mut make: ServerPlan<'_>,
    mut unbuilt: Vec<Option<UnbuiltReactor<Completion>>>,
    interceptors: Vec<Arc<dyn Interceptor>>,
    registrations: PlannedRegistrations,
) -> Result<Server, Error> {
    let (config, registry) = (make.config, make.registry.clone());
    let reactors = config.cores;
    if unbuilt.len() > reactors {
        let text = format!(
            "ServerBuilder::reactor: expected an index below the number of reactors, {reactors} (cores); found {}",
            unbuilt.len() - 1
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    unbuilt.resize_with(reactors, || None);
    #[cfg(feature = "tls-core")]
    let tls = super::tls::load(config, make.ticket_state.take().as_deref())?;
    let BoundListeners { mut listeners, addresses, spread } = bind(config, reactors, &make.sockets)?;
    listeners = super::proxies::behind(config, listeners)?;
    #[cfg(feature = "tls-core")]
    #[cfg_attr(not(feature = "admin"), allow(unused_mut))]
    let mut listeners = super::tls::secure(config, tls.as_ref(), &make.protocols, listeners)?;
    #[cfg(not(feature = "tls-core"))]
    super::refuse_tls(config)?;
    #[cfg(feature = "admin")]
    if !config.admin.listen.is_empty() {
        make.observation.admin.address = Some(bind_in_memory(config, &mut listeners)?);
    }
    let registrations = registrations.check(config, &addresses)?;
    // After this only the machine itself can prevent the start, so a file that an interceptor creates stays.
    make.interceptors = StartedInterceptors::start(interceptors, registry.methods())?;
    let pools = pools(config, &registry)?;
    let side = side(config, &registry, std::mem::take(&mut make.added));
    let loads = Arc::new(Loads::new(reactors));
    let mut built = Vec::new();
    let mut parts = Vec::new();
    for (listeners, unbuilt) in listeners.into_iter().zip(unbuilt) {
        let index = built.len();
        let unbuilt = unbuilt.map_or_else(UnbuiltReactor::new, Ok)?;
        let (reactor, part) = build(&make, index, unbuilt, &pools, &side, listeners)?;
        built.push(reactor);
        parts.push(part);
    }
    for (index, reactor) in built.iter_mut().enumerate() {
        let remotes = parts.iter().map(|part: &ReactorThread| part.remote.clone()).collect();
        // The first reactor always assigns connections; it keeps those that the kernel has spread already.
        let keeps = spread.clone();
        let deals = index == 0 && reactors > 1;
        reactor.share(
            index,
            loads.clone(),
            deals.then(|| AcceptorShare { remotes, loads: loads.clone(), keeps }),
        );
    }
    let (stop, events) = crossbeam_channel::bounded(reactors + 3);
    for (index, reactor) in built.into_iter().enumerate() {
        spawn(index, reactor, &registry, stop.clone())?;
    }
    let ServerPlan { health, interceptors, async_calls, observation, auth, reloads, sockets, .. } = make;
    let shared = Arc::new(ServerShared {
        registry,
        parts,
        pools,
        health,
        interceptors,
        async_calls,
        side,
        observation,
        auth,
        reloads,
        sockets,
        stopping: OnceLock::new(),
        #[cfg(feature = "tls-core")]
        tls,
    });
    let mut server = Server {
        shared,
        addresses,
        events,
        stop,
        registrations: Registrations::default(),
        restart: RunningRestart::default(),
        running: reactors,
        #[cfg(feature = "admin")]
        admin: None,
        #[cfg(feature = "otlp")]
        exporter: None,
    };
    #[cfg(feature = "otlp")]
    server.start_export()?;
    #[cfg(feature = "admin")]
    if !config.admin.listen.is_empty() {
        server.start_admin()?;
    }
    if let Some(checked) = registrations {
        // Last, since it serves now. An error ends what has started.
        server.registrations = checked.start(&server.reactors()[0])?;
    }
    Ok(server)
}

/// Starts the workers.
pub(super) fn pools_config(config: &ValidConfig) -> PoolsConfig {
    PoolsConfig {
        workers: config.workers,
        blocking_threads: config.blocking_threads,
        spin: Duration::from_micros(config.worker_spin_us),
        batches_max: config.limits.run_queue_max.max(config.workers).saturating_add(PARTS_MAX),
        reactors: config.cores,
    }
}

pub(super) fn pools(config: &ValidConfig, registry: &Arc<Registry>) -> Result<Arc<Pools>, Error> {
    Ok(Arc::new(Pools::start(pools_config(config), registry.clone())?))
}

/// Creates the context that the connections of a server share.
pub(super) fn side(
    config: &ValidConfig,
    registry: &Arc<Registry>,
    added: AddedProtocols,
) -> Arc<ServerContext> {
    Arc::new(ServerContext {
        limits: config.limits.clone(),
        cors_origins: config.http.cors_origins.clone(),
        added,
        site: Box::new(RegistryDirectory::new(registry.clone())),
        entries_dropped: AtomicU64::new(0),
        connections: Default::default(),
    })
}

pub(super) fn build(
    make: &ServerPlan<'_>,
    index: usize,
    unbuilt: UnbuiltReactor<Completion>,
    pools: &Arc<Pools>,
    side: &Arc<ServerContext>,
    listeners: NumberedListeners,
) -> Result<(Reactor<RpcApp>, ReactorThread), Error> {
    let ServerPlan { config, registry, protocols, .. } = make;
    let cores = os::allowed_cores();
    let app_stats = Arc::new(AppStats::new(registry.methods().len()));
    let (run_queue, async_limits) = work_limits(config, registry, &make.async_calls)?;
    let forwarding = Forwarding::of(config);
    let parts = |remote| AppParts {
        registry: registry.clone(),
        pools: pools.clone(),
        stats: app_stats.clone(),
        side: side.clone(),
        protocols: protocols.clone(),
        batch_max: config.batch_max,
        remote,
        reactor: index,
        run_queue: run_queue.clone(),
        executor: make.executor.clone(),
        async_limits: async_limits.clone(),
        fair_by: config.fair_by,
        level_min: config.priority_highest as u8,
        tracing: make.observation.call_tracing(),
        forwarding: forwarding.clone(),
    };
    let limits = reactor_limits(config);
    let reactor_config = ReactorConfig {
        limits,
        flush: FlushPolicy {
            high_mark_bytes: config.flush.high_mark_bytes,
            delay: Duration::from_micros(config.flush.delay_us),
        },
        turn: config.turn.clone(),
        busy_poll: Duration::from_micros(config.busy_poll_us),
        gather: Duration::from_micros(config.gather_us),
        core: config.pin.then(|| cores[index % cores.len()]),
        pool: PoolConfig { retained_bytes_max: config.limits.idle_buffer_bytes_max, ..PoolConfig::default() },
    };
    let app = RpcApp::new(parts(unbuilt.remote()));
    let mut reactor = unbuilt.build(app, reactor_config);
    for (listener_index, listener) in listeners {
        reactor.add_listener(listener, listener_index)?;
    }
    let part = ReactorThread { remote: reactor.remote(), reactor: reactor.stats(), app: app_stats };
    Ok((reactor, part))
}

/// Returns the limits of each reactor.
pub(super) fn reactor_limits(config: &ValidConfig) -> Limits {
    let mut limits = config.limits.clone();
    limits.connections_max = limits.connections_max.min(descriptors_for(config.cores));
    limits
}
