//! Events for the log of a program: which there are, and how they reach the `log` facade (feature `log`).
//!
//! Code anywhere in the crate emits an event when something happens that an operator wants to know of, never for each
//! call. Without the feature that is no code. With it, an event below the level of the program costs the reading of one
//! atomic; others are limited by kind (`limit.rs`) and go through a bounded queue to a thread, which formats them and
//! calls the program's logger (`hub.rs`): that may block, and no reactor does.

#[cfg(feature = "log")]
mod hub;
#[cfg(feature = "log")]
mod limit;
#[cfg(feature = "log")]
mod redact;
#[cfg(feature = "log")]
mod value;

#[cfg(feature = "log")]
use self::value::FieldValue;
use crate::context::Peer;

#[cfg(all(feature = "log", feature = "metrics"))]
pub(crate) use hub::{LogCounts, log_counts};
#[cfg(feature = "log")]
pub(crate) use hub::{emit, is_logged};
#[cfg(feature = "log")]
pub use hub::{finish, note_lost, say};

macro_rules! log_events {
    ($(
        $(#[doc = $docs:literal])+
        $variant:ident { $($field:ident: $type:ty),* } = $level:ident $target:literal $kind:literal $text:literal;
    )*) => {
        /// Something that an operator wants to know of.
        #[derive(Debug)]
        #[cfg_attr(not(feature = "log"), allow(dead_code, reason = "read by the thread of the log"))]
        pub(crate) enum LogEvent {
            $($(#[doc = $docs])+ $variant { $($field: $type),* },)*
        }

        /// The kind of an event.
        #[derive(Clone, Copy, Debug)]
        #[cfg_attr(not(feature = "log"), allow(dead_code, reason = "no event is made"))]
        pub(crate) enum LogEventKind { $($variant),* }

        /// Every kind, in the order of [`LogEventKind`].
        #[cfg(feature = "log")]
        const KINDS: &[KindInfo] = &[$(KindInfo {
            name: $kind,
            level: log::Level::$level,
            target: concat!("coreloop::", $target),
            #[cfg(test)]
            docs: concat!($($docs,)+),
            #[cfg(test)]
            fields: &[$(stringify!($field)),*],
        }),*];

        #[cfg(feature = "log")]
        impl LogEvent {
            /// Returns names and values of its fields.
            fn fields(&self) -> Vec<(&'static str, FieldValue<'_>)> {
                match self {
                    $(LogEvent::$variant { $($field),* } => vec![$((stringify!($field), FieldValue::from($field))),*],)*
                }
            }
        }

        #[cfg(feature = "log")]
        impl std::fmt::Display for LogEvent {
            #[allow(unused_variables, reason = "a text need not have every field")]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(LogEvent::$variant { $($field),* } => write!(f, $text),)* }
            }
        }
    };
}

log_events! {
    /// A server accepts connections.
    Started { addresses: String, reactors: usize, workers: usize }
        = Info "server" "started" "listening on {addresses}";
    /// The admin listener was left out, since its address is taken (`admin_optional`).
    AdminSkipped { address: String }
        = Warn "server" "admin_skipped" "{address} is taken: there is no admin listener";
    /// A part of the configuration or of the environment has no effect, or a method is incomplete in some codecs.
    ConfigWarning { warning: String } = Warn "config" "config_warning" "{warning}";
    /// The configuration and the files that it names were read again. Keys and files with other values are named, values are not.
    Reloaded { changes: String } = Info "config" "reloaded" "configuration read again: {changes}";
    /// The configuration, or a file that it names, could not be used; everything stays as it was.
    ReloadFailed { error: String }
        = Warn "config" "reload_failed" "the configuration stays as it was: {error}";
    /// A server drains: it was asked to stop.
    DrainBegun { connections: u64, drain_ms: u64 }
        = Info "server" "drain_begun" "the drain begins: {connections} connections, at most {drain_ms} ms";
    /// The time for the drain was over, or a second request to stop came: calls that had not ended were answered `unavailable`.
    DrainCut { calls: u64 } = Warn "server" "drain_cut" "the drain was cut short: {calls} calls had not ended";
    /// A server has ended.
    Drained { took_ms: u64 } = Info "server" "drained" "drained in {took_ms} ms";
    /// The thread of a reactor panicked. The server ends.
    ReactorPanicked { reactor: usize }
        = Error "server" "reactor_panicked" "the thread of reactor {reactor} panicked";
    /// A handler panicked. Its caller got `internal`; other calls go on.
    HandlerPanicked { method: String, text: String }
        = Error "call" "handler_panicked" "the handler of {method} panicked: {text}";
    /// An interceptor, a callback, an executor or a source of metrics panicked.
    Panicked { what: &'static str, text: String } = Error "call" "panicked" "{what} panicked: {text}";
    /// A reactor has as many connections as it may have (`limits.connections_max`, or what descriptors allow): the next one was closed.
    ConnectionsFull { reactor: usize, connections_max: usize }
        = Warn "connection" "connections_full" "reactor {reactor} has {connections_max} connections: the next one was closed";
    /// Accepting pauses, since the system has no descriptor or no memory for a connection (EMFILE and the like).
    AcceptPaused { reactor: usize, error: String }
        = Warn "connection" "accept_paused" "reactor {reactor} pauses accepting: {error}";
    /// The bytes of a peer could not be decoded; its connection was closed.
    ProtocolError { peer: Peer, protocol: &'static str, error: String }
        = Warn "connection" "protocol_error" "{peer} broke the protocol: {error}";
    /// A peer was too slow: no first bytes, no whole frame, or no reading of its answers in time; its connection was closed.
    SlowPeer { peer: Peer, protocol: &'static str, reason: &'static str }
        = Warn "connection" "slow_peer" "{peer} was too slow: {reason}";
    /// A connection was closed that had sent nothing, since there were more of them than `limits.silent_connections_max`.
    SilentClosed { peer: Peer }
        = Warn "connection" "silent_closed" "{peer} had sent nothing and was closed: there are too many such connections";
    /// The sink of an access log has failed: lines were dropped.
    AccessLogFailed { lines: u64, error: String }
        = Error "access_log" "access_log_failed" "{lines} lines of the access log were dropped: {error}";
    /// The export of spans or metrics fails: the collector is away, slow, or refuses them.
    ExportFailed { signal: &'static str, problem: String } = Warn "export" "export_failed" "{problem}";
    /// The collector accepts them again.
    ExportRecovered { signal: &'static str } = Info "export" "export_recovered" "{signal} are exported again";
    /// Spans or metrics were given up, since the collector did not take them in time or has refused them.
    ExportDropped { signal: &'static str, items: u64 }
        = Warn "export" "export_dropped" "{items} {signal} were dropped";
    /// The registry has the server, for the first time or again.
    Registered { url: String } = Info "discovery" "registered" "registered at {url}";
    /// The registry could not be reached or has refused the server; it is tried again.
    NotRegistered { url: String, error: String }
        = Warn "discovery" "not_registered" "not registered at {url}: {error}";
    /// The resolver of a client has failed; the last set of endpoints stays.
    ResolveFailed { error: String } = Warn "discovery" "resolve_failed" "the endpoints stay as they are: {error}";
    /// An empty update of a resolver was ignored, since it would empty a working set.
    EmptyUpdateIgnored {} = Warn "discovery" "empty_update_ignored" "an update without endpoints was ignored";
    /// An update of a resolver had too many instances; that number was ignored.
    TooManyInstances { ignored: usize }
        = Warn "discovery" "too_many_instances" "an update had too many instances: {ignored} were ignored";
    /// A client has a new endpoint.
    EndpointAdded { endpoint: String } = Info "client" "endpoint_added" "the endpoint {endpoint} was added";
    /// An endpoint of a client is gone.
    EndpointRemoved { endpoint: String } = Info "client" "endpoint_removed" "the endpoint {endpoint} was removed";
    /// The circuit breaker of an endpoint has opened.
    BreakerOpened { endpoint: String } = Warn "client" "breaker_opened" "the circuit breaker of {endpoint} has opened";
    /// It has closed.
    BreakerClosed { endpoint: String } = Info "client" "breaker_closed" "the circuit breaker of {endpoint} has closed";
    /// Health checks of an endpoint fail.
    EndpointUnhealthy { endpoint: String } = Warn "client" "endpoint_unhealthy" "health checks of {endpoint} fail";
    /// They succeed again.
    EndpointHealthy { endpoint: String } = Info "client" "endpoint_healthy" "health checks of {endpoint} succeed again";
    /// The budget of retries and hedges is empty: calls are not attempted again until it has refilled.
    RetryBudgetEmpty {} = Warn "client" "retry_budget_empty" "the budget of retries and hedges is empty";
    /// Calls leave their zone, since too few endpoints in it are usable.
    ZoneLeft {} = Warn "client" "zone_left" "calls leave their zone: too few endpoints in it are usable";
    /// Calls stay in their zone again.
    ZoneKept {} = Info "client" "zone_kept" "calls stay in their zone again";
    /// A profile was refused: another one runs, or its time or rate is above the limit.
    ProfileRefused { error: String } = Warn "admin" "profile_refused" "a profile was refused: {error}";
}

/// What is the same for all events of a kind.
#[cfg(feature = "log")]
#[derive(Debug)]
struct KindInfo {
    name: &'static str,
    level: log::Level,
    target: &'static str,
    #[cfg(test)]
    docs: &'static str,
    #[cfg(test)]
    fields: &'static [&'static str],
}

#[cfg(feature = "log")]
impl LogEventKind {
    fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }
}

/// Emits an event: `log_event!(EndpointAdded { endpoint: id.clone() })`. Its fields are evaluated only if it is passed on.
macro_rules! log_event {
    ($variant:ident { $($fields:tt)* }) => {
        $crate::log_events::emit($crate::log_events::LogEventKind::$variant, || {
            $crate::log_events::LogEvent::$variant { $($fields)* }
        })
    };
}
pub(crate) use log_event;

/// Without the feature `log`, an event is not even made.
#[cfg(not(feature = "log"))]
#[inline(always)]
pub(crate) fn emit(_kind: LogEventKind, _event: impl FnOnce() -> LogEvent) {}

/// Waits for what was emitted to reach the logger.
#[cfg(not(feature = "log"))]
#[inline(always)]
pub(crate) fn finish() {}

/// Returns whether a logger receives events.
#[cfg(not(feature = "log"))]
pub(crate) fn is_logged() -> bool {
    false
}

#[cfg(all(test, feature = "log"))]
mod tests;
