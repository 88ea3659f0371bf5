//! The environment variables of OpenTelemetry, and what is exported to where because of them and of the configuration.
//!
//! Names and meanings are those of the specification ("OpenTelemetry Protocol Exporter", "Environment Variable
//! Specification"). A setting of the configuration that differs from its default takes precedence. A variable with a value
//! that is not valid is ignored with a warning; the value itself is not printed where it may be a secret.

use std::path::PathBuf;
use std::time::Duration;

use super::ExportError;
use super::resource::{Resource, resource};
use super::writer::BodyFormat;
use crate::agent::http::is_field_value;
use crate::config::{OtlpConfig, TraceConfig};
#[cfg(feature = "tls-core")]
use crate::transport::ClientTls;
use crate::transport::TlsClient;

/// The port of a URL without one.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// The most header fields of the environment.
const HEADERS_MAX: usize = 64;
/// Header fields that the exporter writes itself.
const OWN_HEADERS: [&str; 7] = [
    "host",
    "accept",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
];

/// Reads a variable of the environment.
pub(super) type ReadVariable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the environment of the process. A value that is not Unicode counts as absent, and so does an empty one, by the
/// specification.
pub(super) fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn in_variables(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
        }
    }
}

/// Where and how one signal is exported.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SignalSettings {
    /// `host:port`.
    pub(super) authority: String,
    /// Set for an `https://` URL.
    pub(super) tls: Option<TlsClient>,
    /// The path, and the query.
    pub(super) target: String,
    pub(super) format: BodyFormat,
    pub(super) gzip: bool,
    /// Further header fields, which may be secrets.
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
}

/// What is exported to where.
#[derive(Clone)]
pub(super) struct ExportSettings {
    pub(super) traces: Option<SignalSettings>,
    pub(super) metrics: Option<SignalSettings>,
    pub(super) resource: Resource,
    /// The endpoint is that of the environment.
    pub(super) is_from_environment: bool,
    pub(super) warnings: Vec<String>,
}

impl ExportSettings {
    /// Finds the settings. Without an endpoint for any signal there is nothing to export.
    pub(super) fn find(
        config: &OtlpConfig,
        variable: ReadVariable<'_>,
    ) -> Result<ExportSettings, ExportError> {
        let mut finder = Finder { config, variable, warnings: Vec::new() };
        let is_off = finder.switch("OTEL_SDK_DISABLED");
        let mut signals = [Signal::Traces, Signal::Metrics].into_iter().map(|signal| match is_off {
            true => Ok(None),
            false => finder.signal(signal),
        });
        let (traces, metrics) =
            (signals.next().transpose()?.flatten(), signals.next().transpose()?.flatten());
        drop(signals);
        let resource = resource(&config.service_name, variable, &mut finder.warnings);
        let warnings = finder.warnings;
        Ok(ExportSettings {
            traces,
            metrics,
            resource,
            is_from_environment: config.endpoint.is_empty(),
            warnings,
        })
    }

    /// Whether anything is exported.
    pub(super) fn is_empty(&self) -> bool {
        self.traces.is_none() && self.metrics.is_none()
    }
}

struct Finder<'a> {
    config: &'a OtlpConfig,
    variable: ReadVariable<'a>,
    warnings: Vec<String>,
}

