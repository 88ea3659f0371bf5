//! The resolver of etcd: `etcd://host:port/prefix`, over TLS `etcd+tls://host:port/prefix`, through the JSON gateway of its
//! version 3.
//!
//! A watch reads the keys below the prefix and follows their changes (`etcd/watch.rs`); a registration is a key with a
//! lease, which is kept alive (`etcd/register.rs`). `etcd/json.rs` reads what etcd answers.

mod json;
mod register;
mod watch;

use std::time::Duration;

use self::register::EtcdSteps;
use self::watch::EtcdWatch;
use super::keeper::Keeper;
use super::parameters::{duration, error};
use super::registry::{HttpRegistry, RegistryAccess};
use super::{Instance, RegistrationEvents, Target, TargetError, Updates};

/// The parameters of a URL.
const PARAMETERS: [&str; 5] = ["zone", "token_env", "wait", "ttl", "request_timeout"];
/// The longest prefix that is accepted.
const PREFIX_BYTES_MAX: usize = 1024;

/// etcd.
pub(super) struct Etcd;

/// What every request to etcd has.
#[derive(Clone)]
struct EtcdAccess {
    registry: RegistryAccess,
    /// What the keys begin with; it ends in a slash.
    prefix: String,
}

impl EtcdAccess {
    fn of(target: &Target) -> Result<EtcdAccess, TargetError> {
        let registry = RegistryAccess::of(target, &PARAMETERS, "Authorization")?;
        let prefix = target.path().trim_end_matches('/');
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
            return Err(error(target, "the prefix of the keys after the address: etcd://host:port/prefix"));
        }
        Ok(EtcdAccess { registry, prefix: format!("{prefix}/") })
    }
}

impl HttpRegistry for Etcd {
    type Watcher = EtcdWatch;
    type Steps = EtcdSteps;

    fn watcher(target: &Target, updates: Updates) -> Result<EtcdWatch, TargetError> {
        let access = EtcdAccess::of(target)?;
        let seconds = Duration::from_secs;
        let wait = duration(target, "wait", seconds(60), seconds(1), seconds(600))?;
        Ok(EtcdWatch::new(access, wait, updates))
    }

    fn keeper(
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
    ) -> Result<Keeper<EtcdSteps>, TargetError> {
        let access = EtcdAccess::of(target)?;
        let seconds = Duration::from_secs;
        let ttl = duration(target, "ttl", seconds(10), seconds(2), seconds(3600))?;
        Ok(Keeper::new(EtcdSteps::new(access, ttl, instance), ttl, events))
    }
}

/// Returns the number of keys in any of its answers.
#[cfg(feature = "bench-internals")]
pub(super) fn instances_in(body: &[u8]) -> usize {
    let _ = (json::granted_lease(body), json::lease_seconds(body));
    let keys = json::range(body, "s/").map_or(0, |(_, keys)| keys.len());
    let changes = body.split(|byte| *byte == b'\n').filter_map(|line| match json::watch_line(line, "s/") {
        Ok(json::WatchLine::Changes(changes)) => Some(changes.len()),
        Ok(json::WatchLine::Nothing | json::WatchLine::Ended(_)) | Err(_) => None,
    });
    keys + changes.sum::<usize>()
}

/// Reads a URL.
#[cfg(feature = "bench-internals")]
pub(super) fn check(target: &Target) -> Result<(), TargetError> {
    EtcdAccess::of(target).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_prefix() {
        let of = |text: &str| EtcdAccess::of(&Target::parse(text).unwrap());
        let access = of("etcd://127.0.0.1:2379,127.0.0.1:22379/services/orders/").unwrap();
        assert_eq!(
            (access.registry.http().address(), access.prefix.as_str()),
            ("127.0.0.1:2379", "services/orders/")
        );
        for text in [
            "etcd://127.0.0.1:2379",
            "etcd://127.0.0.1:2379/",
            "etcd://127.0.0.1/a",
            "etcd://127.0.0.1:2379/a?tag=x",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
