//! Watches a service by blocking queries: Consul answers when something has changed, or after the wait.
//!
//! The rules for the index are those of Consul's documentation ("Blocking Queries"): it must be above 0, one that goes
//! back starts over, a new index without a change is ordinary, and the rate of queries is bounded.

use std::time::{Duration, Instant};

use super::ConsulAccess;
use super::health::instances;
use crate::agent::AgentCx;
use crate::agent::http::{HttpRequest, encode};
use crate::agent::http_agent::HttpAgent;
use crate::agent::http_client::{AgentHttp, HttpEvent, HttpResponse};
use crate::discovery::Updates;
use crate::discovery::changes::Changes;
use crate::discovery::registry::watch_pause;
use crate::policy::fleet::Instance;

/// The time between the starts of two queries, at least; up to twice as much with jitter. A service that changes all the
/// time would otherwise keep Consul and the client busy.
const INTERVAL: Duration = Duration::from_millis(100);
/// The same after an answer without an index, which does not block.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The agent.
pub(crate) struct ConsulWatch {
    access: ConsulAccess,
    /// How long a query waits for a change.
    wait: Duration,
    updates: Changes,
    http: AgentHttp,
    /// The index of the last answer; 0 does not block.
    index: u64,
    /// When the next query starts, while none is running.
    query_at: Option<Instant>,
    failures: u32,
}

impl ConsulWatch {
    pub(super) fn new(access: ConsulAccess, wait: Duration, updates: Updates) -> ConsulWatch {
        let http = access.registry.http();
        ConsulWatch {
            access,
            wait,
            updates: Changes::new(updates),
            http,
            index: 0,
            query_at: None,
            failures: 0,
        }
    }

    fn query(&mut self, cx: &mut AgentCx<'_>) {
        let ConsulWatch { access, wait, .. } = self;
        let mut target = format!("/v1/health/service/{}?passing=1", encode(&access.service));
        if !access.dc.is_empty() {
            target += &format!("&{}", access.dc);
        }
        for tag in &access.tags {
            target += &format!("&tag={}", encode(tag));
        }
        let mut time = access.registry.request_timeout;
        if self.index > 0 {
            target += &format!("&index={}&wait={}ms", self.index, wait.as_millis());
            // Consul adds up to a sixteenth, so that queries do not end together.
            time += *wait + *wait / 16;
        }
        self.query_at = None;
        let fields = access.registry.fields();
        self.http.start(HttpRequest::json("GET", &target, &fields, b""), time, cx);
    }

    fn on_instances(&mut self, mut found: Vec<Instance>, response: &HttpResponse, cx: &mut AgentCx<'_>) {
        self.failures = 0;
        let index = response.head.field("X-Consul-Index");
        let index = index.and_then(|index| std::str::from_utf8(index).ok()?.parse::<u64>().ok()).unwrap_or(0);
        // An index that goes back is that of another state, such as that of a restored or a restarted Consul.
        self.index = if index < self.index { 0 } else { index };
        let interval = if index == 0 { POLL_INTERVAL } else { INTERVAL };
        self.query_at = Some(cx.now + interval + cx.jitter(interval));
        found.sort_by(|one, other| one.id.cmp(&other.id));
        self.updates.set(found);
    }

    fn on_failure(&mut self, why: String, cx: &mut AgentCx<'_>) {
        self.failures = self.failures.saturating_add(1);
        // A Consul that has restarted may begin with a lower index, and would wait for this one.
        self.index = 0;
        self.query_at = Some(cx.now + watch_pause(self.failures, cx));
        self.updates.failed(why);
    }
}

impl HttpAgent for ConsulWatch {
    fn http(&self) -> &AgentHttp {
        &self.http
    }

    fn http_mut(&mut self) -> &mut AgentHttp {
        &mut self.http
    }

    fn start(&mut self, cx: &mut AgentCx<'_>) {
        self.query(cx);
    }

    fn on_event(&mut self, event: HttpEvent, cx: &mut AgentCx<'_>) {
        let (address, response) = (
            self.http.address().to_owned(),
            match event {
                HttpEvent::Response(response) => response,
                HttpEvent::Failed(why) => return self.on_failure(format!("Consul at {why}"), cx),
                // Only streams have pieces.
                HttpEvent::Piece(_) => return,
            },
        );
        if response.head.status != 200 {
            return self.on_failure(format!("Consul at {address}: {}", response.describe()), cx);
        }
        match instances(&response.body) {
            Ok(found) => self.on_instances(found, &response, cx),
            Err(why) => self.on_failure(format!("Consul at {address}: {why}"), cx),
        }
    }

    fn timer_at(&self) -> Option<Instant> {
        self.query_at
    }

    fn on_timer(&mut self, cx: &mut AgentCx<'_>) {
        self.query(cx);
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
