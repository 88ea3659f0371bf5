//! A server registers itself: where, as what, and the end of it.
//!
//! Everything that can be wrong with a URL or the address is found before the server starts. What happens later is passed
//! to a function, and the server runs on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::builder::ServerBuilder;
use crate::config::{ValidConfig, split_listen};
use crate::discovery::{
    DiscoveryError, DiscoveryHandle, Instance, Registration, RegistrationEvent, RegistrationEvents, Resolver,
    Target, builtin,
};
use crate::log_events::{self, log_event};
use crate::reactor::{Address, RoleHandle};

/// The function that receives what becomes of registrations, each with its URL.
type OnRegistration = Arc<dyn Fn(&str, &RegistrationEvent) + Send + Sync>;

impl ServerBuilder {
    /// Registers the server, once it serves, at a registry: `consul://127.0.0.1:8500/orders`. It is kept registered as
    /// long as it runs, and deregistered first when it drains. Each call adds a registration, to that of the
    /// configuration (`register.url`).
    ///
    /// A registry that cannot be reached does not keep the server from starting: the registration is tried again. See
    /// [`ServerBuilder::on_registration`].
    pub fn register(mut self, url: &str) -> ServerBuilder {
        self.registrations.urls.push((None, url.to_owned()));
        self
    }

    /// Registers the server with a resolver of the program's own.
    pub fn register_with(mut self, resolver: impl Resolver, url: &str) -> ServerBuilder {
        self.registrations.urls.push((Some(Box::new(resolver)), url.to_owned()));
        self
    }

    /// Sets what is registered, in place of the keys `register.address`, `register.zone` and `register.weight` of the
    /// configuration. An empty address is that of the first TCP listener.
    pub fn register_as(mut self, instance: Instance) -> ServerBuilder {
        self.registrations.instance = Some(instance);
        self
    }

    /// Passes what becomes of each registration to a function, with its URL. It runs on a reactor and must not wait.
    /// [`ServerBuilder::run`] prints it if there is neither such a function nor a logger (feature `log`).
    pub fn on_registration(
        mut self,
        report: impl Fn(&str, &RegistrationEvent) + Send + Sync + 'static,
    ) -> ServerBuilder {
        self.registrations.report = Some(Arc::new(report));
        self
    }
}

/// What a builder knows of the registrations.
#[derive(Default)]
pub(super) struct PlannedRegistrations {
    urls: Vec<(Option<Box<dyn Resolver>>, String)>,
    instance: Option<Instance>,
    report: Option<OnRegistration>,
}

impl PlannedRegistrations {
    /// Prints what becomes of the registrations if neither the log nor a function of the program receives it.
    pub(super) fn print_unless_reported(&mut self) {
        if log_events::is_logged() {
            return;
        }
        self.report.get_or_insert_with(|| {
            Arc::new(|url, event| match event {
                RegistrationEvent::Registered => eprintln!("registered at {url}"),
                RegistrationEvent::Failed(why) => eprintln!("warning: not registered at {url}: {why}"),
            })
        });
    }

    /// Checks the URLs and the address; returns `None` if there is nothing to register.
    pub(super) fn check(
        mut self,
        config: &ValidConfig,
        addresses: &[Address],
    ) -> Result<Option<CheckedRegistrations>, DiscoveryError> {
        if !config.register.url.is_empty() {
            self.urls.push((None, config.register.url.clone()));
        }
        if self.urls.is_empty() {
            return Ok(None);
        }
        let find = |(resolver, url): (Option<Box<dyn Resolver>>, String)| {
            let target = Target::parse(&url)?;
            let unknown = || DiscoveryError::UnknownScheme { scheme: target.scheme().to_owned() };
            let resolver = match resolver {
                Some(resolver) => resolver,
                None => builtin(target.scheme()).ok_or_else(unknown)?,
            };
            Ok((resolver, target))
        };
        let targets: Result<Vec<_>, DiscoveryError> = self.urls.into_iter().map(find).collect();
        Ok(Some(CheckedRegistrations {
            targets: targets?,
            instance: instance(self.instance, config, addresses)?,
            report: self.report.unwrap_or_else(|| Arc::new(|_, _| {})),
            end_max: Duration::from_millis(config.register.deregister_ms),
        }))
    }
}

/// Returns the instance to register.
fn instance(
    given: Option<Instance>,
    config: &ValidConfig,
    addresses: &[Address],
) -> Result<Instance, DiscoveryError> {
    let mut instance = given.unwrap_or_else(|| {
        let register = &config.register;
        let mut instance = Instance::new(&register.address);
        instance.weight = u32::try_from(register.weight).unwrap_or(u32::MAX);
        instance.zone = Some(register.zone.clone()).filter(|zone| !zone.is_empty());
        instance
    });
    if instance.address.is_empty() {
        instance.address = default_address(config, addresses)?;
    }
    if instance.id.is_empty() {
        instance.id.clone_from(&instance.address);
    }
    Ok(instance)
}

