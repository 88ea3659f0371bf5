//! Changes of the configuration while the server runs: all of them, or none.
//!
//! Everything that can fail is done first: the checks, and reading the files. Then the values are exchanged, which cannot
//! fail; reactors get theirs in their next turn.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coreloop_poller::quota;

use super::app::{Completion, LiveConfig};
use super::builder::reactor_limits;
use super::{Server, ServerShared};
use crate::config::{self, Config, ConfigError};
use crate::error_text::debug_as_text;
use crate::service::interceptor::{PermissionRuleError, TokenFileError};

/// The configuration in force, and how often it was changed.
pub(super) struct Reloads {
    config: Mutex<Config>,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    pub(super) fn new(config: Config) -> Reloads {
        Reloads { config: Mutex::new(config), done: AtomicU64::new(0), failed: AtomicU64::new(0) }
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
        let result =
            read().map_err(ReloadError::Config).and_then(|config| self.exchange(&mut current, config));
        let count = if result.is_ok() { &reloads.done } else { &reloads.failed };
        count.fetch_add(1, Ordering::Relaxed);
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
        #[cfg(feature = "tls-core")]
        let tls = self.shared.tls.as_ref().map(|tls| tls.prepare().map(|prepared| (tls, prepared)));
        #[cfg(feature = "tls-core")]
        let tls = tls.transpose().map_err(ReloadError::Tls)?;
        // From here on nothing fails.
        self.shared.auth.exchange(auth);
        #[cfg(feature = "tls-core")]
        if let Some((tls, prepared)) = tls {
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
        *current = config;
        Ok(Reloaded { changed })
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
        vec![outcomes.into_iter().fold(family, add)]
    }
}
