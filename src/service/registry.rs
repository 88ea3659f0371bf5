//! The methods of a server, found by hash: built before the first call, never changed after.
//!
//! Peers choose the hashes that are looked up but not those in the table, so an unkeyed table is safe here:
//! registration alone determines the length of its probe sequences.

use super::futures::{AsyncCall, AsyncParts, CallFuture, CallLimits};
use super::interceptor::chain::{CalledHandler, CalledMethod, InterceptorChain, ScopedInterceptor};
#[cfg(feature = "http")]
use super::route::RouteTable;
use super::{Kind, Method, RegisterError};
use crate::codec::{self, Body, Codec, Shape, ValueRules, compress};
use crate::config::Limits;
use crate::context::{Context, Outcome, RunCall, RunMethod};
use crate::message::JsonDialect;
use crate::method_name::MethodName;
use crate::status::Status;

/// The index of an entry without a method.
const EMPTY: u32 = u32::MAX;
/// A reply shorter than this is not worth compressing.
const COMPRESS_BYTES_MIN: usize = 1024;

/// The methods of a server.
pub struct Registry {
    methods: Vec<Method>,
    /// Open addressing by the low bits of the hash: (hash, index).
    table: Vec<(u32, u32)>,
    body_bytes_max: usize,
    reply_bytes_max: usize,
    depth_max: usize,
    /// The interceptors of requests whose method is not known.
    interceptors: InterceptorChain,
    #[cfg(feature = "http")]
    routes: RouteTable,
}

impl Registry {
    /// Creates a table of these methods. A compressed body may decompress to `frame_bytes_max` bytes, a reply may
    /// have `reply_bytes_max` bytes, and bodies may nest to `depth_max`.
    ///
    /// # Errors
    ///
    /// Two methods have the same name or hash, a name is not a valid [`MethodName`], or routes are in conflict.
    pub fn new(methods: Vec<Method>, limits: &Limits) -> Result<Registry, RegisterError> {
        let Limits { frame_bytes_max: body_bytes_max, reply_bytes_max, depth_max, .. } = *limits;
        let size = (methods.len() * 4).next_power_of_two().max(16);
        let table = vec![(0, EMPTY); size];
        let mut registry = Registry {
            methods: Vec::new(),
            table,
            body_bytes_max,
            reply_bytes_max,
            depth_max,
            interceptors: InterceptorChain::default(),
            #[cfg(feature = "http")]
            routes: RouteTable::new(&methods)?,
        };
        for method in methods {
            registry.add(method)?;
        }
        Ok(registry)
    }

    fn add(&mut self, method: Method) -> Result<(), RegisterError> {
        if !method.is_route()
            && let Err(error) = MethodName::parse(&method.name)
        {
            return Err(RegisterError::Name { method: method.name, error });
        }
        if let Some(first) = self.index_of(method.hash) {
            let first = self.methods[first as usize].name.clone();
            if first == method.name {
                return Err(RegisterError::SameName { method: first });
            }
            return Err(RegisterError::SameHash { first, second: method.name, hash: method.hash });
        }
        if method.kind == Kind::Async && method.future.is_none() {
            return Err(RegisterError::NotAsync { method: method.name });
        }
        let mask = self.table.len() - 1;
        let mut at = method.hash as usize & mask;
        while self.table[at].1 != EMPTY {
            at = (at + 1) & mask;
        }
        self.table[at] = (method.hash, self.methods.len() as u32);
        self.methods.push(method);
        Ok(())
    }

    /// Returns the index of the method with that hash.
    #[inline(always)]
    pub fn index_of(&self, hash: u32) -> Option<u32> {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        // At most a quarter of the table is filled, so every probe sequence ends.
        loop {
            let (found, index) = self.table[at];
            if index == EMPTY {
                return None;
            }
            if found == hash {
                return Some(index);
            }
            at = (at + 1) & mask;
        }
    }

    /// Sets the interceptors of every method.
    ///
    /// # Errors
    ///
    /// A name or pattern matches no method.
    pub(crate) fn intercepted_by(
        mut self,
        registered: &[ScopedInterceptor],
    ) -> Result<Registry, RegisterError> {
        for scoped in registered {
            if let Some(pattern) = &scoped.pattern
                && !self.methods.iter().any(|method| scoped.covers(&method.name))
            {
                return Err(RegisterError::NothingToIntercept { pattern: pattern.clone() });
            }
        }
        self.interceptors = InterceptorChain::of(None, registered);
        self.methods.iter_mut().for_each(|method| method.intercepted_by(registered));
        Ok(self)
    }

