//! Service discovery: the servers of a name, and how a server makes itself known.
//!
//! A [`Resolver`] is a plug-in for one scheme of URLs. It watches the instances of a service for clients, and registers
//! instances for servers. The built-in ones run on the reactor of their client or server; one of a program's own may use
//! threads of its own.

#[cfg(feature = "discovery")]
mod changes;
#[cfg(feature = "discovery")]
mod consul;
#[cfg(all(feature = "discovery", feature = "bench-internals"))]
#[doc(hidden)]
pub mod detached;
#[cfg(all(feature = "discovery", feature = "client"))]
mod dns;
#[cfg(feature = "discovery")]
mod etcd;
#[cfg(all(feature = "discovery", feature = "client"))]
mod file;
mod fixed;
mod handle;
#[cfg(feature = "discovery")]
mod keeper;
#[cfg(feature = "discovery")]
mod parameters;
mod registration;
#[cfg(feature = "discovery")]
mod registry;
mod resolver;
mod target;

#[cfg(all(feature = "discovery", feature = "bench-internals"))]
#[doc(hidden)]
pub use crate::agent::dns::records_of_answer;
pub use crate::policy::fleet::Instance;
#[cfg(feature = "client")]
pub(crate) use fixed::StaticResolver;
pub use handle::DiscoveryHandle;
pub use registration::{Registration, RegistrationEvent, RegistrationEvents};
pub use resolver::{DiscoveryError, Resolver, Update, Updates, Watch};
pub use target::{Target, TargetError};

/// Returns the built-in resolver of a scheme: `static`; with the feature `discovery` also `consul`, `etcd`, both with
/// `+tls` too, `dns` and `file`.
pub fn builtin(scheme: &str) -> Option<Box<dyn Resolver>> {
    match scheme {
        "static" => Some(Box::new(fixed::StaticResolver)),
        #[cfg(feature = "discovery")]
        "consul" => Some(Box::new(registry::RegistryResolver::<consul::Consul>::new("consul"))),
        #[cfg(feature = "discovery")]
        "consul+tls" => Some(Box::new(registry::RegistryResolver::<consul::Consul>::new("consul+tls"))),
        #[cfg(feature = "discovery")]
        "etcd" => Some(Box::new(registry::RegistryResolver::<etcd::Etcd>::new("etcd"))),
        #[cfg(feature = "discovery")]
        "etcd+tls" => Some(Box::new(registry::RegistryResolver::<etcd::Etcd>::new("etcd+tls"))),
        #[cfg(all(feature = "discovery", feature = "client"))]
        "dns" => Some(Box::new(dns::DnsResolver)),
        #[cfg(all(feature = "discovery", feature = "client"))]
        "file" => Some(Box::new(file::FileResolver)),
        _ => None,
    }
}
