//! The resolver of Consul: `consul://host:port/service`.
//!
//! A watch is a sequence of blocking queries (`consul/watch.rs`); a registration is a service with a TTL check at the
//! agent, which is kept passing (`consul/register.rs`). `consul/health.rs` reads what Consul answers.

mod health;
mod register;
mod watch;

use std::time::Duration;

use self::register::RegisterSettings;
use self::watch::{ConsulWatch, WatchSettings};
use super::parameters::{Secret, check, duration, error, token};
use super::{
    DiscoveryError, DiscoveryHandle, Instance, Registration, RegistrationEvents, Resolver, Target,
    TargetError, Updates, Watch,
};
use crate::agent::http::encode;

/// The parameters of a URL.
const PARAMETERS: [&str; 8] =
    ["zone", "tag", "dc", "token_env", "wait", "ttl", "deregister_after", "request_timeout"];
/// The longest name of a service that is accepted.
const NAME_BYTES_MAX: usize = 255;

/// The resolver of `consul://`.
#[derive(Debug)]
pub(super) struct Consul;

/// What every request to Consul has.
#[derive(Clone, Debug)]
struct ConsulAccess {
    /// `host:port`, one or more.
    authority: String,
    /// The name of the service.
    service: String,
    /// `dc=…`, encoded, or empty.
    dc: String,
    token: Option<Secret>,
    /// The time for an answer that need not wait.
    request_timeout: Duration,
}

impl ConsulAccess {
    fn of(target: &Target) -> Result<ConsulAccess, TargetError> {
        check(target, &PARAMETERS)?;
        let service = target.path();
        if service.is_empty() || service.len() > NAME_BYTES_MAX || service.contains('/') {
            return Err(error(target, "the name of a service after the address: consul://host:port/service"));
        }
        let seconds = Duration::from_secs;
        Ok(ConsulAccess {
            authority: target.authority().to_owned(),
            service: service.to_owned(),
            dc: target.parameter("dc").map(|dc| format!("dc={}", encode(dc))).unwrap_or_default(),
            token: token(target)?,
            request_timeout: duration(
                target,
                "request_timeout",
                seconds(5),
                Duration::from_millis(100),
                seconds(60),
            )?,
        })
    }

    /// Returns the fields of a request.
    fn fields(&self) -> Vec<(&str, &str)> {
        self.token.iter().map(|token| ("X-Consul-Token", token.0.as_str())).collect()
    }
}

impl Resolver for Consul {
    fn scheme(&self) -> &str {
        "consul"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        let access = ConsulAccess::of(target)?;
        let seconds = Duration::from_secs;
        let tags = target.parameters().filter(|(key, _)| *key == "tag").map(|(_, tag)| tag.to_owned());
        let settings = WatchSettings {
            access,
            tags: tags.collect(),
            wait: duration(target, "wait", seconds(60), seconds(1), seconds(600))?,
        };
        let guard = on.agents().run(ConsulWatch::new(settings, updates)).map_err(DiscoveryError::System)?;
        Ok(Watch::new(guard))
    }

    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
        on: &DiscoveryHandle,
    ) -> Result<Registration, DiscoveryError> {
        let access = ConsulAccess::of(target)?;
        let seconds = Duration::from_secs;
        let mut instance = instance.clone();
        instance.zone = instance.zone.or_else(|| target.parameter("zone").map(str::to_owned));
        let tags = target.parameters().filter(|(key, _)| *key == "tag").map(|(_, tag)| tag.to_owned());
        let settings = RegisterSettings {
            access,
            tags: tags.collect(),
            ttl: duration(target, "ttl", seconds(10), seconds(1), seconds(3600))?,
            deregister_after: duration(
                target,
                "deregister_after",
                seconds(60),
                seconds(60),
                seconds(86_400),
            )?,
        };
        let agent = register::agent(settings, &instance, events)
            .map_err(|expected| DiscoveryError::Target(error(target, expected)))?;
        let guard = on.agents().run(agent).map_err(DiscoveryError::System)?;
        Ok(Registration::new(move |done| guard.end(done)))
    }
}

/// Returns the number of instances in an answer.
#[cfg(feature = "bench-internals")]
pub(super) fn instances_in(body: &[u8]) -> usize {
    health::instances(body).map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_service() {
        let of = |text: &str| ConsulAccess::of(&Target::parse(text).unwrap());
        let access = of("consul://127.0.0.1:8500/orders?dc=west%201&tag=a").unwrap();
        assert_eq!((access.service.as_str(), access.dc.as_str()), ("orders", "dc=west%201"));
        for text in ["consul://127.0.0.1:8500", "consul://127.0.0.1:8500/a/b", "consul://127.0.0.1/a"] {
            assert!(of(text).is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", Secret("hidden".to_owned())), "…");
    }
}
