//! What is odd about a configuration and does not keep the server from starting.

use std::fmt;

use super::nearest::nearest;

/// Something that the layers of a configuration ignored, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// An environment variable begins with `CORELOOP_` and names no key. Others set such variables too: Kubernetes does
    /// in every pod, for each service whose name begins with `coreloop-`.
    UnknownVariable {
        /// The variable's name.
        name: String,
        /// The variable of the key whose name is nearest.
        nearest: String,
        /// Whether `nearest` is near enough to be what was meant.
        likely: bool,
    },
}

impl ConfigWarning {
    /// For the variable `prefix` + `written`.
    pub(super) fn unknown_variable(name: String, written: &str) -> ConfigWarning {
        let (nearest, likely) = nearest(written);
        ConfigWarning::UnknownVariable { name, nearest: nearest.env_name(), likely }
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigWarning::UnknownVariable { name, nearest, likely } = self;
        // A name that nothing has checked may hold line breaks.
        write!(f, "unknown environment variable `{}` is ignored; ", name.escape_debug())?;
        if *likely {
            write!(f, "did you mean `{nearest}`?")
        } else {
            write!(f, "the nearest known name is `{nearest}`")
        }
    }
}
