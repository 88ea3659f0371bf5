//! The interceptors that the section `auth` of the configuration stands for: tokens, permissions, and the limits of
//! principals.

use std::io;
use std::sync::Arc;

use super::Error;
use super::reload::ReloadError;
use crate::config::{AuthConfig, ValidConfig};
#[cfg(feature = "metrics")]
use crate::metrics::{MetricFamily, MetricKind, MetricValue};
#[cfg(feature = "tls-core")]
use crate::service::interceptor::CertificatePrincipal;
use crate::service::interceptor::chain::ScopedInterceptor;
use crate::service::interceptor::{
    ConcurrencyLimit, Interceptor, Permissions, RateLimit, Rules, TokenCheck, TokenSet,
};

/// What can change while the server runs.
#[derive(Clone, Default)]
pub(super) struct Auth {
    tokens: Option<Arc<TokenCheck>>,
    permissions: Option<Arc<Permissions>>,
    rate: Option<Arc<RateLimit>>,
    in_progress: Option<Arc<ConcurrencyLimit>>,
}

/// What a reload puts into force.
pub(super) struct PreparedAuth {
    tokens: Option<TokenSet>,
    has_other_tokens: bool,
    rules: Option<Rules>,
    calls_per_second: u64,
    in_progress_max: usize,
}

impl PreparedAuth {
    /// Returns whether the file of tokens has others than those in force.
    pub(super) fn has_other_tokens(&self) -> bool {
        self.has_other_tokens
    }
}

fn calls_max(config: &AuthConfig) -> usize {
    usize::try_from(config.in_progress_max).unwrap_or(usize::MAX)
}

impl Auth {
    /// Creates what the configuration asks for, and puts it outside the other interceptors.
    pub(super) fn install(
        config: &ValidConfig,
        interceptors: &mut Vec<ScopedInterceptor>,
    ) -> Result<Auth, Error> {
        let mut first: Vec<Arc<dyn Interceptor>> = Vec::new();
        #[cfg(feature = "tls-core")]
        if !config.tls.client_ca.is_empty() {
            first.push(Arc::new(CertificatePrincipal));
        }
        let config = &config.auth;
        let mut auth = Auth::default();
        if !config.tokens_file.is_empty() {
            let tokens = TokenCheck::from_file(&config.tokens_file).map_err(invalid)?;
            // With rules, those decide about calls without a token.
            let tokens = Arc::new(if config.allow.is_empty() { tokens } else { tokens.optional() });
            first.push(tokens.clone());
            auth.tokens = Some(tokens);
        }
        if !config.allow.is_empty() {
            let permissions = Arc::new(Permissions::parse(&config.allow).map_err(invalid)?);
            first.push(permissions.clone());
            auth.permissions = Some(permissions);
        }
        if config.calls_per_second > 0 {
            let per_second = config.calls_per_second as f64;
            let rate = Arc::new(RateLimit::per_second(per_second).for_each_principal());
            first.push(rate.clone());
            auth.rate = Some(rate);
        }
        if config.in_progress_max > 0 {
            let in_progress = Arc::new(ConcurrencyLimit::new(calls_max(config)).for_each_principal());
            first.push(in_progress.clone());
            auth.in_progress = Some(in_progress);
        }
        let first = first.into_iter().map(|interceptor| ScopedInterceptor { pattern: None, interceptor });
        interceptors.splice(0..0, first);
        Ok(auth)
    }

    /// Reads what can change: the file of tokens, the rules, and the limits of principals. Whether there are rules or a limit
    /// at all decides which interceptors a server has: that needs a restart.
    pub(super) fn prepare(&self, config: &AuthConfig) -> Result<PreparedAuth, ReloadError> {
        let tokens = self.tokens.as_ref().map(|tokens| tokens.read_again()).transpose();
        let tokens = tokens.map_err(ReloadError::Tokens)?;
        let rules = match &self.permissions {
            Some(permissions) if !config.allow.is_empty() => {
                let rules = Permissions::parse(&config.allow).and_then(|rules| permissions.prepared(rules));
                Some(rules.map_err(ReloadError::Permissions)?)
            }
            None if config.allow.is_empty() => None,
            _ => return Err(ReloadError::NotLive { keys: vec!["auth.allow"] }),
        };
        let switched = [
            ("auth.calls_per_second", self.rate.is_some(), config.calls_per_second > 0),
            ("auth.in_progress_max", self.in_progress.is_some(), config.in_progress_max > 0),
        ];
        let keys: Vec<&'static str> =
            switched.iter().filter(|(_, was, is)| was != is).map(|(key, ..)| *key).collect();
        if !keys.is_empty() {
            return Err(ReloadError::NotLive { keys });
        }
        let has_other_tokens = self.tokens.as_ref().zip(tokens.as_ref());
        let has_other_tokens = has_other_tokens.is_some_and(|(check, tokens)| !check.has(tokens));
        Ok(PreparedAuth {
            tokens,
            has_other_tokens,
            rules,
            calls_per_second: config.calls_per_second,
            in_progress_max: calls_max(config),
        })
    }

    /// Puts it into force.
    pub(super) fn exchange(&self, prepared: PreparedAuth) {
        if let (Some(check), Some(tokens)) = (&self.tokens, prepared.tokens) {
            check.exchange(tokens);
        }
        if let (Some(permissions), Some(rules)) = (&self.permissions, prepared.rules) {
            permissions.exchange(rules);
        }
        if let Some(rate) = &self.rate {
            rate.exchange(prepared.calls_per_second as f64);
        }
        if let Some(in_progress) = &self.in_progress {
            in_progress.exchange(prepared.in_progress_max);
        }
    }

    /// Returns the metrics of the decisions.
    #[cfg(feature = "metrics")]
    pub(super) fn metrics(&self) -> Option<Arc<dyn crate::metrics::MetricSource>> {
        let permissions = self.permissions.clone()?;
        Some(Arc::new(PermissionMetrics(permissions)))
    }
}

#[cfg(feature = "metrics")]
struct PermissionMetrics(Arc<Permissions>);

#[cfg(feature = "metrics")]
impl crate::metrics::MetricSource for PermissionMetrics {
    fn families(&self) -> Vec<MetricFamily> {
        let counts = self.0.counts();
        let family = MetricFamily::new(
            "coreloop_server_permission_decisions",
            "",
            MetricKind::Counter,
            "Decisions of the rules of `auth.allow`.",
        );
        let decisions = [
            ("allowed", counts.allowed),
            ("denied", counts.denied),
            ("unauthenticated", counts.unauthenticated),
        ];
        let add = |family: MetricFamily, (decision, count): (&str, u64)| {
            family.sample([("decision", decision.to_owned())], MetricValue::Count(count))
        };
        vec![decisions.into_iter().fold(family, add)]
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    io::Error::new(io::ErrorKind::InvalidInput, error).into()
}
