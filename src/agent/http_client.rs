//! Runs HTTP exchanges of an agent, one after the other, over a connection that is kept.
//!
//! It has the rules that are the same for every registry: time-outs, several addresses in turns, and one repetition of a
//! request whose kept connection was closed by the server at the same moment.

use std::time::{Duration, Instant};

use super::http::{BODY_BYTES_MAX, HttpPiece, HttpReader, HttpRequest, ReceivedHead};
use super::{AgentCx, LinkId, LinkTarget};
use crate::transport::TlsClient;

/// The longest time to connect, the lookup of the name included. A request that waits for minutes is to notice a server
/// that is gone before that.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A whole response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    /// The head.
    pub(crate) head: ReceivedHead,
    /// The body; empty if it was passed on in pieces.
    pub(crate) body: Vec<u8>,
}

impl HttpResponse {
    /// Returns the status and the beginning of the body, for the text of an error.
    pub(crate) fn describe(&self) -> String {
        const CHARS_MAX: usize = 200;
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.trim().chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
        let rest = if body.trim().chars().count() > CHARS_MAX { "…" } else { "" };
        format!("status {}: {shown}{rest}", self.head.status)
    }
}

/// What has become of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HttpEvent {
    /// A piece of the body of a response that is passed on in pieces ([`AgentHttp::start_stream`]).
    Piece(Vec<u8>),
    /// The response is complete.
    Response(HttpResponse),
    /// There is no response; the text names the peer and the reason.
    Failed(String),
}

/// The client of one agent.
#[derive(Debug)]
pub(crate) struct AgentHttp {
    /// `host:port`, one or more.
    addresses: Vec<String>,
    /// The TLS of its connections, if they have any.
    tls: Option<TlsClient>,
    /// The number of connections that were given up, which selects the address of the next.
    attempt: u32,
    link: Option<LinkId>,
    /// The connection has served a request before.
    is_reused: bool,
    exchange: Option<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    /// The bytes of the request, to repeat it.
    request: Vec<u8>,
    reader: HttpReader,
    response: HttpResponse,
    /// The body is passed on in pieces if the status is 200.
    is_stream: bool,
    deadline: Instant,
    /// Of a stream: the time that each piece has.
    patience: Duration,
}

impl AgentHttp {
    /// Creates a client of a service at `host:port`, or at several such addresses, separated by commas.
    pub(crate) fn new(authority: &str) -> AgentHttp {
        AgentHttp {
            addresses: authority.split(',').map(str::to_owned).collect(),
            tls: None,
            attempt: 0,
            link: None,
            is_reused: false,
            exchange: None,
        }
    }

    /// Sets the TLS of its connections.
    pub(crate) fn secured(mut self, tls: Option<TlsClient>) -> AgentHttp {
        self.tls = tls;
        self
    }

