//! A reactor's end of a recording: chooses which requests are recorded, and copies those. It never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use coreloop::server::{CallObserver, ObservedRequest};
use crossbeam_channel::Sender;

use super::{QUEUED_BYTES_MAX, RecordShared, SampledRequest};

/// The sampler of one reactor.
pub(super) struct RequestSampler {
    shared: Arc<RecordShared>,
    queue: Sender<Option<SampledRequest>>,
    reactor: usize,
    /// The number of requests up to the next recorded one, inclusive.
    left: u32,
    random: u64,
}

impl RequestSampler {
    pub(super) fn new(
        shared: Arc<RecordShared>,
        queue: Sender<Option<SampledRequest>>,
        reactor: usize,
    ) -> RequestSampler {
        let mut tap = RequestSampler { shared, queue, reactor, left: 0, random: reactor as u64 + 1 };
        tap.left = tap.draw();
        tap
    }

    /// Returns whether this request, the next one, is to be recorded.
    #[inline]
    pub(super) fn wants(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = self.draw();
        true
    }

    /// Returns a random distance with the mean `sample`, uniformly distributed, so that callers with a regular
    /// pattern are not sampled in step with it.
    fn draw(&mut self) -> u32 {
        // Xorshift; Marsaglia, "Xorshift RNGs".
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let span = 2 * u64::from(self.shared.sample) - 1;
        1 + u32::try_from((self.random >> 16) % span).unwrap_or(0)
    }

    /// Returns whether the writer has room for a body of this length, and reserves it; otherwise counts the request.
    pub(super) fn reserve(&self, len: usize) -> bool {
        let shared = &self.shared;
        if shared.is_over.load(Ordering::Relaxed) {
            let counter =
                if shared.has_failed.load(Ordering::Relaxed) { &shared.dropped } else { &shared.beyond };
            counter.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let queued = shared.queued_bytes.fetch_add(len, Ordering::Relaxed);
        // An empty queue takes a body of any size that the server accepts: otherwise the largest would never be
        // recorded.
        if queued > 0 && queued.saturating_add(len) > QUEUED_BYTES_MAX || self.queue.is_full() {
            self.cancel(len);
            return false;
        }
        true
    }

    /// Passes a request, for whose body room was reserved, to the writer.
    pub(super) fn send(&self, sampled: SampledRequest) {
        let len = sampled.body.len();
        if self.queue.try_send(Some(sampled)).is_err() {
            self.cancel(len);
        }
    }

    fn cancel(&self, len: usize) {
        self.shared.queued_bytes.fetch_sub(len, Ordering::Relaxed);
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Copies a request for the writer, if there is room for it.
    #[cold]
    #[inline(never)]
    fn take(&self, seen: &ObservedRequest<'_>) {
        if self.reserve(seen.body.len()) {
            self.send(SampledRequest {
                at: seen.at,
                reactor: self.reactor,
                connection: seen.connection,
                protocol: seen.protocol,
                method: seen.method,
                codec: seen.codec,
                compressed: seen.compressed,
                one_way: seen.one_way,
                time_left_us: seen.time_left_us,
                body: seen.body.to_vec(),
            });
        }
    }
}

impl CallObserver for RequestSampler {
    fn on_request(&mut self, request: &ObservedRequest<'_>) {
        // A recorded request is replayed from its body alone.
        if !request.argument_follows && self.wants() {
            self.take(request);
        }
    }

    fn observes_ends(&self) -> bool {
        false
    }
}
