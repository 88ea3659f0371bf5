//! Registers an instance at a Consul agent, with a TTL check that is kept passing.
//!
//! An agent that has lost the service (it has restarted, or deregistered it) answers 404 or 500 for the check; the
//! instance is then registered again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::ConsulAccess;
use super::health::{SCHEME, WEIGHT, ZONE};
use super::watch::jitter;
use crate::discovery::RegistrationEvents;
use crate::discovery::agent::{Agent, AgentCx, LinkId};
use crate::discovery::http::{HttpRequest, encode};
use crate::discovery::http_client::{HttpClient, HttpEvent};
use crate::policy::backoff::Backoff;
use crate::policy::fleet::Instance;

/// The time that the end of a registration may take, over all requests.
const END_MAX: Duration = Duration::from_secs(2);
/// The back-off after failures. Within the TTL there is always another try: it is a third of it at most.
const BACKOFF: Backoff = Backoff { base_ms: 100, max_ms: 10_000 };
/// The least pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The settings of a registration.
pub(super) struct RegisterSettings {
    pub(super) access: ConsulAccess,
    pub(super) tags: Vec<String>,
    pub(super) ttl: Duration,
    pub(super) deregister_after: Duration,
}

/// The request that is running or comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Register,
    Pass,
    Deregister,
}

/// The agent.
pub(super) struct ConsulRegistration {
    settings: RegisterSettings,
    events: RegistrationEvents,
    http: HttpClient,
    /// The id at Consul: that of the service and of the instance.
    id: String,
    /// The body that registers it.
    body: Vec<u8>,
    step: Step,
    /// When the step's request starts, while none is running.
    start_at: Option<Instant>,
    failures: u32,
    /// When the end is given up.
    end_by: Option<Instant>,
    /// What was reported last: registered, or the reason of a failure.
    reported: Option<Result<(), String>>,
}

impl ConsulRegistration {
    /// Creates the agent, or returns what was expected of the instance.
    pub(super) fn new(
        settings: RegisterSettings,
        instance: &Instance,
        events: RegistrationEvents,
    ) -> Result<ConsulRegistration, String> {
        let (scheme, host, port) = split(&instance.address)?;
        let service = &settings.access.service;
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
            "Tags": settings.tags,
            "Address": host,
            "Port": port,
            "Meta": meta,
            "Weights": { "Passing": instance.weight.clamp(1, 65_535), "Warning": 1 },
            "Check": {
                "CheckID": check_id(&id),
                "Name": "kept alive by the server",
                "TTL": format!("{}ms", settings.ttl.as_millis()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": format!("{}s", settings.deregister_after.as_secs()),
            },
        });
        Ok(ConsulRegistration {
            http: HttpClient::new(&settings.access.authority),
            settings,
            events,
            id,
            body: body.to_string().into_bytes(),
            step: Step::Register,
            start_at: None,
            failures: 0,
            end_by: None,
            reported: None,
        })
    }

    /// Starts the request of the step.
    fn start(&mut self, cx: &mut AgentCx<'_>) {
        self.start_at = None;
        let id = encode(&self.id);
        let (target, body): (String, &[u8]) = match self.step {
            Step::Register => {
                ("/v1/agent/service/register?replace-existing-checks=true".to_owned(), &self.body)
            }
            Step::Pass => (format!("/v1/agent/check/pass/{}", encode(&check_id(&self.id))), b""),
            Step::Deregister => (format!("/v1/agent/service/deregister/{id}"), b""),
        };
        let fields = self.settings.access.fields();
        let mut time = self.settings.access.request_timeout;
        if let Some(end_by) = self.end_by {
            time = time.min(end_by.saturating_duration_since(cx.now));
        }
        self.http.start(HttpRequest { method: "PUT", target: &target, fields: &fields, body }, time, cx);
    }

    fn on_event(&mut self, event: HttpEvent, cx: &mut AgentCx<'_>) {
        let address = self.http.address().to_owned();
        let outcome = match event {
            HttpEvent::Response(response) if response.head.status == 200 => Ok(()),
            HttpEvent::Response(response) => {
                let is_forgotten = matches!(response.head.status, 404 | 500) && self.step == Step::Pass;
                if is_forgotten && self.end_by.is_none() {
                    self.step = Step::Register;
                }
                Err(format!("Consul at {address}: {}", response.describe()))
            }
            HttpEvent::Failed(why) => Err(format!("Consul at {why}")),
            // Only streams have pieces.
            HttpEvent::Piece(_) => return,
        };
        if self.end_by.is_some() {
            return self.go_on_ending(outcome.is_ok(), cx);
        }
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.step = Step::Pass;
                let third = self.settings.ttl / 3;
                // Spread over the last quarter of the interval, so that the servers of a fleet do not come together.
                self.start_at = Some(cx.now + third - jitter(third / 4, cx));
                self.report(Ok(()));
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                let delay = BACKOFF.delay(self.failures, cx.random.next()).min(self.settings.ttl / 3);
                self.start_at = Some(cx.now + PAUSE_MIN + delay);
                self.report(Err(why));
            }
        }
    }

    /// Continues the end after a request: deregisters, or is done.
    fn go_on_ending(&mut self, is_ok: bool, cx: &mut AgentCx<'_>) {
        let is_late = self.end_by.is_some_and(|at| at <= cx.now);
        if is_late || self.step == Step::Deregister && is_ok {
            self.http.cancel(cx);
            return cx.end();
        }
        if self.step == Step::Deregister {
            self.start_at = Some(cx.now + PAUSE_MIN);
        } else {
            self.step = Step::Deregister;
            self.start(cx);
        }
    }

    /// Reports a change.
    fn report(&mut self, outcome: Result<(), String>) {
        if self.reported.as_ref() != Some(&outcome) {
            match &outcome {
                Ok(()) => self.events.registered(),
                Err(why) => self.events.failed(why.clone()),
            }
            self.reported = Some(outcome);
        }
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

impl Agent for ConsulRegistration {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        self.start(cx);
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) {
        for event in self.http.on_bytes(link, bytes, cx) {
            self.on_event(event, cx);
        }
    }

    fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) {
        if let Some(event) = self.http.on_closed(link, why, cx) {
            self.on_event(event, cx);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        [self.start_at, self.http.next_at(), self.end_by].into_iter().flatten().min()
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        if self.end_by.is_some_and(|at| at <= cx.now) {
            self.http.cancel(cx);
            return cx.end();
        }
        if let Some(event) = self.http.on_time(cx) {
            self.on_event(event, cx);
        }
        if self.start_at.is_some_and(|at| at <= cx.now) {
            self.start(cx);
        }
    }

    fn on_end(&mut self, cx: &mut AgentCx<'_>) {
        self.end_by = Some(cx.now + END_MAX);
        // A request that is on its way could be carried out after the deregistration: its answer is awaited.
        if !self.http.is_busy() {
            self.step = Step::Deregister;
            self.start(cx);
        }
    }
}

#[cfg(test)]
#[path = "tests/register.rs"]
mod tests;
