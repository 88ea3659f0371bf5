use super::*;
use crate::agent::AgentRig;
use crate::agent::dns::testing::{TestRecord, TestServer};
use simple_dns::TYPE;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(text: &str) -> TestRecord {
    TestRecord::Address(ip(text))
}

fn look_up(server: &mut TestServer, name: &str, config: &NameConfig) -> LookupEnd {
    let mut rig = AgentRig::new();
    let mut begun = None;
    let actions =
        rig.run(|cx| begun = Some(NameLookup::begin(name, ADDRESSES, Arc::new(config.clone()), cx)));
    let mut lookup = match begun.unwrap() {
        LookupStart::Running(lookup) => lookup,
        LookupStart::Ended(end) => return end,
    };
    let mut end = None;
    server.serve(&mut rig, actions, |link, bytes, cx| {
        if let Some(found) = lookup.on_bytes(link, bytes, cx) {
            assert_eq!(end.replace(found), None, "it ends once");
        }
    });
    while end.is_none() {
        rig.now = lookup.next_at().expect("it waits for something");
        let actions = rig.run(|cx| end = lookup.on_time(cx));
        server.serve(&mut rig, actions, |link, bytes, cx| {
            if let Some(found) = lookup.on_bytes(link, bytes, cx) {
                assert_eq!(end.replace(found), None, "it ends once");
            }
        });
    }
    end.unwrap()
}

fn found(addresses: &[&str], ttl: Option<u32>) -> LookupEnd {
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    LookupEnd::Found { answer: DnsAnswer { addresses, ttl, ..DnsAnswer::default() }, missing: None }
}

fn searching() -> NameConfig {
    NameConfig::parse("nameserver 127.0.0.1\nsearch one.example two.example", "10.9.9.9 Known\n")
}

#[test]
fn both_kinds_of_addresses_are_found() {
    let mut server = TestServer::default();
    server.set("a.example", 60, [address("10.0.0.1"), address("::1"), address("10.0.0.2")]);
    let end = look_up(&mut server, "a.example.", &searching());
    assert_eq!(end, found(&["::1", "10.0.0.1", "10.0.0.2"], Some(60)));
    assert_eq!(server.asked, ["a.example AAAA", "a.example A"]);
}

#[test]
fn numbers_and_names_in_hosts_are_not_asked_for() {
    let mut server = TestServer::default();
    for (name, expected) in [("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("KNOWN", "10.9.9.9")] {
        assert_eq!(look_up(&mut server, name, &searching()), found(&[expected], None));
    }
    assert_eq!(server.asked, [""; 0]);
}

#[test]
fn the_search_list_is_tried_in_order() {
    let mut server = TestServer::default();
    server.set("a.two.example", 60, [address("10.0.0.1")]);
    server.set("a.one.example", 60, []);
    assert_eq!(look_up(&mut server, "a", &searching()), found(&["10.0.0.1"], Some(60)));
    assert_eq!(
        server.asked,
        ["a.one.example AAAA", "a.one.example A", "a.two.example AAAA", "a.two.example A"]
    );
    assert_eq!(look_up(&mut server, "b", &searching()), LookupEnd::Absent(None));
    // It is known for 9 seconds that one of the names has no address.
    server.set("b", 60, []);
    assert_eq!(look_up(&mut server, "b", &searching()), LookupEnd::Absent(Some(9)));
}

#[test]
fn aliases_are_asked_for_within_a_bound() {
    let mut server = TestServer::default();
    server.set("a.example", 5, [TestRecord::Alias("b.example")]);
    server.set("b.example", 60, [TestRecord::Alias("c.example")]);
    server.set("c.example", 60, [address("10.0.0.1")]);
    let end = look_up(&mut server, "a.example.", &searching());
    assert_eq!(end, found(&["10.0.0.1"], Some(5)));
    server.set("c.example", 60, [TestRecord::Alias("a.example")]);
    server.asked.clear();
    assert_eq!(look_up(&mut server, "a.example.", &searching()), LookupEnd::Absent(Some(5)));
    assert!(server.asked.len() <= ALIASES_MAX + 2, "{:?}", server.asked);
}

#[test]
fn what_cannot_be_found_out_is_not_absent() {
    let mut server = TestServer::default();
    server.failing.push(("a.one.example", None));
    let LookupEnd::Failed(why) = look_up(&mut server, "a", &searching()) else { panic!() };
    assert!(why.starts_with("cannot resolve a: a.one.example "), "{why}");
    assert!(why.ends_with("the server answers ServerFailure"), "{why}");
    // Further names of the search list are tried.
    server.set("a.two.example", 60, [address("10.0.0.1")]);
    let LookupEnd::Found { answer, missing } = look_up(&mut server, "a", &searching()) else { panic!() };
    assert_eq!(answer.addresses, [ip("10.0.0.1")]);
    assert!(missing.is_some());
}

#[test]
fn a_kind_that_is_missing_is_said() {
    let mut server = TestServer::default();
    server.set("a.example", 60, [address("10.0.0.1"), address("::1")]);
    server.failing.push(("a.example", Some(TYPE::A)));
    let LookupEnd::Found { answer, missing } = look_up(&mut server, "a.example.", &searching()) else {
        panic!()
    };
    assert_eq!(answer.addresses, [ip("::1")]);
    assert!(missing.unwrap().contains("a.example A"));
}

#[test]
fn silent_servers_end_the_lookup() {
    let mut server = TestServer { is_silent: true, ..TestServer::default() };
    let LookupEnd::Failed(why) = look_up(&mut server, "a.example.", &searching()) else { panic!() };
    assert!(why.ends_with("no answer in time"), "{why}");
}

#[test]
fn names_that_are_not_valid_fail_at_once() {
    let mut server = TestServer::default();
    let name = format!("{}.example.", "x".repeat(64));
    let LookupEnd::Failed(why) = look_up(&mut server, &name, &searching()) else { panic!() };
    assert!(why.contains("is no valid name"), "{why}");
    assert_eq!(server.asked, [""; 0]);
}
