//! The names that the layers know: the keys of the server, and those of a program's own sections.

use super::keys::{ConfigKey, KEYS};
use super::nearest::{distance, is_likely};
use super::section::Section;
use super::value::ValueFault;
use super::{ConfigError, Origin};

/// Which keys there are, and how they are written in files, flags and the environment.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    /// What the names of environment variables begin with, the underscore included.
    pub(super) env_prefix: String,
    /// What the names of the server's keys begin with: nothing, or `server.`.
    pub(super) server_prefix: &'static str,
    pub(super) sections: Vec<Section>,
}

/// A key of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownKey {
    /// The index in the table of the server's keys.
    Server(usize),
    /// The indices of the section and of its key.
    Section(usize, usize),
}

impl Schema {
    /// The server's keys alone, at the top level.
    pub(super) fn of_server() -> Schema {
        Schema { env_prefix: "CORELOOP_".to_owned(), server_prefix: "", sections: Vec::new() }
    }

    /// Returns every key, in print order.
    pub(super) fn all(&self) -> impl Iterator<Item = KnownKey> {
        let of_section = |(at, section): (usize, &Section)| {
            (0..section.keys.len()).map(move |key| KnownKey::Section(at, key)).collect::<Vec<_>>()
        };
        (0..KEYS.len()).map(KnownKey::Server).chain(self.sections.iter().enumerate().flat_map(of_section))
    }

    /// Returns the dotted name of a key.
    pub(super) fn name(&self, key: KnownKey) -> String {
        match key {
            KnownKey::Server(at) => format!("{}{}", self.server_prefix, KEYS[at].name()),
            KnownKey::Section(section, at) => self.sections[section].keys[at].name.clone(),
        }
    }

    /// Returns the name of a key's environment variable.
    pub(super) fn env_name(&self, key: KnownKey) -> String {
        format!("{}{}", self.env_prefix, upper(&self.name(key)))
    }

    /// Finds a key by its dotted name.
    pub(super) fn find(&self, name: &str) -> Option<KnownKey> {
        let of_server = name.strip_prefix(self.server_prefix).and_then(index_of).map(KnownKey::Server);
        of_server.or_else(|| {
            self.all().find(|key| matches!(key, KnownKey::Section(..)) && self.name(*key) == name)
        })
    }

    /// Finds a key by its environment variable.
    pub(super) fn find_variable(&self, variable: &str) -> Option<KnownKey> {
        self.all().find(|key| self.env_name(*key) == variable)
    }

    /// Returns whether keys begin with this name and a dot.
    pub(super) fn is_section(&self, name: &str) -> bool {
        self.all().any(|key| self.name(key).strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Returns the key whose name is nearest, and whether it is close enough to be the intended one.
    pub(super) fn nearest(&self, written: &str) -> (KnownKey, bool) {
        let near =
            self.all().map(|key| (distance(written, &self.name(key)), key)).min_by_key(|(far, _)| *far);
        let (far, key) = near.expect("the table has keys");
        (key, is_likely(written, far))
    }

    /// The error for a name that no key has.
    pub(super) fn unknown_key(&self, written: &str, origin: Origin) -> ConfigError {
        let (nearest, likely) = self.nearest(written);
        ConfigError::UnknownKey { key: written.to_owned(), origin, nearest: self.name(nearest), likely }
    }

    /// The error for a value that a key does not accept.
    pub(super) fn refusal(&self, key: KnownKey, misfit: ValueFault, origin: Origin) -> ConfigError {
        let expected = match key {
            KnownKey::Server(at) => KEYS[at].kind.expected(),
            KnownKey::Section(section, at) => self.sections[section].keys[at].expected(),
        };
        misfit.into_error(self.name(key), expected, origin)
    }

    /// Returns whether Kubernetes sets this variable in every pod, for a service named as the prefix.
    pub(super) fn is_from_kubernetes(&self, variable: &str) -> bool {
        let rest = variable.strip_prefix(&self.env_prefix).unwrap_or_default();
        rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
    }
}

/// Finds a key of the server by its name in the table.
pub(super) fn index_of(name: &str) -> Option<usize> {
    KEYS.iter().position(|key: &ConfigKey| key.name() == name)
}

fn upper(name: &str) -> String {
    name.replace(['.', '-'], "_").to_ascii_uppercase()
}