    /// Returns the address that is used now, for texts.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[self.attempt as usize % self.addresses.len()]
    }

    /// Returns whether an exchange is running.
    pub(crate) fn is_busy(&self) -> bool {
        self.exchange.is_some()
    }

    /// Starts an exchange; one that is running is given up. The whole response must come within the time.
    pub(crate) fn start(&mut self, request: HttpRequest<'_>, time: Duration, cx: &mut AgentCx<'_>) {
        self.begin(request, time, false, cx);
    }

    /// Starts an exchange whose response has no end: its body is passed on as it comes. Each piece must come within the
    /// time.
    pub(crate) fn start_stream(&mut self, request: HttpRequest<'_>, time: Duration, cx: &mut AgentCx<'_>) {
        self.begin(request, time, true, cx);
    }

    fn begin(&mut self, request: HttpRequest<'_>, time: Duration, is_stream: bool, cx: &mut AgentCx<'_>) {
        if self.exchange.is_some() {
            self.cancel(cx);
        }
        let request = request.to_bytes(self.address());
        self.exchange = Some(Exchange {
            reader: HttpReader::new(if is_stream { u64::MAX } else { BODY_BYTES_MAX }),
            request,
            response: HttpResponse::default(),
            is_stream,
            deadline: cx.now + time,
            patience: time,
        });
        self.write(cx);
    }

    fn write(&mut self, cx: &mut AgentCx<'_>) {
        let Some(exchange) = &self.exchange else { return };
        let link = match self.link {
            Some(link) => link,
            None => {
                // The addresses come in turns, and so do those of a name.
                let attempt = self.attempt / self.addresses.len() as u32;
                self.is_reused = false;
                let until = exchange.deadline.min(cx.now + CONNECT_MAX);
                let (address, tls) = (self.address().to_owned(), self.tls.clone());
                cx.connect(LinkTarget::Tcp { address, attempt, until, tls })
            }
        };
        self.link = Some(link);
        cx.send(link, exchange.request.clone());
    }

    /// Gives up the exchange and the connection.
    pub(crate) fn cancel(&mut self, cx: &mut AgentCx<'_>) {
        self.exchange = None;
        if let Some(link) = self.link.take() {
            cx.close(link);
        }
    }

    /// Returns when [`AgentHttp::on_time`] must be called.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.exchange.as_ref().map(|exchange| exchange.deadline)
    }

    /// Ends an exchange that takes too long.
    pub(crate) fn on_time(&mut self, cx: &mut AgentCx<'_>) -> Option<HttpEvent> {
        let exchange = self.exchange.as_ref().filter(|exchange| exchange.deadline <= cx.now)?;
        let why = format!("{}: no answer within {:?}", self.address(), exchange.patience);
        Some(self.fail(why, cx))
    }

    /// Handles bytes of a connection.
    pub(crate) fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) -> Vec<HttpEvent> {
        let mut events = Vec::new();
        if self.link != Some(link) {
            return events;
        }
        let Some(exchange) = &mut self.exchange else {
            // Bytes without a request: nothing that follows on this connection can be trusted.
            self.cancel(cx);
            return events;
        };
        let mut input = bytes;
        loop {
            let (consumed, piece) = match exchange.reader.next(input) {
                Ok(read) => read,
                Err(fault) => {
                    let why = format!("{}: {fault}", self.address());
                    events.push(self.fail(why, cx));
                    return events;
                }
            };
            input = &input[consumed..];
            match piece {
                Some(HttpPiece::Head(head)) => {
                    exchange.is_stream &= head.status == 200;
                    exchange.response.head = head;
                }
                Some(HttpPiece::Body(bytes)) if exchange.is_stream => {
                    exchange.deadline = cx.now + exchange.patience;
                    events.push(HttpEvent::Piece(bytes.to_vec()));
                }
                Some(HttpPiece::Body(bytes)) => {
                    if (exchange.response.body.len() + bytes.len()) as u64 > BODY_BYTES_MAX {
                        // A stream that was answered by an error has no limit of its own.
                        let why = format!("{}: an answer of over {BODY_BYTES_MAX} bytes", self.address());
                        events.push(self.fail(why, cx));
                        return events;
                    }
                    exchange.response.body.extend_from_slice(bytes);
                }
                Some(HttpPiece::End { keeps }) => {
                    let response = std::mem::take(&mut exchange.response);
                    self.exchange = None;
                    self.is_reused = true;
                    if !keeps || !input.is_empty() {
                        self.cancel(cx);
                    }
                    events.push(HttpEvent::Response(response));
                    return events;
                }
                None if input.is_empty() => return events,
                None => {}
            }
        }
    }

    /// Handles the end of a connection.
    pub(crate) fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) -> Option<HttpEvent> {
        if self.link != Some(link) {
            return None;
        }
        self.link = None;
        let exchange = self.exchange.as_mut()?;
        if self.is_reused && !exchange.reader.has_begun() {
            // The server closed an unused connection while the request was on its way.
            self.write(cx);
            return None;
        }
        match exchange.reader.on_end() {
            Ok(true) => {
                let response = std::mem::take(&mut exchange.response);
                self.exchange = None;
                Some(HttpEvent::Response(response))
            }
            Ok(false) | Err(_) => {
                let why = format!("{}: {why}", self.address());
                Some(self.fail(why, cx))
            }
        }
    }

    fn fail(&mut self, why: String, cx: &mut AgentCx<'_>) -> HttpEvent {
        self.cancel(cx);
        self.attempt = self.attempt.wrapping_add(1);
        HttpEvent::Failed(why)
    }
}

#[cfg(test)]
#[path = "http_client/tests.rs"]
mod tests;