impl Finder<'_> {
    fn signal(&mut self, signal: Signal) -> Result<Option<SignalSettings>, ExportError> {
        let Some((source, url, is_whole)) = self.endpoint(signal) else { return Ok(None) };
        let default = OtlpConfig::default();
        let exporter = format!("OTEL_{}_EXPORTER", signal.in_variables());
        match (self.variable)(&exporter).as_deref().map(str::trim) {
            // The configuration has named an endpoint.
            _ if !self.config.endpoint.is_empty() => {}
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                self.warnings
                    .push(format!("{exporter}: expected otlp or none; found {other:?}; nothing is exported"));
                return Ok(None);
            }
        }
        let (interval, variable, own) = match signal {
            Signal::Traces => (self.config.interval_ms, "OTEL_BSP_SCHEDULE_DELAY", default.interval_ms),
            Signal::Metrics => {
                let own = default.metrics_interval_ms;
                (self.config.metrics_interval_ms, "OTEL_METRIC_EXPORT_INTERVAL", own)
            }
        };
        let interval = match self.millis(variable) {
            Some(millis) if interval == own => millis.max(10),
            _ => interval,
        };
        if interval == 0 {
            return Ok(None);
        }
        let Endpoint { authority, path, is_secured } = parse_endpoint(&source, &url)?;
        let tls = self.tls(signal, &source, is_secured)?;
        let target = match is_whole {
            true => path,
            false => format!("{}{}", path.trim_end_matches('/'), signal.path()),
        };
        let Some(format) = self.format(signal) else { return Ok(None) };
        Ok(Some(SignalSettings {
            authority,
            tls,
            target,
            format,
            gzip: self.gzip(signal),
            headers: self.headers(signal),
            timeout: Duration::from_millis(self.timeout(signal)),
            interval: Duration::from_millis(interval),
        }))
    }

    /// Returns the origin of the URL of a signal, the URL, and whether it is used as it is.
    fn endpoint(&self, signal: Signal) -> Option<(String, String, bool)> {
        if !self.config.endpoint.is_empty() {
            return Some(("otlp.endpoint".to_owned(), self.config.endpoint.clone(), false));
        }
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.in_variables());
        if let Some(url) = (self.variable)(&own) {
            return Some((own, url, true));
        }
        let general = "OTEL_EXPORTER_OTLP_ENDPOINT";
        Some((general.to_owned(), (self.variable)(general)?, false))
    }

    /// Returns the name and the value of a variable of a signal, or of all signals.
    fn variable_of(&self, signal: Signal, rest: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{rest}", signal.in_variables());
        let general = format!("OTEL_EXPORTER_OTLP_{rest}");
        [own, general].into_iter().find_map(|name| (self.variable)(&name).map(|value| (name, value)))
    }

    /// Returns a file for TLS: that of the configuration, or that of a variable.
    fn tls_file(&self, signal: Signal, own: &str, variable: &str) -> Option<PathBuf> {
        match own {
            "" => self.variable_of(signal, variable).map(|(_, path)| path.into()),
            path => Some(path.into()),
        }
    }

    /// Reads the files for an `https://` URL. It waits for the disk.
    fn tls(&self, signal: Signal, source: &str, is_secured: bool) -> Result<Option<TlsClient>, ExportError> {
        let OtlpConfig { ca, client_certificate, client_key, .. } = self.config;
        if !is_secured {
            // Variables may be there for other exporters of the process.
            let unused = [
                ("otlp.ca", ca),
                ("otlp.client_certificate", client_certificate),
                ("otlp.client_key", client_key),
            ];
            return match unused.iter().find(|(_, path)| !path.is_empty()) {
                Some((setting, path)) => Err(ExportError::Endpoint {
                    setting: (*setting).to_owned(),
                    found: format!("{path:?}, and an http:// URL in {source}"),
                    expected: "no file without an https:// URL",
                }),
                None => Ok(None),
            };
        }
        let files = [
            self.tls_file(signal, ca, "CERTIFICATE"),
            self.tls_file(signal, client_certificate, "CLIENT_CERTIFICATE"),
            self.tls_file(signal, client_key, "CLIENT_KEY"),
        ];
        load_tls(source, files).map(Some)
    }

    fn warn(&mut self, text: String) {
        // A variable of all signals is read for each.
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    fn format(&mut self, signal: Signal) -> Option<BodyFormat> {
        if self.config.json {
            return Some(BodyFormat::Json);
        }
        let Some((name, value)) = self.variable_of(signal, "PROTOCOL") else {
            return Some(BodyFormat::Protobuf);
        };
        match value.trim() {
            "http/protobuf" => Some(BodyFormat::Protobuf),
            "http/json" => Some(BodyFormat::Json),
            "grpc" => {
                self.warn(format!("{name}: OTLP over gRPC is not supported; http/protobuf is used"));
                Some(BodyFormat::Protobuf)
            }
            other => {
                self.warn(format!("{name}: expected http/protobuf or http/json; found {other:?}; ignored"));
                Some(BodyFormat::Protobuf)
            }
        }
    }

    fn gzip(&mut self, signal: Signal) -> bool {
        let Some((name, value)) = self.variable_of(signal, "COMPRESSION").filter(|_| self.config.gzip) else {
            return self.config.gzip;
        };
        match value.trim() {
            "gzip" => true,
            "none" => false,
            other => {
                self.warn(format!("{name}: expected gzip or none; found {other:?}; ignored"));
                self.config.gzip
            }
        }
    }

    fn timeout(&mut self, signal: Signal) -> u64 {
        if self.config.timeout_ms != OtlpConfig::default().timeout_ms {
            return self.config.timeout_ms;
        }
        let Some((name, value)) = self.variable_of(signal, "TIMEOUT") else { return self.config.timeout_ms };
        self.parse_millis(&name, &value).filter(|millis| *millis > 0).unwrap_or(self.config.timeout_ms)
    }

    fn headers(&mut self, signal: Signal) -> Vec<(String, String)> {
        let Some((name, value)) = self.variable_of(signal, "HEADERS") else { return Vec::new() };
        let mut headers = Vec::new();
        for pair in value.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let parsed = pair.split_once('=').and_then(|(key, value)| {
                let (key, value) = (key.trim(), percent_decoded(value.trim())?);
                (is_token(key) && is_field_value(&value)).then(|| (key.to_ascii_lowercase(), value))
            });
            match parsed {
                _ if headers.len() == HEADERS_MAX => {
                    self.warn(format!("{name}: more than {HEADERS_MAX} headers; the others are ignored"));
                    break;
                }
                Some((key, _)) if OWN_HEADERS.contains(&key.as_str()) => {
                    self.warn(format!("{name}: the header {key} is the exporter's own; ignored"));
                }
                Some(header) => headers.push(header),
                // The text may be a secret.
                None => {
                    self.warn(format!("{name}: expected KEY=VALUE, separated by commas; a part is ignored"))
                }
            }
        }
        headers
    }

    fn millis(&mut self, name: &str) -> Option<u64> {
        let value = (self.variable)(name)?;
        self.parse_millis(name, &value)
    }

    fn parse_millis(&mut self, name: &str, value: &str) -> Option<u64> {
        // A week, as for the keys of the configuration.
        let millis = value.trim().parse().ok().filter(|millis| *millis <= 7 * 86_400_000);
        if millis.is_none() {
            self.warn(format!("{name}: expected milliseconds; found {value:?}; ignored"));
        }
        millis
    }

    fn switch(&mut self, name: &str) -> bool {
        let value = (self.variable)(name).unwrap_or_default();
        match value.trim() {
            value if value.eq_ignore_ascii_case("true") => true,
            value if value.is_empty() || value.eq_ignore_ascii_case("false") => false,
            value => {
                self.warn(format!("{name}: expected true or false; found {value:?}; false is used"));
                false
            }
        }
    }
}

