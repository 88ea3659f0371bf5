//! The agent that sends the requests of one signal: one at a time, again after a failure, until the end.
//!
//! A request that fails is tried again with exponential back-off and full jitter, or when the collector says so, for at most
//! [`RETRY_MAX`]. Meanwhile nothing else is taken from the source, whose own queue is bounded.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::{Verdict, verdict};
use super::counters::{ExportCounters, SignalCounters};
use super::environment::SignalSettings;
use crate::agent::http::HttpRequest;
use crate::agent::http_client::{AgentHttp, HttpEvent};
use crate::agent::{Agent, AgentCx, LinkId};
use crate::error_text::shortened;
use crate::log_events::log_event;
use crate::policy::backoff::Backoff;

/// The time from the first try of a request to the last.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(300);
/// The time that the end may take: what the collector has not taken then is given up.
pub(super) const END_MAX: Duration = Duration::from_secs(2);
/// The least pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const BACKOFF: Backoff = Backoff { base_ms: 500, max_ms: 30_000 };
/// The most bytes of a body before compression.
pub(super) const BODY_BYTES_MAX: usize = 512 << 10;
/// The most bytes of a text of the collector that is reported.
const MESSAGE_BYTES_MAX: usize = 200;

/// The body of a request, and the number of spans or samples in it.
pub(super) struct Batch {
    pub(super) body: Vec<u8>,
    pub(super) items: u64,
}

/// Where requests come from.
pub(super) trait BatchSource: Send {
    /// The name of what is sent, for texts.
    const NAME: &'static str;

    /// Returns the counters.
    fn counters(all: &ExportCounters) -> &SignalCounters;

    /// Returns the next request, if there is something to send. `is_last`: the end has begun.
    fn next(&mut self, now: Instant, is_last: bool) -> Option<Batch>;

    /// Returns the pause until the next request is due: none while there is more than one request can have.
    fn pause(&self) -> Duration;

    /// Returns how much the source holds that [`BatchSource::next`] will return.
    fn waiting(&self) -> u64;

    /// Gives up what is left, and returns how much it was.
    fn give_up(&mut self) -> u64;
}

/// The agent.
pub(super) struct SignalSender<S: BatchSource> {
    source: S,
    settings: SignalSettings,
    counters: Arc<ExportCounters>,
    http: AgentHttp,
    /// The request that is sent, or tried again.
    pending: Option<PendingBatch>,
    /// When the next request starts, while none is running.
    next_at: Option<Instant>,
    end_by: Option<Instant>,
    /// The last request has failed.
    is_failing: bool,
}

struct PendingBatch {
    /// Compressed if that is set.
    body: Vec<u8>,
    items: u64,
    begun: Instant,
    failures: u32,
}

impl<S: BatchSource> SignalSender<S> {
    pub(super) fn new(source: S, settings: SignalSettings, counters: Arc<ExportCounters>) -> SignalSender<S> {
        let http = AgentHttp::new(&settings.authority).secured(settings.tls.clone());
        SignalSender {
            source,
            settings,
            counters,
            http,
            pending: None,
            next_at: None,
            end_by: None,
            is_failing: false,
        }
    }

    /// Starts the request that waits, or the next one if there is something to send.
    fn go_on(&mut self, cx: &mut AgentCx<'_>) {
        self.next_at = None;
        if self.pending.is_none() {
            let is_last = self.end_by.is_some();
            let Some(batch) = self.source.next(cx.now, is_last) else {
                self.show_waiting();
                if is_last {
                    return cx.end();
                }
                self.next_at = Some(cx.now + self.source.pause());
                return;
            };
            let body = if self.settings.gzip { compressed(&batch.body) } else { batch.body };
            self.pending = Some(PendingBatch { body, items: batch.items, begun: cx.now, failures: 0 });
        }
        self.show_waiting();
        let Some(pending) = &self.pending else { return };
        let left = self.end_by.map(|end_by| end_by.saturating_duration_since(cx.now));
        let time = left.map_or(self.settings.timeout, |left| left.min(self.settings.timeout));
        let encoding = self.settings.gzip.then_some(("Content-Encoding", "gzip"));
        let headers = self.settings.headers.iter().map(|(name, value)| (&**name, &**value));
        let fields: Vec<(&str, &str)> = encoding.into_iter().chain(headers).collect();
        self.http.start(
            HttpRequest {
                method: "POST",
                target: &self.settings.target,
                fields: &fields,
                content_type: self.settings.format.content_type(),
                body: &pending.body,
            },
            time,
            cx,
        );
    }

    fn on_event(&mut self, event: HttpEvent, cx: &mut AgentCx<'_>) {
        match event {
            // Only streams have pieces.
            HttpEvent::Piece(_) => {}
            HttpEvent::Failed(why) => {
                self.count(|counters| &counters.requests_failed, 1);
                self.report(
                    &format!("{} connection", S::NAME),
                    &format!("{} are not exported: {why}", S::NAME),
                );
                self.retry(None, cx);
            }
            HttpEvent::Response(response) => {
                let status = response.head.status;
                match verdict(&response, self.settings.format, unix_second()) {
                    Verdict::Taken { rejected, message } => self.on_taken(rejected, &message, cx),
                    Verdict::Retry { after } => {
                        self.count(|counters| &counters.requests_failed, 1);
                        self.report_status(status, &response.describe());
                        self.retry(after, cx);
                    }
                    Verdict::Refused => {
                        self.count(|counters| &counters.requests_failed, 1);
                        self.report_status(status, &response.describe());
                        self.drop_pending();
                        self.wait(self.source.pause(), cx);
                    }
                }
            }
        }
    }

