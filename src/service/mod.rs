//! Methods with their types and handlers, and the services that group them.
//!
//! A [`Method`] is made once, at registration, from a handler and the two types; after that every protocol calls the
//! same function with bytes. The table that finds it is in [`registry`], deferred replies in [`reply`], and the
//! services that every server has in [`builtin`]; async methods are in `futures`.

#[cfg(all(feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub mod builtin;
#[cfg(all(feature = "server", not(feature = "bench-internals")))]
pub(crate) mod builtin;
#[cfg(feature = "server")]
pub(crate) mod futures;
#[cfg(all(feature = "server", feature = "grpc"))]
pub(crate) mod grpc_health;
#[cfg(feature = "server")]
pub mod interceptor;
mod method_info;
mod register_error;
#[cfg(all(feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub mod registry;
#[cfg(all(feature = "server", not(feature = "bench-internals")))]
pub(crate) mod registry;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod reply;
#[cfg(not(feature = "bench-internals"))]
pub(crate) mod reply;
#[cfg(all(feature = "http", feature = "server"))]
pub mod route;
#[cfg(feature = "server")]
pub(crate) mod streaming;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "server")]
pub use futures::CallFuture;
pub use method_info::MethodInfo;
pub use register_error::RegisterError;
#[cfg(all(feature = "server", not(feature = "bench-internals")))]
pub(crate) use registry::Registry;
#[cfg(all(feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub use registry::Registry;
pub use reply::Reply;

#[cfg(feature = "server")]
use interceptor::chain::{InterceptorChain, ScopedInterceptor};

use crate::codec::describe::{DescribeError, Description};
use crate::codec::{
    Argument, Body, Codec, CodecError, ReplyEncode, UserCodecInfo, UserCodecNumber, ValueRules,
};
use crate::config::MissingFields;
use crate::context::Context;
pub use crate::context::Outcome;
use crate::message::{JsonDialect, method_hash};
use crate::method_name::MethodName;
use crate::status::Status;

/// Where a method runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Kind {
    /// On the reactor's thread: the lowest latency, but the method must never block.
    Inline,
    /// On the worker pool: CPU work.
    #[default]
    Pooled,
    /// On the elastic pool: it may block for any time.
    Blocking,
    /// As a future on the executor of the server
    /// ([`ServerBuilder::executor`](crate::server::ServerBuilder::executor)): it holds no thread while it waits.
    Async,
}

impl Kind {
    /// Returns the name, as in `Meta.Methods`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Inline => "inline",
            Kind::Pooled => "pooled",
            Kind::Blocking => "blocking",
            Kind::Async => "async",
        }
    }
}

/// Whether the argument and the result of a method are one value or a stream of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CallShape {
    /// One argument, one result.
    #[default]
    Unary,
    /// One argument, a stream of results.
    ServerStream,
    /// A stream of arguments, one result.
    ClientStream,
    /// A stream of arguments, a stream of results.
    Bidirectional,
}

impl CallShape {
    /// Returns whether the argument is a stream.
    pub fn receives(self) -> bool {
        matches!(self, CallShape::ClientStream | CallShape::Bidirectional)
    }

    /// Returns whether the result is a stream.
    pub fn sends(self) -> bool {
        matches!(self, CallShape::ServerStream | CallShape::Bidirectional)
    }

    /// Returns the name, for people.
    pub fn name(self) -> &'static str {
        match self {
            CallShape::Unary => "unary",
            CallShape::ServerStream => "server_stream",
            CallShape::ClientStream => "client_stream",
            CallShape::Bidirectional => "bidirectional",
        }
    }
}

/// A handler over bytes: reads the argument and appends the reply to the buffer.
pub type Handler = Box<dyn Fn(&Context<'_>, Codec, Body<'_>, &mut Vec<u8>) -> Outcome + Send + Sync>;

