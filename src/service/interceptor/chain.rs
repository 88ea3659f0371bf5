//! The interceptors of one method, in their order, by hook; and how they run.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use super::admit::AdmitParts;
use super::admit::{Admit, AdmitCall, AdmittedCall};
use super::ended::EndedCall;
use super::{Hooks, Interceptor};
use crate::codec::{Body, Codec, Plain, ReplyEncode};
use crate::context::{Context, Outcome};
use crate::error_text::panic_text;
use crate::extensions::{CallExtensions, ExtensionValues, Extensions};
use crate::log_events::log_event;
use crate::service::{CallShape, Handler};
use crate::status::Status;
use crate::wire::ProtocolId;

/// An interceptor, and the methods that it is registered for.
pub(crate) struct ScopedInterceptor {
    /// `None`: every method, and requests whose method is not known. Otherwise a name, in which `*` stands for any
    /// characters.
    pub(crate) pattern: Option<String>,
    pub(crate) interceptor: Arc<dyn Interceptor>,
}

impl ScopedInterceptor {
    /// Returns the rank among the interceptors of a method: the widest scope is the outermost.
    fn rank(&self) -> u8 {
        match &self.pattern {
            None => 0,
            Some(pattern) if pattern.contains('*') => 1,
            Some(_) => 2,
        }
    }

    pub(crate) fn covers(&self, method: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| matches(pattern, method))
    }
}

/// Returns whether a name matches a pattern, in which each `*` stands for any characters, also none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The first match of each part leaves the most for those after it.
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The interceptors of one method.
#[derive(Default)]
pub(crate) struct InterceptorChain {
    admit: Box<[Arc<dyn Interceptor>]>,
    on_admitted: Box<[Arc<dyn Interceptor>]>,
    around: Box<[Arc<dyn Interceptor>]>,
    on_end: Box<[Arc<dyn Interceptor>]>,
}

/// The rest of the admission of a call, which goes on on a worker. Attached to the call.
pub(crate) struct PendingAdmission {
    /// The index of the first interceptor that decides there.
    from: usize,
    protocol: Option<ProtocolId>,
    one_way: bool,
}

/// The decision about a call.
pub(crate) enum Admission {
    /// It is run or queued.
    Admitted,
    /// A worker decides.
    Pending,
    /// It ends with this status.
    Refused(Status),
    /// It ends with this status, because an interceptor panicked.
    Panicked(Status),
}

