//! Problems of a configuration that do not keep the server from starting.

use std::fmt;

/// A part of a configuration that the layers ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// An environment variable begins with `CORELOOP_`, or with the prefix of the program, and names no key. Other programs set such variables too:
    /// Kubernetes does in every pod, for each service whose name begins with `coreloop-`.
    UnknownVariable {
        /// The variable's name.
        name: String,
        /// The variable of the key with the nearest name.
        nearest: String,
        /// Whether `nearest` is close enough to be the intended name.
        likely: bool,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigWarning::UnknownVariable { name, nearest, likely } = self;
        // An unchecked name may contain line breaks.
        write!(f, "unknown environment variable `{}` is ignored; ", name.escape_debug())?;
        if *likely {
            write!(f, "did you mean `{nearest}`?")
        } else {
            write!(f, "the nearest known name is `{nearest}`")
        }
    }
}
