//! Registers an instance at a Consul agent, with a TTL check that is kept passing.
//!
//! An agent that has lost the service (it has restarted, or deregistered it) answers 404 or 500 for the check; the
//! instance is then registered again.

use std::time::Duration;

use serde_json::json;

use super::ConsulAccess;
use super::health::{SCHEME, WEIGHT, ZONE};
use crate::agent::http::encode;
use crate::agent::http_client::HttpResponse;
use crate::discovery::keeper::{AfterStep, RegistrySteps, StepRequest};
use crate::discovery::registry::RegistryAccess;
use crate::policy::fleet::Instance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConsulStep {
    Register,
    Pass,
    Deregister,
}

/// The requests to Consul.
pub(crate) struct ConsulSteps {
    access: ConsulAccess,
    /// The id at Consul: that of the service and of the instance.
    id: String,
    /// The body that registers it.
    body: Vec<u8>,
    step: ConsulStep,
}

impl ConsulSteps {
    /// Begins with the registration. Fails with what was expected of the instance.
    pub(super) fn new(
        access: ConsulAccess,
        ttl: Duration,
        deregister_after: Duration,
        instance: &Instance,
    ) -> Result<ConsulSteps, String> {
        let (scheme, host, port) = split(&instance.address)?;
        let service = &access.service;
        let id = format!("{service}-{}", instance.id);
        let mut meta = instance.metadata.clone();
        meta.extend(scheme.map(|scheme| (SCHEME.to_owned(), scheme.to_owned())));
        meta.extend(instance.zone.iter().map(|zone| (ZONE.to_owned(), zone.clone())));
        if instance.weight == 0 {
            // Consul accepts weights from 1 on.
            meta.insert(WEIGHT.to_owned(), "0".to_owned());
        }
        let body = json!({
            "ID": id,
            "Name": service,
            "Tags": access.tags,
            "Address": host,
            "Port": port,
            "Meta": meta,
            "Weights": { "Passing": instance.weight.clamp(1, 65_535), "Warning": 1 },
            "Check": {
                "CheckID": check_id(&id),
                "Name": "kept alive by the server",
                "TTL": format!("{}ms", ttl.as_millis()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": format!("{}s", deregister_after.as_secs()),
            },
        });
        Ok(ConsulSteps { access, id, body: body.to_string().into_bytes(), step: ConsulStep::Register })
    }
}

impl RegistrySteps for ConsulSteps {
    const NAME: &'static str = "Consul";

    fn request(&self) -> StepRequest {
        let (target, body) = match self.step {
            ConsulStep::Register => {
                ("/v1/agent/service/register?replace-existing-checks=true".to_owned(), self.body.clone())
            }
            ConsulStep::Pass => (format!("/v1/agent/check/pass/{}", encode(&check_id(&self.id))), Vec::new()),
            ConsulStep::Deregister => {
                (format!("/v1/agent/service/deregister/{}", encode(&self.id)), Vec::new())
            }
        };
        StepRequest { method: "PUT", target, body }
    }

    fn access(&self) -> &RegistryAccess {
        &self.access.registry
    }

    fn on_response(&mut self, response: &HttpResponse) -> Result<AfterStep, String> {
        match (response.head.status, self.step) {
            (200, ConsulStep::Deregister) => Ok(AfterStep::Ended),
            (200, ConsulStep::Register | ConsulStep::Pass) => {
                self.step = ConsulStep::Pass;
                Ok(AfterStep::Kept)
            }
            (404 | 500, ConsulStep::Pass) => {
                self.step = ConsulStep::Register;
                Err(response.describe())
            }
            // What is not there need not be removed.
            (404, ConsulStep::Deregister) => Ok(AfterStep::Ended),
            (_, ConsulStep::Register | ConsulStep::Pass | ConsulStep::Deregister) => Err(response.describe()),
        }
    }

    fn begin_end(&mut self) -> bool {
        self.step = ConsulStep::Deregister;
        true
    }
}

fn check_id(id: &str) -> String {
    format!("service:{id}")
}

/// Splits an address into its scheme, host and port.
fn split(address: &str) -> Result<(Option<&str>, &str, u16), String> {
    let expected = || format!("an instance with an address host:port for Consul; found {address:?}");
    let (rest, port) = address.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?;
    let (scheme, host) = match rest.split_once(':') {
        Some((scheme, host)) if !rest.starts_with('[') => (Some(scheme), host),
        _ => (None, rest),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || scheme.is_some_and(|scheme| ["", "unix", "memory"].contains(&scheme)) {
        return Err(expected());
    }
    Ok((scheme, host, port))
}

#[cfg(test)]
#[path = "tests/register.rs"]
mod tests;
