//! The records of a name: all kinds that are asked for at once, with the search list and aliases.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::ask::{Ask, AskEnd};
use super::message::{ALIASES_MAX, DnsAnswer, DnsQuestion, RecordKind};
use super::system::{NameConfig, normal};
use crate::agent::{AgentCx, LinkId};

/// The kinds of records of a host.
pub(crate) const ADDRESSES: &[RecordKind] = &[RecordKind::Aaaa, RecordKind::A];
/// The kinds of records of a service.
pub(crate) const SERVICES: &[RecordKind] = &[RecordKind::Srv];

/// A lookup that has not ended.
pub(crate) struct NameLookup {
    name: String,
    config: Arc<NameConfig>,
    kinds: &'static [RecordKind],
    /// The full names to be tried after the current one.
    candidates: std::vec::IntoIter<String>,
    asks: Vec<Ask>,
    /// The answers about the current full name.
    answer: DnsAnswer,
    /// Aliases that were followed by further questions.
    aliases: usize,
    /// For how long these aliases hold.
    alias_ttl: Option<u32>,
    /// Why a question has no answer.
    failure: Option<String>,
    /// For how long it is known that the names do not exist.
    absent_ttl: Option<u32>,
}

/// A lookup that was begun.
pub(crate) enum LookupStart {
    /// It waits for answers.
    Running(NameLookup),
    /// Its end was known at once.
    Ended(LookupEnd),
}

/// The end of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LookupEnd {
    /// There are such records.
    Found {
        /// The records.
        answer: DnsAnswer,
        /// Why records of another kind could not be found out.
        missing: Option<String>,
    },
    /// The name does not exist, or has no such records, for as many seconds as the servers say.
    Absent(Option<u32>),
    /// It is not known.
    Failed(String),
}

impl NameLookup {
    /// Begins to look up a name. The end may be known at once: for numbers, names in `/etc/hosts`, and names that are not
    /// valid.
    pub(crate) fn begin(
        name: &str,
        kinds: &'static [RecordKind],
        config: Arc<NameConfig>,
        cx: &mut AgentCx<'_>,
    ) -> LookupStart {
        if kinds == ADDRESSES {
            let number = name.parse::<IpAddr>().ok().map(|ip| vec![ip]);
            if let Some(addresses) = number.or_else(|| config.hosts.get(&normal(name)).cloned()) {
                let answer = DnsAnswer { addresses, ..DnsAnswer::default() };
                return LookupStart::Ended(LookupEnd::Found { answer, missing: None });
            }
        }
        let mut lookup = NameLookup {
            name: name.to_owned(),
            candidates: config.candidates(name).into_iter(),
            config,
            kinds,
            asks: Vec::new(),
            answer: DnsAnswer::default(),
            aliases: 0,
            alias_ttl: None,
            failure: None,
            absent_ttl: None,
        };
        match lookup.try_next(cx) {
            None => LookupStart::Running(lookup),
            Some(end) => LookupStart::Ended(end),
        }
    }

    /// Returns when [`NameLookup::on_time`] has something to do.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.asks.iter().map(Ask::until).min()
    }

    /// Returns whether the connection is this lookup's.
    pub(crate) fn has(&self, link: LinkId) -> bool {
        self.asks.iter().any(|ask| ask.has(link))
    }

    pub(crate) fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) -> Option<LookupEnd> {
        let at = self.asks.iter().position(|ask| ask.has(link))?;
        let end = self.asks[at].on_bytes(bytes, cx)?;
        self.on_ask_end(at, end, cx)
    }

    pub(crate) fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) -> Option<LookupEnd> {
        let at = self.asks.iter().position(|ask| ask.has(link))?;
        let end = self.asks[at].on_closed(why, cx)?;
        self.on_ask_end(at, end, cx)
    }

    pub(crate) fn on_time(&mut self, cx: &mut AgentCx<'_>) -> Option<LookupEnd> {
        let mut at = 0;
        while at < self.asks.len() {
            let Some(end) = self.asks[at].on_time(cx) else {
                at += 1;
                continue;
            };
            if let Some(end) = self.on_ask_end(at, end, cx) {
                return Some(end);
            }
            // Other questions may have taken the place of this one.
        }
        None
    }

    /// Handles the end of a question. The lookup ends with its last question.
    fn on_ask_end(&mut self, at: usize, end: AskEnd, cx: &mut AgentCx<'_>) -> Option<LookupEnd> {
        let kind = self.asks.swap_remove(at).kind();
        match end {
            Err(why) => self.failure = Some(why),
            Ok(DnsAnswer { alias: Some(alias), ttl, .. }) if self.aliases < ALIASES_MAX => {
                self.aliases += 1;
                self.alias_ttl = [self.alias_ttl, ttl].into_iter().flatten().min();
                self.ask(&alias, kind, cx);
            }
            Ok(answer) if answer.addresses.is_empty() && answer.services.is_empty() => {
                self.absent_ttl = [self.absent_ttl, answer.ttl].into_iter().flatten().min();
            }
            Ok(answer) => {
                self.answer.ttl = [self.answer.ttl, answer.ttl].into_iter().flatten().min();
                self.answer.addresses.extend(answer.addresses);
                self.answer.services.extend(answer.services);
                self.answer.added.extend(answer.added);
            }
        }
        if !self.asks.is_empty() {
            return None;
        }
        if !self.answer.addresses.is_empty() || !self.answer.services.is_empty() {
            let mut answer = std::mem::take(&mut self.answer);
            answer.ttl = [answer.ttl, self.alias_ttl].into_iter().flatten().min();
            return Some(LookupEnd::Found { answer, missing: self.failure.take() });
        }
        self.absent_ttl = [self.absent_ttl, self.alias_ttl.take()].into_iter().flatten().min();
        self.try_next(cx)
    }

    /// Asks about the next full name.
    fn try_next(&mut self, cx: &mut AgentCx<'_>) -> Option<LookupEnd> {
        while let Some(candidate) = self.candidates.next() {
            (self.answer, self.aliases, self.alias_ttl) = (DnsAnswer::default(), 0, None);
            for kind in self.kinds {
                self.ask(&candidate, *kind, cx);
            }
            if !self.asks.is_empty() {
                return None;
            }
        }
        // One that could not be asked about may exist.
        Some(match self.failure.take() {
            Some(why) => LookupEnd::Failed(format!("cannot resolve {}: {why}", self.name)),
            None => LookupEnd::Absent(self.absent_ttl),
        })
    }

    fn ask(&mut self, name: &str, kind: RecordKind, cx: &mut AgentCx<'_>) {
        let question = DnsQuestion { name: name.to_owned(), kind };
        match Ask::begin(question, self.config.clone(), cx) {
            Ok(ask) => self.asks.push(ask),
            Err(why) => self.failure = Some(why),
        }
    }
}

#[cfg(test)]
#[path = "tests/lookup.rs"]
mod tests;
