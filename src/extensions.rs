//! What interceptors attach to a call: the name of the caller that they have authenticated, and values by their type.
//!
//! A call without such values holds none of this. With them, one allocation holds all; the call in flight and its
//! handler share it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Values by their type: at most one of each.
#[derive(Default)]
pub(crate) struct ExtensionValues(Vec<Box<dyn Any + Send + Sync>>);

/// The authenticated caller. Its roles belong to its name: another name replaces both.
struct Principal {
    name: Arc<str>,
    roles: Arc<[Arc<str>]>,
}

impl ExtensionValues {
    pub(crate) const fn new() -> ExtensionValues {
        ExtensionValues(Vec::new())
    }

    /// Adds a value, in place of another of its type.
    pub(crate) fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.retain(|other| !other.is::<T>());
        self.0.push(Box::new(value));
    }

    /// Holds a value until the call has ended, beside others of its type.
    pub(crate) fn hold(&mut self, value: impl Any + Send + Sync) {
        self.0.push(Box::new(value));
    }

    pub(crate) fn set_principal(&mut self, name: Arc<str>, roles: Arc<[Arc<str>]>) {
        self.insert(Principal { name, roles });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get<T: Any>(&self) -> Option<&T> {
        self.0.iter().find_map(|value| value.downcast_ref())
    }
}

/// The values of one call.
#[derive(Default)]
pub struct CallExtensions {
    values: ExtensionValues,
    /// Those that were attached on a worker, where the admission of the call went on.
    later: OnceLock<ExtensionValues>,
}

impl CallExtensions {
    pub(crate) fn new(values: ExtensionValues) -> CallExtensions {
        CallExtensions { values, later: OnceLock::new() }
    }

    /// Attaches a value to a call that only its reactor knows so far.
    #[cfg(feature = "server")]
    pub(crate) fn attach<T: Any + Send + Sync>(call: &mut Option<Arc<CallExtensions>>, value: T) {
        if let Some(call) = Arc::get_mut(call.get_or_insert_default()) {
            call.values.insert(value);
        }
    }

    /// Adds the values that were attached on a worker, once.
    pub(crate) fn set_later(&self, values: ExtensionValues) {
        // A call is admitted once.
        let _ = self.later.set(values);
    }

    fn get<T: Any>(&self) -> Option<&T> {
        self.later.get().and_then(|later| later.get()).or_else(|| self.values.get())
    }
}

impl fmt::Debug for CallExtensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may hold credentials.
        let later = self.later.get().map_or(0, |later| later.0.len());
        write!(f, "CallExtensions({} values)", self.values.0.len() + later)
    }
}

/// The values that interceptors have attached to a call, by their type.
#[derive(Clone, Copy, Default)]
pub struct Extensions<'a> {
    call: Option<&'a CallExtensions>,
    /// Those of interceptors that run before the call has a place to keep them.
    new: Option<&'a ExtensionValues>,
}

impl<'a> Extensions<'a> {
    #[inline]
    pub(crate) fn of(call: Option<&'a CallExtensions>) -> Extensions<'a> {
        Extensions { call, new: None }
    }

    /// Returns the same values with others, which take precedence.
    pub(crate) fn with(self, new: &'a ExtensionValues) -> Extensions<'a> {
        Extensions { new: Some(new), ..self }
    }

    /// Returns the value of this type.
    pub fn get<T: Any + Send + Sync>(self) -> Option<&'a T> {
        self.new.and_then(|new| new.get()).or_else(|| self.call?.get())
    }

    /// Returns the name of the authenticated caller.
    pub fn principal(self) -> Option<&'a str> {
        self.shared_principal().map(|name| &**name)
    }

    pub(crate) fn shared_principal(self) -> Option<&'a Arc<str>> {
        self.get::<Principal>().map(|principal| &principal.name)
    }

    /// Returns the roles of the authenticated caller.
    pub fn roles(self) -> &'a [Arc<str>] {
        self.get::<Principal>().map_or(&[], |principal| &principal.roles)
    }

    /// Returns whether the authenticated caller has this role.
    pub fn has_role(self, role: &str) -> bool {
        self.roles().iter().any(|has| **has == *role)
    }
}

impl fmt::Debug for Extensions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("principal", &self.principal()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type_and_the_latest_counts() {
        let mut values = ExtensionValues::new();
        assert!(values.is_empty());
        values.insert(1_u8);
        values.insert("text");
        values.insert(2_u8);
        let call = CallExtensions::new(values);
        let extensions = Extensions::of(Some(&call));
        assert_eq!((extensions.get::<u8>(), extensions.get::<&str>()), (Some(&2), Some(&"text")));
        assert_eq!((extensions.get::<u16>(), extensions.principal()), (None, None));
        let mut later = ExtensionValues::new();
        later.insert(3_u8);
        later.set_principal("ann".into(), ["admin".into()].into());
        assert_eq!(extensions.with(&later).get::<u8>(), Some(&3));
        call.set_later(later);
        assert_eq!((extensions.get::<u8>(), extensions.principal()), (Some(&3), Some("ann")));
        assert_eq!(extensions.get::<&str>(), Some(&"text"));
        assert!(extensions.has_role("admin") && !extensions.has_role("Admin"));
        let mut another = ExtensionValues::new();
        another.set_principal("bob".into(), Arc::default());
        assert!(!extensions.with(&another).has_role("admin"), "roles of another name are not kept");
        assert_eq!(format!("{call:?}"), "CallExtensions(4 values)", "no value is printed");
    }

    #[test]
    fn a_call_without_values_has_none() {
        assert_eq!(Extensions::default().get::<u8>(), None);
        assert_eq!((Extensions::of(None).principal(), Extensions::of(None).roles().len()), (None, 0));
    }
}
