use std::sync::Mutex;

use super::*;
use crate::agent::AgentRig;
use crate::agent::dns::testing::{TestRecord, TestServer};
use crate::discovery::{Target, Update};

/// A watch with its server and what it has passed on.
struct WatchRig {
    rig: AgentRig,
    server: TestServer,
    watch: DnsWatch,
    updates: Arc<Mutex<Vec<String>>>,
}

fn address(text: &str) -> TestRecord {
    TestRecord::Address(text.parse().unwrap())
}

impl WatchRig {
    fn new(url: &str, server: TestServer) -> WatchRig {
        let rig = AgentRig::new();
        let updates = Arc::new(Mutex::new(Vec::new()));
        let to = updates.clone();
        let take = move |update: Update| {
            to.lock().unwrap().push(match update {
                Update::Instances(instances) => {
                    let one = |one: &Instance| format!("{}*{}", one.address, one.weight);
                    instances.iter().map(one).collect::<Vec<_>>().join(" ")
                }
                Update::Failed(why) => format!("failed: {why}"),
            });
        };
        let target = DnsTarget::parse(&Target::parse(url).unwrap()).unwrap();
        let config = NameConfig::default();
        let watch = DnsWatch::new(target, config, Updates::new(take), |ip| ip.is_ipv4(), rig.now);
        let mut all = WatchRig { rig, server, watch, updates };
        let actions = all.rig.run(|cx| all.watch.begin(cx));
        all.serve(actions);
        all
    }

    fn serve(&mut self, actions: Vec<crate::agent::AgentAction>) {
        let WatchRig { rig, server, watch, .. } = self;
        server.serve(rig, actions, |link, bytes, cx| watch.on_bytes(link, bytes, cx));
    }

    /// Advances to the watch's next time, and returns how long that was.
    fn advance(&mut self) -> Duration {
        let at = self.watch.next_at().unwrap();
        let waited = at.saturating_duration_since(self.rig.now);
        self.rig.now = at;
        let actions = self.rig.run(|cx| self.watch.on_time(cx));
        self.serve(actions);
        waited
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.updates.lock().unwrap())
    }
}

#[test]
fn changes_are_passed_on_when_the_records_have_expired() {
    let mut server = TestServer::default();
    server.set("orders.example", 20, [address("10.0.0.2"), address("10.0.0.1")]);
    let mut rig = WatchRig::new("dns:///orders.example.:6550", server);
    assert_eq!(rig.take(), ["10.0.0.1:6550*1 10.0.0.2:6550*1"]);
    let waited = rig.advance();
    assert!(waited >= Duration::from_secs(20) && waited < Duration::from_secs(22), "{waited:?}");
    assert_eq!(rig.take(), [""; 0], "nothing has changed");
    rig.server.set("orders.example", 20, [address("10.0.0.3")]);
    rig.advance();
    assert_eq!(rig.take(), ["10.0.0.3:6550*1"]);
}

#[test]
fn the_time_of_records_is_bounded() {
    for (ttl, least, most) in [(0, 1.0, 1.1), (86_400, 300.0, 330.0), (u32::MAX, 300.0, 330.0)] {
        let mut server = TestServer::default();
        server.set("orders.example", ttl, [address("10.0.0.1")]);
        let waited = WatchRig::new("dns:///orders.example.:1", server).advance().as_secs_f64();
        assert!(waited >= least && waited <= most, "{ttl}: {waited}");
    }
}

#[test]
fn failures_are_said_and_repeated_with_growing_delays() {
    let mut server = TestServer::default();
    server.set("orders.example", 20, [address("10.0.0.1")]);
    let mut rig = WatchRig::new("dns:///orders.example.:1", server);
    rig.take();
    rig.server.failing.push(("orders.example", None));
    let mut delays = Vec::new();
    for _ in 0..20 {
        // The question is repeated to the only server, at once, as it has answered.
        rig.advance();
        let updates = rig.take();
        assert!(updates[0].starts_with("failed: cannot resolve orders.example.: "), "{updates:?}");
        delays.push(rig.watch.next_at().unwrap() - rig.rig.now);
    }
    assert!(delays.iter().all(|delay| *delay >= DELAY_MIN && *delay <= Duration::from_secs(30)));
    assert!(delays[10..].iter().any(|delay| *delay > Duration::from_secs(3)), "{delays:?}");
    // The same instances are passed on once more, so that the failure is over.
    rig.server.failing.clear();
    rig.advance();
    assert_eq!(rig.take(), ["10.0.0.1:1*1"]);
}

