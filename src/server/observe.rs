//! What shows a server at work: its tracer, the metrics of the program, and the view that the admin listener has of it.

use std::fmt;
use std::sync::Arc;

use super::app::CallTracing;
use super::{ServerBuilder, ServerShared};
use crate::config::ValidConfig;
#[cfg(feature = "metrics")]
use crate::metrics::{
    MetricFamily, MetricSet, MetricSource, add_exemplars, process_families, server_families, trace_families,
};
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
    /// The configuration in force; set at the start.
    pub(super) config: Option<Arc<ValidConfig>>,
}

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
        let mut families = server_families(&self.stats());
        if let Some(tracer) = self.tracer() {
            add_exemplars(&mut families, &tracer.recent());
            families.extend(trace_families(&tracer.stats()));
        }
        families.extend(process_families());
        let mut set = MetricSet::new();
        set.add(families);
        for source in self.metric_sources() {
            set.add_source(&**source);
        }
        set.finish()
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
