//! The context of an async handler: what [`Context`](super::Context) offers, owned, and futures for the end of the
//! call.
//!
//! A [`CallSignal`] wakes what waits for that end. The reactor cancels the [`Scope`] of the call when its deadline
//! passes, so no timer of an async runtime is needed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use super::response::{SharedResponse, StreamResponse};
use super::{CancelCallback, Context, ContextParts, Peer, Scope, check_call};
use crate::extensions::{CallExtensions, Extensions};
use crate::message::{Metadata, Priority, ReplyExtras, SetMetadataError};
use crate::status::Status;

/// Wakes the futures that wait for the end of one call: for its cancellation, or for its result.
#[derive(Default)]
pub(crate) struct CallSignal {
    state: Mutex<SignalState>,
}

#[derive(Default)]
struct SignalState {
    /// The call has ended, or was cancelled.
    is_over: bool,
    /// The wakers of futures, each in the place that it was given.
    wakers: Vec<Option<Waker>>,
    /// Run if the call is cancelled, dropped if it ends otherwise.
    callbacks: Vec<CancelCallback>,
}

impl CallSignal {
    /// Creates the signal of a call, which its cancellation sets.
    pub(crate) fn of(scope: &Scope, place: u8) -> Arc<CallSignal> {
        let signal = Arc::new(CallSignal::default());
        let set = signal.clone();
        scope.on_cancel(place, Box::new(move || set.set(true)));
        signal
    }

    fn state(&self) -> MutexGuard<'_, SignalState> {
        // The lock is held for a few assignments, never across the user's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the call is over: wakes what waits, and runs the callbacks if it was cancelled.
    pub(crate) fn set(&self, is_cancelled: bool) {
        let (wakers, callbacks) = {
            let mut state = self.state();
            state.is_over = true;
            (std::mem::take(&mut state.wakers), std::mem::take(&mut state.callbacks))
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
        if is_cancelled {
            callbacks.into_iter().for_each(|callback| callback());
        }
    }

    /// Keeps a waker until the call is over, in its place or in a new one. Returns false if the call is over.
    pub(crate) fn register(&self, place: &mut Option<usize>, waker: &Waker) -> bool {
        // A waker is cloned and dropped without the lock: its task may end with it, and holds futures of this signal.
        let waker = waker.clone();
        let mut state = self.state();
        if state.is_over {
            return false;
        }
        let index = *place.get_or_insert_with(|| {
            let free = state.wakers.iter().position(Option::is_none);
            free.unwrap_or_else(|| {
                state.wakers.push(None);
                state.wakers.len() - 1
            })
        });
        let earlier = state.wakers[index].replace(waker);
        drop(state);
        drop(earlier);
        true
    }

    fn unregister(&self, place: Option<usize>) {
        let Some(index) = place else { return };
        let waker = self.state().wakers.get_mut(index).and_then(Option::take);
        // Without the lock, as in `register`.
        drop(waker);
    }

    fn on_cancel(&self, callback: CancelCallback, is_cancelled: impl FnOnce() -> bool) {
        {
            let mut state = self.state();
            if !state.is_over {
                return state.callbacks.push(callback);
            }
        }
        if is_cancelled() {
            callback();
        }
    }

    /// The number of wakers and callbacks that are kept.
    #[cfg(test)]
    fn kept(&self) -> usize {
        let state = self.state();
        state.wakers.iter().flatten().count() + state.callbacks.len()
    }
}

impl fmt::Debug for CallSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallSignal(is_over: {})", self.state().is_over)
    }
}

/// The parts of an [`OwnedContext`].
#[derive(Debug)]
pub(crate) struct OwnedContextParts {
    /// `Service.Method`.
    pub(crate) method: Arc<str>,
    /// When the handler begins.
    pub(crate) began: Instant,
    /// The time at which the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// The encoded metadata of the caller.
    pub(crate) metadata: Box<[u8]>,
    /// The calling peer.
    pub(crate) peer: Peer,
    /// What interceptors have attached to the call.
    pub(crate) extensions: Option<Arc<CallExtensions>>,
    /// The scope of the call's cancellation.
    pub(crate) scope: Arc<Scope>,
    /// The place in the scope.
    pub(crate) place: u8,
    /// Set when the call is over.
    pub(crate) signal: Arc<CallSignal>,
    /// The headers and trailers of the reply.
    pub(crate) response: SharedResponse,
}

/// What an async handler can learn about its call: what [`Context`](crate::Context) offers, owned.
///
/// It can be cloned and moved to other tasks and threads, and may outlive the call. When the call is cancelled or its
/// deadline passes, the future of the handler is dropped; [`OwnedContext::cancelled`] is for the tasks that the handler
/// has started.
#[derive(Clone)]
pub struct OwnedContext {
    call: Arc<OwnedContextParts>,
}