#[test]
fn a_name_that_does_not_exist_is_looked_up_again_soon() {
    let mut rig = WatchRig::new("dns:///orders.example.:1", TestServer::default());
    assert_eq!(rig.take(), ["failed: orders.example. has no address"]);
    rig.server.set("orders.example", 20, [address("10.0.0.1")]);
    assert!(rig.advance() <= Duration::from_secs(33));
    assert_eq!(rig.take(), ["10.0.0.1:1*1"]);
}

#[test]
fn addresses_without_a_route_are_left_out_if_there_are_others() {
    let mut server = TestServer::default();
    server.set("orders.example", 20, [address("10.0.0.1"), address("fd00::1")]);
    let mut rig = WatchRig::new("dns:///orders.example.:1?scheme=native", server);
    assert_eq!(rig.take(), ["native:10.0.0.1:1*1"]);
    rig.server.set("orders.example", 20, [address("fd00::1")]);
    rig.advance();
    assert_eq!(rig.take(), ["native:[fd00::1]:1*1"]);
}

#[test]
fn a_part_of_the_addresses_does_not_replace_all() {
    let mut server = TestServer::default();
    server.set("orders.example", 20, [address("10.0.0.1"), address("10.0.0.2")]);
    let mut rig = WatchRig::new("dns:///orders.example.:1", server);
    assert_eq!(rig.take(), ["10.0.0.1:1*1 10.0.0.2:1*1"]);
    // Only the other kind of addresses is known now.
    rig.server.set("orders.example", 20, [address("fd00::1")]);
    rig.server.failing.push(("orders.example", Some(simple_dns::TYPE::A)));
    rig.advance();
    let updates = rig.take();
    assert!(updates.len() == 1 && updates[0].starts_with("failed: orders.example A: "), "{updates:?}");
    // Without earlier ones it is better than nothing.
    let mut server = TestServer::default();
    server.set("orders.example", 20, [address("fd00::1")]);
    server.failing.push(("orders.example", Some(simple_dns::TYPE::A)));
    assert_eq!(WatchRig::new("dns:///orders.example.:1", server).take(), ["[fd00::1]:1*1"]);
}

#[test]
fn services_have_ports_weights_and_priorities() {
    let mut server = TestServer::default();
    server.set(
        "_orders._tcp.example",
        20,
        [
            TestRecord::Service(10, 5, 6550, "a.example"),
            TestRecord::Service(10, 0, 6551, "b.example"),
            TestRecord::Service(20, 7, 6552, "a.example"),
            TestRecord::Service(10, 9, 6553, "gone.example"),
        ],
    );
    server.set("a.example", 7, [address("10.0.0.1"), address("10.0.0.2")]);
    server.set("b.example", 60, [address("10.0.0.3")]);
    let mut rig = WatchRig::new("dns:///_orders._tcp.example.", server);
    let all = "10.0.0.1:6550*5 10.0.0.1:6552*0 10.0.0.2:6550*5 10.0.0.2:6552*0 10.0.0.3:6551*1";
    assert_eq!(rig.take(), [all]);
    let waited = rig.advance();
    assert!(waited >= Duration::from_secs(7) && waited < Duration::from_secs(8), "the least: {waited:?}");
    assert_eq!(rig.take(), [""; 0]);
    // A host that cannot be looked up does not take its instances away.
    rig.server.failing.push(("b.example", None));
    rig.advance();
    let updates = rig.take();
    assert!(updates.len() == 1 && updates[0].contains("cannot resolve b.example."), "{updates:?}");
}

#[test]
fn a_service_that_is_decidedly_not_available_has_no_instances() {
    let mut server = TestServer::default();
    server.set("_orders._tcp.example", 20, [TestRecord::Service(0, 0, 0, ".")]);
    let rig = WatchRig::new("dns:///_orders._tcp.example.", server);
    assert_eq!(rig.take(), ["failed: no host of the services of _orders._tcp.example. has an address"]);
}

#[test]
fn many_hosts_are_looked_up_a_few_at_a_time() {
    let mut server = TestServer::default();
    let hosts: Vec<&'static str> =
        (0..200).map(|i| &*Box::leak(format!("h{i}.example").into_boxed_str())).collect();
    let services: Vec<TestRecord> = hosts.iter().map(|host| TestRecord::Service(1, 1, 6550, host)).collect();
    server.set("_orders._tcp.example", 20, services);
    for (i, host) in hosts.iter().enumerate() {
        server.set(host, 20, [address(&format!("10.0.1.{i}"))]);
    }
    let rig = WatchRig::new("dns:///_orders._tcp.example.", server);
    let updates = rig.take();
    assert_eq!((updates.len(), updates[0].split(' ').count()), (1, 200));
    assert_eq!(rig.server.asked.len(), 1 + 2 * 200);
}