    fn report_status(&mut self, status: u16, text: &str) {
        let text = format!("{} are not exported: {}: {text}", S::NAME, self.http.address());
        self.report(&format!("{} {status}", S::NAME), &text);
    }

    /// Reports a request that has failed: the first one after a success goes to the log.
    fn report(&mut self, kind: &str, text: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            log_event!(ExportFailed { signal: S::NAME, problem: text.to_owned() });
        }
        self.counters.problem(kind, text);
    }

    fn on_taken(&mut self, rejected: u64, message: &str, cx: &mut AgentCx<'_>) {
        self.count(|counters| &counters.requests_ok, 1);
        if std::mem::replace(&mut self.is_failing, false) {
            log_event!(ExportRecovered { signal: S::NAME });
        }
        if let Some(pending) = self.pending.take() {
            let rejected = rejected.min(pending.items);
            self.count(|counters| &counters.exported, pending.items - rejected);
            self.count_dropped(rejected);
        }
        if rejected > 0 || !message.is_empty() {
            let said: String =
                shortened(message, MESSAGE_BYTES_MAX).chars().flat_map(char::escape_debug).collect();
            let address = self.http.address();
            let text = format!("the collector {address} has rejected {rejected} {}: {said}", S::NAME);
            self.counters.problem(&format!("{} partial", S::NAME), &text);
        }
        self.wait(self.source.pause(), cx);
    }

    /// Tries again later, or gives up the request.
    fn retry(&mut self, after: Option<Duration>, cx: &mut AgentCx<'_>) {
        let failures = self.pending.as_ref().map_or(0, |pending| pending.failures).saturating_add(1);
        let delay = after.unwrap_or_else(|| PAUSE_MIN + BACKOFF.delay(failures, cx.random.next_u64()));
        let Some(pending) = &mut self.pending else { return self.wait(delay, cx) };
        pending.failures = failures;
        let give_up_at = self.end_by.unwrap_or(pending.begun + RETRY_MAX);
        if cx.now + delay >= give_up_at {
            self.drop_pending();
            if self.end_by.is_some() {
                return self.end(cx);
            }
        }
        self.wait(delay, cx);
    }

    fn wait(&mut self, delay: Duration, cx: &mut AgentCx<'_>) {
        self.show_waiting();
        // What the end has left is sent without a pause.
        let delay = if self.end_by.is_some() && self.pending.is_none() { Duration::ZERO } else { delay };
        self.next_at = Some(cx.now + delay);
    }

    fn drop_pending(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.count_dropped(pending.items);
        }
    }

    fn count_dropped(&self, items: u64) {
        if items > 0 {
            log_event!(ExportDropped { signal: S::NAME, items });
        }
        self.count(|counters| &counters.dropped, items);
    }

    /// Ends: what is left is lost.
    fn end(&mut self, cx: &mut AgentCx<'_>) {
        self.drop_pending();
        let left = self.source.give_up();
        self.count_dropped(left);
        self.show_waiting();
        cx.end();
    }

    fn count(&self, counter: impl Fn(&SignalCounters) -> &std::sync::atomic::AtomicU64, count: u64) {
        counter(S::counters(&self.counters)).fetch_add(count, Ordering::Relaxed);
    }

    fn show_waiting(&self) {
        let waiting = self.pending.as_ref().map_or(0, |pending| pending.items) + self.source.waiting();
        S::counters(&self.counters).waiting.store(waiting, Ordering::Relaxed);
    }
}

impl<S: BatchSource> Agent for SignalSender<S> {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        // Asks the source once: from then on, spans wait for the export.
        self.go_on(cx);
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) {
        for event in self.http.on_bytes(link, bytes, cx) {
            self.on_event(event, cx);
        }
    }

    fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) {
        if let Some(event) = self.http.on_closed(link, why, cx) {
            self.on_event(event, cx);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        [self.next_at, self.http.next_at(), self.end_by].into_iter().flatten().min()
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        if self.end_by.is_some_and(|at| at <= cx.now) {
            return self.end(cx);
        }
        if let Some(event) = self.http.on_time(cx) {
            self.on_event(event, cx);
        }
        if self.next_at.is_some_and(|at| at <= cx.now) {
            self.go_on(cx);
        }
    }

    fn on_end(&mut self, cx: &mut AgentCx<'_>) {
        self.end_by = Some(cx.now + END_MAX);
        if !self.http.is_busy() {
            self.go_on(cx);
        }
    }
}

/// Returns a body as gzip (RFC 1952). The level is the least: most of the size of spans is in texts that repeat.
fn compressed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

fn unix_second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "sender/tests.rs"]
mod tests;
