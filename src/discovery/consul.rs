//! The resolver of Consul: `consul://host:port/service`, over TLS `consul+tls://host:port/service`.
//!
//! A watch is a sequence of blocking queries (`consul/watch.rs`); a registration is a service with a TTL check at the
//! agent, which is kept passing (`consul/register.rs`). `consul/health.rs` reads what Consul answers.

mod health;
mod register;
mod watch;

use std::time::Duration;

use self::register::ConsulSteps;
use self::watch::ConsulWatch;
use super::keeper::Keeper;
use super::parameters::{duration, error};
use super::registry::{HttpRegistry, RegistryAccess};
use super::{Instance, RegistrationEvents, Target, TargetError, Updates};
use crate::agent::http::encode;

/// The parameters of a URL.
const PARAMETERS: [&str; 8] =
    ["zone", "tag", "dc", "token_env", "wait", "ttl", "deregister_after", "request_timeout"];
/// The longest name of a service that is accepted.
const NAME_BYTES_MAX: usize = 255;

/// Consul.
pub(super) struct Consul;

/// What every request to Consul has.
#[derive(Clone, Debug)]
struct ConsulAccess {
    registry: RegistryAccess,
    /// The name of the service.
    service: String,
    /// The tags to select, or to register.
    tags: Vec<String>,
    /// `dc=…`, encoded, or empty.
    dc: String,
}

impl ConsulAccess {
    fn of(target: &Target) -> Result<ConsulAccess, TargetError> {
        let registry = RegistryAccess::of(target, &PARAMETERS, "X-Consul-Token")?;
        let service = target.path();
        if service.is_empty() || service.len() > NAME_BYTES_MAX || service.contains('/') {
            return Err(error(target, "the name of a service after the address: consul://host:port/service"));
        }
        let tags = target.parameters().filter(|(key, _)| *key == "tag").map(|(_, tag)| tag.to_owned());
        Ok(ConsulAccess {
            registry,
            service: service.to_owned(),
            tags: tags.collect(),
            dc: target.parameter("dc").map(|dc| format!("dc={}", encode(dc))).unwrap_or_default(),
        })
    }
}

impl HttpRegistry for Consul {
    type Watcher = ConsulWatch;
    type Steps = ConsulSteps;

    fn watcher(target: &Target, updates: Updates) -> Result<ConsulWatch, TargetError> {
        let access = ConsulAccess::of(target)?;
        let seconds = Duration::from_secs;
        let wait = duration(target, "wait", seconds(60), seconds(1), seconds(600))?;
        Ok(ConsulWatch::new(access, wait, updates))
    }

    fn keeper(
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
    ) -> Result<Keeper<ConsulSteps>, TargetError> {
        let access = ConsulAccess::of(target)?;
        let seconds = Duration::from_secs;
        let ttl = duration(target, "ttl", seconds(10), seconds(1), seconds(3600))?;
        let deregister_after =
            duration(target, "deregister_after", seconds(60), seconds(60), seconds(86_400))?;
        let steps = ConsulSteps::new(access, ttl, deregister_after, instance)
            .map_err(|expected| error(target, expected))?;
        Ok(Keeper::new(steps, ttl, events))
    }
}

/// Returns the number of instances in an answer.
#[cfg(feature = "bench-internals")]
pub(super) fn instances_in(body: &[u8]) -> usize {
    health::instances(body).map_or(0, |found| found.len())
}

/// Reads a URL.
#[cfg(feature = "bench-internals")]
pub(super) fn check(target: &Target) -> Result<(), TargetError> {
    ConsulAccess::of(target).map(|_| ())
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
    }
}
