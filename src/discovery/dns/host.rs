//! One lookup of a host, for a connection to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::lookup::{ADDRESSES, LookupEnd, LookupStart, NameLookup};
use super::system::NameConfig;
use super::usable;
use crate::agent::{Agent, AgentCx, LinkId};

/// Receives the addresses, or why there are none.
pub(super) type HostFound = Box<dyn FnOnce(Result<Vec<IpAddr>, String>) + Send>;

/// An agent that ends when the host's addresses are known.
pub(super) struct HostAgent {
    host: String,
    config: Arc<NameConfig>,
    has_route: fn(IpAddr) -> bool,
    until: Instant,
    lookup: Option<NameLookup>,
    found: Option<HostFound>,
}

impl HostAgent {
    pub(super) fn new(
        host: String,
        config: Arc<NameConfig>,
        has_route: fn(IpAddr) -> bool,
        until: Instant,
        found: HostFound,
    ) -> HostAgent {
        HostAgent { host, config, has_route, until, lookup: None, found: Some(found) }
    }

    fn finish(&mut self, end: LookupEnd, cx: &mut AgentCx<'_>) {
        let result = match end {
            LookupEnd::Found { answer, .. } => Ok(usable(answer.addresses, self.has_route)),
            LookupEnd::Absent(_) => Err(format!("cannot resolve {}: the name has no address", self.host)),
            LookupEnd::Failed(why) => Err(why),
        };
        self.lookup = None;
        if let Some(found) = self.found.take() {
            found(result);
        }
        cx.end();
    }
}

impl Agent for HostAgent {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        match NameLookup::begin(&self.host, ADDRESSES, self.config.clone(), cx) {
            LookupStart::Running(lookup) => self.lookup = Some(lookup),
            LookupStart::Ended(end) => self.finish(end, cx),
        }
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) {
        if let Some(end) = self.lookup.as_mut().and_then(|lookup| lookup.on_bytes(link, bytes, cx)) {
            self.finish(end, cx);
        }
    }

    fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) {
        if let Some(end) = self.lookup.as_mut().and_then(|lookup| lookup.on_closed(link, why, cx)) {
            self.finish(end, cx);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        let lookup = self.lookup.as_ref()?;
        Some(lookup.next_at().map_or(self.until, |at| at.min(self.until)))
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        if self.lookup.is_some() && self.until <= cx.now {
            let why = format!("cannot resolve {}: no answer in time", self.host);
            return self.finish(LookupEnd::Failed(why), cx);
        }
        if let Some(end) = self.lookup.as_mut().and_then(|lookup| lookup.on_time(cx)) {
            self.finish(end, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::agent::{AgentAction, AgentRig};
    use crate::discovery::dns::testing::{TestRecord, TestServer};

    /// Runs the agent for a host until it ends.
    fn run(server: &mut TestServer, host: &str, within: Duration) -> Result<Vec<IpAddr>, String> {
        let (sender, found) = mpsc::channel();
        let mut rig = AgentRig::new();
        let until = rig.now + within;
        let config = Arc::new(NameConfig::parse("", "10.9.9.9 known"));
        let send = Box::new(move |result| sender.send(result).unwrap());
        let mut agent = HostAgent::new(host.to_owned(), config, |ip| ip.is_ipv4(), until, send);
        let actions = rig.run(|cx| agent.begin(cx));
        server.serve(&mut rig, actions, |link, bytes, cx| agent.on_bytes(link, bytes, cx));
        while agent.next_at().is_some() {
            let actions = rig.run_timer(&mut agent);
            server.serve(&mut rig, actions, |link, bytes, cx| agent.on_bytes(link, bytes, cx));
        }
        assert!(rig.now <= until);
        // It has ended, and does nothing more.
        assert_eq!(rig.run(|cx| agent.on_time(cx)), [] as [AgentAction; 0]);
        found.try_recv().expect("it reports its end")
    }

    #[test]
    fn a_host_is_looked_up_once() {
        let mut server = TestServer::default();
        let address = |text: &str| TestRecord::Address(text.parse().unwrap());
        server.set("a.example", 60, [address("fd00::1"), address("10.0.0.1")]);
        let within = Duration::from_secs(60);
        assert_eq!(run(&mut server, "a.example", within), Ok(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(run(&mut server, "known", within), Ok(vec!["10.9.9.9".parse().unwrap()]));
        assert_eq!(
            run(&mut server, "b.example", within),
            Err("cannot resolve b.example: the name has no address".to_owned())
        );
    }

    #[test]
    fn the_time_of_a_lookup_is_bounded() {
        let mut server = TestServer { is_silent: true, ..TestServer::default() };
        let why = run(&mut server, "a.example", Duration::from_millis(100)).unwrap_err();
        assert_eq!(why, "cannot resolve a.example: no answer in time");
    }
}
