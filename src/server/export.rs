//! The export of a server's spans and metrics: from the configuration and the environment to the running exporter.

use std::fmt;
use std::sync::Arc;

use super::observe::{Inspector, Observation};
use super::{Error, Server, ServerBuilder};
use crate::config::ValidConfig;
use crate::log_events;
use crate::metrics::{MetricFamily, MetricSource};
use crate::otlp::{ExportStats, ExporterBuilder};
use crate::trace::Tracer;

/// A function that receives a text for people.
type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// What a builder knows of the export.
#[derive(Clone, Default)]
pub(super) struct PlannedExport {
    /// The server is one of this crate's own, such as the admin listener.
    is_off: bool,
    report: Option<Report>,
    /// Set at the start if something is exported.
    builder: Option<ExporterBuilder>,
    warnings: Vec<String>,
}

impl PlannedExport {
    /// Prints the problems of the export if neither the log nor a function of the program receives them.
    pub(super) fn print_unless_reported(&mut self) {
        if log_events::is_logged() {
            return;
        }
        self.report.get_or_insert_with(|| Arc::new(|text| eprintln!("warning: {text}")));
    }

    /// Returns what is wrong with the environment.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().cloned()
    }
}

impl fmt::Debug for PlannedExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedExport").field("is_off", &self.is_off).finish_non_exhaustive()
    }
}

impl Observation {
    /// Finds out what is exported. The environment may turn tracing on.
    pub(super) fn plan_export(&mut self, config: &ValidConfig) -> Result<(), Error> {
        if self.export.is_off {
            return Ok(());
        }
        let mut builder = ExporterBuilder::default().config(config.otlp.clone());
        if let Some(report) = self.export.report.clone() {
            builder = builder.on_problem(move |text| report(text));
        }
        let mut trace = config.trace.clone();
        let is_planned = builder.plan(&mut trace).map_err(Error::Export)?;
        self.export.warnings = builder.warnings();
        if is_planned {
            self.sources.push(builder.counters());
            self.export.builder = Some(builder);
        }
        if trace.enabled && self.tracer.is_none() {
            self.tracer = Some(Tracer::new(&trace));
        }
        Ok(())
    }
}

impl ServerBuilder {
    /// Passes each kind of problem of the export ([`otlp`](crate::otlp)), once, to a function. It runs on the thread of the
    /// export. [`ServerBuilder::run`] prints them if there is neither such a function nor a logger (feature `log`).
    pub fn on_export_problem(mut self, report: impl Fn(&str) + Send + Sync + 'static) -> ServerBuilder {
        self.observation.export.report = Some(Arc::new(report));
        self
    }

    /// Exports nothing, whatever the environment says: for servers of this crate's own.
    pub(crate) fn not_exported(mut self) -> ServerBuilder {
        self.observation.export.is_off = true;
        self
    }
}

/// The metrics of a server, of the process and of the program: those of the page `/metrics`.
struct ServerSource(Inspector);

impl MetricSource for ServerSource {
    fn families(&self) -> Vec<MetricFamily> {
        self.0.metric_families()
    }
}

impl Server {
    /// Starts the export that was planned.
    pub(super) fn start_export(&mut self) -> Result<(), Error> {
        if let Some(mut builder) = self.shared.observation.export.builder.clone() {
            if let Some(tracer) = &self.shared.observation.tracer {
                builder = builder.tracer(tracer);
            }
            let builder = builder.metrics(ServerSource(self.inspector()));
            self.exporter = Some(builder.start().map_err(Error::Export)?);
        }
        Ok(())
    }

    /// Returns what was exported; `None` if nothing is.
    pub fn export_stats(&self) -> Option<ExportStats> {
        self.exporter.as_ref().map(crate::otlp::Exporter::stats)
    }
}
