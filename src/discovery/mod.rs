//! Service discovery: who serves a name, and how a server makes itself known.
//!
//! A [`Resolver`] is a plug-in for one scheme of URLs. It watches the instances of a service for clients, and registers
//! instances for servers. The built-in ones run on the reactor of their client or server; one of a program's own may use
//! threads of its own.

mod target;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use crate::policy::fleet::Instance;
use crate::reactor::RoleHandle;
pub use target::{Target, TargetError};

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
    fn watch(&self, target: &Target, updates: Updates, on: &RoleHandle) -> Result<Watch, DiscoveryError>;

    /// Registers an instance of the target's service and keeps it alive until the registration is ended or dropped.
    ///
    /// # Errors
    ///
    /// The resolver cannot register, or the target is not valid.
    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        on: &RoleHandle,
    ) -> Result<Registration, DiscoveryError> {
        let _ = (target, instance, on);
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

/// The registration of an instance. Dropping it ends it as far as possible without waiting.
#[must_use = "dropping it deregisters the instance"]
pub struct Registration {
    end: Option<EndRegistration>,
}

/// Deregisters, and calls the function when that is done or was given up.
type EndRegistration = Box<dyn FnOnce(Box<dyn FnOnce() + Send>) + Send>;

impl Registration {
    /// Creates a registration. `end` is called once: it deregisters the instance and then calls the function that it
    /// receives. It must not wait.
    pub fn new(end: impl FnOnce(Box<dyn FnOnce() + Send>) + Send + 'static) -> Registration {
        Registration { end: Some(Box::new(end)) }
    }

    /// Deregisters the instance; `done` is called when the registry has answered, or was given up.
    pub fn end(mut self, done: impl FnOnce() + Send + 'static) {
        if let Some(end) = self.end.take() {
            end(Box::new(done));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end(Box::new(|| {}));
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registration")
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
            | DiscoveryError::CannotRegister { .. } => None,
        }
    }
}

impl From<TargetError> for DiscoveryError {
    fn from(error: TargetError) -> DiscoveryError {
        DiscoveryError::Target(error)
    }
}
