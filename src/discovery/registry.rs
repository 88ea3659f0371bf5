//! What the resolvers of registries over HTTP have in common: access, pauses, and their watches and registrations as
//! agents.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::keeper::{Keeper, RegistrySteps};
use super::parameters::{Secret, check, duration, tls, token};
use super::{
    DiscoveryError, DiscoveryHandle, Instance, Registration, RegistrationEvents, Resolver, Target,
    TargetError, Updates, Watch,
};
use crate::agent::http_client::AgentHttp;
use crate::agent::{Agent, AgentCx};
use crate::policy::backoff::Backoff;
use crate::transport::TlsClient;

/// The least pause after a failure; a back-off comes on top.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The back-off of watches after failures.
pub(super) const WATCH_BACKOFF: Backoff = Backoff { base_ms: 200, max_ms: 10_000 };

/// Returns the pause of a watch after this number of failures.
pub(super) fn watch_pause(failures: u32, cx: &mut AgentCx<'_>) -> Duration {
    PAUSE_MIN + WATCH_BACKOFF.delay(failures, cx.random.next_u64())
}

/// What every request to a registry has.
#[derive(Clone, Debug)]
pub(super) struct RegistryAccess {
    /// `host:port`, one or more.
    authority: String,
    /// The TLS of the connections, if they have any.
    tls: Option<TlsClient>,
    /// The name of the field that has the token, and the token.
    token: Option<(&'static str, Secret)>,
    /// The time for an answer that need not wait.
    pub(super) request_timeout: Duration,
}

impl RegistryAccess {
    /// Reads the access from a URL with these parameters; a token is sent in that field.
    pub(super) fn of(
        target: &Target,
        parameters: &[&str],
        token_field: &'static str,
    ) -> Result<RegistryAccess, TargetError> {
        check(target, parameters)?;
        let (min, default, max) =
            (Duration::from_millis(100), Duration::from_secs(5), Duration::from_secs(60));
        Ok(RegistryAccess {
            authority: target.authority().to_owned(),
            tls: tls(target)?,
            token: token(target)?.map(|token| (token_field, token)),
            request_timeout: duration(target, "request_timeout", default, min, max)?,
        })
    }

    /// Returns a client of the registry.
    pub(super) fn http(&self) -> AgentHttp {
        AgentHttp::new(&self.authority).secured(self.tls.clone())
    }

    /// Returns the fields of a request.
    pub(super) fn fields(&self) -> Vec<(&str, &str)> {
        self.token.iter().map(|(field, token)| (*field, token.0.as_str())).collect()
    }
}

/// A registry over HTTP.
pub(super) trait HttpRegistry: Send + Sync + 'static {
    /// Watches a service.
    type Watcher: Agent + 'static;
    /// Registers an instance.
    type Steps: RegistrySteps + 'static;

    /// Creates a watch.
    fn watcher(target: &Target, updates: Updates) -> Result<Self::Watcher, TargetError>;

    /// Creates a registration.
    fn keeper(
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
    ) -> Result<Keeper<Self::Steps>, TargetError>;
}

/// The resolver of a registry.
pub(super) struct RegistryResolver<R> {
    scheme: &'static str,
    registry: PhantomData<R>,
}

impl<R> RegistryResolver<R> {
    /// Creates the resolver for URLs of this scheme: `+tls` at its end asks for TLS.
    pub(super) fn new(scheme: &'static str) -> RegistryResolver<R> {
        RegistryResolver { scheme, registry: PhantomData }
    }
}

impl<R: HttpRegistry> Resolver for RegistryResolver<R> {
    fn scheme(&self) -> &str {
        self.scheme
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        let guard = on.agents().run(R::watcher(target, updates)?).map_err(DiscoveryError::System)?;
        Ok(Watch::new(guard))
    }

    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
        on: &DiscoveryHandle,
    ) -> Result<Registration, DiscoveryError> {
        let mut instance = instance.clone();
        instance.zone = instance.zone.or_else(|| target.parameter("zone").map(str::to_owned));
        let keeper = R::keeper(target, &instance, events)?;
        let guard = on.agents().run(keeper).map_err(DiscoveryError::System)?;
        Ok(Registration::new(move |done| guard.end(done)))
    }
}

impl<R: HttpRegistry> fmt::Debug for RegistryResolver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryResolver({})", self.scheme)
    }
}

/// Runs a watch or a registration by hand.
#[cfg(test)]
#[path = "tests/rig.rs"]
pub(super) mod rig;
