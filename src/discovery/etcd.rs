//! The resolver of etcd: `etcd://host:port/prefix`, through the JSON gateway of its version 3.
//!
//! A watch reads the keys below the prefix and follows their changes (`etcd/watch.rs`); a registration is a key with a
//! lease, which is kept alive (`etcd/register.rs`). `etcd/json.rs` reads what etcd answers.

mod json;
mod register;
mod watch;

use std::time::Duration;

use self::register::RegisterSettings;
use self::watch::EtcdWatch;
use super::parameters::{Secret, check, duration, error, token};
use super::{
    DiscoveryError, DiscoveryHandle, Instance, Registration, RegistrationEvents, Resolver, Target,
    TargetError, Updates, Watch,
};

/// The parameters of a URL.
const PARAMETERS: [&str; 5] = ["zone", "token_env", "wait", "ttl", "request_timeout"];
/// The longest prefix that is accepted.
const PREFIX_BYTES_MAX: usize = 1024;

/// The resolver of `etcd://`.
#[derive(Debug)]
pub(super) struct Etcd;

/// What every request to etcd has.
#[derive(Clone)]
struct EtcdAccess {
    /// `host:port`, one or more.
    authority: String,
    /// What the keys begin with; it ends in a slash.
    prefix: String,
    token: Option<Secret>,
    /// The time for an answer that need not wait.
    request_timeout: Duration,
}

impl EtcdAccess {
    fn of(target: &Target) -> Result<EtcdAccess, TargetError> {
        check(target, &PARAMETERS)?;
        let prefix = target.path().trim_end_matches('/');
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
            return Err(error(target, "the prefix of the keys after the address: etcd://host:port/prefix"));
        }
        let seconds = Duration::from_secs;
        Ok(EtcdAccess {
            authority: target.authority().to_owned(),
            prefix: format!("{prefix}/"),
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
        self.token.iter().map(|token| ("Authorization", token.0.as_str())).collect()
    }
}

impl Resolver for Etcd {
    fn scheme(&self) -> &str {
        "etcd"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        let access = EtcdAccess::of(target)?;
        let seconds = Duration::from_secs;
        let wait = duration(target, "wait", seconds(60), seconds(1), seconds(600))?;
        let guard = on.agents().run(EtcdWatch::new(access, wait, updates)).map_err(DiscoveryError::System)?;
        Ok(Watch::new(guard))
    }

    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
        on: &DiscoveryHandle,
    ) -> Result<Registration, DiscoveryError> {
        let access = EtcdAccess::of(target)?;
        let seconds = Duration::from_secs;
        let mut instance = instance.clone();
        instance.zone = instance.zone.or_else(|| target.parameter("zone").map(str::to_owned));
        let ttl = duration(target, "ttl", seconds(10), seconds(2), seconds(3600))?;
        let agent = register::agent(RegisterSettings { access, ttl }, &instance, events);
        let guard = on.agents().run(agent).map_err(DiscoveryError::System)?;
        Ok(Registration::new(move |done| guard.end(done)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_prefix() {
        let of = |text: &str| EtcdAccess::of(&Target::parse(text).unwrap());
        let access = of("etcd://127.0.0.1:2379,127.0.0.1:22379/services/orders/").unwrap();
        assert_eq!(
            (access.authority.as_str(), access.prefix.as_str()),
            ("127.0.0.1:2379,127.0.0.1:22379", "services/orders/")
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
