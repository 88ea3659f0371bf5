//! Export of spans and metrics to an OpenTelemetry collector, by OTLP over HTTP/1.1.
//!
//! A server exports by itself when the configuration (`otlp.endpoint`) or the environment (`OTEL_EXPORTER_OTLP_ENDPOINT` and
//! the like) names a collector. An [`Exporter`] of its own is for programs without a server.
//!
//! An exporter has one thread, which sleeps between two exports: encoding and compressing take no time of a reactor, and
//! the last spans leave after the last reactor of a server has ended. A collector that is away, slow or stopped costs spans,
//! which are counted; it never delays a call. `docs/observability.md` says what is sent, and what is lost when.

mod answer;
mod counters;
#[cfg(test)]
mod encoder_tests;
mod environment;
mod points;
mod resource;
mod sender;
mod sources;
mod spans;
mod writer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use self::counters::ExportCounters;
pub use self::counters::{ExportStats, SignalStats};
use self::environment::{ExportSettings, apply_sampler, process_variable};
use self::sender::{END_MAX, SignalSender};
use self::sources::{PointSource, SpanSource};
use crate::agent::{AgentGuard, AgentThread};
use crate::config::{OtlpConfig, TraceConfig};
use crate::metrics::MetricSource;
use crate::trace::Tracer;

/// Why nothing can be exported.
#[non_exhaustive]
pub enum ExportError {
    /// Neither the configuration nor the environment names a collector.
    NoEndpoint,
    /// The URL of a collector is not valid.
    Endpoint {
        /// The key of the configuration, or the variable.
        setting: String,
        /// What it is.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The URL of a collector begins with `https://`, and the library was built without the feature `tls`.
    TlsNotCompiledIn {
        /// The key of the configuration, or the variable.
        setting: String,
    },
    /// The files for the TLS of an `https://` URL cannot be used.
    Tls {
        /// The key of the configuration, or the variable, that has the URL.
        setting: String,
        /// What was expected of which file, and what was found.
        fault: String,
    },
    /// The system provides no thread, or no event queue.
    Io(io::Error),
}

crate::error_text::debug_as_text!(ExportError);

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::NoEndpoint => {
                f.write_str("no collector: expected a URL in otlp.endpoint or in OTEL_EXPORTER_OTLP_ENDPOINT")
            }
            ExportError::Endpoint { setting, found, expected } => {
                write!(f, "{setting}: expected {expected}; found {found}")
            }
            ExportError::TlsNotCompiledIn { setting } => {
                write!(
                    f,
                    "{setting}: an https:// URL needs the feature `tls`, which this build does not have"
                )
            }
            ExportError::Tls { setting, fault } => write!(f, "the TLS for the URL in {setting}: {fault}"),
            ExportError::Io(error) => write!(f, "the thread of the export does not start: {error}"),
        }
    }
}

impl std::error::Error for ExportError {}

/// A builder for exporters.
///
/// ```no_run
/// use coreloop::config::TraceConfig;
/// use coreloop::otlp::Exporter;
/// use coreloop::trace::Tracer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tracer = Tracer::new(&TraceConfig::default());
/// let exporter = Exporter::builder().tracer(&tracer).start()?;
/// // … calls with clients that use the tracer …
/// println!("{:?}", exporter.shutdown());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until the exporter is started"]
pub struct ExporterBuilder {
    config: OtlpConfig,
    tracer: Option<Tracer>,
    sources: Vec<Arc<dyn MetricSource>>,
    counters: Arc<ExportCounters>,
    /// Found once, by [`ExporterBuilder::plan`].
    settings: Option<Arc<ExportSettings>>,
    warnings: Vec<String>,
}

impl ExporterBuilder {
    /// Sets the configuration. Default: that of the environment.
    pub fn config(mut self, config: OtlpConfig) -> ExporterBuilder {
        self.config = config;
        self
    }

    /// Exports the spans of a tracer.
    pub fn tracer(mut self, tracer: &Tracer) -> ExporterBuilder {
        self.tracer = Some(tracer.clone());
        self
    }