/// Returns the address of the first TCP listener, as clients take it.
fn default_address(config: &ValidConfig, addresses: &[Address]) -> Result<String, DiscoveryError> {
    let mut listeners = config.listen.iter().zip(addresses);
    let tcp = listeners.find_map(|(listen, address)| match address {
        Address::Tcp(text) => Some((split_listen(listen).0, text)),
        Address::Unix(_) | Address::Memory(_) => None,
    });
    let Some((protocol, text)) = tcp else { return Err(DiscoveryError::NoAddress { listener: None }) };
    if text.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified()) {
        return Err(DiscoveryError::NoAddress { listener: Some(text.clone()) });
    }
    Ok(match protocol {
        None | Some("native") => text.clone(),
        Some(protocol) => format!("{protocol}:{text}"),
    })
}

/// Registrations that can begin.
pub(super) struct CheckedRegistrations {
    targets: Vec<(Box<dyn Resolver>, Target)>,
    instance: Instance,
    report: OnRegistration,
    end_max: Duration,
}

impl CheckedRegistrations {
    /// Begins to register the instance, on this reactor.
    pub(super) fn start(self, reactor: &RoleHandle) -> Result<Registrations, DiscoveryError> {
        let on = DiscoveryHandle::new(reactor.clone());
        let mut running = Vec::new();
        for (resolver, target) in self.targets {
            let (report, url) = (self.report.clone(), target.to_string());
            let events = RegistrationEvents::new(move |event| {
                log(&url, &event);
                report(&url, &event);
            });
            running.push(resolver.register(&target, &self.instance, events, &on)?);
        }
        Ok(Registrations { running, end_max: self.end_max })
    }
}

fn log(url: &str, event: &RegistrationEvent) {
    let url = || url.to_owned();
    match event {
        RegistrationEvent::Registered => log_event!(Registered { url: url() }),
        RegistrationEvent::Failed(error) => log_event!(NotRegistered { url: url(), error: error.clone() }),
    }
}

/// The registrations of a running server.
#[derive(Default)]
pub(super) struct Registrations {
    running: Vec<Registration>,
    end_max: Duration,
}

impl Registrations {
    /// Returns the most time that a drain waits for their end.
    pub(super) fn end_max(&self) -> Duration {
        self.end_max
    }

    /// Leaves the server registered: a new process serves at its addresses, and is registered in its place.
    pub(super) fn abandon(&mut self) {
        self.running.drain(..).for_each(Registration::abandon);
    }

    /// Begins to deregister. The channel closes when all is done; `None` if there is nothing to do.
    pub(super) fn end(&mut self) -> Option<Receiver<()>> {
        if self.running.is_empty() {
            return None;
        }
        let (send, done) = bounded(self.running.len());
        for registration in self.running.drain(..) {
            let send = send.clone();
            registration.end(move || {
                let _ = send.send(());
            });
        }
        Some(done)
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrations").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn registered(listen: &[&str], bound: &[&str], given: Option<Instance>) -> Result<Instance, String> {
        let config =
            Config { listen: listen.iter().map(|text| (*text).to_owned()).collect(), ..Config::default() };
        let addresses: Vec<Address> = bound.iter().map(|text| text.parse().unwrap()).collect();
        instance(given, &config.validate(1).unwrap(), &addresses).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_is_that_of_the_first_tcp_listener() {
        let address =
            |listen: &[&str], bound: &[&str]| registered(listen, bound, None).map(|found| found.address);
        let found = address(&["unix:/a", "127.0.0.1:0"], &["unix:/a", "127.0.0.1:6550"]);
        assert_eq!(found.unwrap(), "127.0.0.1:6550");
        assert_eq!(address(&["http:10.0.0.1:0"], &["10.0.0.1:80"]).unwrap(), "http:10.0.0.1:80");
        assert_eq!(address(&["native:10.0.0.1:0"], &["10.0.0.1:80"]).unwrap(), "10.0.0.1:80");
        for bound in ["0.0.0.0:6550", "[::]:6550"] {
            let error = address(&[bound], &[bound]).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "the listener {bound} has no address that clients can connect to: set register.address (ServerBuilder::register_as)"
                )
            );
        }
        let error = address(&["unix:/a"], &["unix:/a"]).unwrap_err();
        assert!(error.starts_with("no listener has an address"), "{error}");
    }

    #[test]
    fn what_the_program_sets_takes_precedence() {
        let given = Instance::new("shop.example:80").zone("a").weight(7);
        assert_eq!(registered(&["0.0.0.0:1"], &["0.0.0.0:1"], Some(given.clone())).unwrap(), given);
        let without_address = Instance::new("").zone("b");
        let found = registered(&["127.0.0.1:1"], &["127.0.0.1:1"], Some(without_address)).unwrap();
        assert_eq!(found, Instance::new("127.0.0.1:1").zone("b"));
    }
}
