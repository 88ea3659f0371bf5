//! Permissions: rules by method and caller. What no rule allows is refused.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Admit, AdmitCall, Hooks, Interceptor, chain};
use crate::config::split_permission_rule;
use crate::error_text::debug_as_text;
use crate::extensions::Extensions;
use crate::service::Method;
use crate::status::Status;

/// Admits calls that a rule allows, and refuses all others: a method that no rule names is closed. Register it after the
/// interceptors that set the principal.
///
/// A rule has a pattern of methods, as [`ServerBuilder::interceptor_for`](crate::server::ServerBuilder::interceptor_for)
/// has, and a list of callers:
///
/// | caller | allows |
/// |---|---|
/// | `anyone` | every call, also without a principal |
/// | `authenticated` | calls with a principal |
/// | `role:NAME` | calls whose principal has this role |
/// | anything else | calls with this principal: a name, or a SPIFFE ID of a certificate |
///
/// In roles and principals each `*` stands for any characters. If several rules cover a method, it is open to the callers of
/// all of them. A call without a principal is refused as `unauthenticated`, others as `permission_denied`.
///
/// ```
/// use coreloop::interceptor::{Permissions, TokenCheck};
/// use coreloop::{Context, Server};
///
/// let builder = Server::builder()
///     .method("Orders.Cancel", |_cx: &Context<'_>, id: u64| Ok(id))
///     .interceptor(TokenCheck::new([("ann", "s3cret")]).roles("ann", ["admin"]).optional())
///     .interceptor(
///         Permissions::new()
///             .allow("Health.*", ["anyone"])
///             .allow("Orders.*", ["spiffe://shop/*", "role:admin"]),
///     );
/// ```
#[derive(Debug, Default)]
pub struct Permissions {
    /// Held for a look-up and for an exchange, both short.
    rules: RwLock<Rules>,
    allowed: AtomicU64,
    denied: AtomicU64,
    unauthenticated: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Rules {
    list: Vec<PermissionRule>,
    /// The callers of each method of the server, once it has started.
    callers_of: HashMap<Box<str>, Arc<[PermittedCaller]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PermissionRule {
    methods: String,
    callers: Vec<PermittedCaller>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PermittedCaller {
    Anyone,
    Authenticated,
    /// A pattern.
    Role(String),
    /// A pattern.
    Principal(String),
}

impl PermittedCaller {
    fn of(text: &str) -> PermittedCaller {
        match text {
            "anyone" => PermittedCaller::Anyone,
            "authenticated" => PermittedCaller::Authenticated,
            _ => match text.strip_prefix("role:") {
                Some(role) => PermittedCaller::Role(role.to_owned()),
                None => PermittedCaller::Principal(text.to_owned()),
            },
        }
    }

    fn includes(&self, caller: Extensions<'_>) -> bool {
        match self {
            PermittedCaller::Anyone => true,
            PermittedCaller::Authenticated => caller.principal().is_some(),
            PermittedCaller::Role(pattern) => caller.roles().iter().any(|role| chain::matches(pattern, role)),
            PermittedCaller::Principal(pattern) => {
                caller.principal().is_some_and(|name| chain::matches(pattern, name))
            }
        }
    }
}

impl Rules {
    /// Returns the callers of the rules that cover a method.
    fn callers(&self, method: &str) -> Arc<[PermittedCaller]> {
        let covers = |rule: &&PermissionRule| chain::matches(&rule.methods, method);
        self.list.iter().filter(covers).flat_map(|rule| rule.callers.iter().cloned()).collect()
    }

    /// Looks up the callers of each method of a server.
    fn compiled<'a>(
        mut self,
        methods: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Rules, PermissionRuleError> {
        let covers_none =
            |rule: &&PermissionRule| !methods.clone().any(|method| chain::matches(&rule.methods, method));
        if let Some(rule) = self.list.iter().find(covers_none) {
            return Err(PermissionRuleError::NoMethod { methods: rule.methods.clone() });
        }
        self.callers_of = methods.clone().map(|method| (method.into(), self.callers(method))).collect();
        Ok(self)
    }
}

/// Decisions of [`Permissions`] since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermissionCounts {
    /// Calls that a rule has allowed.
    pub allowed: u64,
    /// Calls with a principal that no rule has allowed.
    pub denied: u64,
    /// Calls without a principal that no rule has allowed.
    pub unauthenticated: u64,
}

/// A rule of [`Permissions`] cannot be used.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermissionRuleError {
    /// The text is no rule.
    Form {
        /// The text.
        found: String,
    },
    /// The server has no method that the rule covers.
    NoMethod {
        /// The pattern of methods.
        methods: String,
    },
}

impl fmt::Display for PermissionRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PermissionRuleError::Form { found } => write!(
                f,
                "expected a rule `METHODS=CALLER CALLER…`, such as `Orders.*=role:admin`; found \"{}\"",
                found.escape_debug()
            ),
            PermissionRuleError::NoMethod { methods } => {
                write!(
                    f,
                    "expected rules for methods that the server has; \"{}\" matches none",
                    methods.escape_debug()
                )
            }
        }
    }
}

