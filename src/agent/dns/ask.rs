//! One question to the name servers, one after the other, until one answers: over UDP, and over TCP if the answer was cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{DnsAnswer, DnsQuestion, DnsReply, RecordKind, decode, encode};
use super::system::NameConfig;
use crate::agent::{AgentCx, LinkId, LinkTarget};

/// The longest wait for one answer: the wait doubles with each round over the servers.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The bytes of a length before a message over TCP.
const LENGTH_BYTES: usize = 2;
/// Messages that are no answer to the question after which the server is given up: forged ones, with guessed ids.
const OTHERS_MAX: u32 = 64;

/// A question and the state of its answer.
pub(crate) struct Ask {
    question: DnsQuestion,
    config: Arc<NameConfig>,
    /// The number of servers that were asked and have not answered.
    tries: u32,
    id: u16,
    link: LinkId,
    /// What was received over TCP; `None` over UDP.
    received: Option<Vec<u8>>,
    /// Messages that were no answer.
    others: u32,
    until: Instant,
}

/// The end of a question: the answer, or why no server has one.
pub(crate) type AskEnd = Result<DnsAnswer, String>;

impl Ask {
    /// Asks the first server.
    ///
    /// # Errors
    ///
    /// The name is not valid, or there is no server.
    pub(crate) fn begin(
        question: DnsQuestion,
        config: Arc<NameConfig>,
        cx: &mut AgentCx<'_>,
    ) -> Result<Ask, String> {
        let server = *config.servers.first().ok_or("there is no name server")?;
        let id = cx.random.next_u64() as u16;
        let message = encode(id, &question)?;
        let link = cx.connect(LinkTarget::Udp(server));
        cx.send(link, message);
        let until = cx.now + config.timeout.min(WAIT_MAX);
        Ok(Ask { question, config, tries: 0, id, link, received: None, others: 0, until })
    }

    /// Returns whether the connection is this question's.
    pub(crate) fn has(&self, link: LinkId) -> bool {
        self.link == link
    }

    pub(crate) fn kind(&self) -> RecordKind {
        self.question.kind
    }

    /// Returns when [`Ask::on_time`] has something to do.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    pub(crate) fn on_bytes(&mut self, bytes: &[u8], cx: &mut AgentCx<'_>) -> Option<AskEnd> {
        let reply = match &mut self.received {
            None => decode(bytes, self.id, &self.question),
            Some(received) => {
                received.extend_from_slice(bytes);
                let (length, rest) = received.split_first_chunk::<LENGTH_BYTES>()?;
                let message = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
                decode(message, self.id, &self.question)
            }
        };
        match reply {
            DnsReply::Answer(answer) => {
                cx.close(self.link);
                Some(Ok(answer))
            }
            DnsReply::Truncated if self.received.is_none() => self.ask_over_tcp(cx),
            DnsReply::Truncated => self.ask_next("the answer is cut over TCP, too", cx),
            DnsReply::Failed(why) => self.ask_next(&why, cx),
            DnsReply::Other if self.received.is_some() => self.ask_next("answers another question", cx),
            DnsReply::Other => {
                self.others += 1;
                (self.others >= OTHERS_MAX).then(|| self.ask_next("answers other questions", cx)).flatten()
            }
        }
    }

    pub(crate) fn on_closed(&mut self, why: &str, cx: &mut AgentCx<'_>) -> Option<AskEnd> {
        self.ask_next(why, cx)
    }

    /// Gives the server up if its time is over.
    pub(crate) fn on_time(&mut self, cx: &mut AgentCx<'_>) -> Option<AskEnd> {
        if self.until > cx.now {
            return None;
        }
        self.ask_next("no answer in time", cx)
    }

    fn server(&self) -> SocketAddr {
        self.config.servers[self.tries as usize % self.config.servers.len()]
    }

    fn ask_next(&mut self, why: &str, cx: &mut AgentCx<'_>) -> Option<AskEnd> {
        let failed = self.server();
        cx.close(self.link);
        self.tries += 1;
        let servers = self.config.servers.len() as u32;
        if self.tries >= servers.saturating_mul(self.config.attempts.max(1)) {
            return Some(Err(format!("{}: server {failed}: {why}", self.question)));
        }
        self.received = None;
        self.ask(cx)
    }

    fn ask_over_tcp(&mut self, cx: &mut AgentCx<'_>) -> Option<AskEnd> {
        cx.close(self.link);
        self.received = Some(Vec::new());
        self.ask(cx)
    }

    /// Sends the question, with a new id.
    fn ask(&mut self, cx: &mut AgentCx<'_>) -> Option<AskEnd> {
        self.id = cx.random.next_u64() as u16;
        self.others = 0;
        let message = match encode(self.id, &self.question) {
            Ok(message) => message,
            Err(why) => return Some(Err(why)),
        };
        let round = self.tries / self.config.servers.len() as u32;
        let wait = self.config.timeout.saturating_mul(1 << round.min(16));
        self.until = cx.now + wait.min(WAIT_MAX);
        let server = self.server();
        let (target, message) = match self.received {
            None => (LinkTarget::Udp(server), message),
            Some(_) => (
                LinkTarget::Tcp { address: server.to_string(), attempt: 0, until: self.until, tls: None },
                [&(message.len() as u16).to_be_bytes()[..], &message].concat(),
            ),
        };
        self.link = cx.connect(target);
        cx.send(self.link, message);
        None
    }
}

#[cfg(test)]
#[path = "tests/ask.rs"]
mod tests;