/// A method that can be called in any codec.
#[cfg(feature = "server")]
pub struct Method {
    name: String,
    hash: u32,
    kind: Kind,
    docs: String,
    may_defer: bool,
    shape: CallShape,
    is_idempotent: bool,
    is_argument_optional: bool,
    takes_several: bool,
    shares_body: bool,
    argument: Description,
    reply: Description,
    schema: u32,
    /// The codecs of the crate that it accepts, a bit for each number.
    accepts: u8,
    user_codecs: Vec<(UserCodecNumber, UserCodecInfo)>,
    /// `None`: the rule of the service or the server.
    missing_fields: Option<MissingFields>,
    /// Its calls need more than its handler: there is a rule that differs from the protocols' own, or interceptors run
    /// with the handler.
    runs_slow: bool,
    /// It has interceptors.
    is_intercepted: bool,
    /// It has interceptors, or its calls are traced.
    is_observed: bool,
    interceptors: Arc<InterceptorChain>,
    handler: Handler,
    /// The requests that it serves, if it is a route.
    #[cfg(all(feature = "http", feature = "server"))]
    route: Option<route::Route>,
    /// Of an async method: its name, which each call keeps, and its handler.
    future: Option<(Arc<str>, futures::AsyncHandler)>,
}

#[cfg(feature = "server")]
impl Method {
    /// Creates a pooled method of that name (`Service.Method`), whose argument and reply are encoded as `A` and `R`.
    ///
    /// A type that cannot be described from its serde implementation alone can still be called in the self-describing
    /// codecs, JSON and MessagePack; [`Method::warning`] reports it. With a description made by hand
    /// ([`Described`](crate::codec::Described)) it can be called in every codec; the handler must then encode with the
    /// same `R`.
    ///
    /// # Errors
    ///
    /// Currently none.
    pub fn new<A: Argument, R: ReplyEncode>(
        name: impl Into<String>,
        handler: Handler,
    ) -> Result<Method, RegisterError> {
        let accepts = |codec| A::accepts(codec) && R::accepts(codec);
        let user_codec = |number| A::user_codec(number).filter(|_| R::user_codec(number).is_some());
        Ok(Method::of_types(name.into(), handler, A::describe(), R::describe(), &accepts, &user_codec))
    }

    /// Creates the method from what is known of its types: [`Method::new`] without type parameters, compiled once.
    fn of_types(
        name: String,
        handler: Handler,
        argument: Result<Description, DescribeError>,
        reply: Result<Description, DescribeError>,
        accepts: &dyn Fn(Codec) -> bool,
        user_codec: &dyn Fn(UserCodecNumber) -> Option<UserCodecInfo>,
    ) -> Method {
        let argument = argument.unwrap_or_else(DescribeError::into_description);
        let reply = reply.unwrap_or_else(DescribeError::into_description);
        let is_dynamic = argument.is_dynamic() || reply.is_dynamic();
        let accepted = |codec: &&Codec| {
            // protobuf does not read the types through serde.
            let reads_dynamic = matches!(codec, Codec::Json | Codec::MessagePack | Codec::Protobuf);
            let fits_types = !is_dynamic || reads_dynamic;
            codec.is_compiled_in() && fits_types && accepts(**codec)
        };
        let accepts = Codec::ALL.iter().filter(accepted).fold(0, |set, codec| set | 1 << codec.number());
        let user_codec = |number: UserCodecNumber| {
            let info = user_codec(number)?;
            (!is_dynamic || info.is_self_describing).then_some((number, info))
        };
        let user_codecs = UserCodecNumber::ALL.into_iter().filter_map(user_codec).collect();
        Method {
            hash: method_hash(&name),
            schema: crate::codec::describe::fingerprint(&argument, &reply),
            name,
            kind: Kind::Pooled,
            docs: String::new(),
            may_defer: false,
            shape: CallShape::Unary,
            is_idempotent: false,
            is_argument_optional: false,
            takes_several: false,
            shares_body: false,
            argument,
            reply,
            accepts,
            user_codecs,
            missing_fields: None,
            runs_slow: false,
            is_intercepted: false,
            is_observed: false,
            interceptors: Arc::default(),
            handler,
            #[cfg(all(feature = "http", feature = "server"))]
            route: None,
            future: None,
        }
    }

    /// Sets the rule for missing fields of the argument; it overrides that of the service and the server.
    pub fn missing_fields(self, rule: MissingFields) -> Method {
        Method { missing_fields: None, ..self }.missing_fields_or(Some(rule))
    }

    /// Sets the rule for missing fields to that of the service or server if the method has none of its own.
    pub(crate) fn missing_fields_or(mut self, rule: Option<MissingFields>) -> Method {
        self.missing_fields = self.missing_fields.or(rule);
        self.update_paths();
        self
    }

