//! Watches the keys below a prefix: reads all of them, then follows the changes after that revision.
//!
//! Whatever ends the watch (a compaction, a lost connection, silence), it starts over with a read, so no change is
//! missed. A watch without a line for a while is replaced without a failure: etcd sends nothing while nothing changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::EtcdAccess;
use super::json::{EtcdKey, INSTANCES_MAX, LINE_BYTES_MAX, WatchLine, encode, range, range_end, watch_line};
use crate::agent::AgentCx;
use crate::agent::http::HttpRequest;
use crate::agent::http_agent::HttpAgent;
use crate::agent::http_client::{AgentHttp, HttpEvent, HttpResponse};
use crate::discovery::Updates;
use crate::discovery::changes::Changes;
use crate::discovery::registry::watch_pause;
use crate::policy::fleet::Instance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    /// Between two starts.
    Paused { until: Instant },
    /// All keys are being read.
    Reading,
    /// The watch is being created, until this time.
    Creating { until: Instant },
    /// Changes are followed.
    Following,
}

/// The agent.
pub(crate) struct EtcdWatch {
    access: EtcdAccess,
    /// The time without a line after which the watch is replaced.
    wait: Duration,
    updates: Changes,
    http: AgentHttp,
    state: WatchState,
    failures: u32,
    /// The instances by their keys.
    keys: BTreeMap<String, Instance>,
    /// The part of a line that has arrived.
    line: Vec<u8>,
}

impl EtcdWatch {
    pub(super) fn new(access: EtcdAccess, wait: Duration, updates: Updates) -> EtcdWatch {
        EtcdWatch {
            http: access.registry.http(),
            access,
            wait,
            updates: Changes::new(updates),
            state: WatchState::Reading,
            failures: 0,
            keys: BTreeMap::new(),
            line: Vec::new(),
        }
    }

    /// Returns the members that select the keys.
    fn selection(&self) -> serde_json::Value {
        let (key, end) = (encode(self.access.prefix.as_bytes()), encode(&range_end(&self.access.prefix)));
        json!({ "key": key, "range_end": end })
    }

    fn read(&mut self, cx: &mut AgentCx<'_>) {
        self.state = WatchState::Reading;
        let body = self.selection().to_string();
        let fields = self.access.registry.fields();
        let request = HttpRequest::json("POST", "/v3/kv/range", &fields, body.as_bytes());
        self.http.start(request, self.access.registry.request_timeout, cx);
    }

    fn follow(&mut self, revision: i64, cx: &mut AgentCx<'_>) {
        self.state = WatchState::Creating { until: cx.now + self.access.registry.request_timeout };
        self.line.clear();
        let mut create = self.selection();
        create["start_revision"] = json!(revision.saturating_add(1).to_string());
        let body = json!({ "create_request": create }).to_string();
        let fields = self.access.registry.fields();
        let request = HttpRequest::json("POST", "/v3/watch", &fields, body.as_bytes());
        self.http.start_stream(request, self.wait, cx);
    }

    fn on_read(&mut self, response: &HttpResponse, cx: &mut AgentCx<'_>) {
        match range(&response.body, &self.access.prefix) {
            Ok((revision, found)) => {
                self.keys.clear();
                self.apply(found);
                self.follow(revision, cx);
            }
            Err(why) => self.on_failure(format!("{}: {why}", self.http.address()), cx),
        }
    }

    fn on_piece(&mut self, mut bytes: &[u8], cx: &mut AgentCx<'_>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            match watch_line(&line, &self.access.prefix) {
                Ok(WatchLine::Nothing) => self.state = WatchState::Following,
                Ok(WatchLine::Changes(changes)) => {
                    self.state = WatchState::Following;
                    self.failures = 0;
                    self.apply(changes);
                }
                Ok(WatchLine::Ended(_)) => return self.start_over(cx),
                Err(why) => return self.on_failure(format!("{}: {why}", self.http.address()), cx),
            }
            if self.keys.len() > INSTANCES_MAX {
                let why = format!("{}: over {INSTANCES_MAX} instances", self.http.address());
                return self.on_failure(why, cx);
            }
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() > LINE_BYTES_MAX {
            self.on_failure(format!("{}: a line over {LINE_BYTES_MAX} bytes", self.http.address()), cx);
        }
    }

    /// Applies changes, and passes on the instances if they are others now.
    fn apply(&mut self, changes: Vec<EtcdKey>) {
        for EtcdKey { key, instance } in changes {
            match instance {
                Some(instance) => drop(self.keys.insert(key, instance)),
                None => drop(self.keys.remove(&key)),
            }
        }
        self.updates.set(self.keys.values().cloned().collect());
    }

    fn on_failure(&mut self, why: String, cx: &mut AgentCx<'_>) {
        self.start_over(cx);
        self.updates.failed(format!("etcd at {why}"));
    }

    /// Ends what is running, and reads all keys after a pause.
    fn start_over(&mut self, cx: &mut AgentCx<'_>) {
        self.http.cancel(cx);
        self.line = Vec::new();
        self.failures = self.failures.saturating_add(1);
        self.state = WatchState::Paused { until: cx.now + watch_pause(self.failures, cx) };
    }
}

impl HttpAgent for EtcdWatch {
    fn http(&self) -> &AgentHttp {
        &self.http
    }

    fn http_mut(&mut self) -> &mut AgentHttp {
        &mut self.http
    }

    fn start(&mut self, cx: &mut AgentCx<'_>) {
        self.read(cx);
    }

    fn on_event(&mut self, event: HttpEvent, cx: &mut AgentCx<'_>) {
        match (event, self.state) {
            // An event before, from the same bytes, has ended the watch.
            (_, WatchState::Paused { .. }) => {}
            (HttpEvent::Failed(why), _) => self.on_failure(why, cx),
            (HttpEvent::Piece(bytes), _) => self.on_piece(&bytes, cx),
            (HttpEvent::Response(response), WatchState::Reading) if response.head.status == 200 => {
                self.on_read(&response, cx);
            }
            (HttpEvent::Response(response), _) if response.head.status == 200 => {
                self.start_over(cx);
            }
            (HttpEvent::Response(response), _) => {
                self.on_failure(format!("{}: {}", self.http.address(), response.describe()), cx);
            }
        }
    }

    fn timer_at(&self) -> Option<Instant> {
        match self.state {
            WatchState::Paused { until } | WatchState::Creating { until } => Some(until),
            WatchState::Reading => None,
            WatchState::Following => self.http.next_at(),
        }
    }

    fn on_timer(&mut self, cx: &mut AgentCx<'_>) {
        match self.state {
            WatchState::Paused { .. } => self.read(cx),
            WatchState::Creating { .. } => {
                let (address, time) = (self.http.address(), self.access.registry.request_timeout);
                self.on_failure(format!("{address}: no watch within {time:?}"), cx);
            }
            WatchState::Following => {
                // Silence: either nothing has changed, or the connection is dead.
                self.failures = 0;
                self.http.cancel(cx);
                self.read(cx);
            }
            WatchState::Reading => {}
        }
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