impl InterceptorChain {
    /// Returns the interceptors that are registered for a method; with `None`, for requests whose method is not known.
    pub(crate) fn of(method: Option<&str>, registered: &[ScopedInterceptor]) -> InterceptorChain {
        let mut found: Vec<&ScopedInterceptor> = registered
            .iter()
            .filter(|scoped| method.map_or(scoped.pattern.is_none(), |method| scoped.covers(method)))
            .collect();
        // Stable: within a scope, the order of registration.
        found.sort_by_key(|scoped| scoped.rank());
        let with = |hook| {
            let wants = |scoped: &&&ScopedInterceptor| scoped.interceptor.hooks().contains(hook);
            found.iter().filter(wants).map(|scoped| scoped.interceptor.clone()).collect()
        };
        InterceptorChain {
            admit: with(Hooks::ADMIT),
            on_admitted: with(Hooks::ON_ADMITTED),
            around: with(Hooks::AROUND),
            on_end: with(Hooks::ON_END),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.admit.is_empty()
            && self.on_admitted.is_empty()
            && self.around.is_empty()
            && !self.observes_ends()
    }

    /// Returns whether something runs on the thread of the handler.
    pub(crate) fn runs_with_handler(&self) -> bool {
        !self.admit.is_empty() || !self.around.is_empty()
    }

    #[inline]
    pub(crate) fn observes_admitted(&self) -> bool {
        !self.on_admitted.is_empty()
    }

    #[inline]
    pub(crate) fn observes_ends(&self) -> bool {
        !self.on_end.is_empty()
    }

    /// Asks the interceptors on the reactor's thread, in their order. Returns what they have attached, too.
    pub(crate) fn admit(&self, parts: AdmitParts<'_>) -> (Admission, Option<Arc<CallExtensions>>) {
        if self.admit.is_empty() {
            return (Admission::Admitted, None);
        }
        let mut call = AdmitCall::new(parts);
        let mut admission = Admission::Admitted;
        for (from, interceptor) in self.admit.iter().enumerate() {
            match ask(&**interceptor, &mut call) {
                Ok(Admit::Continue) => {}
                Ok(Admit::Refuse(status)) => {
                    admission = Admission::Refused(status);
                    break;
                }
                Ok(Admit::OnWorker) => {
                    let AdmitParts { protocol, one_way, .. } = parts;
                    call.insert(PendingAdmission { from, protocol, one_way });
                    admission = Admission::Pending;
                    break;
                }
                Err(status) => {
                    admission = Admission::Panicked(status);
                    break;
                }
            }
        }
        let values = call.values;
        (admission, (!values.is_empty()).then(|| Arc::new(CallExtensions::new(values))))
    }

    /// Returns whether the admission of a call goes on on a worker.
    pub(crate) fn is_pending(extensions: Extensions<'_>) -> bool {
        extensions.get::<PendingAdmission>().is_some()
    }

    /// Asks the interceptors that decide on a worker. A panic is caught with those of the handler.
    fn admit_on_worker(
        &self,
        method: CalledMethod<'_>,
        pending: &PendingAdmission,
        cx: &Context<'_>,
        body_bytes: usize,
    ) -> Result<(), Status> {
        let mut call = AdmitCall::new(AdmitParts {
            method: method.name,
            shape: method.shape,
            metadata: cx.metadata(),
            peer: cx.peer(),
            protocol: pending.protocol,
            body_bytes,
            one_way: pending.one_way,
            deadline: cx.deadline(),
            now: cx.began(),
            is_on_worker: true,
            attached: cx.extensions(),
        });
        let refusal =
            self.admit[pending.from..].iter().find_map(|interceptor| match interceptor.admit(&mut call) {
                Admit::Continue | Admit::OnWorker => None,
                Admit::Refuse(status) => Some(status),
            });
        let values: ExtensionValues = call.values;
        if let Some(call) = cx.call_extensions()
            && !values.is_empty()
        {
            call.set_later(values);
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Runs the handler of a method, after what is left of its admission, within the interceptors.
    pub(crate) fn run(
        &self,
        method: CalledMethod<'_>,
        cx: &Context<'_>,
        codec: Codec,
        body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if let Some(pending) = cx.extensions().get::<PendingAdmission>()
            && let Err(status) = self.admit_on_worker(method, pending, cx, body.as_slice().len())
        {
            return Outcome::failed(status);
        }
        let start = out.len();
        let next = Next { rest: &self.around, method, codec, body, out: &mut *out };
        let Handled(outcome) = next.run(cx);
        if cx.is_deferred() && !matches!(outcome, Outcome::Deferred) {
            // The right to answer was moved out, and the answer comes from there.
            out.truncate(start);
            return Outcome::Deferred;
        }
        outcome
    }

    pub(crate) fn on_admitted(&self, call: &AdmittedCall<'_>, note_panic: impl Fn()) {
        for interceptor in &self.on_admitted {
            contained(|| interceptor.on_admitted(call), &note_panic);
        }
    }

    pub(crate) fn on_end(&self, end: &EndedCall<'_>, note_panic: impl Fn()) {
        for interceptor in &self.on_end {
            contained(|| interceptor.on_end(end), &note_panic);
        }
    }
}

/// Asks one interceptor on the reactor's thread. A panic is the answer `internal`.
fn ask(interceptor: &dyn Interceptor, call: &mut AdmitCall<'_>) -> Result<Admit, Status> {
    catch_unwind(AssertUnwindSafe(|| interceptor.admit(call)))
        .map_err(|payload| Status::internal(format!("an interceptor panicked: {}", text_of_panic(payload))))
}

/// Calls a hook whose panic ends nothing.
fn contained(hook: impl FnOnce(), note_panic: &impl Fn()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(hook)) {
        text_of_panic(payload);
        note_panic();
    }
}

/// Emits an event for the panic of an interceptor, and returns its text.
#[cold]
fn text_of_panic(payload: Box<dyn Any + Send>) -> String {
    let text = panic_text(payload);
    log_event!(Panicked { what: "an interceptor", text: text.clone() });
    text
}

/// The method of a call.
#[derive(Clone, Copy)]
pub(crate) struct CalledMethod<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: CallShape,
    pub(crate) handler: CalledHandler<'a>,
}

/// The handler of a call.
#[derive(Clone, Copy)]
pub(crate) enum CalledHandler<'a> {
    Function(&'a Handler),
    /// An async one, which runs after the interceptors if this is set.
    Future(&'a Cell<bool>),
}

/// The rest of a call, for [`Interceptor::around`]: the interceptors after this one, and the handler.
#[must_use = "the call is not run without it"]
pub struct Next<'a> {
    rest: &'a [Arc<dyn Interceptor>],
    method: CalledMethod<'a>,
    codec: Codec,
    body: Body<'a>,
    out: &'a mut Vec<u8>,
}

impl Next<'_> {
    /// Runs the rest of the call.
    pub fn run(self, cx: &Context<'_>) -> Handled {
        let Next { rest, method, codec, body, out } = self;
        match rest.split_first() {
            Some((first, rest)) => first.around(cx, Next { rest, method, codec, body, out }),
            None => match method.handler {
                CalledHandler::Function(handler) => Handled(handler(cx, codec, body, out)),
                CalledHandler::Future(is_wanted) => {
                    is_wanted.set(true);
                    Handled::deferred()
                }
            },
        }
    }

