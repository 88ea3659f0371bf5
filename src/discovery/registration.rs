//! The registration of an instance, and what becomes of it.

use std::fmt;
use std::sync::Arc;

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

    /// Leaves the instance registered, for another process that serves at its address.
    pub(crate) fn abandon(mut self) {
        // What it holds deregisters the instance when it is dropped. It is needed until the process ends, which is soon.
        std::mem::forget(self.end.take());
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

/// What becomes of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationEvent {
    /// The registry has the instance, for the first time or again.
    Registered,
    /// The registry could not be reached, or refused the instance; the text says why. The resolver tries again.
    Failed(String),
}

/// Receives what becomes of a registration. Clones receive it too.
#[derive(Clone)]
pub struct RegistrationEvents(Arc<dyn Fn(RegistrationEvent) + Send + Sync>);

impl RegistrationEvents {
    /// Passes events to a function. It must not wait: resolvers call it on reactors.
    pub fn new(take: impl Fn(RegistrationEvent) + Send + Sync + 'static) -> RegistrationEvents {
        RegistrationEvents(Arc::new(take))
    }

    /// Passes on that the registry has the instance.
    pub fn registered(&self) {
        (self.0)(RegistrationEvent::Registered);
    }

    /// Passes on that the registry could not be reached, or refused the instance.
    pub fn failed(&self, why: impl Into<String>) {
        (self.0)(RegistrationEvent::Failed(why.into()));
    }
}

impl fmt::Debug for RegistrationEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistrationEvents")
    }
}
