//! The services that every server has: `Health` reports whether it serves, and `Meta` lists its methods.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

pub use super::method_info::MethodInfo;
use super::{Method, RegisterError, Service, finish, refuse_argument};
use crate::codec::{Argument, Body, Codec, CodecError, Plain};
use crate::method_name::MethodName;
use crate::status::Status;

/// The health of a server and of each of its services.
#[derive(Debug, Default)]
pub struct Health {
    /// True while the server drains.
    is_down: std::sync::atomic::AtomicBool,
    services: RwLock<BTreeMap<String, bool>>,
}

impl Health {
    /// Creates the health of a server that serves, without any service.
    pub fn new() -> Health {
        Health::default()
    }

    /// Sets whether a service is able to serve.
    pub fn set(&self, service: &str, serves: bool) {
        self.services.write().unwrap_or_else(PoisonError::into_inner).insert(service.to_owned(), serves);
    }

    /// Marks the server as draining.
    pub(crate) fn go_down(&self) {
        self.is_down.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Returns whether the server is ready: it does not drain, and each of its services serves.
    pub fn is_ready(&self) -> bool {
        self.reason_not_ready().is_none()
    }

    /// Returns why the server is not ready; `None` if it is.
    pub(crate) fn reason_not_ready(&self) -> Option<String> {
        if self.is_down.load(std::sync::atomic::Ordering::Relaxed) {
            return Some("draining".to_owned());
        }
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let down: Vec<&str> =
            services.iter().filter(|(_, serves)| !**serves).map(|(service, _)| service.as_str()).collect();
        (!down.is_empty()).then(|| format!("not serving: {}", down.join(", ")))
    }

    /// Returns whether the service serves (the empty name means the whole server); `None` if there is no such
    /// service.
    pub fn serves(&self, service: &str) -> Option<bool> {
        let is_up = !self.is_down.load(std::sync::atomic::Ordering::Relaxed);
        if service.is_empty() {
            return Some(is_up);
        }
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(service).map(|serves| is_up && *serves)
    }
}

impl Service for Health {
    fn service_name(&self) -> &str {
        "Health"
    }

    fn methods(self: Arc<Self>) -> Result<Vec<Method>, RegisterError> {
        let check = Method::new::<Plain<String>, Plain<String>>(
            "Health.Check",
            Box::new(move |cx, codec, body, out| {
                let service = match service_or_all(codec, body) {
                    Ok(service) => service,
                    Err(error) => return refuse_argument(cx, error),
                };
                let result = match self.serves(&service) {
                    Some(true) => Ok("serving".to_owned()),
                    Some(false) => Ok("not_serving".to_owned()),
                    None => Err(Status::not_found(format!("there is no service {service:?} here"))),
                };
                finish::<Plain<String>>(cx, codec, result, out)
            }),
        )?;
        let docs =
            "Whether a service serves: `serving` or `not_serving`. The empty name asks for the whole server.";
        Ok(vec![check.docs(docs).idempotent().optional_argument()])
    }
}

/// Decodes the name of a service. An empty body is the empty name, for probes that can only send a path.
fn service_or_all(codec: Codec, body: Body<'_>) -> Result<String, CodecError> {
    if body.as_slice().is_empty() {
        return Ok(String::new());
    }
    <Plain<String> as Argument>::decode(codec, body)
}

/// The service that lists the methods of a server.
#[derive(Debug, Default)]
pub struct Meta {
    /// Set once every method is registered, including this one.
    methods: OnceLock<Vec<MethodInfo>>,
}

impl Meta {
    /// Creates the service without methods.
    pub fn new() -> Meta {
        Meta::default()
    }

    /// Sets the methods; routes are not listed. Only the first call has an effect.
    pub fn fill(&self, methods: &[Method]) {
        let callable = methods.iter().filter(|method| !method.is_route());
        let _ = self.methods.set(callable.map(MethodInfo::of).collect());
    }
}

impl Service for Meta {
    fn service_name(&self) -> &str {
        "Meta"
    }

    fn methods(self: Arc<Self>) -> Result<Vec<Method>, RegisterError> {
        let methods = Method::new::<Plain<String>, Plain<Vec<MethodInfo>>>(
            "Meta.Methods",
            Box::new(move |cx, codec, body, out| {
                let service = match service_or_all(codec, body) {
                    Ok(service) => service,
                    Err(error) => return refuse_argument(cx, error),
                };
                let is_requested = |info: &&MethodInfo| {
                    service.is_empty()
                        || MethodName::split(&info.name).is_some_and(|(name, _)| name == service)
                };
                let all = self.methods.get().map_or(&[][..], Vec::as_slice);
                let found: Vec<MethodInfo> = all.iter().filter(is_requested).cloned().collect();
                finish::<Plain<Vec<MethodInfo>>>(cx, codec, Ok(found), out)
            }),
        )?;
        let docs =
            "The methods of a service, or of all for the empty name, with their types and documentation.";
        Ok(vec![methods.docs(docs).idempotent().optional_argument()])
    }
}
