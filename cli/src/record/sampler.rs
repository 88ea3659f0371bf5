//! A reactor's end of a recording: chooses which requests are recorded, and copies those. It never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use coreloop::interceptor::AdmittedCall;
use crossbeam_channel::Sender;

use super::{QUEUED_BYTES_MAX, RecordShared, SampledRequest};

/// The sampler of the requests of a reactor. Each has its own cache lines.
#[repr(align(128))]
pub(super) struct RequestSampler {
    /// The number of requests up to the next recorded one, inclusive. Where reactors share a sampler it may be zero or
    /// less for a moment, and the requests of that moment are not recorded.
    left: AtomicI64,
    random: AtomicU64,
}

impl RequestSampler {
    /// Creates a sampler of one in `sample` requests.
    pub(super) fn new(seed: usize, sample: u32) -> RequestSampler {
        let sampler = RequestSampler { left: AtomicI64::new(0), random: AtomicU64::new(seed as u64 + 1) };
        sampler.left.store(sampler.draw(sample), Ordering::Relaxed);
        sampler
    }

    /// Returns whether this request, the next one, is to be recorded.
    #[inline]
    pub(super) fn wants(&self, sample: u32) -> bool {
        if self.left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return false;
        }
        self.left.fetch_add(self.draw(sample), Ordering::Relaxed);
        true
    }

    /// Returns a random distance with the mean `sample`, uniformly distributed, so that callers with a regular
    /// pattern are not sampled in step with it.
    fn draw(&self, sample: u32) -> i64 {
        // Xorshift; Marsaglia, "Xorshift RNGs".
        let mut random = self.random.load(Ordering::Relaxed);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.random.store(random, Ordering::Relaxed);
        let span = 2 * u64::from(sample) - 1;
        1 + ((random >> 16) % span) as i64
    }
}

/// The queue of requests for the writer.
pub(super) struct RecordQueue {
    pub(super) shared: Arc<RecordShared>,
    /// `None` ends the recording, even if other senders still exist.
    pub(super) queue: Sender<Option<SampledRequest>>,
}

impl RecordQueue {
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
    pub(super) fn take(&self, call: &AdmittedCall<'_>) {
        if self.reserve(call.body.len()) {
            self.send(SampledRequest {
                at: call.at,
                reactor: call.reactor,
                connection: call.connection,
                protocol: call.protocol,
                method: call.method,
                codec: call.codec,
                compressed: call.compressed,
                one_way: call.one_way,
                time_left_us: call.time_left_us,
                body: call.body.to_vec(),
            });
        }
    }
}
