use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};

use super::*;
use crate::agent::{AgentAction, AgentRig};

fn config(servers: usize) -> Arc<NameConfig> {
    let servers = (1..=servers).map(|i| SocketAddr::from(([127, 0, 0, i as u8], 53))).collect();
    Arc::new(NameConfig { servers, timeout: Duration::from_secs(1), attempts: 2, ..NameConfig::default() })
}

fn question() -> DnsQuestion {
    DnsQuestion { name: "a.example".to_owned(), kind: RecordKind::A }
}

/// Returns where a question was sent, and its message.
fn sent(actions: &[AgentAction]) -> (LinkTarget, Vec<u8>) {
    let [.., AgentAction::Connect(to, target), AgentAction::Send(link, bytes)] = actions else {
        panic!("{actions:?}")
    };
    assert_eq!(to, link);
    (target.clone(), bytes.clone())
}

fn server(number: u8) -> LinkTarget {
    LinkTarget::Udp(SocketAddr::from(([127, 0, 0, number], 53)))
}

/// Returns the answer to a message, changed by the function.
fn answer(message: &[u8], change: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
    let mut packet = Packet::parse(message).unwrap().into_reply();
    let record = RData::A(A { address: 0x0a00_0001 });
    packet.answers.push(ResourceRecord::new(Name::new("a.example").unwrap(), CLASS::IN, 60, record));
    change(&mut packet);
    packet.build_bytes_vec().unwrap()
}

fn begin(rig: &mut AgentRig, servers: usize) -> (Ask, Vec<u8>) {
    let mut ask = None;
    let actions = rig.run(|cx| ask = Some(Ask::begin(question(), config(servers), cx).unwrap()));
    let (target, message) = sent(&actions);
    assert_eq!(target, server(1));
    (ask.unwrap(), message)
}

#[test]
fn the_answer_ends_the_question() {
    let mut rig = AgentRig::new();
    let (mut ask, message) = begin(&mut rig, 1);
    let mut end = None;
    // What others send is ignored.
    let mut other = answer(&message, |_| {});
    other[1] ^= 1;
    assert_eq!(rig.run(|cx| end = ask.on_bytes(&other, cx)), []);
    assert_eq!(end, None);
    let bytes = answer(&message, |_| {});
    let actions = rig.run(|cx| end = ask.on_bytes(&bytes, cx));
    assert!(matches!(actions[..], [AgentAction::Close(_)]));
    assert_eq!(end.unwrap().unwrap().addresses.len(), 1);
}

#[test]
fn servers_are_asked_in_turns_with_growing_waits() {
    let mut rig = AgentRig::new();
    let began = rig.now;
    let (mut ask, first) = begin(&mut rig, 2);
    let (mut end, mut waits, mut targets, mut ids) = (None, vec![ask.until() - began], vec![], vec![]);
    ids.push(first[..2].to_vec());
    while end.is_none() {
        assert_eq!(rig.run(|cx| end = ask.on_time(cx)), [], "it is not time yet");
        rig.now = ask.until();
        let actions = rig.run(|cx| end = ask.on_time(cx));
        if end.is_none() {
            let (target, message) = sent(&actions);
            waits.push(ask.until() - rig.now);
            targets.push(target);
            ids.push(message[..2].to_vec());
        }
    }
    assert_eq!(targets, [server(2), server(1), server(2)]);
    assert_eq!(waits, [1, 1, 2, 2].map(Duration::from_secs));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each message has an id of its own");
    assert_eq!(end.unwrap().unwrap_err(), "a.example A: server 127.0.0.2:53: no answer in time");
}

#[test]
fn a_server_that_refuses_or_is_away_is_passed_over_at_once() {
    let mut rig = AgentRig::new();
    let (mut ask, message) = begin(&mut rig, 2);
    let mut end = None;
    let refusal = answer(&message, |packet| {
        packet.answers.clear();
        *packet.rcode_mut() = RCODE::Refused;
    });
    let actions = rig.run(|cx| end = ask.on_bytes(&refusal, cx));
    assert_eq!((sent(&actions).0, &end), (server(2), &None));
    let actions = rig.run(|cx| end = ask.on_closed("connection refused", cx));
    assert_eq!((sent(&actions).0, &end), (server(1), &None));
    rig.run(|cx| end = ask.on_closed("connection refused", cx));
    assert_eq!(end, None);
    rig.run(|cx| end = ask.on_closed("connection refused", cx));
    assert_eq!(end.unwrap().unwrap_err(), "a.example A: server 127.0.0.2:53: connection refused");
}

#[test]
fn a_cut_answer_is_fetched_over_tcp_at_every_split() {
    let mut rig = AgentRig::new();
    for step in 1..100 {
        let (mut ask, message) = begin(&mut rig, 1);
        let mut end = None;
        let cut = answer(&message, |packet| packet.set_flags(PacketFlag::TRUNCATION));
        let actions = rig.run(|cx| end = ask.on_bytes(&cut, cx));
        let (target, framed) = sent(&actions);
        assert_eq!(
            target,
            LinkTarget::Tcp { address: "127.0.0.1:53".to_owned(), attempt: 0, until: ask.until(), tls: None }
        );
        assert_eq!(usize::from(u16::from_be_bytes([framed[0], framed[1]])), framed.len() - 2);
        let whole = answer(&framed[2..], |_| {});
        let framed = [&(whole.len() as u16).to_be_bytes()[..], &whole].concat();
        for piece in framed.chunks(step) {
            assert_eq!(end, None);
            rig.run(|cx| end = ask.on_bytes(piece, cx));
        }
        assert_eq!(end.unwrap().unwrap().addresses.len(), 1);
    }
}

#[test]
fn over_tcp_another_answer_or_a_cut_one_is_a_failure() {
    let mut rig = AgentRig::new();
    for change in [0, 1] {
        let (mut ask, message) = begin(&mut rig, 2);
        let mut end = None;
        let cut = answer(&message, |packet| packet.set_flags(PacketFlag::TRUNCATION));
        let actions = rig.run(|cx| end = ask.on_bytes(&cut, cx));
        let (_, framed) = sent(&actions);
        let mut whole = answer(&framed[2..], |packet| {
            if change == 0 {
                packet.set_flags(PacketFlag::TRUNCATION);
            }
        });
        whole[0] ^= change;
        let framed = [&(whole.len() as u16).to_be_bytes()[..], &whole].concat();
        let actions = rig.run(|cx| end = ask.on_bytes(&framed, cx));
        assert_eq!((sent(&actions).0, &end), (server(2), &None));
    }
}

#[test]
fn a_flood_of_other_answers_ends_the_wait() {
    let mut rig = AgentRig::new();
    let (mut ask, message) = begin(&mut rig, 2);
    let mut other = answer(&message, |_| {});
    other[1] ^= 1;
    let (mut end, mut count) = (None, 0);
    loop {
        count += 1;
        let actions = rig.run(|cx| end = ask.on_bytes(&other, cx));
        if !actions.is_empty() {
            assert_eq!((sent(&actions).0, &end, count), (server(2), &None, OTHERS_MAX));
            break;
        }
    }
}
