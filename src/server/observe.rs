//! What shows a server at work: its tracer, the metrics of the program, and the view that the admin listener has of it.

use std::fmt;
use std::sync::Arc;

use super::app::CallTracing;
use super::{ServerBuilder, ServerShared};
use crate::config::ValidConfig;
#[cfg(all(feature = "admin", feature = "config-file"))]
use crate::config::{self, Resolved};
#[cfg(all(feature = "admin", feature = "config-file"))]
use crate::log_events::log_event;
#[cfg(feature = "metrics")]
use crate::metrics::{
    MetricFamily, MetricSet, MetricSource, add_exemplars, process_families, server_families, trace_families,
};
#[cfg(feature = "admin")]
use crate::policy::fleet::EndpointView;
#[cfg(feature = "admin")]
use crate::reactor::Address;
#[cfg(feature = "admin")]
use crate::service::interceptor::Interceptor;
use crate::stats::Snapshot;
#[cfg(feature = "trace")]
use crate::trace::Tracer;

/// What a server's builder was given to show the server at work.
#[derive(Clone, Default)]
pub(super) struct Observation {
    /// Set by the program, or made from the configuration (`trace.enabled`) at the start.
    #[cfg(feature = "trace")]
    pub(super) tracer: Option<Tracer>,
    #[cfg(feature = "metrics")]
    pub(super) sources: Vec<Arc<dyn MetricSource>>,
    #[cfg(feature = "otlp")]
    pub(super) export: super::export::PlannedExport,
    /// Of the admin listener.
    #[cfg(feature = "admin")]
    pub(super) admin: AdminObservation,
    /// The configuration in force; set at the start.
    pub(super) config: Option<Arc<ValidConfig>>,
}

/// What a server's builder was given for its admin listener.
#[cfg(feature = "admin")]
#[derive(Clone, Default)]
pub(crate) struct AdminObservation {
    pub(crate) interceptors: Vec<Arc<dyn Interceptor>>,
    /// The fleets of clients to show: name, and what reads them.
    pub(crate) endpoints: Vec<(String, EndpointSource)>,
    /// Without the listener the server starts all the same, if its address is taken.
    pub(crate) is_optional: bool,
    /// The origin of each key of the configuration, if it is known.
    pub(crate) origins: Vec<(String, String)>,
    /// The values of the program's own sections: key and text, secrets left out.
    pub(crate) sections: Vec<(String, String)>,
    /// The in-memory address of the server, for calls from the console.
    pub(crate) address: Option<Address>,
}

/// Reads the endpoints of a client.
#[cfg(feature = "admin")]
pub(crate) type EndpointSource = Arc<dyn Fn() -> Vec<EndpointView> + Send + Sync>;

impl Observation {
    /// Returns whether calls are traced.
    #[cfg(feature = "trace")]
    pub(super) fn is_traced(&self, config: &ValidConfig) -> bool {
        config.trace.enabled || self.tracer.is_some()
    }

    /// Returns what one reactor needs for the traces of its calls.
    pub(super) fn call_tracing(&self) -> CallTracing {
        #[cfg(feature = "trace")]
        return CallTracing::new(self.tracer.as_ref());
        #[cfg(not(feature = "trace"))]
        CallTracing
    }

    /// Completes it at the start of the server.
    pub(super) fn in_force(mut self, config: &ValidConfig) -> Observation {
        #[cfg(feature = "trace")]
        if config.trace.enabled && self.tracer.is_none() {
            self.tracer = Some(Tracer::new(&config.trace));
        }
        self.config = Some(Arc::new(config.clone()));
        self
    }
}

impl ServerBuilder {
    /// Traces calls with this tracer, which other servers and clients of the program may share. Without it, the server makes
    /// one if `trace.enabled` is set.
    #[cfg(feature = "trace")]
    pub fn tracer(mut self, tracer: Tracer) -> ServerBuilder {
        self.observation.tracer = Some(tracer);
        self
    }

    /// Adds metrics of the program to those of the server: to `/metrics` and to the export.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, source: impl MetricSource + 'static) -> ServerBuilder {
        self.observation.sources.push(Arc::new(source));
        self
    }
}