/// Changes the settings of tracing that are at their defaults to those of `OTEL_TRACES_SAMPLER`. Returns whether the
/// variable is set, and a warning.
pub(super) fn apply_sampler(trace: &mut TraceConfig, variable: ReadVariable<'_>) -> (bool, Option<String>) {
    let Some(name) = variable("OTEL_TRACES_SAMPLER") else { return (false, None) };
    let argument = variable("OTEL_TRACES_SAMPLER_ARG");
    // The caller's decision is always followed: there is no difference between a sampler and its form with `parentbased_`.
    let sample_one_in = match name.trim().strip_prefix("parentbased_").unwrap_or(name.trim()) {
        "always_on" => 1,
        "always_off" => 0,
        "traceidratio" => match argument.as_deref().map_or(Some(1.0), |text| text.trim().parse::<f64>().ok())
        {
            Some(0.0) => 0,
            Some(ratio) if ratio > 0.0 && ratio <= 1.0 => {
                (1.0 / ratio).round().min((1_u64 << 40) as f64) as u64
            }
            Some(_) | None => {
                let text =
                    "OTEL_TRACES_SAMPLER_ARG: expected a ratio from 0 to 1; both variables are ignored";
                return (false, Some(text.to_owned()));
            }
        },
        other => {
            let text = format!(
                "OTEL_TRACES_SAMPLER: expected always_on, always_off, traceidratio, or one of them with parentbased_ \
                 in front; found {other:?}; ignored"
            );
            return (false, Some(text));
        }
    };
    if trace.sample_one_in == TraceConfig::default().sample_one_in {
        trace.sample_one_in = sample_one_in;
    }
    (true, None)
}

