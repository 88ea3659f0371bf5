//! A limit on the calls in progress: for all callers together, or for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::callers::{CALLERS_MAX, Callers, LimitedCaller};
use super::{Admit, AdmitCall, Hooks, Interceptor};
use crate::status::Status;

/// Refuses calls beyond a number in progress as `resource_exhausted`: calls that have been admitted and whose work has not
/// ended. A call that was cancelled counts until its handler has returned.
///
/// The limit holds for all methods together for which it is registered, over all reactors. For one method, per reactor,
/// `method_limits` of the configuration is cheaper.
///
/// ```
/// use coreloop::interceptor::{ConcurrencyLimit, TokenCheck};
/// use coreloop::{Context, Server};
///
/// let builder = Server::builder()
///     .method("Reports.Build", |_cx: &Context<'_>, year: u16| Ok(format!("the report of {year}")))
///     .interceptor(TokenCheck::new([("ann", "s3cret")]))
///     // Two reports at a time for each caller.
///     .interceptor_for("Reports.*", ConcurrencyLimit::new(2).for_each_principal());
/// ```
#[derive(Debug)]
pub struct ConcurrencyLimit {
    calls_max: AtomicUsize,
    by: Callers,
    /// Calls in progress of each caller that has any. No handler can hold the lock, and each holder looks up one entry.
    in_progress: Arc<Mutex<HashMap<Option<LimitedCaller>, usize>>>,
}

/// One call in progress. Attached to the call, whose end drops it.
struct CallInProgress {
    caller: Option<LimitedCaller>,
    in_progress: Arc<Mutex<HashMap<Option<LimitedCaller>, usize>>>,
}

impl Drop for CallInProgress {
    fn drop(&mut self) {
        let mut calls = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = calls.get_mut(&self.caller) {
            *number -= 1;
            if *number == 0 {
                calls.remove(&self.caller);
            }
        }
    }
}

impl ConcurrencyLimit {
    /// Creates a limit of that many calls in progress; at least one.
    pub fn new(calls_max: usize) -> ConcurrencyLimit {
        ConcurrencyLimit {
            calls_max: AtomicUsize::new(calls_max.max(1)),
            by: Callers::Together,
            in_progress: Arc::default(),
        }
    }

    /// Puts another number into force. Calls in progress go on, also those that are more than it.
    #[cfg(feature = "server")]
    pub(crate) fn exchange(&self, calls_max: usize) {
        self.calls_max.store(calls_max.max(1), Ordering::Relaxed);
    }

    fn calls_max(&self) -> usize {
        self.calls_max.load(Ordering::Relaxed)
    }

    /// Limits each authenticated caller by itself. Register the limit after the interceptor that sets the principal; calls
    /// without one are counted together.
    pub fn for_each_principal(mut self) -> ConcurrencyLimit {
        self.by = Callers::ByPrincipal;
        self
    }

    /// Limits each peer address by itself. Unix and in-memory connections are counted together.
    pub fn for_each_address(mut self) -> ConcurrencyLimit {
        self.by = Callers::ByAddress;
        self
    }

    fn take(&self, caller: Option<LimitedCaller>) -> Option<CallInProgress> {
        let mut calls = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        // Each of them has a call in progress, so that the limits on those bound the table. This bound is for servers
        // without such limits.
        if calls.len() >= CALLERS_MAX && !calls.contains_key(&caller) {
            return None;
        }
        let number = calls.entry(caller.clone()).or_default();
        if *number >= self.calls_max() {
            return None;
        }
        *number += 1;
        Some(CallInProgress { caller, in_progress: self.in_progress.clone() })
    }
}

impl Interceptor for ConcurrencyLimit {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        match self.take(self.by.of(call)) {
            Some(in_progress) => {
                call.values.hold(in_progress);
                Admit::Continue
            }
            None => {
                let text = format!("{} is limited to {} calls in progress", call.method(), self.calls_max());
                Admit::Refuse(Status::resource_exhausted(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_counted_apart_and_forgotten() {
        let limit = ConcurrencyLimit::new(2);
        let caller = |name: &str| Some(LimitedCaller::Principal(name.into()));
        let ann = [limit.take(caller("ann")), limit.take(caller("ann"))];
        assert!(ann.iter().all(Option::is_some) && limit.take(caller("ann")).is_none());
        let bob = limit.take(caller("bob"));
        assert!(bob.is_some());
        let [first, second] = ann;
        drop(first);
        let again = limit.take(caller("ann"));
        assert!(again.is_some() && limit.take(caller("ann")).is_none());
        drop((second, again, bob));
        assert!(limit.in_progress.lock().unwrap().is_empty());
    }
}