    /// Returns the codec of the argument and of the reply.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the encoded argument; empty if it is a stream.
    pub fn argument(&self) -> &[u8] {
        self.body.as_slice()
    }

    /// Answers the call with this value, in its codec, without the handler. The value must be one that the method could
    /// return: callers decode it as that. It is not encoded as protobuf: see [`Next::reply_bytes`]. A method whose result
    /// is a stream cannot be answered with one value: the call fails with `internal`.
    pub fn reply<T: Serialize + DeserializeOwned + 'static>(self, value: T) -> Handled {
        if self.method.shape.sends() {
            return self.refuse_reply();
        }
        match Plain::<T>::encode(value, self.codec, self.out) {
            Ok(None) => Handled(Outcome::Answer),
            Ok(Some(chunk)) => Handled(Outcome::Shared(Box::new(chunk))),
            Err(error) => Handled::failed(Status::from(error)),
        }
    }

    /// As [`Next::reply`], with a value that is encoded in [`Next::codec`].
    pub fn reply_bytes(self, encoded: &[u8]) -> Handled {
        if self.method.shape.sends() {
            return self.refuse_reply();
        }
        self.out.extend_from_slice(encoded);
        Handled(Outcome::Answer)
    }

    #[cold]
    fn refuse_reply(self) -> Handled {
        let name = self.method.name;
        let text = format!("an interceptor answered {name} with one value; its result is a stream");
        Handled::failed(Status::internal(text))
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("method", &self.method.name)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

/// How the synchronous part of a call ended, for [`Interceptor::around`].
#[must_use = "it is the answer of the call"]
pub struct Handled(Outcome);

impl Handled {
    /// The call fails with this status. It has no effect if the handler has moved the reply out.
    pub fn failed(status: impl Into<Status>) -> Handled {
        Handled(Outcome::failed(status))
    }

    pub(super) fn deferred() -> Handled {
        Handled(Outcome::Deferred)
    }

    /// Returns the status of a failed call; `None` if the call did not fail, or its reply was moved out.
    pub fn status(&self) -> Option<&Status> {
        match &self.0 {
            Outcome::Failed(status) => Some(status),
            Outcome::Answer
            | Outcome::Shared(_)
            | Outcome::Compressed
            | Outcome::Deferred
            | Outcome::Extended(_) => None,
        }
    }

    /// Returns whether the answer follows later: the handler has moved the reply out, or a stream goes on.
    pub fn is_deferred(&self) -> bool {
        matches!(self.0, Outcome::Deferred)
    }
}

impl fmt::Debug for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handled")
            .field("status", &self.status())
            .field("is_deferred", &self.is_deferred())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_names_as_a_whole() {
        for (pattern, name, expected) in [
            ("Orders.Price", "Orders.Price", true),
            ("Orders.Price", "Orders.Prices", false),
            ("Orders.*", "Orders.Price", true),
            ("Orders.*", "OrdersB.Price", false),
            ("Orders.*", "shop.Orders.Price", false),
            ("*.Get*", "Users.GetAll", true),
            ("*.Get*", "Users.Get", true),
            ("*.Get*", "Users.List", false),
            ("*", "", true),
            ("a*ab", "ab", false),
            ("a*ab", "aab", true),
            ("a*b*c", "a.b.b.c", true),
            ("a*b*c", "a.c.b", false),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