/// Takes the headers and trailers that interceptors set.
impl StreamResponse for OwnedContextParts {
    fn set_header(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        self.response.set_header(key, value)
    }

    fn set_trailer(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        self.response.set_trailer(key, value)
    }
}

impl OwnedContext {
    pub(crate) fn new(parts: OwnedContextParts) -> OwnedContext {
        OwnedContext { call: Arc::new(parts) }
    }

    /// Returns `Service.Method`, as it was called.
    pub fn method(&self) -> &str {
        &self.call.method
    }

    /// Returns the time at which the handler began: when its executor first ran it.
    pub fn began(&self) -> Instant {
        self.call.began
    }

    /// Returns the time at which the caller stops waiting; `None` if it waits without limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline
    }

    /// Returns how long the caller still waits: zero if its deadline has passed, `None` if it has none.
    pub fn time_left(&self) -> Option<Duration> {
        self.call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the caller has gone or given up, or its deadline has passed: no caller waits for the answer.
    pub fn is_cancelled(&self) -> bool {
        self.call.scope.is_cancelled(self.call.place)
    }

    /// Checks whether the answer is still of use at `now`.
    ///
    /// # Errors
    ///
    /// `deadline_exceeded` or `cancelled`.
    pub fn check(&self, now: Instant) -> Result<(), Status> {
        check_call(self.call.deadline, || self.is_cancelled(), now)
    }

    /// Runs the function once the call is cancelled; at once, on this thread, if it already is. Otherwise it runs on
    /// the one thread reserved for such functions, so it must be quick. It is dropped if the call ends before it is
    /// cancelled.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.call.signal.on_cancel(Box::new(callback), || self.is_cancelled());
    }

    /// Waits until no caller waits for the answer any more: the call was cancelled, its deadline has passed, or it has
    /// ended.
    ///
    /// ```
    /// # use coreloop::OwnedContext;
    /// /// A task that a handler has started, which ends with the call.
    /// async fn refresh(cx: OwnedContext) {
    ///     cx.cancelled().await;
    /// }
    /// ```
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { cx: self.clone(), place: None }
    }

    /// Waits until the deadline of the call has passed, and returns true; returns false once the call has ended before
    /// that, or was cancelled.
    pub fn expired(&self) -> Expired {
        Expired { cancelled: self.cancelled() }
    }

    /// Returns the caller's metadata.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::checked_before(&self.call.metadata)
    }

    /// Returns the priority that the caller has stated in its metadata.
    pub fn priority(&self) -> Priority {
        Priority::of(self.metadata())
    }

    /// Returns the calling peer.
    pub fn peer(&self) -> Peer {
        self.call.peer
    }

    /// Returns the name of the authenticated caller, if an [interceptor](crate::interceptor) has set it.
    pub fn principal(&self) -> Option<&str> {
        self.extensions().principal()
    }

    /// Returns what [interceptors](crate::interceptor) have attached to the call.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions::of(self.call.extensions.as_deref())
    }

    /// Calls the function with the same context, borrowed, from which no right to answer can be taken.
    pub(crate) fn borrowed<R>(&self, function: impl FnOnce(&Context<'_>) -> R) -> R {
        let context = Context::new(ContextParts {
            method: self.method(),
            began: self.began(),
            deadline: self.deadline(),
            metadata: self.metadata(),
            peer: &self.call.peer,
            scope: &self.call.scope,
            place: self.call.place,
            deferral: None,
            extensions: self.call.extensions.as_ref(),
        });
        context.attach_stream(self.call.clone());
        function(&context)
    }

    /// Sets a response header ([`Context::set_header`](super::Context::set_header)), from any clone of the context.
    ///
    /// # Errors
    ///
    /// The entry does not fit, its key is reserved, the call has ended, or the first message of its stream was sent.
    pub fn set_header(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.call.response.set_header(key, value.as_ref())
    }

    /// Sets a response trailer ([`Context::set_trailer`](super::Context::set_trailer)), from any clone of the context.
    ///
    /// # Errors
    ///
    /// The entry does not fit, its key is reserved, or the call has ended.
    pub fn set_trailer(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.call.response.set_trailer(key, value.as_ref())
    }

    /// Passes later headers and trailers to the sink of the call.
    pub(crate) fn attach_stream(&self, stream: Arc<dyn StreamResponse>) {
        self.call.response.attach_stream(stream);
    }

    /// Takes what was set: the call is answered.
    pub(crate) fn take_extras(&self) -> Option<Box<ReplyExtras>> {
        self.call.response.take()
    }

    /// Returns the scope and the place in it.
    pub(crate) fn cancellation(&self) -> (&Arc<Scope>, u8) {
        (&self.call.scope, self.call.place)
    }
}

