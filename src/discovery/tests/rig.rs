//! Runs a watch or a registration of a registry by hand: its requests, the answers, and what it reports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::HttpRegistry;
use crate::agent::{Agent, AgentAction, AgentRig, LinkId};
use crate::discovery::keeper::Keeper;
use crate::discovery::{Instance, RegistrationEvent, RegistrationEvents, Target, Update, Updates};

/// An agent and what it has reported.
pub(in crate::discovery) struct RegistryRig<A> {
    pub(in crate::discovery) agent: A,
    pub(in crate::discovery) rig: AgentRig,
    /// The connection of the last request.
    pub(in crate::discovery) link: Option<LinkId>,
    reports: Arc<Mutex<Vec<String>>>,
}

/// Creates the watch of a URL. It reports the addresses, or the reason of a failure.
pub(in crate::discovery) fn watch<R: HttpRegistry>(url: &str) -> RegistryRig<R::Watcher> {
    RegistryRig::new(|report| {
        let updates = Updates::new(move |update| {
            report(match update {
                Update::Instances(all) => {
                    all.iter().map(|one| one.address.as_str()).collect::<Vec<_>>().join(" ")
                }
                Update::Failed(why) => why,
            });
        });
        R::watcher(&Target::parse(url).unwrap(), updates).unwrap()
    })
}

/// Creates a registration. It reports `registered`, or the reason of a failure.
pub(in crate::discovery) fn keep<R: HttpRegistry>(
    url: &str,
    instance: &Instance,
) -> RegistryRig<Keeper<R::Steps>> {
    RegistryRig::new(|report| {
        let events = RegistrationEvents::new(move |event| {
            report(match event {
                RegistrationEvent::Registered => "registered".to_owned(),
                RegistrationEvent::Failed(why) => why,
            });
        });
        R::keeper(&Target::parse(url).unwrap(), instance, events).unwrap()
    })
}

impl<A: Agent> RegistryRig<A> {
    fn new(create: impl FnOnce(Box<dyn Fn(String) + Send + Sync>) -> A) -> RegistryRig<A> {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let into = reports.clone();
        let agent = create(Box::new(move |report| into.lock().unwrap().push(report)));
        RegistryRig { agent, rig: AgentRig::new(), link: None, reports }
    }

    /// Returns the method and the path of the request among the actions, and its body if that is JSON.
    pub(in crate::discovery) fn request(&mut self, actions: &[AgentAction]) -> (String, Value) {
        let sent = actions.iter().find_map(|action| match action {
            AgentAction::Send(link, bytes) => Some((*link, bytes)),
            _ => None,
        });
        let (link, bytes) = sent.unwrap_or_else(|| panic!("no request in {actions:?}"));
        self.link = Some(link);
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let line = head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
        (line.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub(in crate::discovery) fn begin(&mut self) -> (String, Value) {
        let actions = self.rig.run(|cx| self.agent.begin(cx));
        self.request(&actions)
    }

    pub(in crate::discovery) fn send(&mut self, bytes: &str) -> Vec<AgentAction> {
        let link = self.link.unwrap();
        self.rig.run(|cx| self.agent.on_bytes(link, bytes.as_bytes(), cx))
    }

    /// Answers the last request.
    pub(in crate::discovery) fn answer(&mut self, status: u16, body: &str) -> Vec<AgentAction> {
        self.send(&format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Answers, and returns the request that follows at once.
    pub(in crate::discovery) fn answer_and_go_on(&mut self, body: &str) -> (String, Value) {
        let actions = self.answer(200, body);
        self.request(&actions)
    }

    /// Closes the connection, and the one that replaces it if it was used before.
    pub(in crate::discovery) fn refuse(&mut self) {
        for _ in 0..2 {
            let link = self.link.unwrap();
            let actions = self.rig.run(|cx| self.agent.on_closed(link, "connection refused", cx));
            if actions.is_empty() {
                return;
            }
            self.request(&actions);
        }
    }

    /// Returns the request that follows after a pause, and the pause.
    pub(in crate::discovery) fn next(&mut self) -> (String, Value, Duration) {
        let before = self.rig.now;
        let actions = self.rig.run_timer(&mut self.agent);
        let (line, body) = self.request(&actions);
        (line, body, self.rig.now - before)
    }

    /// Returns what was reported since the last call.
    pub(in crate::discovery) fn reports(&self) -> Vec<String> {
        std::mem::take(&mut self.reports.lock().unwrap())
    }
}