/// Makes the TLS of the connections to a collector from the authorities, the own certificate and its key.
#[cfg(feature = "tls-core")]
fn load_tls(source: &str, [ca, certificate, key]: [Option<PathBuf>; 3]) -> Result<TlsClient, ExportError> {
    let mut settings = ClientTls::default();
    (settings.ca, settings.certificate, settings.key) = (ca, certificate, key);
    TlsClient::load(&settings)
        .map_err(|error| ExportError::Tls { setting: source.to_owned(), fault: error.to_string() })
}

#[cfg(not(feature = "tls-core"))]
fn load_tls(source: &str, _files: [Option<PathBuf>; 3]) -> Result<TlsClient, ExportError> {
    Err(ExportError::TlsNotCompiledIn { setting: source.to_owned() })
}

/// The parts of the URL of a collector.
struct Endpoint {
    /// `host:port`.
    authority: String,
    /// The path with the query.
    path: String,
    is_secured: bool,
}

/// Parses the URL of a collector.
fn parse_endpoint(source: &str, url: &str) -> Result<Endpoint, ExportError> {
    let url = url.trim();
    let not_valid = |expected: &'static str| {
        // What is between the scheme and `@` may be a secret.
        let shown = if url.contains('@') { "a URL with a user name".to_owned() } else { format!("{url:?}") };
        ExportError::Endpoint { setting: source.to_owned(), found: shown, expected }
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(not_valid("http://HOST:PORT or https://HOST:PORT"));
    };
    let is_secured = scheme.eq_ignore_ascii_case("https");
    if !is_secured && !scheme.eq_ignore_ascii_case("http") {
        return Err(not_valid("http://HOST:PORT or https://HOST:PORT"));
    }
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.contains('@') {
        return Err(not_valid("a URL without a user name; use OTEL_EXPORTER_OTLP_HEADERS"));
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.contains(']') => {
            if port.starts_with('+') || !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(not_valid("a port from 1 to 65535"));
            }
            host
        }
        _ => authority,
    };
    let is_host = |letter: u8| letter.is_ascii_alphanumeric() || b"-._".contains(&letter);
    let is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_host),
    };
    if !is_valid {
        return Err(not_valid("a host name or an IP address"));
    }
    if !path.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) || path.contains('#') {
        return Err(not_valid("a path without spaces and without #"));
    }
    let port = if is_secured { HTTPS_PORT } else { HTTP_PORT };
    let authority =
        if host.len() == authority.len() { format!("{authority}:{port}") } else { authority.to_owned() };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Endpoint { authority, path, is_secured })
}

/// Returns whether a text may be the name of a header field (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

/// Decodes `%41` and the like. `None` if it is not valid, or not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[path = "environment/tests.rs"]
mod tests;
