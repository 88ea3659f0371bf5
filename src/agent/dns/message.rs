//! Messages of DNS (RFC 1035): one question is written, and the answer to it is read.
//!
//! The crate `simple-dns` knows the format. What is checked here is whether a message is an answer to this question, what
//! its records mean together, and that a small message cannot reserve much memory. Any bytes may be read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::system::normal;

/// The most aliases (CNAME) that lead to one name.
pub(crate) const ALIASES_MAX: usize = 8;
/// The most records of one answer that are used.
const RECORDS_MAX: usize = 4096;
/// The bytes of a message's head.
const HEAD_BYTES: usize = 12;
/// The fewest bytes of a question and of a record.
const QUESTION_BYTES_MIN: usize = 5;
const RECORD_BYTES_MIN: usize = 11;

/// The kinds of records that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services: hosts with ports and weights (RFC 2782).
    Srv,
}

impl RecordKind {
    fn code(self) -> TYPE {
        match self {
            RecordKind::A => TYPE::A,
            RecordKind::Aaaa => TYPE::AAAA,
            RecordKind::Srv => TYPE::SRV,
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordKind::A => "A",
            RecordKind::Aaaa => "AAAA",
            RecordKind::Srv => "SRV",
        })
    }
}

/// A question: a full name in lower case, without a dot at its end, and the kind of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsQuestion {
    pub(crate) name: String,
    pub(crate) kind: RecordKind,
}

impl fmt::Display for DnsQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

/// One record of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceRecord {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// The host, in lower case; empty if the service is decidedly not available.
    pub(crate) host: String,
}

/// What a server says about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DnsAnswer {
    /// The addresses of the name.
    pub(crate) addresses: Vec<IpAddr>,
    /// The services of the name.
    pub(crate) services: Vec<ServiceRecord>,
    /// The addresses of other names that the server added.
    pub(crate) added: Vec<(String, IpAddr)>,
    /// The name is an alias of this one, of which the answer does not say whether it has such records.
    pub(crate) alias: Option<String>,
    /// Seconds for which the answer holds; `None` if the server does not say.
    pub(crate) ttl: Option<u32>,
}

/// A message as an answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsReply {
    /// It is none: another id or another question. A later message may be the answer.
    Other,
    /// It was cut; the whole answer is available over TCP.
    Truncated,
    /// The answer. One without records means that the name does not exist or has no such records.
    Answer(DnsAnswer),
    /// The server cannot answer; another one may.
    Failed(String),
}

/// Writes a question as a message.
///
/// # Errors
///
/// The name is not valid.
pub(crate) fn encode(id: u16, question: &DnsQuestion) -> Result<Vec<u8>, String> {
    let invalid = || format!("{:?} is no valid name", question.name);
    let is_valid = !question.name.is_empty()
        && question.name.split('.').all(|label| !label.is_empty())
        && question.name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !is_valid {
        return Err(invalid());
    }
    let name = Name::new(&question.name).map_err(|_| invalid())?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let kind = QTYPE::TYPE(question.kind.code());
    packet.questions.push(simple_dns::Question::new(name, kind, CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(|error| format!("{question}: {error}"))
}

/// Reads a message that a server has sent.
pub(crate) fn decode(bytes: &[u8], id: u16, question: &DnsQuestion) -> DnsReply {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return DnsReply::Other };
    if [head[0], head[1]] != id.to_be_bytes() {
        return DnsReply::Other;
    }
    let count = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
    let records = count(6) + count(8) + count(10);
    let bytes_min = HEAD_BYTES + count(4) * QUESTION_BYTES_MIN + records * RECORD_BYTES_MIN;
    if count(4) != 1 {
        // A server that could not read the question may leave it out.
        let is_refusal = head[2] & 0x80 != 0 && head[3] & 0x0f != 0 && count(4) == 0 && records == 0;
        let why = format!("{question}: the server answers with error {}", head[3] & 0x0f);
        return if is_refusal { DnsReply::Failed(why) } else { DnsReply::Other };
    }
    let is_truncated = head[2] & 0x02 != 0;
    if bytes_min > bytes.len() && !is_truncated {
        // The counts are checked before memory is reserved for them.
        return DnsReply::Failed(format!("{question}: the answer is shorter than its counts say"));
    }
    if is_truncated {
        // The rest of it is not needed, and may be cut anywhere.
        return match question_of(bytes) {
            Some(found) if is_question(&found, question) && head[2] & 0x80 != 0 => DnsReply::Truncated,
            Some(_) | None => DnsReply::Other,
        };
    }
    let packet = match Packet::parse(bytes) {
        Ok(packet) => packet,
        Err(error) => return DnsReply::Failed(format!("{question}: the answer is not valid: {error}")),
    };
    let is_ours = packet.has_flags(PacketFlag::RESPONSE) && is_question(&packet.questions[0], question);
    if !is_ours {
        return DnsReply::Other;
    }
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError => DnsReply::Answer(answer_of(&packet, question)),
        other => DnsReply::Failed(format!("{question}: the server answers {other:?}")),
    }
}