    /// Sets its interceptors, those of these that are registered for it.
    pub(crate) fn intercepted_by(&mut self, registered: &[ScopedInterceptor]) {
        self.interceptors = Arc::new(InterceptorChain::of(Some(&self.name), registered));
        self.is_intercepted = !self.interceptors.is_empty();
        self.is_observed = self.is_intercepted;
        self.update_paths();
    }

    /// Decides which paths its calls take.
    fn update_paths(&mut self) {
        let has_rule = self.missing_fields.is_some_and(|rule| rule != MissingFields::ByProtocol);
        self.runs_slow = has_rule || self.interceptors.runs_with_handler();
    }

    /// Returns whether it has interceptors.
    #[inline]
    pub(crate) fn is_intercepted(&self) -> bool {
        self.is_intercepted
    }

    /// Returns whether more than its handler belongs to its calls: interceptors, traces, or clients that proxies name.
    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        self.is_observed
    }

    /// Sets that more than its handler belongs to its calls.
    #[cfg(feature = "server")]
    pub(crate) fn set_observed(&mut self) {
        self.is_observed = true;
    }

    /// Returns its interceptors.
    pub(crate) fn interceptors(&self) -> &InterceptorChain {
        &self.interceptors
    }

    /// Sets where the method runs. An async method ([`Method::async_unary`]) runs on the executor whatever is set, and a
    /// method that is not async is refused at registration with [`Kind::Async`].
    pub fn kind(mut self, kind: Kind) -> Method {
        if self.future.is_none() {
            self.kind = kind;
        }
        self
    }

    /// Sets the documentation.
    pub fn docs(mut self, docs: impl Into<String>) -> Method {
        self.docs = docs.into();
        self
    }

    /// Lets the method defer its reply and answer later.
    pub fn deferring(mut self) -> Method {
        self.may_defer = true;
        self
    }

    /// Marks the method as idempotent: it changes nothing, so it may be called with GET, and retried.
    pub fn idempotent(mut self) -> Method {
        self.is_idempotent = true;
        self
    }

    /// Marks the argument as a struct of several arguments: JSON-RPC also takes a list of them.
    pub(crate) fn several_arguments(mut self) -> Method {
        self.takes_several = true;
        self
    }

    /// Returns whether the method has several arguments.
    pub(crate) fn takes_several(&self) -> bool {
        self.takes_several
    }

    /// Marks the argument as optional: the handler takes an empty body for a default argument. Pages show that.
    pub(crate) fn optional_argument(mut self) -> Method {
        self.is_argument_optional = true;
        self
    }

    /// Lets the method keep or return the body as shared bytes, so that a large body is not copied.
    pub fn sharing_body(mut self) -> Method {
        self.shares_body = true;
        self
    }

    /// Returns the full name: `Service.Method`, after the package if there is one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the full name of its service; `None` if the method's name is not valid, which registration refuses.
    pub fn service(&self) -> Option<&str> {
        MethodName::parse(&self.name).ok().map(MethodName::service)
    }

    /// Returns the hash that identifies it on the wire.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Returns the fingerprint of its types.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// Returns its types for people: `{A: i64, B: i64} -> i64`.
    pub fn signature(&self) -> String {
        let side = |description: &Description, is_stream| {
            format!("{}{}", if is_stream { "stream " } else { "" }, description.readable())
        };
        let (argument, reply) =
            (side(&self.argument, self.shape.receives()), side(&self.reply, self.shape.sends()));
        format!("{argument} -> {reply}")
    }

    /// Returns the description of its argument.
    pub fn argument(&self) -> &Description {
        &self.argument
    }

    /// Returns the description of its reply.
    pub fn reply(&self) -> &Description {
        &self.reply
    }

    /// Returns why the method cannot be called in some codecs; `None` if it can. Types that serde can only describe
    /// while reading them (untagged, internally tagged and flattened ones) work in JSON and MessagePack only.
    pub fn warning(&self) -> Option<String> {
        let of = |side, description: &Description| {
            description.is_dynamic().then(|| format!("the {side} {}", description.why_dynamic()))
        };
        let why: Vec<String> =
            [of("argument", &self.argument), of("reply", &self.reply)].into_iter().flatten().collect();
        if why.is_empty() {
            return None;
        }
        let takes: Vec<&str> = self.codec_names().collect();
        let takes = match takes.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
            _ => takes.concat(),
        };
        Some(format!("{} can be called in {takes} only: {}", self.name, why.join("; ")))
    }

    /// Returns whether its argument and its result are streams.
    pub fn shape(&self) -> CallShape {
        self.shape
    }

    /// Returns the rules for values of a call of this method in this dialect.
    pub(crate) fn value_rules(&self, dialect: JsonDialect) -> ValueRules {
        ValueRules::of(dialect, self.missing_fields.unwrap_or_default())
    }

    /// Returns the codecs that it accepts, ordered by number.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        let users = self.user_codecs.iter().map(|(number, _)| Codec::User(*number));
        Codec::ALL.into_iter().filter(|codec| self.accepts_codec(*codec)).chain(users)
    }

    /// Returns the names of the codecs that it accepts, those of the user's by the name that the user gave them.
    pub fn codec_names(&self) -> impl Iterator<Item = &'static str> {
        self.codecs().map(|codec| self.user_codec(codec).map_or(codec.name(), |info| info.name))
    }

    /// Returns whether it accepts that codec.
    #[inline]
    pub fn accepts_codec(&self, codec: Codec) -> bool {
        match codec {
            Codec::User(_) => self.user_codec(codec).is_some(),
            codec => self.accepts_number(codec.number()),
        }
    }

    /// Returns whether it accepts the codec with this number, if that is a codec of the crate.
    #[inline]
    pub(crate) fn accepts_number(&self, number: u8) -> bool {
        number < u8::BITS as u8 && self.accepts & (1 << number) != 0
    }

    /// Returns whether bodies in a codec that the method accepts describe themselves.
    pub(crate) fn is_self_describing(&self, codec: Codec) -> bool {
        self.user_codec(codec).map_or(codec.is_self_describing(), |info| info.is_self_describing)
    }

    fn user_codec(&self, codec: Codec) -> Option<UserCodecInfo> {
        let Codec::User(number) = codec else { return None };
        self.user_codecs.iter().find(|(known, _)| *known == number).map(|(_, info)| *info)
    }
}

