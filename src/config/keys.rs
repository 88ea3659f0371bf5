//! The table of keys: dotted name, accepted values, the meaning of 0, and the behaviour at the limit.
//!
//! Files, environment, flags, printing, validation and the table in `docs/configuration.md` all read it. A new key is
//! a field in `mod.rs` or `limits.rs` and one row here; tests fail if the row or the documentation is missing. Rules
//! between two keys are in `valid.rs`.

use std::fmt;

use super::value::ValueKind::{
    self, Account, Addresses, Bytes, Choice, ChosenAddresses, Files, Line, MethodLimits, Networks, Number,
    Origins, PermissionRules, SocketFileMode, Switch,
};
use super::value::{ConfigField, ConfigValue, ValueFault};
use super::{
    AcceptMode, ClientAuth, Config, ConfigError, FairBy, ForwardedField, MissingFields, Origin, Profile,
    TlsMode,
};

/// One key of the configuration.
pub struct ConfigKey {
    name: &'static str,
    pub(super) kind: ValueKind,
    zero: Option<&'static str>,
    summary: &'static str,
    pub(super) read: fn(&Config) -> ConfigValue,
    pub(super) write: fn(&mut Config, ConfigValue),
}

macro_rules! table {
    ($($first:ident $(. $rest:ident)?: $kind:expr, $(zero $zero:literal,)? $summary:literal;)*) => {
        /// Top-level keys first, then section by section, so that a printed config is valid from top to bottom.
        pub(super) static KEYS: &[ConfigKey] = &[$(ConfigKey {
            name: concat!(stringify!($first) $(, ".", stringify!($rest))?),
            kind: $kind,
            zero: table!(@zero $($zero)?),
            summary: $summary,
            read: |config| ConfigField::read(&config.$first $(. $rest)?),
            write: |config, value| ConfigField::write(&mut config.$first $(. $rest)?, value),
        },)*];
    };
    (@zero) => { None };
    (@zero $zero:literal) => { Some($zero) };
}

