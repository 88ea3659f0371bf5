use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME, SOA, SRV};

use super::*;

fn question(name: &str, kind: RecordKind) -> DnsQuestion {
    DnsQuestion { name: name.to_owned(), kind }
}

/// Returns the packet that answers a question with nothing.
fn reply<'a>(id: u16, question: &'a DnsQuestion) -> Packet<'a> {
    let mut packet = Packet::new_reply(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
    let name = Name::new(&question.name).unwrap();
    let kind = QTYPE::TYPE(question.kind.code());
    packet.questions.push(simple_dns::Question::new(name, kind, CLASS::IN.into(), false));
    packet
}

fn record<'a>(name: &'a str, ttl: u32, data: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, data)
}

fn a(last: u8) -> RData<'static> {
    RData::A(A { address: u32::from_be_bytes([10, 0, 0, last]) })
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn alias(to: &str) -> RData<'_> {
    RData::CNAME(CNAME(Name::new(to).unwrap()))
}

fn srv(priority: u16, weight: u16, port: u16, host: &str) -> RData<'_> {
    RData::SRV(SRV { priority, weight, port, target: Name::new(host).unwrap() })
}

fn soa(minimum: u32) -> RData<'static> {
    let (mname, rname) = (Name::new("ns.example").unwrap(), Name::new("admin.example").unwrap());
    RData::SOA(SOA { mname, rname, serial: 1, refresh: 1, retry: 1, expire: 1, minimum })
}

/// Returns the answer in the packet, which is read with and without compressed names.
fn answer(packet: &Packet<'_>, question: &DnsQuestion) -> DnsAnswer {
    let plain = decode(&packet.build_bytes_vec().unwrap(), packet.id(), question);
    let compressed = decode(&packet.build_bytes_vec_compressed().unwrap(), packet.id(), question);
    assert_eq!(plain, compressed);
    let DnsReply::Answer(answer) = plain else { panic!("{plain:?}") };
    answer
}

#[test]
fn a_question_is_one_message_that_asks_for_recursion() {
    let question = question("orders.example", RecordKind::Srv);
    let bytes = encode(0x1996, &question).unwrap();
    let name = b"\x06orders\x07example\0";
    let expected = [&b"\x19\x96\x01\0\0\x01\0\0\0\0\0\0"[..], name, b"\0\x21\0\x01"].concat();
    assert_eq!(bytes, expected);
    // A question is no answer to itself.
    assert_eq!(decode(&bytes, 0x1996, &question), DnsReply::Other);
}

#[test]
fn a_name_that_cannot_be_asked_for_is_refused() {
    let long = format!("{}.example", "x".repeat(64));
    let longer = vec!["x".repeat(60); 5].join(".");
    for name in ["", ".", "a..b", "a b", "a\\.b", "\u{e9}.example", &long, &longer] {
        assert!(encode(1, &question(name, RecordKind::A)).is_err(), "{name}");
    }
}

