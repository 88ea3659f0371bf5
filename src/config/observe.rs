//! Settings of what shows a server at work: traces, their export, and the admin listener.

/// Settings of tracing (docs/observability.md).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceConfig {
    /// Whether calls are traced at all: spans are made, and trace headers of callers are read. Default: false, so a
    /// call costs nothing for it.
    pub enabled: bool,

    /// One call in this many is sampled if its caller has not decided. Default 1,000; 0: none. Too small: the spans
    /// cost more than the calls. Too large: rare calls are never seen.
    pub sample_one_in: u64,

    /// Calls that take at least this many milliseconds, queue and handler together, are kept although they were not
    /// sampled, within [`kept_per_second_max`](TraceConfig::kept_per_second_max). Default 0: none are.
    pub slow_ms: u64,

    /// Failed and slow calls that are kept in each second although they were not sampled, on each reactor. Default 10;
    /// 0: none. Too large: an outage makes a span for every call.
    pub kept_per_second_max: u64,

    /// Whether slow and failed calls are kept although their caller has decided against it (sampled = 0). Default:
    /// false.
    pub always_keep_unsampled: bool,

    /// Whether nested calls of traced calls, and calls of clients with a tracer, send a `b3` header besides `traceparent`.
    /// Default: false.
    pub send_b3: bool,

    /// Finished spans that each reactor holds for the export, and the latest ones that it holds for the console.
    /// Default 2,048 of each. At the limit: the next span is dropped and counted. A span has at most 4 KiB.
    pub ring_spans_max: usize,
}

impl Default for TraceConfig {
    fn default() -> Self {
        TraceConfig {
            enabled: false,
            sample_one_in: 1000,
            slow_ms: 0,
            kept_per_second_max: 10,
            always_keep_unsampled: false,
            send_b3: false,
            ring_spans_max: 2048,
        }
    }
}

/// Settings of the export of spans and metrics by OTLP (feature `otlp`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// The URL of the collector, such as `http://127.0.0.1:4318` or `https://…`; `v1/traces` and `v1/metrics` are added. Default:
    /// empty, the one in `OTEL_EXPORTER_OTLP_ENDPOINT`; nothing is exported if that is not set either.
    pub endpoint: String,

    /// A PEM file with the authorities that the certificate of an `https://` collector must be of. Default: empty, the one in
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`, or those that the system trusts. Needs the feature `tls`.
    pub ca: String,

    /// A PEM file with the certificate that is presented to the collector. Default: empty, the one in
    /// `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, or none. Needs [`OtlpConfig::client_key`].
    pub client_certificate: String,

    /// A PEM file with the private key of that certificate. Default: empty, the one in `OTEL_EXPORTER_OTLP_CLIENT_KEY`.
    pub client_key: String,

    /// The name of the service in exported data. Default: empty, the one in `OTEL_SERVICE_NAME`, or
    /// `unknown_service:PROGRAM`.
    pub service_name: String,

    /// Whether the body is JSON instead of protobuf. Default: false.
    pub json: bool,

    /// Whether bodies are compressed by gzip. Default: true.
    pub gzip: bool,

    /// Milliseconds between two exports of spans. Default 1,000.
    pub interval_ms: u64,

    /// Milliseconds between two exports of metrics. Default 60,000; 0: metrics are not exported.
    pub metrics_interval_ms: u64,

    /// Milliseconds for one request to the collector. Default 10,000.
    pub timeout_ms: u64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        OtlpConfig {
            endpoint: String::new(),
            ca: String::new(),
            client_certificate: String::new(),
            client_key: String::new(),
            service_name: String::new(),
            json: false,
            gzip: true,
            interval_ms: 1000,
            metrics_interval_ms: 60_000,
            timeout_ms: 10_000,
        }
    }
}

/// Settings of the admin listener (feature `admin`): console, metrics and profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdminConfig {
    /// The address that the console, `/metrics` and profiles are served on, as `127.0.0.1:6551`. Default: empty, they
    /// are not served. They reveal internals and can cost CPU: a listener that others than operators can reach needs an
    /// interceptor that authenticates them.
    pub listen: String,
}