table! {
    profile: Choice(&Profile::NAMES), "Which defaults all other keys have: those of a server, or of a device with little memory (docs/small.md).";
    listen: Addresses, "Addresses to listen on, with `native:`, `gob:`, `jsonrpc:`, `http:` or `grpc:` in front for that protocol alone; between commas in the environment and in flags.";
    cores: Number(0, 1024), zero "the number of allowed cores, at most the CPU quota of the control group", "Reactors, one thread each.";
    workers: Number(0, 4096), zero "as many as reactors, at least 2", "Threads for pooled methods; when all are busy, calls wait in the run queue.";
    blocking_threads: Number(1, 65_536), "Most threads for methods that may wait; when all are busy, calls wait in the run queue.";
    pin: Switch, "Pin each reactor to one allowed core.";
    busy_poll_us: Number(0, MICROS_MAX), zero "sleep at once", "How long an idle reactor polls before it sleeps; never with one allowed core.";
    gather_us: Number(0, 10_000), zero "never", "How long a busy reactor naps so that calls gather, while that makes them cheaper and more.";
    worker_spin_us: Number(0, MICROS_MAX), zero "park at once", "How long an idle worker looks for work before it parks; never with one allowed core.";
    batch_max: Number(1, 64), "Requests handed to a worker in one batch; the rest of the turn goes out in further batches.";
    fair_by: Choice(&FairBy::NAMES), "Whose calls take turns while calls wait for a worker: each connection's, each peer address's, or each principal's.";
    priority_highest: Number(0, 3), zero "any", "The highest priority that callers can claim, 0 to 3; calls without one have 1.";
    method_limits: MethodLimits, "Most calls in progress of single methods, per reactor: `resource_exhausted`; between commas in the environment and in flags.";
    accept: Choice(&AcceptMode::NAMES), "How reactors share a port; `auto` is `reuseport` on Linux with several reactors, else `acceptor`.";
    unix_mode: SocketFileMode, "Permissions of the file of a Unix socket that is listened on; to connect needs write. `\"0\"`: as the umask leaves them.";
    unix_user: Account, "User that owns that file, by name or number. Empty: the process's own.";
    unix_group: Account, "Group that owns that file, by name or number. Empty: as the system gives it.";
    missing_fields: Choice(&MissingFields::NAMES), "Fields that an argument lacks or has as null: their type's zero, or `invalid_argument`; `by_protocol` is zero in gob, JSON-RPC 1.0 and Connect, else an error.";
    flush.high_mark_bytes: Bytes(0, HOLD_MAX), zero "80 % of limits.write_queue_high_bytes", "A write queue beyond this is flushed before the turn ends.";
    flush.delay_us: Number(0, MICROS_MAX), zero "no delay", "How long a reply may wait for company after its turn; then it leaves.";
    turn.read_bytes_max: Bytes(1, 1 << 30), "Bytes read from one connection in a turn; the rest is read in the next.";
    turn.accepts_max: Number(1, 65_536), "Connections accepted in a turn; the rest wait in the backlog.";
    turn.messages_max: Number(1, 1 << 20), "Messages decoded from one connection in a turn; the rest wait for the next.";
    http.cors_origins: Origins, "Origins whose pages browsers let call (CORS), `*` for all; between commas in the environment and in flags.";
    http.forwarded_from: Networks, "Proxies whose field `http.forwarded_field` tells the client of a request (docs/proxies.md); between commas in the environment and in flags.";
    http.forwarded_field: Choice(&ForwardedField::NAMES), "The field that these proxies write themselves.";
    http.console: Switch, "Serve the console, a page to read and call the methods, at `/`; only with `http.openapi`, which it reads.";
    http.openapi: Switch, "Serve the OpenAPI document at `/openapi.json`.";
    http.application_name: Line(LINE_CHARS_MAX), "Name of the application, shown by the console and the OpenAPI document; empty: none.";
    http.application_version: Line(LINE_CHARS_MAX), "Version of the application in the OpenAPI document; empty: the version of coreloop.";
    tls.mode: Choice(&TlsMode::NAMES), "Whether listeners require TLS once there is a certificate, serve both, or none; `+tls` or `+plain` behind the protocol of a listener decides for that one.";
    tls.certificate: Files, "PEM files of the server's certificates with their chains; several are chosen by name (SNI), the first for unknown names; between commas in the environment and in flags.";
    tls.key: Files, "PEM files of the private keys, in the order of the certificates.";
    tls.client_ca: Line(PATH_CHARS_MAX), "PEM file of the authorities of clients' certificates; empty: clients are asked for none.";
    tls.client_auth: Choice(&ClientAuth::NAMES), "Whether clients need a certificate, once there is `tls.client_ca`: the handshake fails.";
    tls.client_crl: Line(PATH_CHARS_MAX), "PEM file with the revocation lists of these authorities, a current one for each; empty: nothing is revoked.";
    proxy_protocol.from: Networks, "Proxies whose connections begin with a header of the PROXY protocol (docs/proxies.md): once there is one, connections of other peers, or without the header, are closed.";
    proxy_protocol.listen: ChosenAddresses, "Listeners that expect it, as they are in `listen`; empty: all of them.";
    register.url: Line(URL_CHARS_MAX), "Where the server registers itself (docs/discovery.md); empty: nowhere. It is tried again until the registry answers.";
    register.address: Line(LINE_CHARS_MAX), "Address for clients; empty: that of the first TCP listener, which must not be a wildcard then.";
    register.zone: Line(LINE_CHARS_MAX), "Zone of the server; empty: none.";
    register.weight: Number(0, 65_535), zero "no calls while another server can take them", "Share of the calls, relative to the other servers.";
    register.deregister_ms: Number(0, MILLIS_MAX), zero "no wait", "Time that a drain waits until the server is deregistered: it goes on.";
    auth.tokens_file: Line(LINE_CHARS_MAX), "File of bearer tokens: on each line a name, a token, and roles with commas in between (docs/security.md). Empty: none.";
    auth.allow: PermissionRules, "Callers of each method; once there is a rule, all others are refused. Between commas in the environment and in flags.";
    auth.calls_per_second: Number(0, 1 << 30), zero "no limit", "Calls per second of each principal, and at once after a pause: the next is answered `resource_exhausted`.";
    auth.in_progress_max: Number(0, 1 << 20), zero "no limit", "Calls in progress of each principal: the next is answered `resource_exhausted`.";
    trace.enabled: Switch, "Make spans of sampled calls, and read the trace headers of callers.";
    trace.sample_one_in: Number(0, 1 << 40), zero "no call", "One call in this many is sampled if its caller has not decided.";
    trace.slow_ms: Number(0, MILLIS_MAX), zero "no call", "Calls that take at least this long are kept although they were not sampled.";
    trace.kept_per_second_max: Number(0, 1 << 20), zero "none", "Slow and failed calls kept in each second, per reactor: further ones are not.";
    trace.always_keep_unsampled: Switch, "Keep slow and failed calls although their caller has decided against it.";
    trace.send_b3: Switch, "Send a `b3` header besides `traceparent`.";
    trace.ring_spans_max: Number(1, 1 << 20), "Finished spans held for the export, and as many for the console, per reactor: the next is dropped and counted.";
    otlp.endpoint: Line(URL_CHARS_MAX), "URL of the OpenTelemetry collector, as `http://127.0.0.1:4318`; empty: that of `OTEL_EXPORTER_OTLP_ENDPOINT`, or no export.";
    otlp.ca: Line(PATH_CHARS_MAX), "PEM file of the authorities of an `https://` collector; empty: that of `OTEL_EXPORTER_OTLP_CERTIFICATE`, or those that the system trusts.";
    otlp.client_certificate: Line(PATH_CHARS_MAX), "PEM file of the certificate that is presented to the collector; empty: that of `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, or none.";
    otlp.client_key: Line(PATH_CHARS_MAX), "PEM file of its private key; empty: that of `OTEL_EXPORTER_OTLP_CLIENT_KEY`.";
    otlp.service_name: Line(LINE_CHARS_MAX), "Name of the service in exported data; empty: that of `OTEL_SERVICE_NAME`, or `unknown_service:PROGRAM`.";
    otlp.json: Switch, "Export JSON instead of protobuf.";
    otlp.gzip: Switch, "Compress what is exported.";
    otlp.interval_ms: Number(10, MILLIS_MAX), "Time between two exports of spans.";
    otlp.metrics_interval_ms: Number(0, MILLIS_MAX), zero "no export of metrics", "Time between two exports of metrics.";
    otlp.timeout_ms: Number(1, MILLIS_MAX), "Time for one request to the collector: it is tried again.";
    admin.listen: Line(LINE_CHARS_MAX), "Address that console, metrics and profiles are served on; empty: none.";
    restart.takeover: Line(LINE_CHARS_MAX), "Path of the Unix socket at which a new process takes over the listening sockets (docs/operation.md); empty: none.";
    restart.takeover_ms: Number(1, MILLIS_MAX), "Time for one takeover: the new process does not start, and the running one serves on.";
    restart.systemd: Switch, "Listen on the sockets that systemd passes (`LISTEN_FDS`), instead of `listen`, and notify it; `coreloop serve` sets it.";
    limits.frame_bytes_max: Bytes(1, FRAME_BYTES_MAX), "A frame or body, also once decompressed: native `resource_exhausted`, then close if the frame cannot be skipped; HTTP 413.";
    limits.connections_max: Number(1, 1 << 24), "Connections per reactor: a new one is accepted, closed at once and counted.";
    limits.in_flight_max: Number(1, 1 << 20), "Requests in flight per connection: stop reading until half are answered; native calls with a deadline are refused.";
    limits.in_flight_bytes_max: Bytes(1, HOLD_MAX), "Bodies held by requests in flight per connection: as in_flight_max.";
    limits.write_queue_high_bytes: Bytes(1, HOLD_MAX), "Unread replies per connection: stop reading; after `limits.write_stall_ms` without progress, close.";
    limits.write_queue_low_bytes: Bytes(0, HOLD_MAX), zero "when the queue is empty", "Where reading resumes once the write queue was full.";
    limits.run_queue_max: Number(1, 1 << 22), "Calls that wait for a worker, per reactor: the next is answered `resource_exhausted`.";
    limits.async_in_flight_max: Number(1, 1 << 22), "Calls of async methods whose futures exist: the next is answered `resource_exhausted`.";
    limits.look_ahead_us: Number(1, MICROS_MAX), "Work that each worker is given ahead; the rest waits in the run queue.";
    limits.queue_target_ms: Number(0, MILLIS_MAX), zero "no target", "Time that calls may wait for a worker: once all of 100 ms have waited longer, such calls are answered `resource_exhausted`.";
    limits.adaptive_concurrency: Switch, "Limit the calls in progress by how long they take: `resource_exhausted`.";
    limits.http_headers_max: Number(1, 65_536), "Header lines of an HTTP request: 431.";
    limits.http_head_bytes_max: Bytes(64, 16 << 20), "Bytes of an HTTP head: 431.";
    limits.silent_connections_max: Number(1, 1 << 24), "Connections per reactor that have sent nothing yet: the oldest of them is closed.";
    limits.tls_handshakes_max: Number(1, 1 << 20), "TLS handshakes in progress, for each reactor on average: further connections wait in the accept queue.";
    limits.tls_handshake_ms: Number(1, MILLIS_MAX), "Time from the accept of a connection with TLS to the end of its handshake: close.";
    limits.first_bytes_ms: Number(1, MILLIS_MAX), "Time from the first byte of a connection to those that tell its protocol, in total: close. Before its first byte a connection is idle (`limits.idle_ms`).";
    limits.head_ms: Number(1, MILLIS_MAX), "Time for a whole HTTP head once begun, in total: 408 and close.";
    limits.frame_ms: Number(1, MILLIS_MAX), "Time for a whole frame or body once begun, in total: close (HTTP 408).";
    limits.idle_ms: Number(1, MILLIS_MAX), "Time without a request: a drain notice, then close.";
    limits.connection_age_max_ms: Number(0, MILLIS_MAX), zero "at no age", "Age of a connection, give or take 10 % for each: it is drained, and its calls finish.";
    limits.write_stall_ms: Number(1, MILLIS_MAX), "Time that a write makes no progress: close.";
    limits.depth_max: Number(1, 128), "Nesting of JSON, gob and the like: `invalid_argument`.";
    limits.gob_types_max: Number(1, 65_536), "gob type definitions per connection: close.";
    limits.gob_type_bytes_max: Bytes(64, 16 << 20), "Bytes of one gob type definition: close.";
    limits.idle_buffer_bytes_max: Bytes(0, HOLD_MAX), zero "every buffer is allocated and freed", "Idle buffers \
        that a reactor keeps for its next reads and replies: one that comes back is freed.";
    limits.reply_bytes_max: Bytes(1, FRAME_BYTES_MAX), "The body of one reply, before compression: the call is answered `resource_exhausted` instead.";
    limits.streams_max: Number(1, 1 << 20), "Streaming calls of a connection that have not ended: further ones are refused with `resource_exhausted`.";
    limits.stream_window_bytes: Bytes(1, 1 << 30), "Bytes of messages that a peer may send for one stream before they are taken (at least 64 KiB): the peer gets no credit.";
    limits.connection_window_bytes: Bytes(1, 1 << 30), "Bytes of messages that a peer may send on one connection before they are taken (at least 1 MiB): the peer gets no credit.";
    limits.held_bytes_max: Bytes(1, HOLD_MAX), "Bytes of messages that wait for credit of one peer: no sink of the connection is ready.";
    limits.refusal_bytes_max: Bytes(1, HOLD_MAX), "Bytes of refusals and pongs that wait on a connection that goes on reading at its limits: reading stops.";
    limits.stream_keepalive_ms: Number(1, MILLIS_MAX), "Time without a byte from the peer of a connection with open streams: a ping is sent.";
    limits.stream_keepalive_timeout_ms: Number(1, MILLIS_MAX), "Time for the answer to that ping: close.";
    limits.linger_bytes_max: Bytes(1, HOLD_MAX), "Bytes read and dropped after the last answer on a connection, or after an HTTP request was refused before its body: close.";
    limits.linger_ms: Number(1, MILLIS_MAX), "Time for reading and dropping them: close.";
    limits.drain_grace_ms: Number(0, MILLIS_MAX), zero "the drain begins at once", "Time between `not_serving` and the drain, in which everything is still served; it comes on top of `limits.drain_ms`.";
    limits.drain_idle_ms: Number(0, MILLIS_MAX), zero "close at once", "Time that a drain keeps HTTP connections without a request: close. A request in that time is answered with `Connection: close`.";
    limits.drain_ms: Number(0, MILLIS_MAX), zero "end them at once", "Time that a drain waits for calls in flight: what is left is answered `unavailable` and counted.";
}

