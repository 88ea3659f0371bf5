//! Changes of the configuration while the server runs: all of them, or none.
//!
//! Everything that can fail is done first: the checks, and reading the files. Then the values are exchanged, which cannot
//! fail; reactors get theirs in their next turn.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use coreloop_poller::quota;

use super::app::{Completion, LiveConfig};
use super::builder::reactor_limits;
use super::{Server, ServerShared};
use crate::config::{self, Config, ConfigError};
use crate::error_text::debug_as_text;
use crate::log_events::log_event;
use crate::service::interceptor::{PermissionRuleError, TokenFileError};

/// A reload, to whatever reports it: a service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadPhase {
    Begun,
    Over,
}

/// The configuration in force, and how often it was changed.
pub(super) struct Reloads {
    /// Held during a reload, which waits for the disk.
    config: Mutex<Config>,
    /// `limits.drain_grace_ms` and `limits.drain_ms`: a stop does not wait for a reload.
    drain_ms: [AtomicU64; 2],
    done: AtomicU64,
    failed: AtomicU64,
    /// Reloads that have put another file of tokens into force.
    tokens_changed: AtomicU64,
    /// Reloads that have put other files of the TLS configuration into force.
    tls_changed: AtomicU64,
    report: OnceLock<Box<dyn Fn(ReloadPhase) + Send + Sync>>,
}

impl Reloads {
    pub(super) fn new(config: Config) -> Reloads {
        let drain_ms = [config.limits.drain_grace_ms, config.limits.drain_ms];
        Reloads {
            config: Mutex::new(config),
            drain_ms: drain_ms.map(AtomicU64::new),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            tokens_changed: AtomicU64::new(0),
            tls_changed: AtomicU64::new(0),
            report: OnceLock::new(),
        }
    }

    /// Calls the function at the begin and at the end of each reload. Only the first one is kept.
    #[cfg(feature = "restart")]
    pub(super) fn report_to(&self, report: impl Fn(ReloadPhase) + Send + Sync + 'static) {
        let _ = self.report.set(Box::new(report));
    }

    /// Returns `limits.drain_grace_ms` and `limits.drain_ms`.
    pub(super) fn drain_ms(&self) -> [u64; 2] {
        self.drain_ms.each_ref().map(|ms| ms.load(Ordering::Relaxed))
    }

    fn report(&self, phase: ReloadPhase) {
        if let Some(report) = self.report.get() {
            report(phase);
        }
    }
}

/// Reports the end of a reload, also if it panics.
struct ReloadReport<'a>(&'a Reloads);

impl<'a> ReloadReport<'a> {
    fn begin(reloads: &'a Reloads) -> ReloadReport<'a> {
        reloads.report(ReloadPhase::Begun);
        ReloadReport(reloads)
    }
}

impl Drop for ReloadReport<'_> {
    fn drop(&mut self) {
        self.0.report(ReloadPhase::Over);
    }
}

/// A handle for changes of a server's configuration, for any thread.
#[derive(Clone)]
pub struct Reloader {
    shared: Arc<ServerShared>,
}

/// What a reload has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The keys with other values than before, in the order of [`keys`](crate::config::keys). Files that keys name are read
    /// again in any case.
    pub changed: Vec<&'static str>,
    /// The files that keys name and that have other contents than before.
    pub files: Vec<String>,
}

impl fmt::Display for Reloaded {
    /// Writes the keys and the files, never their contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.changed.iter().copied().chain(self.files.iter().map(String::as_str));
        let Some(first) = names.next() else { return f.write_str("no value has changed") };
        f.write_str(first)?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}

/// Why a reload was refused. The server goes on with the values that it had.
#[non_exhaustive]
pub enum ReloadError {
    /// The new configuration is not valid.
    Config(ConfigError),
    /// Keys have other values that cannot change while the server runs.
    NotLive {
        /// The keys.
        keys: Vec<&'static str>,
    },
    /// The file of tokens cannot be used (`auth.tokens_file`).
    Tokens(TokenFileError),
    /// A rule cannot be used (`auth.allow`).
    Permissions(PermissionRuleError),
    /// A file of the TLS configuration cannot be used (`tls.certificate` and others).
    #[cfg(feature = "tls-core")]
    Tls(crate::transport::TlsFileError),
}

debug_as_text!(ReloadError);

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Config(error) => error.fmt(f),
            ReloadError::NotLive { keys } => {
                let keys = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
                write!(f, "expected changes of live keys only; these need a restart: {keys}")
            }
            ReloadError::Tokens(error) => error.fmt(f),
            ReloadError::Permissions(error) => write!(f, "`auth.allow`: {error}"),
            #[cfg(feature = "tls-core")]
            ReloadError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // This error's text includes its text.
            ReloadError::Config(error) => error.source(),
            ReloadError::NotLive { .. } | ReloadError::Tokens(_) | ReloadError::Permissions(_) => None,
            #[cfg(feature = "tls-core")]
            ReloadError::Tls(_) => None,
        }
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Server {
    /// Returns a handle for changes of the configuration while the server runs.
    ///
    /// ```
    /// use coreloop::Server;
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").start()?;
    /// let reloader = server.reloader();
    /// let mut config = reloader.config();
    /// config.limits.idle_ms = 30_000;
    /// assert_eq!(reloader.reload(config)?.changed, ["limits.idle_ms"]);
    ///
    /// let mut config = reloader.config();
    /// config.workers += 1;
    /// let error = reloader.reload(config).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "expected changes of live keys only; these need a restart: `workers`"
    /// );
    /// # server.shutdown();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reloader(&self) -> Reloader {
        Reloader { shared: self.shared.clone() }
    }
}