    /// Sets that more than its handler belongs to the calls of every method: traces, or clients that proxies name.
    pub(crate) fn observed(mut self) -> Registry {
        self.methods.iter_mut().for_each(Method::set_observed);
        self
    }

    /// Returns the interceptors of a method, or those of requests whose method is not known.
    pub(crate) fn interceptors(&self, method: Option<u32>) -> &InterceptorChain {
        method.map_or(&self.interceptors, |index| self.method(index).interceptors())
    }

    /// Returns whether some interceptor receives the ends of calls.
    pub(crate) fn observes_ends(&self) -> bool {
        self.interceptors.observes_ends()
            || self.methods.iter().any(|method| method.interceptors.observes_ends())
    }

    /// Returns the method with that index.
    #[inline]
    pub fn method(&self, index: u32) -> &Method {
        &self.methods[index as usize]
    }

    /// Returns the routes.
    #[cfg(feature = "http")]
    pub(crate) fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// Returns every method, in the order of registration; routes are among them.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Runs a method whose values follow rules besides the codec's, or whose body is compressed, or that has
    /// interceptors.
    #[inline(never)]
    fn run_by_rules(
        &self,
        method: &Method,
        call: &RunCall<'_>,
        cx: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let (number, dialect) = JsonDialect::split(call.codec);
        let Some(codec) = Codec::from_number(number) else {
            return Outcome::failed(Status::unimplemented(format!("codec {} is not known", call.codec)));
        };
        let rules = ValueRules::of(dialect, method.missing_fields.unwrap_or_default());
        rules.apply(|| {
            if call.compressed {
                return self.run_compressed(method, call, codec, cx, out);
            }
            handle(method, cx, codec, call.chunk.map_or(Body::Slice(call.body), Body::Chunk), out)
        })
    }

    /// Runs a method with the decompressed body, and compresses the reply if that makes it smaller.
    #[cold]
    fn run_compressed(
        &self,
        method: &Method,
        call: &RunCall<'_>,
        codec: Codec,
        cx: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut body = Vec::new();
        // A request whose argument follows has no body.
        if !method.shape().receives()
            && let Err(error) = compress::decompress(call.body, self.body_bytes_max, &mut body)
        {
            return Outcome::failed(error);
        }
        let start = out.len();
        let outcome = handle(method, cx, codec, Body::Slice(&body), out);
        let outcome = outcome.limit_reply(self.reply_bytes_max, cx.method(), out, start);
        compress_reply(outcome, out, start)
    }

    /// Makes the future of a call of an async method. `None`, and the call is answered, if the method is not async or the
    /// codec is not known; both were checked on admission.
    pub(crate) fn start(&self, method: &Method, parts: AsyncParts) -> Option<CallFuture> {
        let (name, handler) = method.future.as_ref()?;
        let (number, dialect) = JsonDialect::split(parts.codec);
        let codec = Codec::from_number(number)?;
        let limits = CallLimits {
            body_bytes_max: self.body_bytes_max,
            reply_bytes_max: self.reply_bytes_max,
            depth_max: self.depth_max,
        };
        let interceptors = method.interceptors.runs_with_handler().then(|| method.interceptors.clone());
        let mut call = AsyncCall::new(name.clone(), codec, method.value_rules(dialect), limits, parts);
        (call.shape, call.interceptors) = (method.shape, interceptors);
        Some(handler(call))
    }
}

/// Compresses a reply, which is what `out` holds from `start` on or a chunk, if that makes it smaller.
pub(super) fn compress_reply(outcome: Outcome, out: &mut Vec<u8>, start: usize) -> Outcome {
    let answer = match &outcome {
        Outcome::Answer => &out[start..],
        Outcome::Shared(chunk) => chunk,
        // Extras are added after this.
        Outcome::Compressed | Outcome::Deferred | Outcome::Failed(_) | Outcome::Extended(_) => {
            return outcome;
        }
    };
    let mut compressed = Vec::new();
    if answer.len() < COMPRESS_BYTES_MIN
        || compress::compress(answer, &mut compressed).is_err()
        || compressed.len() >= answer.len()
    {
        return outcome;
    }
    out.truncate(start);
    out.extend_from_slice(&compressed);
    Outcome::Compressed
}

/// Runs the handler, within the interceptors of the method.
fn handle(method: &Method, cx: &Context<'_>, codec: Codec, body: Body<'_>, out: &mut Vec<u8>) -> Outcome {
    if method.interceptors.runs_with_handler() {
        let handler = CalledHandler::Function(&method.handler);
        let called = CalledMethod { name: &method.name, shape: method.shape, handler };
        return method.interceptors.run(called, cx, codec, body, out);
    }
    (method.handler)(cx, codec, body, out)
}

