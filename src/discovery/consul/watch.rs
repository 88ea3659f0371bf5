//! Watches a service by blocking queries: Consul answers when something has changed, or after the wait.
//!
//! The rules for the index are those of Consul's documentation ("Blocking Queries"): it must be above 0, one that goes
//! back starts over, a new index without a change is ordinary, and the rate of queries is bounded.

use std::time::{Duration, Instant};

use super::ConsulAccess;
use super::health::instances;
use crate::agent::http::{HttpRequest, encode};
use crate::agent::http_client::{AgentHttp, HttpEvent, HttpResponse};
use crate::agent::{Agent, AgentCx, LinkId};
use crate::discovery::Updates;
use crate::policy::backoff::Backoff;
use crate::policy::fleet::Instance;

/// The time between the starts of two queries, at least; up to twice as much with jitter. A service that changes all the
/// time would otherwise keep Consul and the client busy.
const INTERVAL: Duration = Duration::from_millis(100);
/// The same after an answer without an index, which does not block.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The least pause after a failure; the back-off comes on top.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The back-off after failures.
const BACKOFF: Backoff = Backoff { base_ms: 200, max_ms: 10_000 };

/// The settings of a watch.
pub(super) struct WatchSettings {
    pub(super) access: ConsulAccess,
    pub(super) tags: Vec<String>,
    pub(super) wait: Duration,
}

/// The agent.
pub(super) struct ConsulWatch {
    settings: WatchSettings,
    updates: Updates,
    http: AgentHttp,
    /// The index of the last answer; 0 does not block.
    index: u64,
    /// When the next query starts, while none is running.
    query_at: Option<Instant>,
    failures: u32,
    /// What was passed on last; `None` after a failure.
    last: Option<Vec<Instance>>,
}

impl ConsulWatch {
    pub(super) fn new(settings: WatchSettings, updates: Updates) -> ConsulWatch {
        let http = AgentHttp::new(&settings.access.authority);
        ConsulWatch { settings, updates, http, index: 0, query_at: None, failures: 0, last: None }
    }

    fn query(&mut self, cx: &mut AgentCx<'_>) {
        let WatchSettings { access, tags, wait } = &self.settings;
        let mut target = format!("/v1/health/service/{}?passing=1", encode(&access.service));
        if !access.dc.is_empty() {
            target += &format!("&{}", access.dc);
        }
        for tag in tags {
            target += &format!("&tag={}", encode(tag));
        }
        let mut time = access.request_timeout;
        if self.index > 0 {
            target += &format!("&index={}&wait={}ms", self.index, wait.as_millis());
            // Consul adds up to a sixteenth, so that queries do not end together.
            time += *wait + *wait / 16;
        }
        self.query_at = None;
        let fields = access.fields();
        let request = HttpRequest {
            method: "GET",
            target: &target,
            fields: &fields,
            content_type: "application/json",
            body: b"",
        };
        self.http.start(request, time, cx);
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

    fn on_instances(&mut self, mut found: Vec<Instance>, response: &HttpResponse, cx: &mut AgentCx<'_>) {
        self.failures = 0;
        let index = response.head.field("X-Consul-Index");
        let index = index.and_then(|index| std::str::from_utf8(index).ok()?.parse::<u64>().ok()).unwrap_or(0);
        // An index that goes back is that of another state, such as that of a restored or a restarted Consul.
        self.index = if index < self.index { 0 } else { index };
        let interval = if index == 0 { POLL_INTERVAL } else { INTERVAL };
        self.query_at = Some(cx.now + interval + cx.jitter(interval));
        found.sort_by(|one, other| one.id.cmp(&other.id));
        if self.last.as_ref() != Some(&found) {
            self.updates.set(found.clone());
            self.last = Some(found);
        }
    }

    fn on_failure(&mut self, why: String, cx: &mut AgentCx<'_>) {
        self.failures = self.failures.saturating_add(1);
        // A Consul that has restarted may begin with a lower index, and would wait for this one.
        self.index = 0;
        self.last = None;
        let delay = BACKOFF.delay(self.failures, cx.random.next_u64());
        self.query_at = Some(cx.now + PAUSE_MIN + delay);
        self.updates.failed(why);
    }
}

impl Agent for ConsulWatch {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        self.query(cx);
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
        self.query_at.or(self.http.next_at())
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        if let Some(event) = self.http.on_time(cx) {
            self.on_event(event, cx);
        }
        if self.query_at.is_some_and(|at| at <= cx.now) {
            self.query(cx);
        }
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