debug_as_text!(PermissionRuleError);

impl std::error::Error for PermissionRuleError {}

impl Permissions {
    /// Creates permissions without a rule, which refuse every call.
    pub fn new() -> Permissions {
        Permissions::default()
    }

    /// Adds a rule: these callers may call the methods that match the pattern.
    pub fn allow<'a>(mut self, methods: &str, callers: impl IntoIterator<Item = &'a str>) -> Permissions {
        let callers = callers.into_iter().map(PermittedCaller::of).collect();
        let rules = self.rules.get_mut().unwrap_or_else(PoisonError::into_inner);
        rules.list.push(PermissionRule { methods: methods.to_owned(), callers });
        self
    }

    /// Creates permissions of rules as texts, `METHODS=CALLER CALLER…`: the form that the configuration has
    /// (`auth.allow`).
    ///
    /// # Errors
    ///
    /// A text has no `=`, no methods or no callers.
    pub fn parse<S: AsRef<str>>(
        rules: impl IntoIterator<Item = S>,
    ) -> Result<Permissions, PermissionRuleError> {
        rules.into_iter().try_fold(Permissions::new(), |permissions, text| {
            let text = text.as_ref();
            let rule = split_permission_rule(text)
                .ok_or_else(|| PermissionRuleError::Form { found: text.to_owned() });
            let (methods, callers) = rule?;
            Ok(permissions.allow(methods, callers))
        })
    }

    /// Takes over the rules of others, all at once. Calls that have been admitted go on.
    ///
    /// # Errors
    ///
    /// A rule covers no method of the server that these permissions belong to: the rules in use remain.
    pub fn replace(&self, others: Permissions) -> Result<(), PermissionRuleError> {
        self.exchange(self.prepared(others)?);
        Ok(())
    }

    /// Looks up the methods of the server in the rules of others, for [`Permissions::exchange`].
    pub(crate) fn prepared(&self, others: Permissions) -> Result<Rules, PermissionRuleError> {
        let others = others.rules.into_inner().unwrap_or_else(PoisonError::into_inner);
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        others.compiled(rules.callers_of.keys().map(|method| &**method))
    }

    pub(crate) fn exchange(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Returns the decisions so far.
    pub fn counts(&self) -> PermissionCounts {
        PermissionCounts {
            allowed: self.allowed.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
            unauthenticated: self.unauthenticated.load(Ordering::Relaxed),
        }
    }

    fn is_allowed(&self, method: &str, caller: Extensions<'_>) -> bool {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let includes = |permitted: &[PermittedCaller]| permitted.iter().any(|one| one.includes(caller));
        rules.callers_of.get(method).is_some_and(|permitted| includes(permitted))
    }
}