/// One second: a longer spin or delay is probably a value in milliseconds.
const MICROS_MAX: u64 = 1_000_000;

/// A longer text is not a URL.
const URL_CHARS_MAX: usize = 1000;

/// A longer text is not a path (PATH_MAX of Linux).
const PATH_CHARS_MAX: usize = 4096;

/// A longer text is not a title.
const LINE_CHARS_MAX: usize = 200;

/// One week: every timeout is finite, and no value means "never".
const MILLIS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// A header of 32 bytes, metadata of at most 64 KiB and the body together fit in 32 bits.
const FRAME_BYTES_MAX: u64 = (u32::MAX - 65_536 - 32) as u64;

/// One terabyte, or the largest `usize` if that is less.
const HOLD_MAX: u64 = if usize::BITS < 64 { u32::MAX as u64 } else { 1 << 40 };

/// The keys whose values can change while the server runs.
const LIVE: &[&str] = &[
    "auth.allow",
    "auth.calls_per_second",
    "auth.in_progress_max",
    "trace.sample_one_in",
    "trace.slow_ms",
    "trace.kept_per_second_max",
    "trace.always_keep_unsampled",
    "limits.connections_max",
    "limits.in_flight_max",
    "limits.in_flight_bytes_max",
    "limits.silent_connections_max",
    "limits.first_bytes_ms",
    "limits.head_ms",
    "limits.frame_ms",
    "limits.idle_ms",
    "limits.connection_age_max_ms",
    "limits.write_stall_ms",
    "limits.stream_keepalive_ms",
    "limits.stream_keepalive_timeout_ms",
    "limits.tls_handshake_ms",
    "limits.linger_ms",
    "limits.drain_grace_ms",
    "limits.drain_idle_ms",
    "limits.drain_ms",
];

