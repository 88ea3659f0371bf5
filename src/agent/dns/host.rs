//! One lookup of an address `host:port`, for a connection to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::lookup::{ADDRESSES, LookupEnd, LookupStart, NameLookup};
use super::system::NameConfig;
use super::{has_route, usable};
use crate::agent::{Agent, AgentCx, LinkId};

/// Receives the addresses, or why there are none.
pub(crate) type HostFound = Box<dyn FnOnce(Result<Vec<SocketAddr>, String>) + Send>;

/// An agent that ends when the host's addresses are known.
pub(crate) struct HostAgent {
    host: String,
    port: u16,
    has_route: fn(IpAddr) -> bool,
    until: Instant,
    lookup: Option<NameLookup>,
    /// `None` when it has been called.
    found: Option<HostFound>,
}

impl HostAgent {
    /// Creates a lookup that is given up at that time.
    ///
    /// # Errors
    ///
    /// The address is not valid.
    pub(crate) fn new(address: &str, until: Instant, found: HostFound) -> Result<HostAgent, String> {
        let (host, port) =
            parse(address).ok_or_else(|| format!("expected an address host:port; found {address:?}"))?;
        Ok(HostAgent { host: host.to_owned(), port, has_route, until, lookup: None, found: Some(found) })
    }

    fn failed(&self, why: &str) -> LookupEnd {
        LookupEnd::Failed(format!("cannot resolve {}: {why}", self.host))
    }

    fn finish(&mut self, end: LookupEnd, cx: &mut AgentCx<'_>) {
        let (host, port) = (&self.host, self.port);
        let result = match end {
            LookupEnd::Found { answer, .. } => {
                let addresses = usable(answer.addresses, self.has_route).into_iter();
                Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
            }
            LookupEnd::Absent(_) => Err(format!("cannot resolve {host}: the name has no address")),
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
        cx.read_name_config();
    }

    fn on_name_config(&mut self, config: Result<Arc<NameConfig>, String>, cx: &mut AgentCx<'_>) {
        let start = match config {
            Ok(config) => NameLookup::begin(&self.host, ADDRESSES, config, cx),
            Err(why) => LookupStart::Ended(self.failed(&why)),
        };
        match start {
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
        self.found.as_ref()?;
        let lookup_at = self.lookup.as_ref().and_then(NameLookup::next_at);
        Some(lookup_at.map_or(self.until, |at| at.min(self.until)))
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        if self.found.is_some() && self.until <= cx.now {
            return self.finish(self.failed("no answer in time"), cx);
        }
        if let Some(end) = self.lookup.as_mut().and_then(|lookup| lookup.on_time(cx)) {
            self.finish(end, cx);
        }
    }
}

/// Splits `host:port`.
fn parse(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| !port.starts_with('+'))?;
    let is_bare = host.starts_with('[') || !host.contains(':');
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (is_bare && !host.is_empty() && !host.contains(['[', ']', '/', ' '])).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::agent::dns::testing::{TestRecord, TestServer};
    use crate::agent::{AgentAction, AgentRig};

    /// Runs the agent for an address until it ends; without `has_config` the configuration is never read.
    fn run(
        server: &mut TestServer,
        address: &str,
        within: Duration,
        has_config: bool,
    ) -> Result<Vec<SocketAddr>, String> {
        let (sender, found) = mpsc::channel();
        let mut rig = AgentRig::new();
        let until = rig.now + within;
        let send = Box::new(move |result| sender.send(result).unwrap());
        let mut agent = HostAgent::new(address, until, send)?;
        agent.has_route = |ip| ip.is_ipv4();
        assert_eq!(rig.run(|cx| agent.begin(cx)), [AgentAction::ReadNameConfig]);
        if has_config {
            let config = Arc::new(NameConfig::parse("", "10.9.9.9 known"));
            let actions = rig.run(|cx| agent.on_name_config(Ok(config), cx));
            server.serve(&mut rig, actions, |link, bytes, cx| agent.on_bytes(link, bytes, cx));
        }
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
        let mut run = |address: &str| run(&mut server, address, Duration::from_secs(60), true);
        let numbers = |text: &str| Ok(vec![text.parse().unwrap()]);
        assert_eq!(run("a.example:80"), numbers("10.0.0.1:80"));
        assert_eq!(run("known:81"), numbers("10.9.9.9:81"));
        assert_eq!(run("[::1]:82"), numbers("[::1]:82"));
        assert_eq!(run("b.example:80"), Err("cannot resolve b.example: the name has no address".to_owned()));
    }

    #[test]
    fn the_time_of_a_lookup_is_bounded() {
        let mut server = TestServer { is_silent: true, ..TestServer::default() };
        for has_config in [true, false] {
            let why = run(&mut server, "a.example:1", Duration::from_millis(100), has_config).unwrap_err();
            assert_eq!(why, "cannot resolve a.example: no answer in time");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(parse("consul.internal:8500"), Some(("consul.internal", 8500)));
        assert_eq!(parse("[::1]:80"), Some(("::1", 80)));
        for text in ["", "consul", ":80", "consul:", "consul:+1", "consul:65536", "::1:80", "a b:1", "[]:1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