impl RunMethod for Registry {
    fn name_of(&self, method: u32) -> &str {
        &self.method(method).name
    }

    fn begin_thread(&self) {
        codec::set_depth_max(self.depth_max);
    }

    #[inline(always)]
    fn run(&self, call: &RunCall<'_>, cx: &Context<'_>, out: &mut Vec<u8>) -> Outcome {
        let method = self.method(call.method);
        let is_slow = call.compressed | method.runs_slow;
        let Some(codec) = Codec::from_number(call.codec).filter(|_| !is_slow) else {
            return self.run_by_rules(method, call, cx, out);
        };
        (method.handler)(cx, codec, call.chunk.map_or(Body::Slice(call.body), Body::Chunk), out)
    }

    #[inline]
    fn reply_bytes_max(&self) -> usize {
        self.reply_bytes_max
    }
}

impl Method {
    /// Returns where it runs.
    #[inline]
    pub fn runs(&self) -> super::Kind {
        self.kind
    }

    /// Returns whether it may defer its reply.
    #[inline]
    pub fn may_defer(&self) -> bool {
        self.may_defer
    }

    /// Returns whether it keeps or returns its body as shared bytes.
    #[inline]
    pub fn shares_body(&self) -> bool {
        self.shares_body
    }

    /// Returns whether it is a route: its argument is an HTTP request, which no codec can express.
    pub fn is_route(&self) -> bool {
        #[cfg(feature = "http")]
        let is_route = self.route.is_some();
        #[cfg(not(feature = "http"))]
        let is_route = false;
        is_route
    }

    /// Returns whether it is the route of a built-in page.
    pub(crate) fn is_page(&self) -> bool {
        #[cfg(feature = "http")]
        let is_page = self.route.as_ref().is_some_and(|route| route.is_page);
        #[cfg(not(feature = "http"))]
        let is_page = false;
        is_page
    }

    /// Returns whether it is idempotent: it changes nothing.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// Returns whether a call in JSON may have an empty body: the method has no argument, or a default for it.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP asks"))]
    pub(crate) fn takes_empty_body(&self) -> bool {
        self.is_argument_optional || matches!(self.argument.shape(), Shape::Unit | Shape::Option(_))
    }

    /// Returns its documentation, for people.
    pub fn documentation(&self) -> &str {
        &self.docs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Plain;

    fn method(name: &str) -> Method {
        Method::new::<Plain<i64>, Plain<i64>>(name, Box::new(|_, _, _, _| Outcome::Deferred)).unwrap()
    }

    #[test]
    fn methods_are_found_by_their_hash() {
        let names: Vec<String> = (0..500).map(|n| format!("S.M{n}")).collect();
        let registry =
            Registry::new(names.iter().map(|name| method(name)).collect(), &Limits::default()).unwrap();
        for name in &names {
            let index = registry.index_of(crate::message::method_hash(name)).unwrap();
            assert_eq!(registry.method(index).name(), name);
        }
        assert_eq!(registry.index_of(crate::message::method_hash("S.M500")), None);
        assert_eq!(registry.index_of(0), None);
    }

    #[test]
    fn duplicate_and_invalid_names_are_refused() {
        let same = Registry::new(vec![method("A.B"), method("A.B")], &Limits::default()).err().unwrap();
        assert_eq!(same, RegisterError::SameName { method: "A.B".into() });
        // Two names with the same 32-bit FNV-1a hash, found by search.
        let (first, second) = colliding();
        assert_eq!(crate::message::method_hash(&first), crate::message::method_hash(&second));
        let same = Registry::new(vec![method(&first), method(&second)], &Limits::default()).err().unwrap();
        assert!(matches!(same, RegisterError::SameHash { .. }), "{same}");
        for name in ["AB", ".B", "A.", "A. B", "", "A..B", "A/B.C", "a.A.\u{7}"] {
            assert!(
                matches!(
                    Registry::new(vec![method(name)], &Limits::default()),
                    Err(RegisterError::Name { .. })
                ),
                "{name:?}"
            );
        }
    }

    fn colliding() -> (String, String) {
        let mut seen = std::collections::HashMap::new();
        for n in 0u32.. {
            let name = format!("S.M{n}");
            if let Some(first) = seen.insert(crate::message::method_hash(&name), name.clone()) {
                return (first, name);
            }
        }
        unreachable!("a 32-bit hash has collisions")
    }
}