impl Reloader {
    /// Returns the configuration in force: that of the builder, with the changes since then.
    pub fn config(&self) -> Config {
        self.shared.reloads.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another configuration into force, and reads the files that it names again: all of it, or, with an error, none.
    /// Keys that are not [live](crate::config::ConfigKey::is_live) must have the values that they had. Calls and connections
    /// go on; calls that were admitted are not judged again.
    ///
    /// # Errors
    ///
    /// [`ReloadError`] says what is wrong.
    pub fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.reload_with(|| Ok(config))
    }

    /// Like [`Reloader::reload`], with a configuration that is read now: an error is counted as a reload that failed.
    ///
    /// # Errors
    ///
    /// That of the function, as [`ReloadError::Config`], and those of [`Reloader::reload`].
    pub fn reload_with(
        &self,
        read: impl FnOnce() -> Result<Config, ConfigError>,
    ) -> Result<Reloaded, ReloadError> {
        let reloads = &self.shared.reloads;
        // One reload at a time.
        let mut current = reloads.config.lock().unwrap_or_else(PoisonError::into_inner);
        let _report = ReloadReport::begin(reloads);
        let result =
            read().map_err(ReloadError::Config).and_then(|config| self.exchange(&mut current, config));
        let count = if result.is_ok() { &reloads.done } else { &reloads.failed };
        count.fetch_add(1, Ordering::Relaxed);
        match &result {
            Ok(reloaded) => log_event!(Reloaded { changes: reloaded.to_string() }),
            Err(error) => log_event!(ReloadFailed { error: error.to_string() }),
        }
        result
    }

    fn exchange(&self, current: &mut Config, config: Config) -> Result<Reloaded, ReloadError> {
        let valid = config.clone().validate(quota::usable_cores()).map_err(ReloadError::Config)?;
        let changes = config::keys().filter(|key| key.toml(current) != key.toml(&config));
        let (live, fixed): (Vec<_>, Vec<_>) = changes.partition(|key| key.is_live());
        if !fixed.is_empty() {
            return Err(ReloadError::NotLive { keys: fixed.iter().map(|key| key.name()).collect() });
        }
        let auth = self.shared.auth.prepare(&valid.auth)?;
        let mut files = Vec::new();
        if auth.has_other_tokens() {
            files.push(valid.auth.tokens_file.clone());
        }
        #[cfg(feature = "tls-core")]
        let tls = self.shared.tls.as_ref().map(|tls| tls.prepare().map(|prepared| (tls, prepared)));
        #[cfg(feature = "tls-core")]
        let tls = tls.transpose().map_err(ReloadError::Tls)?;
        // From here on nothing fails.
        let reloads = &self.shared.reloads;
        self.shared.auth.exchange(auth);
        reloads.tokens_changed.fetch_add(files.len() as u64, Ordering::Relaxed);
        #[cfg(feature = "tls-core")]
        if let Some((tls, prepared)) = tls {
            let changed = prepared.changed_files(tls);
            reloads.tls_changed.fetch_add(u64::from(!changed.is_empty()), Ordering::Relaxed);
            files.extend(changed);
            tls.exchange(prepared);
        }
        let changed: Vec<&'static str> = live.iter().map(|key| key.name()).collect();
        let has = |section: &str| changed.iter().any(|key| key.starts_with(section));
        if has("limits.") || has("trace.") {
            let trace = has("trace.").then(|| valid.trace.clone());
            let live = Arc::new(LiveConfig { limits: reactor_limits(&valid), trace });
            for part in &self.shared.parts {
                // A reactor that has ended needs none.
                let _ = part.remote.mail(Completion::Configure(live.clone()));
            }
        }
        reloads.drain_ms[0].store(valid.limits.drain_grace_ms, Ordering::Relaxed);
        reloads.drain_ms[1].store(valid.limits.drain_ms, Ordering::Relaxed);
        *current = config;
        Ok(Reloaded { changed, files })
    }
}

#[cfg(feature = "metrics")]
impl crate::metrics::MetricSource for Reloads {
    fn families(&self) -> Vec<crate::metrics::MetricFamily> {
        use crate::metrics::{MetricFamily, MetricKind, MetricValue};
        let family = MetricFamily::new(
            "coreloop_config_reloads",
            "",
            MetricKind::Counter,
            "Reloads of the configuration, by their outcome.",
        );
        let outcomes = [("ok", &self.done), ("failed", &self.failed)];
        let add = |family: MetricFamily, (outcome, count): (&str, &AtomicU64)| {
            let count = MetricValue::Count(count.load(Ordering::Relaxed));
            family.sample([("outcome", outcome.to_owned())], count)
        };
        let files = MetricFamily::new(
            "coreloop_config_file_changes",
            "",
            MetricKind::Counter,
            "Reloads that have put other contents of files into force, by what the files are for.",
        );
        let purposes = [("tokens", &self.tokens_changed), ("tls", &self.tls_changed)];
        let add_file = |family: MetricFamily, (purpose, count): (&str, &AtomicU64)| {
            let count = MetricValue::Count(count.load(Ordering::Relaxed));
            family.sample([("files", purpose.to_owned())], count)
        };
        vec![outcomes.into_iter().fold(family, add), purposes.into_iter().fold(files, add_file)]
    }
}