#[cfg(feature = "admin")]
impl ServerBuilder {
    /// Adds an [`Interceptor`] of the requests to the admin listener (`admin.listen`): for authentication, as
    /// [`TokenCheck`](crate::interceptor::TokenCheck) does it. The methods there are routes, as `GET /calls`.
    pub fn admin_interceptor(mut self, interceptor: impl Interceptor) -> ServerBuilder {
        self.observation.admin.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Shows the endpoints of a client with several servers on the page `/endpoints` of the admin listener, under this name.
    /// The function is called for each view of the page.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let orders = coreloop::client::Client::connect("static:10.0.0.1:6550,10.0.0.2:6550")?;
    /// let server = coreloop::Server::builder()
    ///     .configure(|config| config.admin.listen = "127.0.0.1:6551".to_owned())
    ///     .admin_endpoints("orders", move || orders.endpoints())
    ///     .start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn admin_endpoints(
        mut self,
        name: &str,
        endpoints: impl Fn() -> Vec<EndpointView> + Send + Sync + 'static,
    ) -> ServerBuilder {
        self.observation.admin.endpoints.push((name.to_owned(), Arc::new(endpoints)));
        self
    }

    /// Sets whether the server starts without its admin listener if the address of that is taken. Default: false, the start
    /// fails. [`Server::admin_address`](super::Server::admin_address) tells whether there is one.
    pub fn admin_optional(mut self, is_optional: bool) -> ServerBuilder {
        self.observation.admin.is_optional = is_optional;
        self
    }

    /// Sets the configuration, and shows where each value came from on the page `/config` of the admin listener, with the
    /// values of the program's own sections except secrets.
    #[cfg(feature = "config-file")]
    pub fn resolved(mut self, resolved: &Resolved) -> ServerBuilder {
        for warning in &resolved.warnings {
            log_event!(ConfigWarning { warning: warning.to_string() });
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = resolved.print(&mut text);
        let admin = &mut self.observation.admin;
        for line in text.lines() {
            let Some((name, rest)) = line.split_once(" = ") else { continue };
            let (value, origin) = rest.rsplit_once("  # ").unwrap_or((rest, ""));
            // The meaning of a 0 follows the origin.
            let origin = origin.split_once("; 0: ").map_or(origin, |(origin, _)| origin);
            admin.origins.push((name.to_owned(), origin.to_owned()));
            if !config::keys().any(|key| key.name() == name) {
                admin.sections.push((name.to_owned(), value.to_owned()));
            }
        }
        self.config(resolved.config.clone())
    }
}

/// A view of a running server, for pages and exports. It keeps the server's counters, not the server.
#[derive(Clone)]
pub struct Inspector {
    pub(super) shared: Arc<ServerShared>,
}

impl Inspector {
    /// Returns the current numbers.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Returns the tracer; `None` if the server does not trace.
    #[cfg(feature = "trace")]
    pub fn tracer(&self) -> Option<&Tracer> {
        self.shared.observation.tracer.as_ref()
    }

    /// Returns the metrics that the program has added.
    #[cfg(feature = "metrics")]
    pub fn metric_sources(&self) -> &[Arc<dyn MetricSource>] {
        &self.shared.observation.sources
    }

    /// Returns all metrics: those of the server with exemplars, of its tracer, of the process, and those that the program has
    /// added, merged ([`MetricSet`]).
    #[cfg(feature = "metrics")]
    pub fn metric_families(&self) -> Vec<MetricFamily> {
        // Before the counters, which then have the calls of these spans.
        let recent = self.tracer().map(Tracer::recent);
        let mut families = server_families(&self.stats());
        if let (Some(tracer), Some(recent)) = (self.tracer(), recent) {
            add_exemplars(&mut families, &recent);
            families.extend(trace_families(&tracer.stats()));
        }
        families.extend(process_families());
        #[cfg(feature = "log")]
        families.push(crate::metrics::log_family());
        let mut set = MetricSet::new();
        set.add(families);
        for source in self.metric_sources() {
            set.add_source(&**source);
        }
        set.finish()
    }

    /// Returns what the builder was given for the admin listener.
    #[cfg(feature = "admin")]
    pub(crate) fn admin(&self) -> &AdminObservation {
        &self.shared.observation.admin
    }

    /// Returns the configuration in force.
    pub fn config(&self) -> &ValidConfig {
        self.shared.observation.config.as_deref().expect("set at the start")
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}
