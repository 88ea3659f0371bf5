//! Agents whose only connection is that of an HTTP client: the events of the connection go to the client, and what becomes
//! of the exchange to the agent.

use std::time::Instant;

use super::http_client::{AgentHttp, HttpEvent};
use super::{Agent, AgentCx, LinkId};

/// An agent with one HTTP client.
pub(crate) trait HttpAgent: Send {
    /// Returns the client.
    fn http(&self) -> &AgentHttp;

    /// Returns the client.
    fn http_mut(&mut self) -> &mut AgentHttp;

    /// Called once, first.
    fn start(&mut self, cx: &mut AgentCx<'_>);

    /// Handles what has become of an exchange.
    fn on_event(&mut self, event: HttpEvent, cx: &mut AgentCx<'_>);

    /// Returns the time of the next [`HttpAgent::on_timer`].
    fn timer_at(&self) -> Option<Instant>;

    /// Called at that time or later. An exchange that is late at the same time is given up after that.
    fn on_timer(&mut self, cx: &mut AgentCx<'_>);

    /// Begins to end the agent, which ends itself ([`AgentCx::end`]) as soon as it can.
    fn stop(&mut self, cx: &mut AgentCx<'_>) {
        cx.end();
    }
}

impl<A: HttpAgent> Agent for A {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        self.start(cx);
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) {
        for event in self.http_mut().on_bytes(link, bytes, cx) {
            self.on_event(event, cx);
        }
    }

    fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) {
        if let Some(event) = self.http_mut().on_closed(link, why, cx) {
            self.on_event(event, cx);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        [self.timer_at(), self.http().next_at()].into_iter().flatten().min()
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        if self.timer_at().is_some_and(|at| at <= cx.now) {
            self.on_timer(cx);
        }
        if let Some(event) = self.http_mut().on_time(cx) {
            self.on_event(event, cx);
        }
    }

    fn on_end(&mut self, cx: &mut AgentCx<'_>) {
        self.stop(cx);
    }
}
