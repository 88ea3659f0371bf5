//! The trait of resolvers, and what a watch passes on.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{DiscoveryHandle, Instance, Registration, RegistrationEvents, Target, TargetError};

/// A plug-in for service discovery: register, deregister, resolve and watch.
pub trait Resolver: Send + Sync + 'static {
    /// Returns the scheme of the URLs that it handles, such as `consul`.
    fn scheme(&self) -> &str;

    /// Begins to watch the instances of a service. Each change is passed to `updates`, the first one as soon as it is
    /// known. The watch ends when the returned value is dropped.
    ///
    /// # Errors
    ///
    /// The target is not valid for this resolver, or a resource of the system is missing. An unreachable registry is not
    /// an error here: it is passed to [`Updates::failed`], and the resolver tries again, with jitter.
    fn watch(&self, target: &Target, updates: Updates, on: &DiscoveryHandle)
    -> Result<Watch, DiscoveryError>;

    /// Registers an instance of the target's service and keeps it alive until the registration is ended or dropped. What
    /// becomes of it is passed to `events`.
    ///
    /// # Errors
    ///
    /// The resolver cannot register, or the target or the instance is not valid for it. An unreachable registry is not an
    /// error here: it is passed to [`RegistrationEvents::failed`], and the resolver tries again, with jitter.
    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
        on: &DiscoveryHandle,
    ) -> Result<Registration, DiscoveryError> {
        let _ = (target, instance, events, on);
        Err(DiscoveryError::CannotRegister { scheme: self.scheme().to_owned() })
    }
}

/// What a resolver has found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Update {
    /// All instances of the service, in any order.
    Instances(Vec<Instance>),
    /// They could not be found out; the text says why.
    Failed(String),
}

/// Receives what a resolver finds. Clones receive it too.
#[derive(Clone)]
pub struct Updates(Arc<dyn Fn(Update) + Send + Sync>);

impl Updates {
    /// Passes updates to a function. It must not wait: resolvers call it on reactors.
    pub fn new(take: impl Fn(Update) + Send + Sync + 'static) -> Updates {
        Updates(Arc::new(take))
    }

    /// Passes on all instances of the service.
    pub fn set(&self, instances: Vec<Instance>) {
        (self.0)(Update::Instances(instances));
    }

    /// Passes on that the instances could not be found out.
    pub fn failed(&self, why: impl Into<String>) {
        (self.0)(Update::Failed(why.into()));
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Updates")
    }
}

/// A watch; it ends when this is dropped.
#[must_use = "dropping it ends the watch"]
pub struct Watch(#[allow(dead_code, reason = "held for its drop")] Box<dyn std::any::Any + Send>);

impl Watch {
    /// Creates a watch that ends when the value is dropped.
    pub fn new(guard: impl std::any::Any + Send) -> Watch {
        Watch(Box::new(guard))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Why discovery cannot begin.
#[non_exhaustive]
pub enum DiscoveryError {
    /// The URL is not valid.
    Target(TargetError),
    /// No resolver handles the scheme.
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// The resolver only watches.
    CannotRegister {
        /// Its scheme.
        scheme: String,
    },
    /// A server has no address that it could register.
    NoAddress {
        /// Its first TCP listener, which is bound to every address; `None` if it has no TCP listener.
        listener: Option<String>,
    },
    /// A resource of the system is missing.
    System(io::Error),
}

crate::error_text::debug_as_text!(DiscoveryError);

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscoveryError::Target(error) => error.fmt(f),
            DiscoveryError::UnknownScheme { scheme } => {
                write!(
                    f,
                    "no resolver handles the scheme {scheme:?} (feature `discovery`, or one of your own)"
                )
            }
            DiscoveryError::CannotRegister { scheme } => {
                write!(f, "the resolver of {scheme:?} registers no instances")
            }
            DiscoveryError::NoAddress { listener } => {
                match listener {
                    Some(listener) => write!(f, "the listener {listener} has no address")?,
                    None => f.write_str("no listener has an address")?,
                }
                f.write_str(" that clients can connect to: set register.address (ServerBuilder::register_as)")
            }
            DiscoveryError::System(error) => write!(f, "discovery cannot begin: {error}"),
        }
    }
}

impl std::error::Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DiscoveryError::System(error) => Some(error),
            DiscoveryError::Target(_)
            | DiscoveryError::UnknownScheme { .. }
            | DiscoveryError::NoAddress { .. }
            | DiscoveryError::CannotRegister { .. } => None,
        }
    }
}

impl From<TargetError> for DiscoveryError {
    fn from(error: TargetError) -> DiscoveryError {
        DiscoveryError::Target(error)
    }
}