    /// Exports metrics. Each call adds a source.
    pub fn metrics(mut self, source: impl MetricSource + 'static) -> ExporterBuilder {
        self.sources.push(Arc::new(source));
        self
    }

    /// Passes each kind of problem, such as a collector that does not answer, to a function, once. It runs on the thread of
    /// the export.
    pub fn on_problem(self, report: impl Fn(&str) + Send + Sync + 'static) -> ExporterBuilder {
        self.counters.set_report(Box::new(report));
        self
    }

    /// Finds out whether something is exported, and changes the settings of tracing to those of the environment.
    pub(crate) fn plan(&mut self, trace: &mut TraceConfig) -> Result<bool, ExportError> {
        let mut settings = ExportSettings::find(&self.config, &process_variable)?;
        self.warnings.append(&mut settings.warnings);
        if settings.is_empty() {
            return Ok(false);
        }
        if settings.traces.is_some() {
            let (is_set, warning) = apply_sampler(trace, &process_variable);
            self.warnings.extend(warning);
            trace.enabled |= is_set || settings.is_from_environment;
        }
        self.settings = Some(Arc::new(settings));
        Ok(true)
    }

    /// Returns the counters, as metrics.
    pub(crate) fn counters(&self) -> Arc<ExportCounters> {
        self.counters.clone()
    }

    /// Returns what is wrong with the environment.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Starts the exporter and its thread.
    ///
    /// # Errors
    ///
    /// There is no URL of a collector, it is not valid, or the system provides no thread.
    pub fn start(mut self) -> Result<Exporter, ExportError> {
        if self.settings.is_none() && !self.plan(&mut TraceConfig::default())? {
            return Err(ExportError::NoEndpoint);
        }
        let Some(settings) = &self.settings else { return Err(ExportError::NoEndpoint) };
        let thread = AgentThread::start("coreloop-export").map_err(ExportError::Io)?;
        let mut agents = Vec::new();
        if let (Some(traces), Some(tracer)) = (&settings.traces, self.tracer) {
            let source = SpanSource::new(tracer, traces, settings.resource.clone(), Instant::now());
            let sender = SignalSender::new(source, traces.clone(), self.counters.clone());
            agents.push(thread.agents().run(sender).map_err(ExportError::Io)?);
        }
        if let Some(metrics) = settings.metrics.as_ref().filter(|_| !self.sources.is_empty()) {
            let source = PointSource::new(self.sources, metrics, settings.resource.clone(), Instant::now());
            let sender = SignalSender::new(source, metrics.clone(), self.counters.clone());
            agents.push(thread.agents().run(sender).map_err(ExportError::Io)?);
        }
        Ok(Exporter { agents, _thread: thread, counters: self.counters, warnings: self.warnings })
    }
}

impl fmt::Debug for ExporterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the header fields of the environment, which may be secrets.
        f.debug_struct("ExporterBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Exports spans and metrics, until it is dropped or shut down.
#[must_use = "a dropped exporter gives up what it has not sent"]
pub struct Exporter {
    agents: Vec<AgentGuard>,
    /// Ends the thread when it is dropped.
    _thread: AgentThread,
    counters: Arc<ExportCounters>,
    warnings: Vec<String>,
}

impl Exporter {
    /// Returns a builder.
    pub fn builder() -> ExporterBuilder {
        ExporterBuilder::default()
    }

    /// Returns what was exported.
    pub fn stats(&self) -> ExportStats {
        self.counters.stats()
    }

    /// Returns one line for each environment variable that has no effect.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Exports what waits, for at most 2 seconds, and ends. What the collector has not taken by then is counted as dropped.
    pub fn shutdown(mut self) -> ExportStats {
        // The thread needs a moment to notice that the time is over.
        let until = Instant::now() + END_MAX + END_MAX / 4;
        let (done, ended) = crossbeam_channel::bounded(self.agents.len());
        for agent in self.agents.drain(..) {
            let done = done.clone();
            agent.end(Box::new(move || {
                // The channel has room for each.
                let _ = done.try_send(());
            }));
        }
        drop(done);
        // A message for each agent, and the end of the channel after the last.
        while ended.recv_deadline(until).is_ok() {}
        self.stats()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