impl Interceptor for Permissions {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn start(&self, methods: &[Method]) -> io::Result<()> {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let compiled = std::mem::take(&mut *rules).compiled(methods.iter().map(Method::name));
        *rules = compiled.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(())
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        let caller = call.extensions();
        if self.is_allowed(call.method(), caller) {
            self.allowed.fetch_add(1, Ordering::Relaxed);
            return Admit::Continue;
        }
        match caller.principal() {
            Some(name) => {
                self.denied.fetch_add(1, Ordering::Relaxed);
                let text = format!("{name:?} is not allowed to call {}", call.method());
                Admit::Refuse(Status::permission_denied(text))
            }
            None => {
                self.unauthenticated.fetch_add(1, Ordering::Relaxed);
                let text = format!("{} is open to authenticated callers only", call.method());
                Admit::Refuse(Status::unauthenticated(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extensions::ExtensionValues;

    fn callers(permissions: &Permissions, method: &str) -> Vec<&'static str> {
        let of_method = permissions.rules.read().unwrap().callers(method);
        permissions.rules.write().unwrap().callers_of = HashMap::from([(method.into(), of_method)]);
        let (mut ann, mut shop) = (ExtensionValues::new(), ExtensionValues::new());
        ann.set_principal("ann".into(), ["admin".into(), "ops".into()].into());
        shop.set_principal("spiffe://shop/cart".into(), Arc::default());
        let unknown = ExtensionValues::new();
        [("ann", &ann), ("shop", &shop), ("unknown", &unknown)]
            .into_iter()
            .filter(|(_, values)| permissions.is_allowed(method, Extensions::default().with(values)))
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn each_form_of_caller_is_compared() {
        let none: [&str; 0] = [];
        for (rules, expected) in [
            (&[][..], &none[..]),
            (&["Orders.Place=anyone"], &["ann", "shop", "unknown"]),
            (&["Orders.*=authenticated"], &["ann", "shop"]),
            (&["*=role:admin"], &["ann"]),
            (&["*=role:a*"], &["ann"]),
            (&["*=admin"], &none),
            (&["*=role:Admin"], &none),
            (&["*=ann"], &["ann"]),
            (&["*=spiffe://shop/*"], &["shop"]),
            (&["*=spiffe://shop"], &none),
            (&["Orders.Place = bob  spiffe://shop/cart "], &["shop"]),
            (&["Orders.P*=ann", "Orders.Place=spiffe://*/cart"], &["ann", "shop"]),
            (&["Orders.Cancel=anyone"], &none),
            (&["orders.place=anyone"], &none),
        ] {
            let permissions = Permissions::parse(rules).unwrap();
            assert_eq!(callers(&permissions, "Orders.Place"), expected, "{rules:?}");
        }
    }

    #[test]
    fn other_texts_are_no_rules() {
        for text in ["", "Orders.*", "=ann", " = ann", "Orders.*=", "Orders.*= "] {
            let error = Permissions::parse([text]).unwrap_err();
            assert!(error.to_string().starts_with("expected a rule `METHODS=CALLER"), "{error}");
        }
    }

    #[test]
    fn rules_are_replaced_as_a_whole() {
        let permissions = Permissions::parse(["A.B=ann"]).unwrap();
        assert_eq!(callers(&permissions, "A.B"), ["ann"]);
        let error =
            permissions.replace(Permissions::parse(["A.*=anyone", "B.*=anyone"]).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "expected rules for methods that the server has; \"B.*\" matches none");
        permissions.replace(Permissions::parse(["A.*=spiffe://*"]).unwrap()).unwrap();
        let mut ann = ExtensionValues::new();
        ann.set_principal("ann".into(), Arc::default());
        assert!(!permissions.is_allowed("A.B", Extensions::default().with(&ann)));
        assert_eq!(callers(&permissions, "A.B"), ["shop"]);
    }
}
