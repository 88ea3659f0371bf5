//! A name server for tests of lookups: it answers the messages that an agent sends, without a socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, CNAME, RData, SOA, SRV};
use simple_dns::{CLASS, Name, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::agent::{AgentAction, AgentCx, AgentRig, LinkId};

/// The data of a record.
#[derive(Clone, Debug)]
pub(crate) enum TestRecord {
    Address(IpAddr),
    Alias(&'static str),
    Service(u16, u16, u16, &'static str),
}

/// A name server.
#[derive(Default)]
pub(crate) struct TestServer {
    /// The records of each name, and their TTL.
    pub(crate) records: BTreeMap<&'static str, (u32, Vec<TestRecord>)>,
    /// Names about which the server fails to answer, and the kind of records if not all.
    pub(crate) failing: Vec<(&'static str, Option<TYPE>)>,
    /// Does not answer.
    pub(crate) is_silent: bool,
    /// The questions so far.
    pub(crate) asked: Vec<String>,
}

impl TestServer {
    pub(crate) fn set(&mut self, name: &'static str, ttl: u32, records: impl Into<Vec<TestRecord>>) {
        self.records.insert(name, (ttl, records.into()));
    }

    fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        let mut packet = Packet::parse(message).unwrap().into_reply();
        let (name, kind) = (packet.questions[0].qname.to_string(), packet.questions[0].qtype);
        let QTYPE::TYPE(kind) = kind else { panic!("{kind:?}") };
        self.asked.push(format!("{name} {kind:?}"));
        if self.failing.iter().any(|(other, only)| *other == name && only.is_none_or(|only| only == kind)) {
            *packet.rcode_mut() = RCODE::ServerFailure;
            return packet.build_bytes_vec().unwrap();
        }
        let Some((ttl, records)) = self.records.get(name.as_str()) else {
            *packet.rcode_mut() = RCODE::NameError;
            return packet.build_bytes_vec().unwrap();
        };
        for record in records {
            let data = match record {
                TestRecord::Address(IpAddr::V4(ip)) => RData::A(A { address: u32::from(*ip) }),
                TestRecord::Address(IpAddr::V6(ip)) => RData::AAAA(AAAA { address: u128::from(*ip) }),
                TestRecord::Alias(to) => RData::CNAME(CNAME(Name::new(to).unwrap())),
                TestRecord::Service(priority, weight, port, host) => RData::SRV(SRV {
                    priority: *priority,
                    weight: *weight,
                    port: *port,
                    target: Name::new(host).unwrap(),
                }),
            };
            if data.type_code() == kind || data.type_code() == TYPE::CNAME {
                let owner = Name::new(&name).unwrap().into_owned();
                packet.answers.push(ResourceRecord::new(owner, CLASS::IN, *ttl, data));
            }
        }
        if packet.answers.is_empty() {
            let (mname, rname) = (Name::new("ns.example").unwrap(), Name::new("admin.example").unwrap());
            let soa = SOA { mname, rname, serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 9 };
            let owner = Name::new("example").unwrap();
            packet.name_servers.push(ResourceRecord::new(owner, CLASS::IN, 99, RData::SOA(soa)));
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    /// Answers what was sent, and what is sent because of the answers. Answers to closed connections are lost.
    pub(crate) fn serve(
        &mut self,
        rig: &mut AgentRig,
        actions: Vec<AgentAction>,
        mut take: impl FnMut(LinkId, &[u8], &mut AgentCx<'_>),
    ) {
        let mut actions = std::collections::VecDeque::from(actions);
        let mut closed = Vec::new();
        while let Some(action) = actions.pop_front() {
            match action {
                AgentAction::Send(link, message) if !self.is_silent && !closed.contains(&link) => {
                    let answer = self.answer(&message);
                    actions.extend(rig.run(|cx| take(link, &answer, cx)));
                }
                AgentAction::Close(link) => closed.push(link),
                AgentAction::Send(..)
                | AgentAction::Connect(..)
                | AgentAction::ReadNameConfig
                | AgentAction::End => {}
            }
        }
    }
}
