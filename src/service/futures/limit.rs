//! How many futures of async methods there may be: in the process, and of single methods on one reactor.
//!
//! A future is counted from its admission until it is dropped. That includes the futures of calls that were answered
//! and that the executor still holds: the count bounds memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::policy::run_queue::ShedReason;

/// The futures of all reactors of a server.
#[derive(Debug)]
pub struct AsyncCalls {
    in_flight: AtomicUsize,
    in_flight_max: usize,
    /// Futures that have panicked.
    panics: AtomicU64,
}

impl AsyncCalls {
    /// Creates the count, with its bound (`limits.async_in_flight_max`).
    pub(crate) fn new(in_flight_max: usize) -> Arc<AsyncCalls> {
        Arc::new(AsyncCalls { in_flight: AtomicUsize::new(0), in_flight_max, panics: AtomicU64::new(0) })
    }

    /// Returns the number of futures.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns the number of futures that have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

/// The futures of one reactor, with the limits of single methods.
#[derive(Debug)]
pub(crate) struct AsyncLimits {
    all: Arc<AsyncCalls>,
    /// By method: futures, and the most of them. Empty without such limits.
    methods: Box<[(AtomicU32, u32)]>,
}

impl AsyncLimits {
    /// Creates the limits of a reactor: the most futures of some of `methods` methods, by index.
    pub(crate) fn new(all: Arc<AsyncCalls>, methods: usize, limits: &[(u32, u32)]) -> Arc<AsyncLimits> {
        let count = if limits.is_empty() { 0 } else { methods };
        let mut methods: Box<[_]> = (0..count).map(|_| (AtomicU32::new(0), u32::MAX)).collect();
        for (method, most) in limits {
            methods[*method as usize].1 = *most;
        }
        Arc::new(AsyncLimits { all, methods })
    }

    /// Admits a future of a method, or returns the reason why it is refused.
    pub(crate) fn admit(self: &Arc<Self>, method: u32) -> Result<AsyncPermit, ShedReason> {
        // Only this reactor adds to the count of a method.
        let of_method = self.methods.get(method as usize);
        if of_method.is_some_and(|(count, most)| count.load(Ordering::Relaxed) >= *most) {
            return Err(ShedReason::MethodLimit);
        }
        let AsyncCalls { in_flight, in_flight_max, .. } = &*self.all;
        let add = |count: usize| (count < *in_flight_max).then_some(count + 1);
        if in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return Err(ShedReason::AsyncLimit);
        }
        if let Some((count, _)) = of_method {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(AsyncPermit { limits: self.clone(), method })
    }
}

/// Counts one future until it is dropped.
#[derive(Debug)]
pub(crate) struct AsyncPermit {
    limits: Arc<AsyncLimits>,
    method: u32,
}

impl AsyncPermit {
    /// Counts a panic of the future.
    pub(crate) fn count_panic(&self) {
        self.limits.all.panics.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for AsyncPermit {
    fn drop(&mut self) {
        if let Some((count, _)) = self.limits.methods.get(self.method as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.limits.all.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_are_counted_in_the_process_and_by_method() {
        let all = AsyncCalls::new(3);
        let reactors = [(); 2].map(|()| AsyncLimits::new(all.clone(), 2, &[(1, 1)]));
        let first = reactors[0].admit(1).unwrap();
        assert_eq!(reactors[0].admit(1).unwrap_err(), ShedReason::MethodLimit);
        let second = reactors[1].admit(1).unwrap();
        let third = reactors[1].admit(0).unwrap();
        assert_eq!(reactors[0].admit(0).unwrap_err(), ShedReason::AsyncLimit);
        assert_eq!(all.in_flight(), 3);
        drop((first, third));
        assert_eq!(all.in_flight(), 1);
        let _again = reactors[0].admit(1).unwrap();
        drop(second);
        assert_eq!(all.in_flight(), 1);
    }
}