impl fmt::Debug for OwnedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedContext")
            .field("method", &self.method())
            .field("peer", &self.peer())
            .field("metadata", &self.metadata())
            .finish_non_exhaustive()
    }
}

/// The future of [`OwnedContext::cancelled`].
#[must_use = "a future does nothing unless it is polled"]
pub struct Cancelled {
    cx: OwnedContext,
    /// The place of its waker.
    place: Option<usize>,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let Cancelled { cx, place } = self.get_mut();
        match cx.call.signal.register(place, task.waker()) {
            // A scope that was cancelled sets the signal from another thread, which may not have run yet.
            true if cx.is_cancelled() => Poll::Ready(()),
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.cx.call.signal.unregister(self.place);
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancelled")
    }
}

/// The future of [`OwnedContext::expired`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Expired {
    cancelled: Cancelled,
}

impl Future for Expired {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<bool> {
        let deadline = self.cancelled.cx.deadline();
        Pin::new(&mut self.cancelled).poll(task).map(|()| deadline.is_some_and(|at| at <= Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn context(scope: &Arc<Scope>, deadline: Option<Instant>) -> OwnedContext {
        OwnedContext::new(OwnedContextParts {
            method: "A.B".into(),
            began: Instant::now(),
            deadline,
            metadata: Box::default(),
            peer: Peer::Unix,
            extensions: None,
            scope: scope.clone(),
            place: 0,
            signal: CallSignal::of(scope, 0),
            response: SharedResponse::default(),
        })
    }

    fn poll<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
        Pin::new(future).poll(&mut TaskContext::from_waker(&Waker::from(wakes.clone())))
    }

    #[test]
    fn each_future_is_woken_once_by_the_cancellation() {
        let scope = Arc::new(Scope::default());
        let cx = context(&scope, None);
        let (wakes, others) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        let (mut first, mut second, mut expired) = (cx.cancelled(), cx.cancelled(), cx.expired());
        assert!(poll(&mut first, &wakes).is_pending() && poll(&mut first, &wakes).is_pending());
        assert!(poll(&mut second, &others).is_pending() && poll(&mut expired, &others).is_pending());
        drop(second);
        assert_eq!(cx.call.signal.kept(), 2, "a dropped future leaves no waker");
        assert!(scope.cancel(0));
        assert_eq!(poll(&mut first, &wakes), Poll::Ready(()), "the bit counts before the callback has run");
        scope.run_callbacks(0);
        assert_eq!((wakes.0.load(Ordering::SeqCst), others.0.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(poll(&mut expired, &others), Poll::Ready(false));
        assert_eq!(poll(&mut cx.cancelled(), &wakes), Poll::Ready(()), "also afterwards");
        assert_eq!(cx.call.signal.kept(), 0);
    }

    #[test]
    fn a_cancellation_after_the_deadline_is_an_expiry() {
        let scope = Arc::new(Scope::default());
        let cx = context(&scope, Some(Instant::now()));
        scope.cancel(0);
        scope.run_callbacks(0);
        assert_eq!(poll(&mut cx.expired(), &Arc::default()), Poll::Ready(true));
        let late = cx.check(Instant::now()).unwrap_err();
        assert_eq!(late.code, crate::Code::DeadlineExceeded);
    }

    #[test]
    fn the_end_of_a_call_wakes_its_futures_and_drops_its_callbacks() {
        let scope = Arc::new(Scope::default());
        let cx = context(&scope, None);
        let wakes = Arc::<Wakes>::default();
        let mut cancelled = cx.cancelled();
        assert!(poll(&mut cancelled, &wakes).is_pending());
        let held = cx.clone();
        cx.on_cancel(move || unreachable!("{held:?}"));
        cx.call.signal.set(false);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&mut cancelled, &wakes), Poll::Ready(()));
        assert!(!cx.is_cancelled());
        drop(cancelled);
        assert_eq!(Arc::strong_count(&cx.call), 1, "a callback that holds the context does not keep it");
    }

    #[test]
    fn a_callback_runs_once_before_or_after_the_cancellation() {
        let scope = Arc::new(Scope::default());
        let cx = context(&scope, None);
        let (tx, rx) = mpsc::channel();
        let before = tx.clone();
        cx.on_cancel(move || before.send("before").unwrap());
        scope.cancel(0);
        assert!(rx.try_recv().is_err());
        scope.run_callbacks(0);
        cx.on_cancel(move || tx.send("after").unwrap());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["before", "after"]);
    }
}
