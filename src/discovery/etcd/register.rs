//! Registers an instance as a key with a lease, which is kept alive.
//!
//! A lease that has expired, or that etcd does not know any more, is replaced, and the key is written again.

use std::time::Duration;

use serde_json::json;

use super::EtcdAccess;
use super::json::{encode, granted_lease, instance_value, lease_seconds};
use crate::agent::http_client::HttpResponse;
use crate::discovery::keeper::{AfterStep, RegistrySteps, StepRequest};
use crate::discovery::registry::RegistryAccess;
use crate::policy::fleet::Instance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EtcdStep {
    Grant,
    Put,
    KeepAlive,
    Revoke,
}

/// The requests to etcd.
pub(crate) struct EtcdSteps {
    access: EtcdAccess,
    ttl: Duration,
    key: String,
    value: Vec<u8>,
    /// 0 while there is none.
    lease: i64,
    step: EtcdStep,
}

impl EtcdSteps {
    /// Begins with a lease.
    pub(super) fn new(access: EtcdAccess, ttl: Duration, instance: &Instance) -> EtcdSteps {
        let key = format!("{}{}", access.prefix, instance.id);
        EtcdSteps { access, ttl, key, value: instance_value(instance), lease: 0, step: EtcdStep::Grant }
    }
}

impl RegistrySteps for EtcdSteps {
    const NAME: &'static str = "etcd";

    fn request(&self) -> StepRequest {
        let id = self.lease.to_string();
        let (path, body) = match self.step {
            // etcd counts whole seconds.
            EtcdStep::Grant => {
                ("/v3/lease/grant", json!({ "TTL": self.ttl.as_millis().div_ceil(1000).to_string() }))
            }
            EtcdStep::Put => (
                "/v3/kv/put",
                json!({ "key": encode(self.key.as_bytes()), "value": encode(&self.value), "lease": id }),
            ),
            EtcdStep::KeepAlive => ("/v3/lease/keepalive", json!({ "ID": id })),
            EtcdStep::Revoke => ("/v3/lease/revoke", json!({ "ID": id })),
        };
        StepRequest { method: "POST", target: path.to_owned(), body: body.to_string().into_bytes() }
    }

    fn access(&self) -> &RegistryAccess {
        &self.access.registry
    }

    fn on_response(&mut self, response: &HttpResponse) -> Result<AfterStep, String> {
        let is_ok = response.head.status == 200;
        match self.step {
            // 404: the lease has ended already, and its key with it.
            EtcdStep::Revoke if is_ok || response.head.status == 404 => return Ok(AfterStep::Ended),
            EtcdStep::Put if !is_ok => {
                // Most likely the lease has ended.
                self.step = EtcdStep::Grant;
                return Err(response.describe());
            }
            _ if !is_ok => return Err(response.describe()),
            EtcdStep::Grant => {
                self.lease = granted_lease(&response.body)?;
                self.step = EtcdStep::Put;
            }
            EtcdStep::Put => {
                self.step = EtcdStep::KeepAlive;
                return Ok(AfterStep::Kept);
            }
            EtcdStep::KeepAlive if lease_seconds(&response.body)? > 0 => return Ok(AfterStep::Kept),
            EtcdStep::KeepAlive => {
                self.lease = 0;
                self.step = EtcdStep::Grant;
                return Err("the lease has expired".to_owned());
            }
            EtcdStep::Revoke => return Ok(AfterStep::Ended),
        }
        Ok(AfterStep::Next)
    }

    fn begin_end(&mut self) -> bool {
        self.step = EtcdStep::Revoke;
        self.lease != 0
    }
}

#[cfg(test)]
#[path = "tests/register.rs"]
mod tests;