/// Reads the question of a message whose records may be cut.
fn question_of(bytes: &[u8]) -> Option<simple_dns::Question<'_>> {
    // The same message, with no records: only its head is copied.
    let end = HEAD_BYTES + bytes[HEAD_BYTES..].iter().position(|byte| *byte == 0)? + 5;
    let mut only = bytes.get(..end)?.to_vec();
    only[6..HEAD_BYTES].fill(0);
    let packet = Packet::parse(&only).ok()?;
    packet.questions.into_iter().next().map(simple_dns::Question::into_owned)
}

fn is_question(found: &simple_dns::Question<'_>, question: &DnsQuestion) -> bool {
    found.qtype == QTYPE::TYPE(question.kind.code())
        && found.qclass == CLASS::IN.into()
        && name_of(&found.qname) == question.name
}

/// Returns the name in lower case.
fn name_of(name: &Name<'_>) -> String {
    normal(&name.to_string())
}

fn answer_of(packet: &Packet<'_>, question: &DnsQuestion) -> DnsAnswer {
    let records = packet.answers.iter().filter(|record| record.class == CLASS::IN).take(RECORDS_MAX);
    let records: Vec<(String, &ResourceRecord<'_>)> =
        records.map(|record| (name_of(&record.name), record)).collect();
    let mut answer = DnsAnswer::default();
    let (mut name, mut aliases) = (question.name.clone(), 0);
    // Each is followed once: a chain that leads back to its beginning ends, too.
    while aliases < ALIASES_MAX
        && let Some((ttl, target)) = records.iter().find_map(|(owner, record)| match &record.rdata {
            RData::CNAME(target) if *owner == name => Some((record.ttl, name_of(&target.0))),
            _ => None,
        })
    {
        answer.note_ttl(ttl);
        name = target;
        aliases += 1;
    }
    for (_, record) in records.iter().filter(|(owner, _)| *owner == name) {
        match (&record.rdata, question.kind) {
            (RData::A(_), RecordKind::A) | (RData::AAAA(_), RecordKind::Aaaa) => {
                answer.addresses.extend(address_of(record));
            }
            (RData::SRV(srv), RecordKind::Srv) => answer.services.push(ServiceRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: name_of(&srv.target),
            }),
            _ => continue,
        }
        answer.note_ttl(record.ttl);
    }
    if answer.addresses.is_empty() && answer.services.is_empty() {
        // The authority that says that there is nothing also says for how long (RFC 2308).
        let authority = packet.name_servers.iter().find_map(|record| match &record.rdata {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        authority.into_iter().for_each(|ttl| answer.note_ttl(ttl));
        let is_known = authority.is_some() || packet.rcode() == RCODE::NameError;
        answer.alias = (aliases > 0 && !is_known).then_some(name);
    }
    if question.kind == RecordKind::Srv {
        for record in packet.additional_records.iter().take(RECORDS_MAX) {
            if let Some(ip) = address_of(record) {
                answer.added.push((name_of(&record.name), ip));
                answer.note_ttl(record.ttl);
            }
        }
    }
    answer
}

fn address_of(record: &ResourceRecord<'_>) -> Option<IpAddr> {
    match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
        RData::AAAA(aaaa) => Some(IpAddr::V6(Ipv6Addr::from(aaaa.address))),
        _ => None,
    }
}

impl DnsAnswer {
    fn note_ttl(&mut self, ttl: u32) {
        self.ttl = Some(self.ttl.map_or(ttl, |least| least.min(ttl)));
    }
}

#[cfg(test)]
#[path = "tests/message.rs"]
mod tests;
