//! Interceptors: code that sees the calls of many methods, before, around and after their handlers.
//!
//! An [`Interceptor`] is registered for the whole server or for some methods. The lists of each method are made once, at
//! the start (`chain`); a method that none is registered for costs one predictable branch. The hooks on the reactor's
//! thread are called from `server/app`, those around a handler from the registry.

mod access_log;
mod admit;
mod callers;
#[cfg(feature = "tls-core")]
mod certificate_principal;
pub(crate) mod chain;
mod concurrency_limit;
mod ended;
mod faults;
mod log_line;
mod permissions;
mod rate_limit;
mod token_check;

use std::io;
use std::ops::BitOr;
use std::sync::Arc;

pub use access_log::{AccessLog, AccessLogCounts, LogField, LogFormat};
pub use admit::{Admit, AdmitCall, AdmittedCall};
#[cfg(feature = "tls-core")]
pub use certificate_principal::CertificatePrincipal;
pub use chain::{Handled, Next};
pub use concurrency_limit::ConcurrencyLimit;
pub use ended::{EndPlace, EndedCall};
pub use faults::Faults;
pub(crate) use permissions::Rules;
pub use permissions::{PermissionCounts, PermissionRuleError, Permissions};
pub use rate_limit::RateLimit;
pub(crate) use token_check::TokenSet;
pub use token_check::{TokenCheck, TokenFileError};

pub use crate::extensions::Extensions;
pub use crate::policy::run_queue::ShedReason;

use super::Method;
use crate::context::Context;

/// The hooks of an [`Interceptor`] that are to be called.
///
/// ```
/// use coreloop::interceptor::Hooks;
///
/// let hooks = Hooks::ADMIT | Hooks::ON_END;
/// assert!(hooks.contains(Hooks::ADMIT) && !hooks.contains(Hooks::AROUND));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hooks(u8);

impl Hooks {
    /// [`Interceptor::admit`].
    pub const ADMIT: Hooks = Hooks(1);
    /// [`Interceptor::on_admitted`].
    pub const ON_ADMITTED: Hooks = Hooks(2);
    /// [`Interceptor::around`].
    pub const AROUND: Hooks = Hooks(4);
    /// [`Interceptor::on_end`].
    pub const ON_END: Hooks = Hooks(8);
    /// All hooks.
    pub const ALL: Hooks = Hooks(15);

    /// Returns whether all of these hooks are among them.
    pub const fn contains(self, hooks: Hooks) -> bool {
        self.0 & hooks.0 == hooks.0
    }
}

impl BitOr for Hooks {
    type Output = Hooks;

    fn bitor(self, other: Hooks) -> Hooks {
        Hooks(self.0 | other.0)
    }
}

/// Code that sees the calls of many methods. Register it with
/// [`ServerBuilder::interceptor`](crate::server::ServerBuilder::interceptor) or
/// [`ServerBuilder::interceptor_for`](crate::server::ServerBuilder::interceptor_for).
///
/// Of several interceptors the one that was registered first is the outermost: its `admit` runs first, and its `around`
/// contains the others. A panic in a hook ends at most its own call, with `internal`; it is counted with the panics of
/// handlers.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use coreloop::interceptor::{Admit, AdmitCall, EndedCall, Hooks, Interceptor};
/// use coreloop::{Server, Status};
///
/// /// Refuses calls without a tenant, and counts the others.
/// struct Tenants { served: AtomicU64 }
///
/// impl Interceptor for Tenants {
///     fn hooks(&self) -> Hooks { Hooks::ADMIT | Hooks::ON_END }
///
///     fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
///         match call.metadata().find("tenant") {
///             Some(_) => Admit::Continue,
///             None => Admit::Refuse(Status::unauthenticated("metadata: expected an entry \"tenant\"")),
///         }
///     }
///
///     fn on_end(&self, end: &EndedCall<'_>) {
///         if end.code == coreloop::Code::Ok {
///             self.served.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let builder = Server::builder().interceptor(Tenants { served: AtomicU64::new(0) });
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// Returns the hooks that are to be called; asked once, at the start. With [`Hooks::ON_END`], quick inline calls are
    /// timed individually.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// Called before the server accepts connections, when its listeners are bound, once for each time that the
    /// interceptor is registered. Hooks name a method by its index in `methods`, which has the order of
    /// [`Snapshot::methods`](crate::stats::Snapshot::methods).
    ///
    /// # Errors
    ///
    /// The interceptor cannot work; the server does not start.
    fn start(&self, methods: &[Method]) -> io::Result<()> {
        let _ = methods;
        Ok(())
    }

    /// Decides about a call before anything is queued for it, on the reactor's thread: it must not wait, and must be
    /// quick. [`Admit::OnWorker`] runs it again on a worker.
    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        let _ = call;
        Admit::Continue
    }

    /// Called on the reactor's thread for a call that was admitted, before it is run or queued, with its argument as
    /// received. If the admission goes on on a worker, it is called before that.
    fn on_admitted(&self, call: &AdmittedCall<'_>) {
        let _ = call;
    }

    /// Wraps the synchronous part of a handler, on the thread that runs it. [`Next::run`] runs the handler; without it
    /// the interceptor answers by itself. What follows `run` happens when the handler returns, not when a reply that it
    /// has moved out or a stream ends.
    ///
    /// With an async method it does not wrap the future: it runs once, when the executor first polls the future of the call,
    /// before the handler is called, and [`Next::run`] returns at once. It can answer or refuse the call; it sees neither the
    /// time that the future takes, nor its result, nor its panic. [`Interceptor::on_end`] does: it is called when the future
    /// has ended, with the code (`internal` for a panic) and the time; what is needed to measure from the admission on can
    /// be attached there ([`AdmitCall::insert`]). (To wrap the future this hook would have to return one, which would be
    /// boxed for each call and each interceptor.)
    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        next.run(cx)
    }

    /// Called on the reactor's thread when a call has ended, before its answer is written: exactly once for each call,
    /// also for those that were refused, shed, cancelled, dropped, deferred, or streaming. It must not wait.
    fn on_end(&self, end: &EndedCall<'_>) {
        let _ = end;
    }

    /// Called when the reactors have ended, once for each [`Interceptor::start`]. A reactor whose handler hangs is left
    /// running, and may still call hooks.
    fn finish(&self) {}
}

/// An interceptor that is also used elsewhere.
impl<I: Interceptor + ?Sized> Interceptor for Arc<I> {
    fn hooks(&self) -> Hooks {
        (**self).hooks()
    }

    fn start(&self, methods: &[Method]) -> io::Result<()> {
        (**self).start(methods)
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        (**self).admit(call)
    }

    fn on_admitted(&self, call: &AdmittedCall<'_>) {
        (**self).on_admitted(call);
    }

    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        (**self).around(cx, next)
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        (**self).on_end(end);
    }

    fn finish(&self) {
        (**self).finish();
    }
}