/// Returns every key of the configuration, in print order.
pub fn keys() -> impl ExactSizeIterator<Item = &'static ConfigKey> {
    KEYS.iter()
}

impl ConfigKey {
    /// Returns the dotted name: `limits.frame_bytes_max`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns a one-line summary in Markdown: what the key is, and what happens at the limit.
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// Returns what 0 means, if 0 is allowed: it is never merely a small number.
    pub fn zero(&self) -> Option<&'static str> {
        self.zero
    }

    /// Returns whether the value can change while the server runs ([`Reloader`](crate::server::Reloader)).
    pub fn is_live(&self) -> bool {
        LIVE.contains(&self.name)
    }

    /// Returns the name of the environment variable: `CORELOOP_LIMITS_FRAME_BYTES_MAX`.
    pub fn env_name(&self) -> String {
        format!("CORELOOP_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// Returns the key's value in `config` as TOML; a size has the largest unit that divides it.
    ///
    /// ```
    /// use coreloop::config::{Config, keys};
    ///
    /// let key = keys().find(|key| key.name() == "limits.frame_bytes_max").unwrap();
    /// assert_eq!(key.toml(&Config::default()), r#""16 MiB""#);
    /// ```
    pub fn toml(&self, config: &Config) -> String {
        self.kind.toml(&(self.read)(config))
    }

    /// Sets the key from the text of an environment variable or a flag; `config` is unchanged on error.
    pub fn set(&self, config: &mut Config, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let value = self.kind.value_of_text(text).map_err(|misfit| self.refusal(misfit, origin))?;
        (self.write)(config, value);
        Ok(())
    }

    /// Checks that the key's value in `config` is of the right kind and within the range.
    pub(super) fn check(&self, config: &Config, origin: impl FnOnce() -> Origin) -> Result<(), ConfigError> {
        match self.kind.admit((self.read)(config)) {
            Ok(_) => Ok(()),
            Err(misfit) => Err(self.refusal(misfit, origin())),
        }
    }

    pub(super) fn refusal(&self, misfit: ValueFault, origin: Origin) -> ConfigError {
        misfit.into_error(self.name.to_owned(), self.kind.expected(), origin)
    }
}

impl fmt::Debug for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const DOCS: &str = include_str!("../../docs/configuration.md");

    /// The row of a key in the table of the documentation.
    fn docs_row(key: &ConfigKey) -> String {
        let range = match key.kind {
            Addresses => "`host:port`, `unix:PATH`".to_owned(),
            ChosenAddresses => "as `listen`".to_owned(),
            Networks => "`10.0.0.0/8`, `::1`, `unix`".to_owned(),
            Origins => "`scheme://host`, `*`".to_owned(),
            MethodLimits => "`Service.Method=N`".to_owned(),
            PermissionRules => "`METHODS=CALLER CALLER…`".to_owned(),
            Files => "paths of files".to_owned(),
            Switch => "`true`, `false`".to_owned(),
            SocketFileMode => "`\"0\"` … `\"0777\"` (octal)".to_owned(),
            Account => "a name, a number".to_owned(),
            Line(max) => format!("a line of at most {max} characters"),
            Choice(names) => names.iter().map(|name| format!("`\"{name}\"`")).collect::<Vec<_>>().join(", "),
            Number(min, max) => format!("{min} … {max}"),
            Bytes(min, max) => {
                let max = key.kind.toml(&ConfigValue::Number(max));
                format!("{min} … {}", max.trim_matches('"'))
            }
        };
        let zero = key.zero.map(|zero| format!(" 0: {zero}.")).unwrap_or_default();
        let default = key.toml(&Config::default());
        let live = if key.is_live() { " Live." } else { "" };
        format!("| `{}` | `{default}` | {range} | {}{zero}{live} |", key.name, key.summary)
    }

    #[test]
    fn every_key_has_a_row_in_the_docs() {
        let missing: Vec<String> =
            keys().map(docs_row).filter(|row| !DOCS.lines().any(|line| line == row)).collect();
        assert!(missing.is_empty(), "docs/configuration.md lacks these rows:\n{}", missing.join("\n"));
        let rows = DOCS.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, keys().len(), "docs/configuration.md has rows for keys that are gone");
    }

    #[test]
    fn every_field_has_its_key() {
        // Debug prints every field of the struct; the table may lack some.
        let (mut section, mut fields) = (String::new(), Vec::new());
        for line in format!("{:#?}", Config::default()).lines() {
            let text = line.trim_start();
            match (line.len() - text.len(), text.split_once(": ")) {
                (4, Some((name, rest))) if rest.ends_with('{') => section = format!("{name}."),
                (4, Some((name, _))) => fields.push(name.to_owned()),
                (8, Some((name, _))) if !text.starts_with('"') => fields.push(format!("{section}{name}")),
                _ => {}
            }
        }
        assert_eq!(fields, keys().map(ConfigKey::name).collect::<Vec<_>>());
    }

    #[test]
    fn every_live_key_is_a_key() {
        assert_eq!(keys().filter(|key| key.is_live()).count(), LIVE.len());
    }

    #[test]
    fn names_are_unique_in_every_spelling() {
        let names: HashSet<_> = keys().map(ConfigKey::env_name).collect();
        assert_eq!(names.len(), keys().len());
    }

    #[test]
    fn every_allowed_zero_has_a_meaning() {
        for key in keys() {
            let allowed = matches!(key.kind, Number(0, _) | Bytes(0, _));
            assert_eq!(allowed, key.zero.is_some(), "{}", key.name);
        }
    }

    #[test]
    fn both_ends_of_every_range_fit_the_field() {
        for key in keys() {
            if let Number(min, max) | Bytes(min, max) = key.kind {
                for number in [min, max] {
                    let mut config = Config::default();
                    key.set(&mut config, &number.to_string(), Origin::Program).unwrap();
                    assert_eq!((key.read)(&config), ConfigValue::Number(number), "{}", key.name);
                }
            }
        }
    }

    #[test]
    fn an_invalid_text_leaves_the_config_unchanged() {
        for key in keys() {
            let mut config = Config::default();
            assert!(key.set(&mut config, "non\u{7}sense", Origin::Program).is_err(), "{}", key.name);
            assert_eq!(config, Config::default());
        }
    }
}