#[cfg(feature = "server")]
impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Methods that belong together. The `#[coreloop::service]` attribute implements this trait for an impl block.
#[cfg(feature = "server")]
pub trait Service: Send + Sync + 'static {
    /// Returns the full name, package included: what precedes the last dot in the names of its methods.
    fn service_name(&self) -> &str;

    /// Returns the rule for missing fields of arguments; `None` means the server's rule
    /// ([`Config::missing_fields`](crate::config::Config::missing_fields)).
    fn missing_fields(&self) -> Option<MissingFields> {
        None
    }

    /// Returns the methods.
    ///
    /// # Errors
    ///
    /// A method cannot be created.
    fn methods(self: Arc<Self>) -> Result<Vec<Method>, RegisterError>;
}

/// Turns the result of a handler into an outcome: for code that defines handlers over bytes, as the attribute does.
///
/// The result of a cancelled call is not encoded.
#[inline]
pub fn finish<R: ReplyEncode>(
    cx: &Context<'_>,
    codec: Codec,
    result: Result<R::Value, Status>,
    out: &mut Vec<u8>,
) -> Outcome {
    let value = match result {
        Ok(value) => value,
        Err(status) => return Outcome::failed(status),
    };
    if (cx.deadline().is_some() || cx.is_cancelled())
        && let Err(status) = cx.check(Instant::now())
    {
        return Outcome::failed(status);
    }
    match R::encode(value, codec, out) {
        Ok(None) => Outcome::Answer,
        Ok(Some(chunk)) => Outcome::Shared(Box::new(chunk)),
        Err(error) => Outcome::failed(of_side("reply", cx.method(), error)),
    }
}

/// Returns the outcome of a call whose argument cannot be decoded: for code that defines handlers over bytes, as the
/// attribute does.
#[cold]
pub fn refuse_argument(cx: &Context<'_>, error: CodecError) -> Outcome {
    Outcome::failed(of_side("argument", cx.method(), error))
}

/// Adds to an error which value of which method it concerns.
fn of_side(side: &str, method: &str, error: CodecError) -> Status {
    let mut status = Status::from(error);
    status.message = format!("{side} of {method}: {}", status.message);
    status
}

/// Converts the name of a Rust method or type to PascalCase, as Go callers expect.
///
/// ```
/// assert_eq!(coreloop::service::pascal_case("add_fixed"), "AddFixed");
/// ```
pub fn pascal_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.trim_start_matches("r#").split('_') {
        let mut chars = word.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(chars.as_str());
    }
    out
}