#[test]
fn addresses_and_the_least_ttl_are_found() {
    let asked = question("orders.example", RecordKind::A);
    let mut packet = reply(7, &asked);
    packet.answers.push(record("Orders.Example", 60, a(1)));
    packet.answers.push(record("orders.example", 30, a(2)));
    packet.answers.push(record("other.example", 1, a(3)));
    let found = answer(&packet, &asked);
    assert_eq!((found.addresses, found.ttl, found.alias), (vec![ip(1), ip(2)], Some(30), None));

    let asked = question("orders.example", RecordKind::Aaaa);
    let mut packet = reply(7, &asked);
    packet.answers.push(record("orders.example", 60, RData::AAAA(AAAA { address: 1 })));
    packet.answers.push(record("orders.example", 60, a(2)));
    assert_eq!(answer(&packet, &asked).addresses, ["::1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn services_have_hosts_and_the_addresses_that_were_added() {
    let asked = question("_orders._tcp.example", RecordKind::Srv);
    let mut packet = reply(7, &asked);
    packet.answers.push(record("_orders._tcp.example", 60, srv(1, 2, 6550, "A.example")));
    packet.answers.push(record("_orders._tcp.example", 60, srv(2, 0, 6551, "b.example")));
    packet.additional_records.push(record("a.example", 20, a(1)));
    let found = answer(&packet, &asked);
    let service =
        |priority, weight, port, host: &str| ServiceRecord { priority, weight, port, host: host.to_owned() };
    assert_eq!(found.services, [service(1, 2, 6550, "a.example"), service(2, 0, 6551, "b.example")]);
    assert_eq!((found.added, found.ttl), (vec![("a.example".to_owned(), ip(1))], Some(20)));
}

#[test]
fn aliases_are_followed_within_a_bound() {
    let asked = question("a.example", RecordKind::A);
    let mut packet = reply(7, &asked);
    packet.answers.push(record("b.example", 10, alias("c.example")));
    packet.answers.push(record("a.example", 60, alias("b.example")));
    packet.answers.push(record("c.example", 60, a(1)));
    let found = answer(&packet, &asked);
    assert_eq!((found.addresses, found.ttl), (vec![ip(1)], Some(10)));

    // The end of the chain is not in the answer: unless the server says that there is none, it is to be asked for.
    packet.answers.truncate(2);
    assert_eq!(answer(&packet, &asked).alias.as_deref(), Some("c.example"));
    packet.name_servers.push(record("example", 900, soa(5)));
    let found = answer(&packet, &asked);
    assert_eq!((found.alias, found.ttl), (None, Some(5)));

    // A circle ends.
    let mut packet = reply(7, &asked);
    packet.answers.push(record("a.example", 60, alias("b.example")));
    packet.answers.push(record("b.example", 60, alias("a.example")));
    assert!(answer(&packet, &asked).addresses.is_empty());
}

#[test]
fn that_there_is_nothing_is_an_answer() {
    let asked = question("a.example", RecordKind::A);
    let mut packet = reply(7, &asked);
    assert_eq!(answer(&packet, &asked), DnsAnswer::default());
    *packet.rcode_mut() = RCODE::NameError;
    packet.name_servers.push(record("example", 7, soa(3600)));
    assert_eq!(answer(&packet, &asked), DnsAnswer { ttl: Some(7), ..DnsAnswer::default() });
}

#[test]
fn a_server_that_cannot_answer_is_no_answer() {
    let asked = question("a.example", RecordKind::A);
    for rcode in [RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented, RCODE::FormatError] {
        let mut packet = reply(7, &asked);
        *packet.rcode_mut() = rcode;
        let DnsReply::Failed(why) = decode(&packet.build_bytes_vec().unwrap(), 7, &asked) else {
            panic!("{rcode:?}")
        };
        assert_eq!(why, format!("a.example A: the server answers {rcode:?}"));
    }
    // One that could not read the question.
    let DnsReply::Failed(why) = decode(b"\0\x07\x81\x01\0\0\0\0\0\0\0\0", 7, &asked) else { panic!() };
    assert_eq!(why, "a.example A: the server answers with error 1");
}

#[test]
fn the_answer_to_another_question_is_none() {
    let asked = question("a.example", RecordKind::A);
    let mut packet = reply(7, &asked);
    packet.answers.push(record("a.example", 60, a(1)));
    let bytes = packet.build_bytes_vec().unwrap();
    for (id, other) in [
        (8, asked.clone()),
        (7, question("b.example", RecordKind::A)),
        (7, question("a.example", RecordKind::Aaaa)),
    ] {
        assert_eq!(decode(&bytes, id, &other), DnsReply::Other);
    }
    let mut two = reply(7, &asked);
    two.questions.push(two.questions[0].clone());
    assert_eq!(decode(&two.build_bytes_vec().unwrap(), 7, &asked), DnsReply::Other);
}

#[test]
fn a_cut_answer_is_cut_anywhere() {
    let asked = question("a.example", RecordKind::A);
    let mut packet = reply(7, &asked);
    packet.set_flags(PacketFlag::TRUNCATION);
    (0..40).for_each(|last| packet.answers.push(record("a.example", 60, a(last))));
    let bytes = packet.build_bytes_vec_compressed().unwrap();
    let question_end = 12 + 11 + 4;
    for len in 0..bytes.len() {
        let expected = if len < question_end { DnsReply::Other } else { DnsReply::Truncated };
        assert_eq!(decode(&bytes[..len], 7, &asked), expected, "{len}");
    }
    assert_eq!(decode(&bytes, 7, &question("b.example", RecordKind::A)), DnsReply::Other);
}

#[test]
fn counts_that_the_message_does_not_have_reserve_nothing() {
    let asked = question("a.example", RecordKind::A);
    let mut bytes = reply(7, &asked).build_bytes_vec().unwrap();
    bytes[6..12].fill(0xff);
    let DnsReply::Failed(why) = decode(&bytes, 7, &asked) else { panic!() };
    assert_eq!(why, "a.example A: the answer is shorter than its counts say");
}

#[test]
fn names_that_lead_back_end() {
    let asked = question("a.example", RecordKind::A);
    let mut head = reply(7, &asked).build_bytes_vec().unwrap();
    head[7] = 1;
    let at = head.len() as u8;
    // A record whose name points to itself, ahead, and to a pointer that points back.
    for name in [[0xc0, at], [0xc0, at + 2], [0xc0, at - 1], [0xff, 0xff]] {
        let bytes = [&head[..], &name, &[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]].concat();
        match decode(&bytes, 7, &asked) {
            DnsReply::Failed(_) => {}
            DnsReply::Answer(found) => assert!(found.addresses.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

/// Returns a message with records of each kind that is read.
fn sample(asked: &DnsQuestion, cut: bool) -> Vec<u8> {
    let mut packet = reply(7, asked);
    if cut {
        packet.set_flags(PacketFlag::TRUNCATION);
    }
    packet.answers.push(record("a.example", 60, alias("b.example")));
    packet.answers.push(record("b.example", 60, a(1)));
    packet.answers.push(record("b.example", 60, RData::AAAA(AAAA { address: 1 })));
    packet.answers.push(record("b.example", 60, srv(1, 2, 6550, "c.example")));
    packet.name_servers.push(record("example", 60, soa(5)));
    packet.additional_records.push(record("c.example", 60, a(2)));
    packet.build_bytes_vec_compressed().unwrap()
}

#[test]
fn every_beginning_of_an_answer_is_judged() {
    for kind in [RecordKind::A, RecordKind::Aaaa, RecordKind::Srv] {
        let asked = question("a.example", kind);
        let bytes = sample(&asked, false);
        for len in 0..bytes.len() {
            let reply = decode(&bytes[..len], 7, &asked);
            assert!(matches!(reply, DnsReply::Other | DnsReply::Failed(_)), "{len}: {reply:?}");
        }
        assert!(matches!(decode(&bytes, 7, &asked), DnsReply::Answer(_)));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(
        kind in 0..3usize,
        cut in any::<bool>(),
        changes in proptest::collection::vec((2..200usize, any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let asked = question("a.example", [RecordKind::A, RecordKind::Aaaa, RecordKind::Srv][kind]);
        let mut bytes = sample(&asked, cut);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.extend_from_slice(&tail);
        if let DnsReply::Answer(found) = decode(&bytes, 7, &asked) {
            // No more records than the bytes have room for.
            let records = found.addresses.len() + found.services.len() + found.added.len();
            prop_assert!(records * 11 <= bytes.len());
        }
    }

    #[test]
    fn what_is_no_message_is_no_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let asked = question("a.example", RecordKind::A);
        let id = bytes.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
        prop_assert!(!matches!(decode(&bytes, id, &asked), DnsReply::Answer(_)));
    }
}
